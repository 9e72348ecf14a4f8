/**
 * What one node's catalog says of the objects of a schema ($1), a query a kind. Each answers rows of
 * (name, parent, facts as a JSON object, extension that owns it or null). Names are qualified and quoted;
 * a parent is the name of the object without which this one is nothing. Definitions are as the server
 * prints them, under our pinned search path: the same on every node. Written for PostgreSQL 15 to 18.
 */
export interface DefinitionQuery {
  readonly kind: ObjectKind;
  readonly sql: string;
}

export type ObjectKind =
  | 'schema'
  | 'table'
  | 'column'
  | 'constraint'
  | 'index'
  | 'view'
  | 'function'
  | 'trigger'
  | 'rule'
  | 'policy'
  | 'sequence'
  | 'type'
  | 'statistics'
  | 'extension'
  | 'collation'
  // Of replication: see readReplicationDefinitions.
  | 'publication'
  | 'replication set'
  | 'replicated table'
  | 'subscription'
  | 'settings';

/** Who may do what: the owner under that word, so that it is compared apart. */
function privileges(acl: string, owner: string, kind: string): string {
  return `(
    SELECT pg_catalog.string_agg(g.grantee || ': ' || g.rights, '; ' ORDER BY g.grantee)
      FROM (
        SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' WHEN ${owner} THEN 'owner'
                 ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END AS grantee,
               pg_catalog.string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', '
                 ORDER BY x.privilege_type) AS rights
          FROM pg_catalog.aclexplode(COALESCE(${acl}, pg_catalog.acldefault('${kind}', ${owner}))) AS x
         GROUP BY 1) AS g)`;
}

/** The extension that an object belongs to. */
function extension(catalog: string, oid: string): string {
  return `(
    SELECT e.extname
      FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
     WHERE d.classid = 'pg_catalog.${catalog}'::pg_catalog.regclass AND d.objid = ${oid} AND d.deptype = 'e'
       AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
     LIMIT 1)`;
}

const QUALIFIED = `pg_catalog.format('%I.%I', n.nspname, c.relname)`;
const OWNER = (oid: string): string => `pg_catalog.pg_get_userbyid(${oid})`;

const TABLES_OF = (kinds: string): string => `
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1::name AND c.relpersistence <> 't' AND c.relkind IN (${kinds})`;

const SCHEMA = `
SELECT pg_catalog.quote_ident(n.nspname), NULL, pg_catalog.json_build_object(
         'owner', ${OWNER('n.nspowner')},
         'privileges', ${privileges('n.nspacl', 'n.nspowner', 'n')},
         'comment', pg_catalog.obj_description(n.oid, 'pg_namespace'))::text, NULL
  FROM pg_catalog.pg_namespace n
 WHERE n.nspname = $1::name`;

const TABLE = `
SELECT ${QUALIFIED}, pg_catalog.quote_ident(n.nspname), pg_catalog.json_build_object(
         'kind', CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' ELSE 'foreign table' END,
         'persistence', CASE c.relpersistence WHEN 'p' THEN 'logged' ELSE 'unlogged' END,
         'partition key', pg_catalog.pg_get_partkeydef(c.oid),
         'partition bound', pg_catalog.pg_get_expr(c.relpartbound, c.oid),
         'parents', (
           SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', pn.nspname, pc.relname), ', ' ORDER BY i.inhseqno)
             FROM pg_catalog.pg_inherits i
             JOIN pg_catalog.pg_class pc ON pc.oid = i.inhparent
             JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
            WHERE i.inhrelid = c.oid),
         'replica identity', CASE c.relreplident
           WHEN 'd' THEN 'default' WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full'
           ELSE 'index ' || COALESCE((
             SELECT pg_catalog.quote_ident(ic.relname)
               FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
              WHERE i.indrelid = c.oid AND i.indisreplident), 'none') END,
         'row security', CASE WHEN c.relforcerowsecurity THEN 'forced' WHEN c.relrowsecurity THEN 'on' ELSE 'off' END,
         'options', (SELECT pg_catalog.string_agg(o, ', ' ORDER BY o) FROM pg_catalog.unnest(c.reloptions) AS o),
         'tablespace', (SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace),
         'access method', (SELECT a.amname FROM pg_catalog.pg_am a WHERE a.oid = c.relam),
         'owner', ${OWNER('c.relowner')},
         'privileges', ${privileges('c.relacl', 'c.relowner', 'r')},
         'comment', pg_catalog.obj_description(c.oid, 'pg_class'))::text,
       ${extension('pg_class', 'c.oid')}
  ${TABLES_OF("'r', 'p', 'f'")}`;

