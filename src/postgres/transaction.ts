import type { Session } from './session.js';

/** For statements that remove what is ours: a lock that somebody keeps must not hang a command. */
export const REMOVAL_SETTINGS = { lock_timeout: '10s' };

/**
 * BEGIN READ WRITE, the given settings for this transaction only (name -> value), work, COMMIT;
 * ROLLBACK when anything fails. For what is ours on a node, which needs no standby: its commit waits
 * for the node's own disk at most, so a synchronous standby that is away holds up nobody. Spock,
 * where installed, is told not to replicate what DDL the transaction holds.
 */
export async function inTransaction<T>(
  session: Session,
  settings: Readonly<Record<string, string>>,
  work: () => Promise<T>,
): Promise<T> {
  const all = { synchronous_commit: 'local', ...settings };
  await session.query('BEGIN READ WRITE');
  try {
    await session.query(
      `SELECT pg_catalog.set_config(name, value, true)
         FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s(name, value)
        UNION ALL
       SELECT pg_catalog.set_config(name, 'off', true)
         FROM pg_catalog.unnest(ARRAY['spock.enable_ddl_replication', 'spock.include_ddl_repset']) AS name
        WHERE pg_catalog.to_regnamespace('spock') IS NOT NULL`,
      [Object.keys(all), Object.values(all)],
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

/** Statements that see one and the same state of the database. */
export async function inSnapshot<T>(session: Session, work: () => Promise<T>): Promise<T> {
  await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  try {
    const result = await work();
    await session.query('COMMIT');
    return result;
  } catch (error) {
    await session.query('ROLLBACK').catch(() => session.destroy());
    throw error;
  }
}
