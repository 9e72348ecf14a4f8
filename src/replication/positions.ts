import { parseLsn, type Lsn } from '../base/lsn.js';
import { quoteLiteral } from '../base/quote.js';
import { requirePrimary } from './primary.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';
import type { Session } from '../postgres/session.js';

/** Prefix of our logical messages. */
export const BARRIER_PREFIX = 'aced';

/**
 * Where the next record will be written; rows committed asynchronously may be past the flush pointer.
 * Errors: UNSUPPORTED on a standby.
 */
export async function currentInsertLsn(session: Session): Promise<Lsn> {
  try {
    const rows = await session.query('SELECT pg_catalog.pg_current_wal_insert_lsn()::text');
    return parseLsn(rows[0]?.[0] ?? '');
  } catch (error) {
    if (!session.isBroken) await requirePrimary(session);
    throw error;
  }
}

/**
 * Writes a logical message with the nonce and returns a fence: the end of the message's record.
 * Every commit that was visible before the call has its record before it, and the message's own
 * commit, which is flushed (with everything before it) when this returns, lies after it: an idle
 * stream passes the fence too, whereas the insert position may sit past the last record that
 * anybody will flush. A role that may not write messages gets the insert position. Errors: UNSUPPORTED
 * on a standby.
 */
export async function emitBarrier(session: Session, nonce: string): Promise<Lsn> {
  try {
    // One round trip. `local`: the flush matters here, not what synchronous standbys do.
    const rows = await session.query(
      `BEGIN; SET LOCAL synchronous_commit = local;
       SELECT pg_catalog.pg_logical_emit_message(
         true, ${quoteLiteral(BARRIER_PREFIX)}, ${quoteLiteral(nonce)})::text;
       COMMIT`,
    );
    return parseLsn(rows[0]?.[0] ?? '');
  } catch (error) {
    await session.query('ROLLBACK').catch(() => session.destroy());
    if (!hasSqlState(error, SQLSTATE.insufficientPrivilege)) {
      if (!session.isBroken) await requirePrimary(session);
      throw error;
    }
    return currentInsertLsn(session);
  }
}
