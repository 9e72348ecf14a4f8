/** Output functions that print the names of other objects; aclitem (1033) prints roles. */
const OUTPUTS_OF_NAMES = [
  ...['regproc', 'regprocedure', 'regoper', 'regoperator', 'regclass', 'regtype', 'regrole'],
  ...['regnamespace', 'regconfig', 'regdictionary', 'regcollation', 'regdatabase'],
]
  .map((type) => `pg_catalog.to_regproc('pg_catalog.${type}out')`)
  .join(', ');

/**
 * One JSON document about the table $1.$2, or no row. Written against the catalogs of PostgreSQL 15
 * to 18: columns that only some of them have are read through to_jsonb().
 *
 * - Names of types come from format_type(oid, -1): without the modifier `character` and `bit` would
 *   mean one character and one bit.
 * - Partitions are found through pg_inherits because pg_partition_tree() locks them and would wait
 *   behind DDL.
 * - The key's operators are those of its index. An index without an order (GiST) has others; then
 *   those by which the type is sorted are taken.
 * - Collation versions are those of the library in use now; they decide the order, not those of
 *   the time when the collation was created.
 */
export const TABLE_QUERY = `
WITH RECURSIVE target AS (
  SELECT c.*
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1::name AND c.relname = $2::name
     AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
), member AS (
  SELECT t.oid, t.relkind, t.reltuples, false AS is_child FROM target t
   UNION ALL
  SELECT c.oid, c.relkind, c.reltuples, true
    FROM member m
    JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid AND NOT i.inhdetachpending
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
), attribute AS (
  SELECT a.*
    FROM pg_catalog.pg_attribute a
    JOIN target t ON t.oid = a.attrelid
   WHERE a.attnum > 0 AND NOT a.attisdropped
), domain_chain AS (
  SELECT a.attnum, a.atttypid AS type_oid FROM attribute a
   UNION ALL
  SELECT d.attnum, t.typbasetype
    FROM domain_chain d
    JOIN pg_catalog.pg_type t ON t.oid = d.type_oid AND t.typtype = 'd'
), base AS (
  SELECT d.attnum, t.oid, t.typnamespace, t.typname, t.typcategory, t.typtype
    FROM domain_chain d
    JOIN pg_catalog.pg_type t ON t.oid = d.type_oid AND t.typtype <> 'd'
), type_part AS (
  SELECT a.attnum, a.atttypid AS type_oid FROM attribute a
   UNION
  SELECT u.attnum, part.type_oid
    FROM type_part u
    JOIN pg_catalog.pg_type t ON t.oid = u.type_oid
   CROSS JOIN LATERAL (
           SELECT t.typbasetype UNION ALL SELECT t.typelem
            UNION ALL
           SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
            UNION ALL
           SELECT f.atttypid FROM pg_catalog.pg_attribute f
            WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
         ) AS part (type_oid)
   WHERE part.type_oid <> 0
), primary_key AS (
  SELECT i.indkey::int2[] AS attnums, i.indclass, i.indnkeyatts, m.amname = 'btree' AS is_ordered
    FROM pg_catalog.pg_index i
    JOIN target t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid = c.relam
   WHERE i.indisprimary AND i.indisvalid
), key_column AS (
  SELECT k.position, a.attname, a.attnum,
         CASE WHEN p.is_ordered THEN p.indclass[k.position - 1] END AS class_oid
    FROM primary_key p
   CROSS JOIN LATERAL pg_catalog.unnest(p.attnums) WITH ORDINALITY AS k (attnum, position)
    JOIN attribute a ON a.attnum = k.attnum
   WHERE k.position <= p.indnkeyatts
), key_class AS (
  SELECT k.position, o.opcfamily, o.opcintype
    FROM key_column k
    JOIN base b ON b.attnum = k.attnum
   CROSS JOIN LATERAL (
     SELECT o.*
       FROM pg_catalog.pg_opclass o
       JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'
      WHERE CASE
              WHEN k.class_oid IS NOT NULL THEN o.oid = k.class_oid
              ELSE o.opcdefault AND (
                o.opcintype IN (b.oid, CASE b.typtype WHEN 'e' THEN 'anyenum' WHEN 'r' THEN 'anyrange'
                  WHEN 'm' THEN 'anymultirange' WHEN 'c' THEN 'record' ELSE 'anyarray' END::regtype)
                OR EXISTS (SELECT FROM pg_catalog.pg_cast x WHERE x.castsource = b.oid
                  AND x.casttarget = o.opcintype AND x.castmethod = 'b' AND x.castcontext = 'i'))
            END
      ORDER BY o.opcintype = b.oid DESC,
               o.opcintype IN (SELECT x.casttarget FROM pg_catalog.pg_cast x WHERE x.castsource = b.oid) DESC
      LIMIT 1
   ) o
), key_operator AS (
  SELECT k.position,
         pg_catalog.json_object_agg(
           w.amopstrategy, pg_catalog.format('OPERATOR(%I.%s)', n.nspname, p.oprname)
         ) AS operators
    FROM key_class k
    JOIN pg_catalog.pg_amop w ON w.amopfamily = k.opcfamily AND w.amoppurpose = 's'
     AND w.amoplefttype = k.opcintype AND w.amoprighttype = k.opcintype
    JOIN pg_catalog.pg_operator p ON p.oid = w.amopopr
    JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace
   GROUP BY k.position
), database AS (
  SELECT d.oid, d.encoding, d.datlocprovider, d.datcollate, pg_catalog.to_jsonb(d) AS row
    FROM pg_catalog.pg_database d
   WHERE d.datname = pg_catalog.current_database()
), collation_info AS (
  SELECT c.oid,
         pg_catalog.format('%I.%I', n.nspname, c.collname) AS name,
         CASE c.collprovider WHEN 'd' THEN d.datlocprovider ELSE c.collprovider END AS provider,
         CASE c.collprovider
           WHEN 'c' THEN c.collcollate
           WHEN 'd' THEN CASE d.datlocprovider
                           WHEN 'c' THEN d.datcollate
                           ELSE COALESCE(d.row ->> 'datlocale', d.row ->> 'daticulocale')
                         END
           ELSE COALESCE(pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'colliculocale')
         END AS locale,
         CASE c.collprovider
           WHEN 'd' THEN d.row ->> 'daticurules'
           ELSE pg_catalog.to_jsonb(c) ->> 'collicurules'
         END AS rules,
         CASE c.collprovider
           WHEN 'd' THEN pg_catalog.pg_database_collation_actual_version(d.oid)
           ELSE pg_catalog.pg_collation_actual_version(c.oid)
         END AS version,
         c.collisdeterministic AS is_deterministic
    FROM pg_catalog.pg_collation c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
   CROSS JOIN database d
   WHERE c.oid IN (SELECT a.attcollation FROM attribute a)
), label AS (
  SELECT b.attnum, pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder) AS labels
    FROM base b
    JOIN pg_catalog.pg_enum e ON e.enumtypid = b.oid
   GROUP BY b.attnum
)
SELECT pg_catalog.json_build_object(
  'kind', t.relkind,
  'persistence', t.relpersistence,
  'replicaIdentity', t.relreplident,
  'encoding', (SELECT pg_catalog.pg_encoding_to_char(d.encoding) FROM database d),
  'estimatedRows', (
    SELECT COALESCE(pg_catalog.sum(m.reltuples) FILTER (WHERE m.reltuples >= 0), -1)
      FROM member m WHERE m.relkind = 'r'
  ),
  'keyCorrelation', (
    SELECT s.correlation
      FROM pg_catalog.pg_stats s
     WHERE s.schemaname = $1::name AND s.tablename = $2::name AND NOT s.inherited
       AND s.attname = (SELECT k.attname FROM key_column k WHERE k.position = 1)
  ),
  'primaryKey', COALESCE((SELECT pg_catalog.json_agg(k.attname ORDER BY k.position) FROM key_column k), '[]'),
  'keyOperators', COALESCE((SELECT pg_catalog.json_agg(k.operators ORDER BY k.position) FROM key_operator k), '[]'),
  'isKeyOrdered', COALESCE((SELECT p.is_ordered FROM primary_key p), true),
  'childKinds', COALESCE((SELECT pg_catalog.json_agg(m.relkind) FROM member m WHERE m.is_child), '[]'),
  'columns', COALESCE((
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
             'name', a.attname,
             'attnum', a.attnum,
             'typeOid', a.atttypid::int8,
             'typeName', pg_catalog.format_type(a.atttypid, -1),
             'declaredType', pg_catalog.format_type(a.atttypid, a.atttypmod),
             'typeModifier', a.atttypmod,
             'baseTypeOid', b.oid::int8,
             'baseTypeName', pg_catalog.format_type(b.oid, -1),
             'baseTypeSql', pg_catalog.format('%I.%I', (SELECT n.nspname FROM pg_catalog.pg_namespace n
               WHERE n.oid = b.typnamespace), b.typname),
             'baseTypeCategory', b.typcategory,
             'baseTypeKind', b.typtype,
             'enumLabels', (SELECT l.labels FROM label l WHERE l.attnum = a.attnum),
             'hasTextCast', b.oid NOT IN (25, 1043) AND EXISTS (
               SELECT FROM pg_catalog.pg_cast x WHERE x.castsource = b.oid AND x.casttarget = 25
             ),
             'foreignText', (
               SELECT pg_catalog.min(t.typname::text)
                 FROM type_part u
                 JOIN pg_catalog.pg_type t ON t.oid = u.type_oid
                WHERE u.attnum = a.attnum AND (t.oid = 1033 OR t.typoutput IN (${OUTPUTS_OF_NAMES}))
             ),
             'isGenerated', a.attgenerated <> '',
             'identity', a.attidentity,
             'isNullable', NOT a.attnotnull,
             'collation', (
               SELECT pg_catalog.json_build_object(
                        'name', c.name, 'provider', c.provider, 'locale', COALESCE(c.locale, ''), 'rules', c.rules,
                        'version', c.version, 'isDeterministic', c.is_deterministic)
                 FROM collation_info c WHERE c.oid = a.attcollation
             )) ORDER BY a.attnum)
      FROM attribute a
      JOIN base b ON b.attnum = a.attnum
  ), '[]')
)::text
FROM target t`;