/** The order counts among the columns that are there: dropped ones leave gaps. */
const COLUMN = `
SELECT ${QUALIFIED} || '.' || pg_catalog.quote_ident(a.attname), ${QUALIFIED}, pg_catalog.json_build_object(
         'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
         'nullable', CASE WHEN a.attnotnull THEN 'NOT NULL' ELSE 'NULL' END,
         'default', CASE a.attgenerated WHEN '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
         'generated', CASE a.attgenerated WHEN '' THEN NULL ELSE pg_catalog.pg_get_expr(d.adbin, d.adrelid)
           || CASE a.attgenerated WHEN 's' THEN ' STORED' ELSE ' VIRTUAL' END END,
         'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
         'collation', (
           SELECT pg_catalog.format('%I.%I', cn.nspname, co.collname)
             FROM pg_catalog.pg_collation co JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
            WHERE co.oid = a.attcollation),
         'position', pg_catalog.row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum)::text,
         'storage', a.attstorage::text || COALESCE(NULLIF(a.attcompression::text, ''), ''),
         'options', (SELECT pg_catalog.string_agg(o, ', ' ORDER BY o) FROM pg_catalog.unnest(a.attoptions) AS o),
         'privileges', (
           SELECT pg_catalog.string_agg(pg_catalog.pg_get_userbyid(x.grantee) || ': ' || x.privilege_type, ', '
                    ORDER BY pg_catalog.pg_get_userbyid(x.grantee)::text, x.privilege_type)
             FROM pg_catalog.aclexplode(a.attacl) AS x),
         'comment', pg_catalog.col_description(c.oid, a.attnum))::text, NULL
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE n.nspname = $1::name AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'f')`;

/** NOT NULL, a constraint since 18, is a fact of its column. */
const CONSTRAINT = `
SELECT ${QUALIFIED} || '.' || pg_catalog.quote_ident(o.conname), ${QUALIFIED}, pg_catalog.json_build_object(
         'definition', pg_catalog.pg_get_constraintdef(o.oid),
         'kind', CASE o.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique' WHEN 'f' THEN 'foreign key'
           WHEN 'c' THEN 'check' ELSE 'exclusion' END,
         'comment', pg_catalog.obj_description(o.oid, 'pg_constraint'))::text, NULL
  FROM pg_catalog.pg_constraint o
  JOIN pg_catalog.pg_class c ON c.oid = o.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::name AND c.relpersistence <> 't' AND o.contype IN ('p', 'u', 'f', 'c', 'x')`;

/** Those of constraints are told with them. The name is left out of the definition. */
const INDEX = `
SELECT ${QUALIFIED} || '.' || pg_catalog.quote_ident(ic.relname), ${QUALIFIED}, pg_catalog.json_build_object(
         'definition', pg_catalog.replace(pg_catalog.pg_get_indexdef(i.indexrelid),
           ' INDEX ' || pg_catalog.quote_ident(ic.relname) || ' ON ', ' INDEX ON '),
         'kind', CASE WHEN i.indisunique THEN 'unique' ELSE 'plain' END,
         'state', CASE WHEN i.indisvalid AND i.indisready THEN 'valid' ELSE 'not valid' END)::text, NULL
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
  JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::name AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'm')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint o
                    WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))`;

const VIEW = `
SELECT ${QUALIFIED}, pg_catalog.quote_ident(n.nspname), pg_catalog.json_build_object(
         'kind', CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END,
         'definition', pg_catalog.pg_get_viewdef(c.oid),
         'options', (SELECT pg_catalog.string_agg(o, ', ' ORDER BY o) FROM pg_catalog.unnest(c.reloptions) AS o),
         'owner', ${OWNER('c.relowner')},
         'privileges', ${privileges('c.relacl', 'c.relowner', 'r')},
         'comment', pg_catalog.obj_description(c.oid, 'pg_class'))::text,
       ${extension('pg_class', 'c.oid')}
  ${TABLES_OF("'v', 'm'")}`;

