const FUNCTIONS_OF_NAMES = [
  ...['regproc', 'regprocedure', 'regoper', 'regoperator', 'regclass', 'regtype', 'regrole'],
  ...['regnamespace', 'regconfig', 'regdictionary', 'regcollation', 'regdatabase'],
]
  .map((type) => `pg_catalog.to_regproc('pg_catalog.${type}out')`)
  .join(', ');

/**
 * Output functions that print the names of other objects; aclitem (1033) prints roles. A list of its own, since the server
 * would look each name up again for each row of pg_type.
 */
const OUTPUTS_OF_NAMES = `ARRAY(SELECT f.oid::oid FROM pg_catalog.unnest(ARRAY[${FUNCTIONS_OF_NAMES}]) f (oid))`;

/**
 * For each of the tables ($1, $2: schemas and names) that exists its number in the lists, from 1, and a
 * JSON document about it. $3: names of the columns, sorted by bytes, of the unique key that stands for the primary
 * key; null: the primary key itself. Written against the catalogs of PostgreSQL 15 to 18: columns that only some
 * of them have are read through to_jsonb().
 *
 * - Names of types come from format_type(oid, -1): without the modifier `character` and `bit` would
 *   mean one character and one bit.
 * - A column of a domain has no modifier of its own; only one type of a chain of domains can have one.
 * - Partitions are found through pg_inherits because pg_partition_tree() locks them and would wait
 *   behind DDL.
 * - The key's operators are those of its index. An index without an order (GiST) has others; then
 *   those by which the type is sorted are taken.
 * - Collation versions are those of the library in use now; they decide the order, not those of
 *   the time when the collation was created.
 * - Facts of types are worked out once a type, not once a column: there may be hundreds of tables.
 */
