/** Objects with lower OIDs came with the server and cannot be altered. */
const FIRST_USER_OID = 16384;

/**
 * One row for each table of ($1, $2: schemas and names) that exists: its number in the lists, OID,
 * leaf partitions (null: not partitioned) and fingerprint. Written against the catalogs of
 * PostgreSQL 15 to 19; pg_catalog only.
 *
 * The fingerprint holds everything that can change rows, or their text, or the order of the key,
 * without a row message. The page docs/13-what-changes-silently.md lists the kinds.
 *
 * - Catalog rows come with their xmin, so that a change that was taken back counts too.
 * - pg_class rows do not: GRANT, VACUUM FULL and a trigger write them, and what matters of them is in
 *   the stream (renames and replica identities come with the Relation messages, by OID).
 * - A plain table's file is left out: TRUNCATE is published, VACUUM FULL is harmless, and a rewrite
 *   changes attributes. TRUNCATE of a single partition is not published through the root.
 * - Partitions are found through pg_inherits: pg_partition_tree() locks them and would wait for DDL.
 * - Types are followed down to what their text is made of: the base types of domains, elements of
 *   arrays, fields of composites, subtypes of ranges, labels of enums, and output functions.
 * - Of collations the version of the library in use counts; the recorded one orders nothing.
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
), members AS (
  SELECT m.root,
         pg_catalog.string_agg(m.facts, ',' ORDER BY m.oid) AS facts,
         pg_catalog.json_agg(m.oid::int8 ORDER BY m.oid) FILTER (WHERE m.relkind = 'r') AS leaves
    FROM member m
   WHERE m.depth > 0
   GROUP BY m.root
), attribute AS MATERIALIZED (
  SELECT a.attrelid, a.attnum, a.atttypid, a.attcollation,
         pg_catalog.concat_ws(' ', a.attnum, pg_catalog.quote_literal(a.attname), a.atttypid, a.atttypmod,
                              a.attcollation, a.attgenerated, a.xmin) AS facts
    FROM target t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
), attributes AS (
  SELECT a.attrelid AS root, pg_catalog.string_agg(a.facts, ',' ORDER BY a.attnum) AS facts
    FROM attribute a
   GROUP BY a.attrelid
), key_index AS MATERIALIZED (
  SELECT i.indrelid AS root, i.indkey, i.indclass, i.indcollation,
         pg_catalog.concat_ws(' ', i.indkey, i.indnkeyatts, i.indclass, i.indcollation, i.indoption,
                              i.indimmediate) AS facts
    FROM target t
    JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisprimary AND i.indisvalid
), type_use AS (
  SELECT a.attrelid AS root, a.atttypid AS type
    FROM attribute a
   WHERE a.atttypid >= ${FIRST_USER_OID}
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
  SELECT t.oid, t.typcollation, r.rngcollation,
         pg_catalog.concat_ws(' ', t.oid, pg_catalog.quote_literal(n.nspname), pg_catalog.quote_literal(t.typname),
                              t.typtype, t.typbasetype, t.typtypmod, t.typelem, t.typcollation,
                              t.typoutput, p.xmin,
                              r.rngsubtype, r.rngcollation, r.rngsubopc, r.rngcanonical,
                              (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ',
                                        e.oid, pg_catalog.quote_literal(e.enumlabel), e.xmin), ','
                                        ORDER BY e.enumsortorder)
                                 FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
                              (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ',
                                        f.attnum, f.atttypid, f.atttypmod, f.attcollation, f.attisdropped, f.xmin), ','
                                        ORDER BY f.attnum)
                                 FROM pg_catalog.pg_attribute f
                                WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND t.typrelid <> 0),
                              (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', x.oid, x.extversion, x.xmin), ',')
                                 FROM pg_catalog.pg_depend d
                                 JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
                                WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid
                                  AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
                                  AND d.deptype = 'e')) AS facts
    FROM (SELECT DISTINCT u.type FROM type_use u) u
    JOIN pg_catalog.pg_type t ON t.oid = u.type
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_proc p ON p.oid = t.typoutput
    LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid OR r.rngmultitypid = t.oid
), types AS (
  SELECT u.root, pg_catalog.string_agg(t.facts, ',' ORDER BY t.oid) AS facts
    FROM type_use u
    JOIN type t ON t.oid = u.type
   GROUP BY u.root
), opclass_use AS (
  SELECT DISTINCT k.root, c.oid
    FROM key_index k
   CROSS JOIN LATERAL pg_catalog.unnest(k.indclass::pg_catalog.oid[]) AS c (oid)
   WHERE c.oid >= ${FIRST_USER_OID}
), opclasses AS (
  SELECT u.root,
         pg_catalog.string_agg(
           pg_catalog.concat_ws(' ', c.oid, c.xmin, (
             SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.amproc::pg_catalog.oid, p.xmin), ',' ORDER BY a.oid)
               FROM pg_catalog.pg_amproc a
               JOIN pg_catalog.pg_proc p ON p.oid = a.amproc::pg_catalog.oid
              WHERE a.amprocfamily = c.opcfamily)), ',' ORDER BY c.oid) AS facts
    FROM opclass_use u
    JOIN pg_catalog.pg_opclass c ON c.oid = u.oid
   GROUP BY u.root
), collation_use AS (
  SELECT k.root, c.oid
    FROM key_index k
   CROSS JOIN LATERAL pg_catalog.unnest(k.indcollation::pg_catalog.oid[]) AS c (oid)
   UNION
  SELECT u.root, c.oid
    FROM type_use u
    JOIN type t ON t.oid = u.type
   CROSS JOIN LATERAL (VALUES (t.typcollation), (t.rngcollation)) AS c (oid)
), collation_version AS MATERIALIZED (
  SELECT c.oid,
         pg_catalog.concat_ws(' ', c.oid,
           CASE c.collprovider
             WHEN 'd' THEN pg_catalog.pg_database_collation_actual_version(d.oid)
             ELSE pg_catalog.pg_collation_actual_version(c.oid)
           END) AS facts
    FROM (SELECT DISTINCT u.oid FROM collation_use u) u
    JOIN pg_catalog.pg_collation c ON c.oid = u.oid
    JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
), collations AS (
  SELECT u.root, pg_catalog.string_agg(v.facts, ',' ORDER BY v.oid) AS facts
    FROM collation_use u
    JOIN collation_version v ON v.oid = u.oid
   GROUP BY u.root
)
SELECT t.number, t.oid,
       CASE t.relkind WHEN 'p' THEN COALESCE(m.leaves, '[]') END,
       pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
         pg_catalog.concat_ws(E'\\n', t.oid, t.relkind, t.relpersistence,
           CASE t.relkind WHEN 'p' THEN t.relreplident END,
           'members', m.facts, 'attributes', a.facts, 'key', k.facts, 'types', y.facts,
           'opclasses', o.facts, 'collations', c.facts), 'UTF8')), 'hex'), 32)
  FROM target t
  LEFT JOIN members m ON m.root = t.oid
  LEFT JOIN attributes a ON a.root = t.oid
  LEFT JOIN key_index k ON k.root = t.oid
  LEFT JOIN types y ON y.root = t.oid
  LEFT JOIN opclasses o ON o.root = t.oid
  LEFT JOIN collations c ON c.root = t.oid
 ORDER BY t.number`;
