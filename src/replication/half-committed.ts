import { steadyNowMs } from '../base/clock.js';
import { sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { TableName } from '../table/table-name.js';
import {
  describeTransactions,
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
  const graceEnd = steadyNowMs() + COMMIT_GRACE_MS;
  await waitUntilEnded(session, transactions, {
    timeoutMs: Math.max(options.timeoutMs, 2 * COMMIT_GRACE_MS),
    signal,
    onWait,
    isRelevant: (transaction) =>
      mayBeCommitting(transaction, { isInGrace: steadyNowMs() < graceEnd, hasStandbys }),
  });
}

/**
 * The ids of the transactions that were half committed before the call and still are: those that
 * are only flushing have ended. Some of them may not be committing at all. Takes up to 0.3 s while
 * long statements run.
 */
export async function findHalfCommitted(session: Session, signal?: AbortSignal): Promise<bigint[]> {
  const running = await readRunning(session, { signal, scope: 'database' });
  const suspects = await halfCommittedOf(session, running, signal);
  return suspects.map(({ xid }) => xid);
}

/**
 * Waits for the half committed transactions that may have written to the table or its partitions,
 * as seen at the call. Their rows may be on every other node already and are not visible here.
 * Returns null when all have ended in time, else who has not, for people.
 */
export async function waitForHalfCommittedWriters(
  session: Session,
  table: TableName,
  { timeoutMs, signal }: Pick<WaitOptions, 'timeoutMs' | 'signal'>,
): Promise<string | null> {
  const writers = await readWriters(session, table, signal);
  if (writers.size === 0) return null;
  const running = await readRunning(session, { signal, scope: 'database' });
  const suspects = await halfCommittedOf(
    session,
    running.filter(({ xid }) => writers.has(BigInt.asUintN(32, xid))),
    signal,
  );
  if (suspects.length === 0) return null;
  let remaining = describeTransactions(suspects);
  try {
    await waitUntilEnded(session, suspects, {
      timeoutMs,
      signal,
      isRelevant: (one) => mayBeCommitting(one, { isInGrace: false, hasStandbys: true }),
      onWait: (description) => {
        remaining = description;
      },
    });
    return null;
  } catch (error) {
    if (!(error instanceof AcedError) || error.code !== 'TIMEOUT') throw error;
    return remaining;
  }
}

/** Those of `running` that are half committed, and still are after a while. */
async function halfCommittedOf(
  session: Session,
  running: readonly RunningTransaction[],
  signal: AbortSignal | undefined,
): Promise<RunningTransaction[]> {
  if (running.length === 0) return [];
  const hasStandbys = await hasSynchronousStandbys(session);
  const graceEnd = steadyNowMs() + COMMIT_GRACE_MS;
  let suspects = running.filter((one) => mayBeCommitting(one, { isInGrace: true, hasStandbys }));
  let looks = 0;
  while (suspects.length > 0 && looks < LOOKS_AFTER_GRACE) {
    await sleep(LOOK_PAUSE_MS, signal);
    const isInGrace = steadyNowMs() < graceEnd;
    if (!isInGrace) looks++;
    const xids = new Set(suspects.map(({ xid }) => xid));
    const now = await readRunning(session, { signal, scope: 'database' });
    suspects = now.filter(
      (one) => xids.has(one.xid) && mayBeCommitting(one, { isInGrace, hasStandbys }),
    );
  }
  return suspects;
}

/**
 * The ids (32 bits) of transactions that hold a lock on the table, or on a partition of it, as those
 * do that have written to it. A commit lets go of its locks only after it has become visible; a
 * prepared transaction keeps them, without a process. Every role may see locks.
 */
async function readWriters(
  session: Session,
  { schema, name }: TableName,
  signal: AbortSignal | undefined,
): Promise<ReadonlySet<bigint>> {
  const rows = await session.query(WRITERS_QUERY, [schema, name], signal);
  return new Set(rows.map(([xid]) => BigInt(xid ?? '0')));
}

const WRITERS_QUERY = `
WITH RECURSIVE member(oid) AS (
  SELECT c.oid FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1 AND c.relname = $2
   UNION
  SELECT i.inhrelid FROM member m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid
), lock AS MATERIALIZED (
  SELECT * FROM pg_catalog.pg_locks WHERE granted
)
SELECT DISTINCT x.transactionid::text
  FROM lock r
  JOIN lock x ON x.virtualtransaction = r.virtualtransaction AND x.pid IS NOT DISTINCT FROM r.pid
 WHERE r.locktype = 'relation' AND r.relation IN (SELECT oid FROM member)
   AND r.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND r.mode IN ('RowExclusiveLock', 'AccessExclusiveLock')
   AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock'`;

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
  if (transaction.preparedAs !== null) {
    const isHidden = transaction.state === null;
    return isInGrace || transaction.waitEvent === 'SyncRep' || (isHidden && hasStandbys);
  }
  if (transaction.state === null) return isInGrace || hasStandbys;
  if (transaction.state !== 'active') return false;
  // Names of the flush's wait events have changed between versions; all begin with WAL.
  const isFlushing = transaction.waitEvent?.toUpperCase().startsWith('WAL') === true;
  return isInGrace || isFlushing || transaction.waitEvent === 'SyncRep';
}