export const TABLE_QUERY = `
WITH RECURSIVE target AS MATERIALIZED (
  SELECT w.number, w.schema, c.*
    FROM ROWS FROM (pg_catalog.unnest($1::name[]), pg_catalog.unnest($2::name[]))
         WITH ORDINALITY AS w (schema, name, number)
    JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
   WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
), member AS (
  SELECT t.oid AS root, t.oid, t.relkind, t.reltuples, false AS is_child FROM target t
   UNION ALL
  SELECT m.root, c.oid, c.relkind, c.reltuples, true
    FROM member m
    JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid AND NOT i.inhdetachpending
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
), members AS MATERIALIZED (
  SELECT m.root,
         COALESCE(pg_catalog.sum(m.reltuples) FILTER (WHERE m.relkind = 'r' AND m.reltuples >= 0), -1) AS rows,
         pg_catalog.json_agg(m.relkind) FILTER (WHERE m.is_child) AS child_kinds
    FROM member m
   GROUP BY m.root
), attribute AS MATERIALIZED (
  SELECT a.*
    FROM pg_catalog.pg_attribute a
   WHERE a.attrelid IN (SELECT t.oid FROM target t) AND a.attnum > 0 AND NOT a.attisdropped
), used_type AS MATERIALIZED (
  SELECT DISTINCT a.atttypid AS oid FROM attribute a
), domain_chain AS (
  SELECT u.oid AS root, u.oid AS type_oid, -1 AS modifier FROM used_type u
   UNION ALL
  SELECT d.root, t.typbasetype, GREATEST(d.modifier, t.typtypmod)
    FROM domain_chain d
    JOIN pg_catalog.pg_type t ON t.oid = d.type_oid AND t.typtype = 'd'
), base AS MATERIALIZED (
  SELECT d.root, t.oid, d.modifier, n.nspname, t.typname, t.typcategory, t.typtype
    FROM domain_chain d
    JOIN pg_catalog.pg_type t ON t.oid = d.type_oid AND t.typtype <> 'd'
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
), type_part AS (
  SELECT u.oid AS root, u.oid AS type_oid FROM used_type u
   UNION
  SELECT u.root, part.type_oid
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
), type_fact AS MATERIALIZED (
  SELECT b.*,
         pg_catalog.format_type(b.root, -1) AS name,
         pg_catalog.format_type(b.oid, -1) AS base_name,
         (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)
            FROM pg_catalog.pg_enum e WHERE e.enumtypid = b.oid) AS labels,
         b.oid NOT IN (25, 1043) AND EXISTS (
           SELECT FROM pg_catalog.pg_cast x WHERE x.castsource = b.oid AND x.casttarget = 25
         ) AS has_text_cast,
         (SELECT pg_catalog.min(t.typname::text)
            FROM type_part u
            JOIN pg_catalog.pg_type t ON t.oid = u.type_oid
           WHERE u.root = b.root AND (t.oid = 1033 OR t.typoutput::oid = ANY (${OUTPUTS_OF_NAMES}))) AS foreign_text
    FROM base b
), primary_key AS MATERIALIZED (
  SELECT DISTINCT ON (i.indrelid) i.indrelid, i.indkey::int2[] AS attnums, i.indclass, i.indnkeyatts,
         m.amname = 'btree' AS is_ordered
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid = c.relam
   WHERE i.indrelid IN (SELECT t.oid FROM target t) AND i.indisvalid
     AND CASE
           WHEN $3::text[] IS NULL THEN i.indisprimary
           ELSE i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND (
             SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C")
               FROM attribute a
              WHERE a.attrelid = i.indrelid AND a.attnotnull
                AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) = $3::text[]
         END
   ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid
), key_column AS MATERIALIZED (
  SELECT p.indrelid, k.position, a.attname, a.atttypid,
         CASE WHEN p.is_ordered THEN p.indclass[k.position - 1] END AS class_oid
    FROM primary_key p
   CROSS JOIN LATERAL pg_catalog.unnest(p.attnums) WITH ORDINALITY AS k (attnum, position)
    JOIN attribute a ON a.attrelid = p.indrelid AND a.attnum = k.attnum
   WHERE k.position <= p.indnkeyatts
), used_class AS MATERIALIZED (
  SELECT DISTINCT k.atttypid, k.class_oid FROM key_column k
), key_class AS (
  SELECT k.atttypid, k.class_oid, o.opcfamily, o.opcintype
    FROM used_class k
    JOIN base b ON b.root = k.atttypid
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
), key_operator AS MATERIALIZED (
  SELECT k.atttypid, k.class_oid,
         pg_catalog.json_object_agg(
           w.amopstrategy, pg_catalog.format('OPERATOR(%I.%s)', n.nspname, p.oprname)
         ) AS operators
    FROM key_class k
    JOIN pg_catalog.pg_amop w ON w.amopfamily = k.opcfamily AND w.amoppurpose = 's'
     AND w.amoplefttype = k.opcintype AND w.amoprighttype = k.opcintype
    JOIN pg_catalog.pg_operator p ON p.oid = w.amopopr
    JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace
   GROUP BY k.atttypid, k.class_oid
), keys AS MATERIALIZED (
  SELECT k.indrelid,
         pg_catalog.json_agg(k.attname ORDER BY k.position) AS names,
         pg_catalog.json_agg(o.operators ORDER BY k.position) FILTER (WHERE o.operators IS NOT NULL) AS operators,
         pg_catalog.min(k.attname::text COLLATE "C") FILTER (WHERE k.position = 1) AS first_name
    FROM key_column k
    LEFT JOIN key_operator o ON o.atttypid = k.atttypid AND o.class_oid IS NOT DISTINCT FROM k.class_oid
   GROUP BY k.indrelid
), database AS MATERIALIZED (
  SELECT d.oid, d.encoding, d.datlocprovider, d.datcollate, pg_catalog.to_jsonb(d) AS row
    FROM pg_catalog.pg_database d
   WHERE d.datname = pg_catalog.current_database()
), collation_info AS MATERIALIZED (
  SELECT c.oid, pg_catalog.json_build_object(
         'name', pg_catalog.format('%I.%I', n.nspname, c.collname),
         'provider', CASE c.collprovider WHEN 'd' THEN d.datlocprovider ELSE c.collprovider END,
         'locale', COALESCE(CASE c.collprovider
           WHEN 'c' THEN c.collcollate
           WHEN 'd' THEN CASE d.datlocprovider
                           WHEN 'c' THEN d.datcollate
                           ELSE COALESCE(d.row ->> 'datlocale', d.row ->> 'daticulocale')
                         END
           ELSE COALESCE(pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'colliculocale')
         END, ''),
         'rules', CASE c.collprovider
           WHEN 'd' THEN d.row ->> 'daticurules'
           ELSE pg_catalog.to_jsonb(c) ->> 'collicurules'
         END,
         'version', CASE c.collprovider
           WHEN 'd' THEN pg_catalog.pg_database_collation_actual_version(d.oid)
           ELSE pg_catalog.pg_collation_actual_version(c.oid)
         END,
         'isDeterministic', c.collisdeterministic) AS info
    FROM pg_catalog.pg_collation c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
   CROSS JOIN database d
   WHERE c.oid IN (SELECT a.attcollation FROM attribute a)
), columns AS MATERIALIZED (
  SELECT a.attrelid, pg_catalog.json_agg(pg_catalog.json_build_object(
           'name', a.attname,
           'attnum', a.attnum,
           'typeOid', a.atttypid::int8,
           'typeName', f.name,
           'declaredType', pg_catalog.format_type(a.atttypid, a.atttypmod),
           'storedType', pg_catalog.format_type(f.oid, GREATEST(f.modifier, a.atttypmod)),
           'typeModifier', GREATEST(f.modifier, a.atttypmod),
           'baseTypeOid', f.oid::int8,
           'baseTypeName', f.base_name,
           'baseTypeSql', pg_catalog.format('%I.%I', f.nspname, f.typname),
           'baseTypeCategory', f.typcategory,
           'baseTypeKind', f.typtype,
           'enumLabels', f.labels,
           'hasTextCast', f.has_text_cast,
           'foreignText', f.foreign_text,
           'isGenerated', a.attgenerated <> '',
           'generatedAs', CASE WHEN a.attgenerated <> '' THEN (
             SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid)
               FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END,
           'identity', a.attidentity,
           'isNullable', NOT a.attnotnull,
           'collation', c.info) ORDER BY a.attnum) AS info
    FROM attribute a
    JOIN type_fact f ON f.root = a.atttypid
    LEFT JOIN collation_info c ON c.oid = a.attcollation
   GROUP BY a.attrelid
)
SELECT t.number, pg_catalog.json_build_object(
  'kind', t.relkind,
  'persistence', t.relpersistence,
  'replicaIdentity', t.relreplident,
  'encoding', (SELECT pg_catalog.pg_encoding_to_char(d.encoding) FROM database d),
  'locale', (
    SELECT pg_catalog.concat_ws(' ',
             CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'ICU' ELSE 'builtin' END,
             COALESCE(d.row ->> 'datlocale', d.row ->> 'daticulocale', d.datcollate),
             CASE d.datlocprovider WHEN 'c' THEN d.row ->> 'datctype' END,
             d.row ->> 'daticurules')
      FROM database d),
  'estimatedRows', m.rows,
  'keyCorrelation', (
    SELECT s.correlation
      FROM pg_catalog.pg_stats s
     WHERE s.schemaname = t.schema AND s.tablename = t.relname AND NOT s.inherited
       AND s.attname = k.first_name
  ),
  'primaryKey', COALESCE(k.names, '[]'),
  'keyOperators', COALESCE(k.operators, '[]'),
  'isKeyOrdered', COALESCE(p.is_ordered, true),
  'childKinds', COALESCE(m.child_kinds, '[]'),
  'columns', COALESCE(c.info, '[]')
)::text
  FROM target t
  JOIN members m ON m.root = t.oid
  LEFT JOIN keys k ON k.indrelid = t.oid
  LEFT JOIN primary_key p ON p.indrelid = t.oid
  LEFT JOIN columns c ON c.attrelid = t.oid
 ORDER BY t.number`;
