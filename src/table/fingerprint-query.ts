/** Objects with lower OIDs came with the server and cannot be altered. */
const FIRST_USER_OID = 16384;
const TEXT_OID = 25;

/**
 * One row for each table of ($1, $2: schemas and names) that exists: its number in the lists, OID,
 * leaf partitions (null: not partitioned), user-defined types and operator classes (arrays or null),
 * and a hash of the rest. Written against the catalogs of PostgreSQL 15 to 19; pg_catalog only.
 *
 * With TYPE_QUERY it holds everything that can change rows, or their text, or the order of the key,
 * without a row message. The page docs/13-what-changes-silently.md lists the kinds.
 *
 * - Catalog rows come with their xmin, so that a change that was taken back counts too.
 * - pg_class rows do not: GRANT, VACUUM FULL and a trigger write them, and what matters of them is in
 *   the stream (renames and replica identities come with the Relation messages, by OID).
 * - A plain table's file is left out: TRUNCATE is published, VACUUM FULL is harmless, and a rewrite
 *   changes attributes. TRUNCATE of a single partition is not published through the root.
 * - Partitions are found through pg_inherits: pg_partition_tree() locks them and would wait for DDL.
 * - Of collations the version of the library in use counts; the recorded one orders nothing.
 * - Our SQL writes a value as its cast to text does, where the type has one.
 * - Subqueries rather than joins: the planner expects one table, and there may be hundreds.
 */
export const FINGERPRINT_QUERY = `
WITH RECURSIVE target AS MATERIALIZED (
  SELECT w.number, c.oid, c.relkind, c.relpersistence, c.relreplident
    FROM ROWS FROM (pg_catalog.unnest($1::name[]), pg_catalog.unnest($2::name[]))
         WITH ORDINALITY AS w (schema, name, number)
    JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
), member AS (
  SELECT t.oid AS root, t.oid, t.relkind, 0 AS depth, ''::text AS facts
    FROM target t
   UNION ALL
  SELECT m.root, c.oid, c.relkind, m.depth + 1,
         pg_catalog.concat_ws(' ', c.oid, c.relkind, c.relpersistence, c.relreplident, i.inhparent, i.xmin,
                              CASE c.relkind WHEN 'p' THEN 0 ELSE c.relfilenode END)
    FROM member m
    JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid AND NOT i.inhdetachpending
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
), members AS MATERIALIZED (
  SELECT m.root,
         pg_catalog.string_agg(m.facts, ',' ORDER BY m.oid) AS facts,
         pg_catalog.json_agg(m.oid::int8 ORDER BY m.oid) FILTER (WHERE m.relkind = 'r') AS leaves
    FROM member m
   WHERE m.depth > 0
   GROUP BY m.root
)
SELECT t.number, t.oid,
       CASE t.relkind WHEN 'p' THEN COALESCE((SELECT m.leaves FROM members m WHERE m.root = t.oid), '[]') END,
       (SELECT pg_catalog.array_agg(DISTINCT a.atttypid)
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = t.oid AND a.attnum > 0 AND a.atttypid >= ${FIRST_USER_OID}),
       (SELECT pg_catalog.array_agg(DISTINCT c.oid)
          FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indclass::pg_catalog.oid[]) AS c (oid)
         WHERE i.indrelid = t.oid AND i.indisprimary AND i.indisvalid AND c.oid >= ${FIRST_USER_OID}),
       pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
         pg_catalog.concat_ws(E'\\n', t.oid, t.relkind, t.relpersistence,
           CASE t.relkind WHEN 'p' THEN t.relreplident END,
           'casts', (
             SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid, c.xmin), ',' ORDER BY c.oid)
               FROM pg_catalog.pg_cast c
              WHERE c.oid >= ${FIRST_USER_OID} AND c.castsource < ${FIRST_USER_OID} AND c.casttarget = ${TEXT_OID}),
           'members', (SELECT m.facts FROM members m WHERE m.root = t.oid),
           'attributes', (
             SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, pg_catalog.quote_literal(a.attname),
                      a.atttypid, a.atttypmod, a.attcollation, a.attgenerated, a.xmin), ',' ORDER BY a.attnum)
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped),
           'key', (
             SELECT pg_catalog.concat_ws(' ', i.indkey, i.indnkeyatts, i.indclass, i.indcollation, i.indoption,
                      i.indimmediate, (
                      SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid, ${collationVersion('c')}), ',' ORDER BY c.oid)
                        FROM pg_catalog.pg_collation c
                       WHERE c.oid = ANY (i.indcollation::pg_catalog.oid[])))
               FROM pg_catalog.pg_index i
              WHERE i.indrelid = t.oid AND i.indisprimary AND i.indisvalid)), 'UTF8')), 'hex'), 32)
  FROM target t
 ORDER BY t.number`;

