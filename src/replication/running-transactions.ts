import { steadyNowMs } from '../base/clock.js';
import { sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { Session } from '../postgres/session.js';
import { parseSnapshot, widenXid } from '../postgres/snapshot.js';

/** A transaction of this database that has written, or may write. */
export interface RunningTransaction {
  readonly xid: bigint;
  /** Null: prepared (two-phase), or ended while we looked. */
  readonly pid: number | null;
  readonly application: string | null;
  readonly user: string | null;
  readonly ageSeconds: number | null;
  readonly preparedAs: string | null;
  /**
   * Null where the role may not see it (pg_monitor may); of a prepared one, where a session that the
   * role may not see into could be committing it.
   */
  readonly state: string | null;
  /** Of a prepared one `SyncRep`, when some COMMIT PREPARED, maybe of it, waits for a standby. */
  readonly waitEvent: string | null;
}

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Called when the set of transactions that are waited for changes. */
  readonly onWait?: ((description: string) => void) | undefined;
}

/**
 * The transactions in progress in this database, or on the whole server. Those of other databases
 * are in every snapshot too but cannot touch a table of this one.
 */
export async function readRunning(
  session: Session,
  options: { readonly signal?: AbortSignal | undefined; readonly scope: 'database' | 'server' },
): Promise<RunningTransaction[]> {
  const rows = await session.query(RUNNING_QUERY, [], options.signal);
  const snapshot = parseSnapshot(rows[0]?.[0] ?? '');
  const elsewhere = new Set<bigint>();
  const details = new Map<bigint, RunningTransaction>();
  for (const row of rows) {
    const [, xid32, pid, isHere, application, user, age, preparedAs, state, waitEvent] = row;
    if (xid32 === null || xid32 === undefined) continue;
    const xid = widenXid(Number(xid32), snapshot.xmax);
    if (isHere === 'f' && options.scope === 'database') elsewhere.add(xid);
    details.set(xid, {
      xid,
      pid: pid === null || pid === undefined ? null : Number(pid),
      application: application ?? null,
      user: user ?? null,
      ageSeconds: age === null || age === undefined ? null : Number(age),
      preparedAs: preparedAs ?? null,
      state: state ?? null,
      waitEvent: waitEvent ?? null,
    });
  }
  // xmax is only one past the last transaction that has ended: the newest running ones are beyond it.
  const newest = [...details.keys()].filter((xid) => xid >= snapshot.xmax);
  return [...new Set([...snapshot.xip, ...newest])]
    .filter((xid) => !elsewhere.has(xid))
    .map((xid) => details.get(xid) ?? unknownTransaction(xid));
}

/**
 * Waits until all transactions that are in progress now have ended. Later ones are not waited for.
 * Errors: TIMEOUT naming who is still there, CANCELLED.
 */
export async function waitForRunning(session: Session, options: WaitOptions): Promise<void> {
  const transactions = await readRunning(session, { signal: options.signal, scope: 'database' });
  await waitUntilEnded(session, transactions, options);
}

/** Waits for those of `transactions` that `isRelevant` still holds for, as seen in each new look. */
export async function waitUntilEnded(
  session: Session,
  transactions: readonly RunningTransaction[],
  options: WaitOptions & { readonly isRelevant?: (transaction: RunningTransaction) => boolean },
): Promise<void> {
  const { signal, onWait, isRelevant = () => true } = options;
  const awaited = new Set(transactions.map(({ xid }) => xid));
  const deadline = steadyNowMs() + options.timeoutMs;
  let remaining = transactions.filter(isRelevant);
  let told = '';
  let pauseMs = 2;
  while (remaining.length > 0) {
    const description = describeTransactions(remaining);
    if (steadyNowMs() >= deadline) {
      throw new AcedError(
        'TIMEOUT',
        `on node ${session.node.name}, still running: ${description}`,
        { hint: 'End these transactions, or try again when they have ended.' },
      );
    }
    const names = remaining.map(({ xid }) => xid).join();
    if (names !== told) onWait?.(description);
    told = names;
    await sleep(Math.min(pauseMs, Math.max(1, deadline - steadyNowMs())), signal);
    pauseMs = Math.min(pauseMs * 2, 250);
    const now = await readRunning(session, { signal, scope: 'database' });
    remaining = now.filter(
      (transaction) => awaited.has(transaction.xid) && isRelevant(transaction),
    );
  }
}

/** For people: `process 123 (psql, open for 12 s)`. */
export function describeTransactions(transactions: readonly RunningTransaction[]): string {
  return transactions.map(describeTransaction).join(', ');
}

function describeTransaction(transaction: RunningTransaction): string {
  const details = [
    transaction.application === '' ? null : transaction.application,
    transaction.user === null ? null : `user ${transaction.user}`,
    transaction.ageSeconds === null ? null : `open for ${Math.round(transaction.ageSeconds)} s`,
  ].filter((detail) => detail !== null);
  const who =
    transaction.preparedAs !== null
      ? `prepared transaction ${JSON.stringify(transaction.preparedAs)}`
      : transaction.pid !== null
        ? `process ${transaction.pid}`
        : `transaction ${transaction.xid}`;
  return details.length === 0 ? who : `${who} (${details.join(', ')})`;
}

function unknownTransaction(xid: bigint): RunningTransaction {
  return {
    xid,
    pid: null,
    application: null,
    user: null,
    ageSeconds: null,
    preparedAs: null,
    state: null,
    waitEvent: null,
  };
}

/**
 * Every running transaction holds an exclusive lock on its own id, which pg_locks shows to every
 * role; pg_stat_activity shows the database of foreign sessions to every role as well. The snapshot
 * is the statement's own, so it and the locks may differ by transactions that end meanwhile.
 */
const RUNNING_QUERY = `
SELECT pg_catalog.pg_current_snapshot()::text, r.xid, r.pid, r.is_here, r.application, r.username, r.age,
       r.prepared_as, r.state, r.wait_event
  FROM (SELECT) AS one
  LEFT JOIN (
    SELECT l.transactionid::text AS xid, l.pid::text AS pid,
           CASE WHEN a.datname = pg_catalog.current_database() OR a.datname IS NULL THEN 't' ELSE 'f' END AS is_here,
           a.application_name AS application, a.usename AS username,
           EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::text AS age,
           NULL AS prepared_as, a.state, a.wait_event
      FROM pg_catalog.pg_locks l
      LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid IS NOT NULL
     UNION ALL
    SELECT p.transaction::text, NULL, CASE WHEN p.database = pg_catalog.current_database() THEN 't' ELSE 'f' END,
           NULL, p.owner, EXTRACT(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::text, p.gid,
           CASE WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
                                  WHERE a.datname = p.database AND a.backend_xid IS NULL
                                    AND a.query = '<insufficient privilege>') THEN 'prepared' END,
           (SELECT a.wait_event FROM pg_catalog.pg_stat_activity a
             WHERE a.datname = p.database AND a.backend_xid IS NULL AND a.wait_event = 'SyncRep' LIMIT 1)
      FROM pg_catalog.pg_prepared_xacts p
  ) AS r ON true`;
