import type { Session } from '../postgres/session.js';
import type { TableName } from './table-name.js';

/** A table of the database, as far as it matters for choosing among many. */
export interface ListedTable extends TableName {
  readonly isForeign: boolean;
  /** Its changes are not in the write-ahead log. */
  readonly isUnlogged: boolean;
  /** The topmost partitioned table that it is a part of; null: of none. */
  readonly root: TableName | null;
  /** The extension that owns it; null: a user does. */
  readonly extension: string | null;
  /** reltuples, summed over partitions; -1: never analysed. */
  readonly estimatedRows: number;
}

/**
 * Every table of the database but the server's own and temporary ones; views are none. One round trip,
 * pg_catalog only. pg_partition_root() looks into pg_inherits and locks no table.
 */
export async function listTables(session: Session, signal?: AbortSignal): Promise<ListedTable[]> {
  const rows = await session.query(LIST_QUERY, [], signal);
  return rows.map(
    ([schema, name, isForeign, isUnlogged, rootSchema, rootName, extension, estimate]) => ({
      schema: schema ?? '',
      name: name ?? '',
      isForeign: isForeign === 't',
      isUnlogged: isUnlogged === 't',
      root: rootSchema == null || rootName == null ? null : { schema: rootSchema, name: rootName },
      extension: extension ?? null,
      estimatedRows: Number(estimate),
    }),
  );
}

const LIST_QUERY = `
WITH listed AS MATERIALIZED (
  SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.reltuples,
         CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid) END AS root
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
     AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
), part AS MATERIALIZED (
  SELECT l.root, pg_catalog.sum(l.reltuples) FILTER (WHERE l.reltuples >= 0) AS rows
    FROM listed l
   WHERE l.root IS NOT NULL AND l.relkind = 'r'
   GROUP BY l.root
)
SELECT l.nspname, l.relname, l.relkind = 'f', l.relpersistence = 'u', rn.nspname, rc.relname, (
         SELECT x.extname
           FROM pg_catalog.pg_depend d
           JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = l.oid AND d.deptype = 'e'
            AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
          LIMIT 1),
       CASE l.relkind WHEN 'p' THEN COALESCE(p.rows, -1) ELSE l.reltuples END
  FROM listed l
  LEFT JOIN part p ON p.root = l.oid
  LEFT JOIN pg_catalog.pg_class rc ON rc.oid = l.root
  LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = rc.relnamespace
 ORDER BY l.nspname, l.relname`;