/**
 * One row for each user-defined type of $1 and operator class of $2: the array's number, OID, and a
 * hash of what the text and the order of values depend on. Types are followed down to what their text
 * is made of: the base types of domains, elements of arrays, fields of composites, subtypes of ranges,
 * labels of enums; with output functions and the versions of extensions.
 */
export const TYPE_QUERY = `
WITH RECURSIVE type_use AS (
  SELECT u.oid AS root, u.oid AS type FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS u (oid)
   UNION
  SELECT u.root, part.type
    FROM type_use u
    JOIN pg_catalog.pg_type t ON t.oid = u.type
   CROSS JOIN LATERAL (
           SELECT t.typbasetype UNION ALL SELECT t.typelem
            UNION ALL
           SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
            UNION ALL
           SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid
            UNION ALL
           SELECT f.atttypid FROM pg_catalog.pg_attribute f WHERE f.attrelid = t.typrelid AND f.attnum > 0
         ) AS part (type)
   WHERE part.type >= ${FIRST_USER_OID}
), type AS MATERIALIZED (
  SELECT t.oid,
         pg_catalog.concat_ws(' ', t.oid, pg_catalog.quote_literal(n.nspname), pg_catalog.quote_literal(t.typname),
           t.typtype, t.typbasetype, t.typtypmod, t.typelem, t.typcollation, t.typoutput,
           'output', (SELECT p.xmin FROM pg_catalog.pg_proc p WHERE p.oid = t.typoutput),
           'cast', (
             SELECT pg_catalog.concat_ws(' ', c.oid, c.xmin)
               FROM pg_catalog.pg_cast c WHERE c.castsource = t.oid AND c.casttarget = ${TEXT_OID}),
           'range', (
             SELECT pg_catalog.concat_ws(' ', r.rngsubtype, r.rngcollation, r.rngsubopc, r.rngcanonical)
               FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid),
           'labels', (
             SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', e.oid, pg_catalog.quote_literal(e.enumlabel), e.xmin),
                      ',' ORDER BY e.enumsortorder)
               FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
           'fields', (
             SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', f.attnum, f.atttypid, f.atttypmod, f.attcollation,
                      f.attisdropped, f.xmin), ',' ORDER BY f.attnum)
               FROM pg_catalog.pg_attribute f
              WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND t.typrelid <> 0),
           'extension', (
             SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', x.oid, x.extversion, x.xmin), ',')
               FROM pg_catalog.pg_depend d
               JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
              WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid AND d.deptype = 'e'
                AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass),
           'collations', (
             SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', c.oid, ${collationVersion('c')}), ',' ORDER BY c.oid)
               FROM pg_catalog.pg_collation c
              WHERE c.oid = t.typcollation
                 OR c.oid = (SELECT r.rngcollation FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)
                 OR c.oid IN (SELECT f.attcollation FROM pg_catalog.pg_attribute f
                               WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND t.typrelid <> 0))) AS facts
    FROM (SELECT DISTINCT u.type FROM type_use u) u
    JOIN pg_catalog.pg_type t ON t.oid = u.type
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
)
SELECT 1, u.root, pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
         pg_catalog.string_agg(t.facts, ',' ORDER BY t.oid), 'UTF8')), 'hex'), 32)
  FROM type_use u
  JOIN type t ON t.oid = u.type
 GROUP BY u.root
 UNION ALL
SELECT 2, c.oid, pg_catalog.concat_ws(' ', c.xmin, (
         SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.oid, p.xmin), ',' ORDER BY a.oid)
           FROM pg_catalog.pg_amproc a
           JOIN pg_catalog.pg_proc p ON p.oid = a.amproc::pg_catalog.oid
          WHERE a.amprocfamily = c.opcfamily))
  FROM pg_catalog.pg_opclass c
 WHERE c.oid = ANY ($2::pg_catalog.oid[])`;

/** The version of the library that a collation's order comes from; the database's for its default. */
function collationVersion(alias: string): string {
  return `
    CASE ${alias}.collprovider
      WHEN 'd' THEN (SELECT pg_catalog.pg_database_collation_actual_version(d.oid)
                       FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
      ELSE pg_catalog.pg_collation_actual_version(${alias}.oid)
    END`;
}