/** pg_get_functiondef() knows no aggregates. What a range type brings with it is the type's. */
const FUNCTION = `
SELECT pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)),
       pg_catalog.quote_ident(n.nspname), pg_catalog.json_build_object(
         'definition', CASE p.prokind
           WHEN 'a' THEN (
             SELECT pg_catalog.concat_ws(' ', g.aggtransfn, pg_catalog.format_type(g.aggtranstype, NULL), g.aggfinalfn,
                      g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.agginitval, g.aggkind, g.aggnumdirectargs)
               FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = p.oid)
           ELSE pg_catalog.pg_get_functiondef(p.oid) END,
         'result', pg_catalog.pg_get_function_result(p.oid),
         'owner', ${OWNER('p.proowner')},
         'privileges', ${privileges('p.proacl', 'p.proowner', 'f')},
         'comment', pg_catalog.obj_description(p.oid, 'pg_proc'))::text,
       ${extension('pg_proc', 'p.oid')}
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = $1::name AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'i')`;

const TRIGGER = `
SELECT ${QUALIFIED} || '.' || pg_catalog.quote_ident(t.tgname), ${QUALIFIED}, pg_catalog.json_build_object(
         'definition', pg_catalog.pg_get_triggerdef(t.oid),
         'fires', CASE t.tgenabled WHEN 'O' THEN 'origin' WHEN 'D' THEN 'never' WHEN 'R' THEN 'replica' ELSE 'always' END)::text,
       NULL
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::name AND c.relpersistence <> 't' AND NOT t.tgisinternal`;

const RULE = `
SELECT ${QUALIFIED} || '.' || pg_catalog.quote_ident(r.rulename), ${QUALIFIED}, pg_catalog.json_build_object(
         'definition', pg_catalog.pg_get_ruledef(r.oid),
         'fires', CASE r.ev_enabled WHEN 'O' THEN 'origin' WHEN 'D' THEN 'never' WHEN 'R' THEN 'replica' ELSE 'always' END)::text,
       NULL
  FROM pg_catalog.pg_rewrite r
  JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::name AND r.rulename <> '_RETURN'`;

const POLICY = `
SELECT ${QUALIFIED} || '.' || pg_catalog.quote_ident(p.polname), ${QUALIFIED}, pg_catalog.json_build_object(
         'definition', pg_catalog.concat_ws(' ', CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
           'FOR', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
             WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
           'TO', (SELECT pg_catalog.string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(r)::text END, ', '
                           ORDER BY pg_catalog.pg_get_userbyid(r)::text) FROM pg_catalog.unnest(p.polroles) AS r),
           'USING ' || pg_catalog.pg_get_expr(p.polqual, p.polrelid),
           'WITH CHECK ' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)))::text, NULL
  FROM pg_catalog.pg_policy p
  JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = $1::name`;

/** Where it stands is null before its first use, and for who may not see it. */
const SEQUENCE = `
SELECT ${QUALIFIED}, pg_catalog.quote_ident(n.nspname), pg_catalog.json_build_object(
         'type', pg_catalog.format_type(s.seqtypid, NULL),
         'definition', pg_catalog.format('START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s%s',
           s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END),
         'owned by', (
           SELECT pg_catalog.format('%I.%I.%I', tn.nspname, t.relname, a.attname)
             FROM pg_catalog.pg_depend d
             JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
             JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
             JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
              AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
            LIMIT 1),
         'last value', (SELECT q.last_value::text FROM pg_catalog.pg_sequences q
                         WHERE q.schemaname = n.nspname AND q.sequencename = c.relname),
         'owner', ${OWNER('c.relowner')},
         'privileges', ${privileges('c.relacl', 'c.relowner', 's')},
         'comment', pg_catalog.obj_description(c.oid, 'pg_class'))::text,
       ${extension('pg_class', 'c.oid')}
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
 WHERE n.nspname = $1::name AND c.relpersistence <> 't'`;

