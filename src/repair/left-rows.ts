import type { Session } from '../postgres/session.js';
import { describeTransactions, readRunning } from '../replication/running-transactions.js';
import { describeFailures } from './row-failure.js';
import type { TargetRepairResult } from './target-repair.js';

export interface LeftRowsFacts {
  readonly node: string;
  readonly source: string;
  readonly tableOid: number;
  /** Of the target. */
  readonly session: Session;
}

/** Which rows a repair left as they are, and why, a sentence per reason. */
export async function describeLeftRows(
  { counts, skipped, failures }: TargetRepairResult,
  { node, source, tableOid, session }: LeftRowsFacts,
): Promise<string[]> {
  const sentences = describeFailures(node, failures);
  if (skipped.targetChanged > 0) {
    sentences.push(
      `On ${node} ${rows(skipped.targetChanged)} skipped: no longer there as the diff saw them.`,
    );
  }
  if (skipped.sourceChanged > 0) {
    sentences.push(
      `On ${node} ${rows(skipped.sourceChanged)} skipped: no longer on ${source} as the diff saw them.`,
    );
  }
  if (skipped.locked > 0) {
    const holders = await holdersOf(session, tableOid);
    const by = holders === '' ? 'another transaction that has ended since' : holders;
    sentences.push(`On ${node} ${rows(skipped.locked)} skipped: locked by ${by}.`);
  }
  if (counts.left > 0) {
    sentences.push(
      `On ${node} ${rows(counts.left)} left as they are: they differ or are extra, and the chosen mode does not touch them.`,
    );
  }
  return sentences;
}

function rows(count: number): string {
  return count === 1 ? '1 row was' : `${count} rows were`;
}

/** The transactions that hold more than a reader's lock on the table or a partition of it. */
async function holdersOf(session: Session, tableOid: number): Promise<string> {
  const found = await session.query(
    `SELECT DISTINCT l.pid::text, l.virtualtransaction FROM pg_catalog.pg_locks l
      WHERE l.locktype = 'relation' AND l.granted AND l.mode <> 'AccessShareLock'
        AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
        AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                           WHERE d.datname = pg_catalog.current_database())
        AND l.relation IN (SELECT $1::oid UNION ALL
                           SELECT p.relid FROM pg_catalog.pg_partition_tree($1::oid) p)`,
    [String(tableOid)],
  );
  const pids = new Set(found.map(([pid]) => pid));
  const prepared = new Set(found.map(([, transaction]) => transaction));
  const running = await readRunning(session, { scope: 'database' });
  return describeTransactions(
    running.filter(({ pid, xid }) =>
      pid === null ? prepared.has(`-1/${xid & 0xffff_ffffn}`) : pids.has(String(pid)),
    ),
  );
}
