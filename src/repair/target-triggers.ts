import type { Session } from '../postgres/session.js';

/**
 * The triggers of the table and of its partitions that this session's writes fire, by name. They
 * may change or drop what is written. None can be added while we hold a lock on the table, so ask
 * after the first write of a transaction.
 *
 * tgtype: bits 2, 3 and 4 are INSERT, DELETE and UPDATE (pg_trigger.h); internal ones enforce
 * constraints and raise errors.
 */
export async function firingTriggers(session: Session, tableOid: number): Promise<string[]> {
  const rows = await session.query(
    `SELECT DISTINCT g.tgname
       FROM pg_catalog.pg_trigger g
      WHERE g.tgrelid IN (SELECT $1::oid UNION ALL
                          SELECT p.relid FROM pg_catalog.pg_partition_tree($1::oid) p)
        AND NOT g.tgisinternal AND g.tgtype & 28 <> 0
        AND (g.tgenabled = 'A' OR g.tgenabled = CASE
               WHEN pg_catalog.current_setting('session_replication_role') = 'replica' THEN 'R'::"char" ELSE 'O' END)
      ORDER BY 1`,
    [String(tableOid)],
  );
  return rows.map(([name]) => name ?? '');
}
