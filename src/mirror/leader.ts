import { AcedError } from '../base/errors.js';
import { quoteIdentifier, quoteLiteral } from '../base/quote.js';
import type { Reign } from '../lease/lease.js';
import type { Session } from '../postgres/session.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';
import { inTransaction } from '../postgres/transaction.js';
import { ensureNodeSchema } from './mirror-schema.js';

/** Where a node remembers who may write there. */
export interface LeaderKey {
  readonly schema: string;
  readonly cluster: string;
  readonly reign: Reign;
}

/** Repairs of the one before are given so long to end by themselves. */
const LOCK_TIMEOUT = '2s';
const ATTEMPTS = 5;

/**
 * Makes this node refuse what an aced of an earlier epoch would commit. Waits for transactions of the
 * one before that are open, and ends them when they do not end: it may be stopped, or out of reach.
 * Does not return when a later epoch has been here. Errors: STANDBY, TIMEOUT, those of ensureNodeSchema.
 */
export async function putLeader(session: Session, key: LeaderKey): Promise<void> {
  const { schema, cluster, reign } = key;
  await ensureNodeSchema(session, schema);
  const [row] = await session.query(
    `SELECT epoch, holder FROM ${quoteIdentifier(schema)}.leader WHERE cluster = $1`,
    [cluster],
  );
  if (row?.[0] === String(reign.epoch) && row[1] === reign.holder) return;
  for (let attempt = 1; ; attempt += 1) {
    try {
      await upsert(session, key);
      break;
    } catch (error) {
      if (!hasSqlState(error, SQLSTATE.lockNotAvailable)) throw error;
      if (attempt === ATTEMPTS) {
        const text = `transactions of another aced do not end on node ${session.node.name}`;
        throw new AcedError('TIMEOUT', text, { hint: 'End them with pg_terminate_backend().' });
      }
      await endBlockers(session, schema);
    }
  }
  // The table is empty after a crash of the server: who was deposed meanwhile must not get in again.
  await reign.confirm();
}

async function upsert(session: Session, { schema, cluster, reign }: LeaderKey): Promise<void> {
  const { epoch, holder } = reign;
  await inTransaction(session, { lock_timeout: LOCK_TIMEOUT }, async () => {
    const [row] = await session.query(
      `INSERT INTO ${quoteIdentifier(schema)}.leader AS l (cluster, epoch, holder)
       VALUES ($1, $2::bigint, $3)
           ON CONFLICT (cluster) DO UPDATE SET epoch = EXCLUDED.epoch, holder = EXCLUDED.holder
        WHERE l.epoch < EXCLUDED.epoch
       RETURNING true`,
      [cluster, String(epoch), holder],
    );
    if (row === undefined) throw deposed(session);
  });
}

async function endBlockers(session: Session, schema: string): Promise<void> {
  await session.query(
    `SELECT pg_catalog.pg_terminate_backend(a.pid)
       FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
      WHERE l.relation = pg_catalog.to_regclass($1) AND a.pid <> pg_catalog.pg_backend_pid()
        AND a.usename = current_user AND l.database = a.datid`,
    [`${quoteIdentifier(schema)}.leader`],
  );
}

/**
 * A condition for the beginning of a transaction: it fails (division by zero) unless this aced is the
 * node's leader, and keeps it from being replaced until the transaction ends.
 */
export function holdLeaderSql({ schema, cluster, reign }: LeaderKey): string {
  return `SELECT 1 / (SELECT pg_catalog.count(*) FROM (
      SELECT FROM ${quoteIdentifier(schema)}.leader
       WHERE cluster = ${quoteLiteral(cluster)} AND epoch = ${reign.epoch}
         AND holder = ${quoteLiteral(reign.holder)} FOR SHARE) AS held)`;
}

/** What a transaction that began with holdLeaderSql failed with, if it was that. */
export function orDeposed(error: unknown, session: Session): unknown {
  return hasSqlState(error, SQLSTATE.divisionByZero) ? deposed(session) : error;
}

function deposed(session: Session): AcedError {
  const text = `another aced has taken over: node ${session.node.name} takes nothing more from this one`;
  return new AcedError('STANDBY', text, { hint: 'Ask the active one, which acectl status names.' });
}
