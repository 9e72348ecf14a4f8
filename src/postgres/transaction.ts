import type { Session } from './session.js';

/** For statements that remove what is ours: a lock that somebody keeps must not hang a command. */
export const REMOVAL_SETTINGS = { lock_timeout: '10s' };

type Settings = Readonly<Record<string, string>>;

/** Of an extension, which is there when its schema is: elsewhere nobody knows its settings. */
export interface ExtensionSettings {
  readonly schema: string;
  readonly settings: Settings;
}

/**
 * BEGIN READ WRITE, the given settings for this transaction only (name -> value), work, COMMIT;
 * ROLLBACK when anything fails. For what is ours on a node, which needs no standby: its commit waits
 * for the node's own disk at most, so a synchronous standby that is away holds up nobody. With DDL:
 * inDdlTransaction.
 */
export async function inTransaction<T>(
  session: Session,
  settings: Settings,
  work: () => Promise<T>,
  extension: ExtensionSettings | null = null,
): Promise<T> {
  const all = { synchronous_commit: 'local', ...settings };
  await session.query('BEGIN READ WRITE');
  try {
    await session.query(
      `SELECT pg_catalog.set_config(name, value, true)
         FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS s(name, value)
        UNION ALL
       SELECT pg_catalog.set_config(name, value, true)
         FROM ROWS FROM (pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) AS s(name, value)
        WHERE pg_catalog.to_regnamespace($5) IS NOT NULL`,
      [
        Object.keys(all),
        Object.values(all),
        Object.keys(extension?.settings ?? {}),
        Object.values(extension?.settings ?? {}),
        extension?.schema ?? null,
      ],
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
