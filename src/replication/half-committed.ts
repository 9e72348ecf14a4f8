import { sleep } from '../base/abort.js';
import {
  readRunning,
  waitUntilEnded,
  type RunningTransaction,
  type WaitOptions,
} from './running-transactions.js';
import type { Session } from '../postgres/session.js';

/**
 * A commit becomes visible only after its record is flushed, and after synchronous standbys have it.
 * Until then it is half committed: its record may come before the position that a stream starts from,
 * and yet no snapshot shows it.
 */

/** How long a transaction may take from its commit record to being visible when nothing holds it up. */
const COMMIT_GRACE_MS = 250;
const LOOK_PAUSE_MS = 20;
/** A load waits for the log now and then, a commit does nothing else: it is found at it each time. */
const LOOKS_AFTER_GRACE = 3;

/**
 * Waits for the transactions that are half committed now. Without it what they wrote would be lost
 * between a slot that has just become consistent and a snapshot taken now.
 * Errors: TIMEOUT naming who is still there, CANCELLED.
 */
export async function waitForHalfCommitted(session: Session, options: WaitOptions): Promise<void> {
  const { signal, onWait } = options;
  const transactions = await readRunning(session, { signal, scope: 'database' });
  if (transactions.length === 0) return;
  const hasStandbys = await hasSynchronousStandbys(session);
  const graceEnd = Date.now() + COMMIT_GRACE_MS;
  await waitUntilEnded(session, transactions, {
    timeoutMs: Math.max(options.timeoutMs, 2 * COMMIT_GRACE_MS),
    signal,
    onWait,
    isRelevant: (transaction) =>
      mayBeCommitting(transaction, { isInGrace: Date.now() < graceEnd, hasStandbys }),
  });
}

/**
 * The ids of the transactions that were half committed before the call and still are: those that
 * are only flushing have ended. Some of them may not be committing at all. Takes up to 0.3 s while
 * long statements run.
 */
export async function findHalfCommitted(session: Session, signal?: AbortSignal): Promise<bigint[]> {
  const running = await readRunning(session, { signal, scope: 'database' });
  if (running.length === 0) return [];
  const hasStandbys = await hasSynchronousStandbys(session);
  const graceEnd = Date.now() + COMMIT_GRACE_MS;
  let suspects = running.filter((one) => mayBeCommitting(one, { isInGrace: true, hasStandbys }));
  let looks = 0;
  while (suspects.length > 0 && looks < LOOKS_AFTER_GRACE) {
    await sleep(LOOK_PAUSE_MS, signal);
    const isInGrace = Date.now() < graceEnd;
    if (!isInGrace) looks++;
    const xids = new Set(suspects.map(({ xid }) => xid));
    const now = await readRunning(session, { signal, scope: 'database' });
    suspects = now.filter(
      (one) => xids.has(one.xid) && mayBeCommitting(one, { isInGrace, hasStandbys }),
    );
  }
  return suspects.map(({ xid }) => xid);
}

async function hasSynchronousStandbys(session: Session): Promise<boolean> {
  const rows = await session.query(
    "SELECT pg_catalog.current_setting('synchronous_standby_names') <> ''",
  );
  return rows[0]?.[0] === 't';
}

function mayBeCommitting(
  transaction: RunningTransaction,
  { isInGrace, hasStandbys }: { isInGrace: boolean; hasStandbys: boolean },
): boolean {
  // Who runs COMMIT PREPARED has no transaction id; readRunning looks for a session that may be it.
  if (transaction.preparedAs !== null) return isInGrace || transaction.waitEvent === 'SyncRep';
  if (transaction.state === null) return isInGrace || hasStandbys;
  if (transaction.state !== 'active') return false;
  // Names of the flush's wait events have changed between versions; all begin with WAL.
  const isFlushing = transaction.waitEvent?.toUpperCase().startsWith('WAL') === true;
  return isInGrace || isFlushing || transaction.waitEvent === 'SyncRep';
}
