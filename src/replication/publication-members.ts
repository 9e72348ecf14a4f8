import type { Session } from '../postgres/session.js';
import type { TableName } from '../table/table-name.js';

/** A table that a publication publishes, and what of it. */
export interface PublicationMember extends TableName {
  readonly publication: string;
  /** The row filter as the server prints it; null: all rows. */
  readonly filter: string | null;
  /** Names, sorted; null: all columns. */
  readonly columns: readonly string[] | null;
}

/**
 * The tables of one publication, or of all of them (null), each once: those that were named, those of
 * its schemas, or every table; of partitioned ones the table that was named. Written against the
 * catalogs of PostgreSQL 15 to 19: in 19 a row of pg_publication_rel may mean that the table is left out.
 */
export async function readPublicationMembers(
  session: Session,
  publication: string | null,
  signal?: AbortSignal,
): Promise<PublicationMember[]> {
  const rows = await session.query(MEMBER_QUERY, [publication], signal);
  return rows.map(([name, schema, table, filter, columns]) => ({
    publication: name ?? '',
    schema: schema ?? '',
    name: table ?? '',
    filter: filter ?? null,
    columns: columns == null ? null : (JSON.parse(columns) as string[]),
  }));
}

/** Whether there is such a publication. */
export async function hasPublication(session: Session, name: string): Promise<boolean> {
  const sql = 'SELECT FROM pg_catalog.pg_publication WHERE pubname = $1::name';
  return (await session.query(sql, [name])).length > 0;
}

/** Publications that would take in a table that is made now: in this schema, or in a new one (null). */
export async function publicationsOfNewTables(
  session: Session,
  schema: string | null,
): Promise<string[]> {
  const rows = await session.query(
    `SELECT p.pubname FROM pg_catalog.pg_publication p
      WHERE p.puballtables OR EXISTS (
        SELECT FROM pg_catalog.pg_publication_namespace s
          JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid
         WHERE s.pnpubid = p.oid AND n.nspname = $1::name)
      ORDER BY 1`,
    [schema],
  );
  return rows.map(([name]) => name ?? '');
}

const MEMBER_QUERY = `
SELECT p.pubname, n.nspname, c.relname, pg_catalog.pg_get_expr(r.prqual, r.prrelid), (
         SELECT pg_catalog.json_agg(a.attname ORDER BY a.attname)::text
           FROM pg_catalog.pg_attribute a
          WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::pg_catalog.int2[]))
  FROM pg_catalog.pg_publication p
  JOIN pg_catalog.pg_class c ON c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
  LEFT JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = n.oid
 WHERE ($1::name IS NULL OR p.pubname = $1::name)
   AND (p.puballtables OR r.oid IS NOT NULL OR s.oid IS NOT NULL)
   AND (pg_catalog.to_jsonb(r) ->> 'prexcept') IS DISTINCT FROM 'true'
 ORDER BY p.pubname, n.nspname, c.relname`;
