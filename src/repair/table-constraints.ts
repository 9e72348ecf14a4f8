import type { Session } from '../postgres/session.js';

/**
 * A unique or exclusion constraint that the server does not enforce on what a repair writes: a deferrable one
 * is checked by a trigger, and with session_replication_role = replica that one does not fire.
 */
export interface LooseConstraint {
  readonly name: string;
  /** Per column of its index: an expression over the table's columns, and the operator that rows must not satisfy. */
  readonly columns: readonly { readonly expression: string; readonly operator: string }[];
  /** Of rows that it is about; null: all. */
  readonly predicate: string | null;
  /** NULLS NOT DISTINCT. */
  readonly nullsAreEqual: boolean;
}

/** Constraints of a table that the server checks late or, for a replica, never. */
export async function readLooseConstraints(
  session: Session,
  tableOid: number,
): Promise<LooseConstraint[]> {
  const rows = await session.query(
    `SELECT c.conname, pg_catalog.pg_get_expr(i.indpred, i.indrelid),
            (pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct') IS NOT DISTINCT FROM 'true',
            (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
                      'expression', pg_catalog.pg_get_indexdef(i.indexrelid, k, true),
                      'operator', pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname)) ORDER BY k)::text
               FROM pg_catalog.generate_series(1, i.indnkeyatts) k
               JOIN pg_catalog.pg_opclass oc ON oc.oid = i.indclass[k - 1]
               JOIN pg_catalog.pg_operator o ON o.oid = coalesce(c.conexclop[k],
                      -- Strategy 3 of a B-tree is equality.
                      (SELECT a.amopopr FROM pg_catalog.pg_amop a
                        WHERE a.amopfamily = oc.opcfamily AND a.amopstrategy = 3
                          AND a.amoplefttype = oc.opcintype AND a.amoprighttype = oc.opcintype))
               JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace)
       FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_index i ON i.indexrelid = c.conindid
      WHERE c.conrelid = $1::oid AND c.contype IN ('p', 'u', 'x') AND c.condeferrable
      ORDER BY 1`,
    [String(tableOid)],
  );
  return rows.map(([name, predicate, nullsAreEqual, columns]) => ({
    name: name ?? '',
    predicate: predicate ?? null,
    nullsAreEqual: nullsAreEqual === 't',
    columns: JSON.parse(columns ?? '[]') as LooseConstraint['columns'],
  }));
}

/** A foreign key by which a delete or an update of the table writes rows of a table. */
export interface Cascade {
  readonly name: string;
  /** For people. */
  readonly table: string;
  /** The table and its partitions. */
  readonly oids: readonly string[];
  readonly isOwn: boolean;
}

/** ON DELETE and ON UPDATE with CASCADE, SET NULL or SET DEFAULT. */
export async function readCascades(session: Session, tableOid: number): Promise<Cascade[]> {
  const rows = await session.query(
    `SELECT DISTINCT f.conname, pg_catalog.format('%I.%I', n.nspname, c.relname), f.conrelid = $1::oid,
            (SELECT pg_catalog.string_agg(m::text, ',')
               FROM (SELECT f.conrelid UNION SELECT p.relid FROM pg_catalog.pg_partition_tree(f.conrelid) p) t(m))
       FROM pg_catalog.pg_constraint f
       JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE f.contype = 'f' AND f.conparentid = 0 AND f.confrelid = $1::oid
        AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))
      ORDER BY 1`,
    [String(tableOid)],
  );
  return rows.map(([name, table, isOwn, oids]) => ({
    name: name ?? '',
    table: table ?? '',
    oids: (oids ?? '').split(','),
    isOwn: isOwn === 't',
  }));
}

/**
 * Rows that this session has deleted and updated in these relations since it told the server's statistics, which
 * it does about once a second, between transactions: only what is added within one transaction means something.
 */
export async function writtenSoFar(session: Session, oids: readonly string[]): Promise<number> {
  const rows = await session.query(
    `SELECT pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_deleted(o::oid)
                         + pg_catalog.pg_stat_get_xact_tuples_updated(o::oid))
       FROM unnest($1::text[]) o`,
    [oids],
  );
  return Number(rows[0]?.[0] ?? 0);
}

/** Without it the server does not count what a transaction writes. */
export async function countsWrites(session: Session): Promise<boolean> {
  const rows = await session.query("SELECT pg_catalog.current_setting('track_counts')");
  return rows[0]?.[0] === 'on';
}
