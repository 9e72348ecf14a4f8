import type { Session } from './session.js';

/** For statements that remove what is ours: a lock that somebody keeps must not hang a command. */
export const REMOVAL_SETTINGS = { lock_timeout: '10s' };

/**
 * BEGIN, the given settings for this transaction only (name -> value), work, COMMIT; ROLLBACK when
 * anything fails. Spock, where installed, is told not to replicate what DDL the transaction holds:
 * our objects belong to one node.
 */
export async function inTransaction<T>(
  session: Session,
  settings: Readonly<Record<string, string>>,
  work: () => Promise<T>,
): Promise<T> {
  await session.query('BEGIN');
  try {
    await session.query(
      `SELECT pg_catalog.set_config(name, value, true)
         FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s(name, value)
        UNION ALL
       SELECT pg_catalog.set_config(name, 'off', true)
         FROM pg_catalog.unnest(ARRAY['spock.enable_ddl_replication', 'spock.include_ddl_repset']) AS name
        WHERE pg_catalog.to_regnamespace('spock') IS NOT NULL`,
      [Object.keys(settings), Object.values(settings)],
    );
    const result = await work();
    await session.query('COMMIT');
    return result;
  } catch (error) {
    // The first error is the one worth telling; a failed rollback means the session is broken.
    await session.query('ROLLBACK').catch(() => session.destroy());
    throw error;
  }
}