/** Enums, domains, ranges, and composite types that are no table's. */
const TYPE = `
SELECT pg_catalog.format('%I.%I', n.nspname, t.typname), pg_catalog.quote_ident(n.nspname), pg_catalog.json_build_object(
         'kind', CASE t.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'r' THEN 'range' WHEN 'c' THEN 'composite'
           ELSE 'base' END,
         'labels', (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)::text
                      FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
         'attributes', (
           SELECT pg_catalog.string_agg(pg_catalog.format('%I %s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)),
                    ', ' ORDER BY a.attnum)
             FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = t.typrelid AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped),
         'type', CASE t.typtype WHEN 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END,
         'nullable', CASE WHEN t.typnotnull THEN 'NOT NULL' ELSE 'NULL' END,
         'default', t.typdefault,
         'constraints', (
           SELECT pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(o.oid), '; ' ORDER BY pg_catalog.pg_get_constraintdef(o.oid))
             FROM pg_catalog.pg_constraint o WHERE o.contypid = t.oid AND o.contype = 'c'),
         'subtype', (SELECT pg_catalog.format_type(r.rngsubtype, NULL) FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid),
         'owner', ${OWNER('t.typowner')},
         'privileges', ${privileges('t.typacl', 't.typowner', 'T')},
         'comment', pg_catalog.obj_description(t.oid, 'pg_type'))::text,
       ${extension('pg_type', 't.oid')}
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE n.nspname = $1::name AND t.typtype IN ('e', 'd', 'r', 'c', 'b') AND t.typelem = 0
   AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))`;

const STATISTICS = `
SELECT pg_catalog.format('%I.%I', n.nspname, s.stxname), pg_catalog.quote_ident(n.nspname), pg_catalog.json_build_object(
         'definition', pg_catalog.pg_get_statisticsobjdef(s.oid))::text, NULL
  FROM pg_catalog.pg_statistic_ext s
  JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
 WHERE n.nspname = $1::name`;

/** Of the whole database: what is in the schema may be of them. */
const EXTENSION = `
SELECT pg_catalog.quote_ident(e.extname), NULL, pg_catalog.json_build_object(
         'version', e.extversion, 'schema', n.nspname)::text, NULL
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace`;

/** The database's own, and those that columns of the schema use; versions are of the libraries in use. */
const COLLATION = `
SELECT 'database default', NULL, pg_catalog.json_build_object(
         'encoding', pg_catalog.pg_encoding_to_char(d.encoding),
         'provider', d.datlocprovider,
         'locale', pg_catalog.concat_ws(' ', d.datcollate, d.datctype, pg_catalog.to_jsonb(d) ->> 'datlocale',
           pg_catalog.to_jsonb(d) ->> 'daticulocale', pg_catalog.to_jsonb(d) ->> 'daticurules'),
         'version', pg_catalog.pg_database_collation_actual_version(d.oid))::text, NULL
  FROM pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
 UNION ALL
SELECT pg_catalog.format('%I.%I', n.nspname, o.collname), NULL, pg_catalog.json_build_object(
         'provider', o.collprovider,
         'locale', pg_catalog.concat_ws(' ', o.collcollate, o.collctype, pg_catalog.to_jsonb(o) ->> 'colllocale',
           pg_catalog.to_jsonb(o) ->> 'colliculocale', pg_catalog.to_jsonb(o) ->> 'collicurules'),
         'deterministic', CASE WHEN o.collisdeterministic THEN 'yes' ELSE 'no' END,
         'version', pg_catalog.pg_collation_actual_version(o.oid))::text, NULL
  FROM pg_catalog.pg_collation o
  JOIN pg_catalog.pg_namespace n ON n.oid = o.collnamespace
 WHERE o.collprovider <> 'd' AND o.oid IN (
         SELECT a.attcollation
           FROM pg_catalog.pg_attribute a
           JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
           JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
          WHERE cn.nspname = $1::name AND NOT a.attisdropped)`;

export const DEFINITION_QUERIES: readonly DefinitionQuery[] = [
  { kind: 'schema', sql: SCHEMA },
  { kind: 'table', sql: TABLE },
  { kind: 'column', sql: COLUMN },
  { kind: 'constraint', sql: CONSTRAINT },
  { kind: 'index', sql: INDEX },
  { kind: 'view', sql: VIEW },
  { kind: 'function', sql: FUNCTION },
  { kind: 'trigger', sql: TRIGGER },
  { kind: 'rule', sql: RULE },
  { kind: 'policy', sql: POLICY },
  { kind: 'sequence', sql: SEQUENCE },
  { kind: 'type', sql: TYPE },
  { kind: 'statistics', sql: STATISTICS },
  { kind: 'extension', sql: EXTENSION },
  { kind: 'collation', sql: COLLATION },
];
