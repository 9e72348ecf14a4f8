import type { Session } from '../postgres/session.js';
import type { TableName } from './table-name.js';

/** A table that could be followed. */
export interface CandidateTable extends TableName {
  /** Changes with the table's definition. */
  readonly identity: string;
  /** Of those that were asked for, the publications that have it, or a partition of it. */
  readonly publications: readonly string[];
}

/**
 * All tables of users: no partitions (their root has the rows), nothing temporary, nothing that an
 * extension has made, nothing in schema `without`.
 *
 * @param publications names of publications whose tables are of interest
 */
export async function readCandidateTables(
  session: Session,
  { without, publications }: { readonly without: string; readonly publications: readonly string[] },
  signal?: AbortSignal,
): Promise<CandidateTable[]> {
  const rows = await session.query(CANDIDATES_QUERY, [without, [...publications]], signal);
  return rows.map(([schema, name, identity, published]) => ({
    schema: schema ?? '',
    name: name ?? '',
    identity: identity ?? '',
    publications: JSON.parse(published ?? '[]') as string[],
  }));
}

/** Those of `names` that there are. */
export async function readPublicationNames(
  session: Session,
  names: readonly string[],
  signal?: AbortSignal,
): Promise<string[]> {
  if (names.length === 0) return [];
  const rows = await session.query(
    'SELECT pubname FROM pg_catalog.pg_publication WHERE pubname = ANY ($1::name[])',
    [[...names]],
    signal,
  );
  return rows.map(([name]) => name ?? '');
}

/** Since 19 a row of pg_publication_rel may mean that the table is left out. */
const CANDIDATES_QUERY = `
WITH publication AS MATERIALIZED (
  SELECT p.oid, p.pubname, p.puballtables FROM pg_catalog.pg_publication p
   WHERE p.pubname = ANY ($2::name[])
), entry AS MATERIALIZED (
  SELECT p.pubname, r.prrelid, (pg_catalog.to_jsonb(r) ->> 'prexcept') IS NOT DISTINCT FROM 'true' AS is_left_out
    FROM publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
), member AS MATERIALIZED (
  SELECT e.pubname, e.is_left_out,
         CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(e.prrelid) ELSE e.prrelid END AS root
    FROM entry e JOIN pg_catalog.pg_class c ON c.oid = e.prrelid
)
SELECT n.nspname, c.relname, pg_catalog.concat_ws('/', c.oid, c.xmin),
       (SELECT pg_catalog.array_to_json(pg_catalog.array_agg(DISTINCT p.pubname))
          FROM publication p
         WHERE (p.puballtables AND NOT EXISTS (
                  SELECT FROM member m WHERE m.pubname = p.pubname AND m.root = c.oid AND m.is_left_out))
            OR EXISTS (SELECT FROM member m
                        WHERE m.pubname = p.pubname AND m.root = c.oid AND NOT m.is_left_out)
            OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s
                        WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace))::text
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', $1::name)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname`;
