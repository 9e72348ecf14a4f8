/** A table of a history. All have the columns id (the key, made from i), i, v and w. */
export interface TableKit {
  readonly name: string;
  /** Type of the key, with its collation. */
  readonly keyType: string;
  /** The key of row number i, as SQL over an expression. Different i, different keys. */
  readonly key: (i: string) => string;
  /** The same key, spelled differently. */
  readonly respelled?: (i: string) => string;
  /** An expression equal for keys that the digest takes for equal. Default: the key. */
  readonly canonicalKey?: string;
  /** Runs before the table is made. */
  readonly before?: string;
  /** Further columns and constraints, each after a comma. */
  readonly more?: string;
  /** Updates that set the further columns. */
  readonly moreValues?: readonly string[];
  readonly after?: string;
  /** Left out of histories until that fault of the page of hard cases is mended. */
  readonly waitsFor?: string;
  readonly isPartitioned?: boolean;
}

/** Row numbers that histories use for different things, so that nodes do not collide. */
export const RANGES = {
  base: { from: 1, to: 120 },
  busy: { from: 400, to: 430 },
  prepared: { from: 500, to: 530 },
  open: { from: 560, to: 590 },
  drift: { from: 700, to: 730 },
  large: { from: 3000, to: 5000 },
} as const;

/** Of key updates; divisible by every number of nodes, so that rows stay with their owner. */
export const MOVE = 1200;
export const INITIAL_ROWS = 60;

const PADDED = (i: string): string => `lpad((${i})::text, 9, '0')`;

const simple = (name: string, keyType: string, key: (i: string) => string): TableKit => ({
  name,
  keyType,
  key,
});

const FIXED: readonly TableKit[] = [
  simple('plain', 'bigint', (i) => `(${i})`),
  {
    ...simple('whole', 'integer', (i) => `(${i})`),
    after: 'ALTER TABLE whole REPLICA IDENTITY FULL',
  },
  {
    ...simple('typed', 'bigint', (i) => `(${i})`),
    before: `CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'zen');
      CREATE TYPE pair AS (m mood, n int);
      CREATE DOMAIN dmood AS mood;
      CREATE TYPE moods AS RANGE (subtype = mood)`,
    more: ', e mood, c pair, d dmood[], r moods, f float8, t timestamptz, j jsonb, n numeric',
    moreValues: [
      "e = 'ok'",
      "e = 'sad', c = ROW('happy', 3)",
      "d = ARRAY['sad', 'ok', NULL]::dmood[]",
      "r = moods('sad', 'happy')",
      "f = 0.1 + w, t = '2024-02-29 12:00:00.123456+00', n = 1.50",
      'j = \'{"a": [1, 2.50, null]}\', n = 1e20',
      'e = NULL, c = NULL, d = NULL, r = NULL',
    ],
  },
  partitioned('parts', ''),
  {
    ...partitioned('parts_full', 'ALTER TABLE parts_full REPLICA IDENTITY FULL'),
  },
];

function partitioned(name: string, after: string): TableKit {
  return {
    ...simple(name, 'bigint', (i) => `(${i})`),
    isPartitioned: true,
    after: `CREATE TABLE ${name}_1 PARTITION OF ${name} FOR VALUES FROM (MINVALUE) TO (40);
      CREATE TABLE ${name}_2 PARTITION OF ${name} FOR VALUES FROM (40) TO (80);
      CREATE TABLE ${name}_3 PARTITION OF ${name} FOR VALUES FROM (80) TO (1000);
      CREATE TABLE ${name}_4 PARTITION OF ${name} FOR VALUES FROM (1000) TO (MAXVALUE);
      ${after}`,
  };
}

/** Types with a btree operator class, of the server and of its extensions. */
const KEYS: readonly TableKit[] = [
  {
    ...simple('k_citext', 'citext', (i) => `('Key' || (${i}))::citext`),
    respelled: (i) => `('kEY' || (${i}))::citext`,
  },
  {
    ...simple('k_dcitext', 'dcitext', (i) => `('Key' || (${i}))::dcitext`),
    before: 'CREATE DOMAIN dcitext AS citext',
    respelled: (i) => `('KEY' || (${i}))::dcitext`,
  },
  { ...simple('k_ltree', 'ltree', (i) => `('top.k' || (${i}))::ltree`) },
  { ...simple('k_hstore', 'hstore', (i) => `hstore('k', (${i})::text)`) },
  { ...simple('k_cube', 'cube', (i) => `cube(ARRAY[(${i})::float8, 1])`) },
  { ...simple('k_seg', 'seg', (i) => `((${i})::text)::seg`) },
  {
    waitsFor: 'A14',
    ...simple('k_ean13', 'ean13', (i) => `('200' || ${PADDED(i)} || '?')::ean13`),
  },
  {
    ...simple('k_isbn13', 'isbn13', (i) => `('978' || ${PADDED(i)} || '?')::isbn13`),
  },
  {
    ...simple('k_issn', 'issn', (i) => `(lpad((${i})::text, 7, '0') || '?')::issn`),
  },
  {
    ...simple('k_numeric', 'numeric', (i) => `(${i})::numeric`),
    respelled: (i) => `((${i}) || '.00')::numeric`,
    canonicalKey: 'trim_scale(id)',
  },
  {
    ...simple('k_interval', 'interval', (i) => `((${i}) || ' days')::interval`),
    respelled: (i) => `((${i}) * 24 || ' hours')::interval`,
  },
  {
    ...simple('k_jsonb', 'jsonb', (i) => `jsonb_build_object('k', (${i}))`),
    respelled: (i) => `('{"k": ' || (${i}) || '.0}')::jsonb`,
  },
  {
    ...simple('k_ci', 'text COLLATE ci', (i) => `'Key' || (${i})`),
    before:
      "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    respelled: (i) => `'kEy' || (${i})`,
  },
  simple(
    'k_text',
    'text',
    (i) => `CASE (${i}) % 3 WHEN 0 THEN 'ä' WHEN 1 THEN 'Z' ELSE 'a' END || (${i})`,
  ),
  simple(
    'k_text_c',
    'text COLLATE "C"',
    (i) => `CASE (${i}) % 2 WHEN 0 THEN 'é' ELSE '' END || (${i})`,
  ),
  simple('k_varchar', 'varchar(40)', (i) => `'v ' || (${i}) || ' '`),
  simple('k_char', 'char(20)', (i) => `'c' || (${i})`),
  simple('k_name', 'name', (i) => `('n' || (${i}))::name`),
  simple('k_bytea', 'bytea', (i) => `int8send(${i})`),
  simple('k_uuid', 'uuid', (i) => `md5((${i})::text)::uuid`),
  simple('k_float8', 'float8', (i) => `(${i}) / 7.0::float8`),
  simple('k_float4', 'real', (i) => `((${i}) / 8.0)::real`),
  simple('k_int2', 'smallint', (i) => `((${i}) - 100)::smallint`),
  simple('k_oid', 'oid', (i) => `(${i})::oid`),
  simple('k_money', 'money', (i) => `(${i})::money`),
  simple('k_pg_lsn', 'pg_lsn', (i) => `'0/0'::pg_lsn + (${i})::numeric`),
  simple('k_xid8', 'xid8', (i) => `((${i})::text)::xid8`),
  simple('k_date', 'date', (i) => `date '1999-12-20' + (${i})::int`),
  simple('k_ts', 'timestamp', (i) => `timestamp '1999-12-20' + (${i}) * interval '1.5 s'`),
  simple('k_tstz', 'timestamptz', (i) => `timestamptz '1999-12-20+00' + (${i}) * interval '1 h'`),
  simple('k_time', 'time', (i) => `time '00:00' + (${i}) * interval '3 s'`),
  simple('k_timetz', 'timetz', (i) => `timetz '00:00+02' + (${i}) * interval '3 s'`),
  simple('k_inet', 'inet', (i) => `inet '10.0.0.0/8' + (${i})`),
  simple('k_cidr', 'cidr', (i) => `(inet '10.0.0.0/32' + (${i}))::cidr`),
  simple('k_macaddr', 'macaddr', (i) => `lpad(to_hex(${i}), 12, '0')::macaddr`),
  simple('k_macaddr8', 'macaddr8', (i) => `lpad(to_hex(${i}), 16, '0')::macaddr8`),
  simple('k_bit', 'bit(16)', (i) => `(${i})::int::bit(16)`),
  simple('k_varbit', 'varbit', (i) => `((${i})::int::bit(16))::varbit`),
  simple('k_range', 'int4range', (i) => `int4range((${i})::int, (${i})::int + 5)`),
  simple('k_multirange', 'nummultirange', (i) => `nummultirange(numrange(${i}, (${i}) + 0.5))`),
  simple('k_ints', 'int[]', (i) => `ARRAY[(${i})::int % 5, (${i})::int]`),
  simple('k_texts', 'text[]', (i) => `ARRAY['k"', ((${i}))::text]`),
  simple('k_tsvector', 'tsvector', (i) => `('k' || (${i}))::tsvector`),
  simple('k_tsquery', 'tsquery', (i) => `('k & ' || (${i}))::tsquery`),
  simple('k_oidvector', 'oidvector', (i) => `((${i})::text || ' 1')::oidvector`),
  {
    ...simple('k_record', 'keypair', (i) => `ROW((${i})::int % 7, 'x' || (${i}))::keypair`),
    before: 'CREATE TYPE keypair AS (a int, b text)',
  },
  {
    ...simple('k_two', 'bigint', (i) => `(${i})`),
    more: ", grp citext NOT NULL DEFAULT 'Grp', CONSTRAINT k_two_all UNIQUE (grp, id)",
    after:
      'ALTER TABLE k_two DROP CONSTRAINT k_two_pkey; ALTER TABLE k_two ADD PRIMARY KEY (grp, id)',
  },
];

export const KITS: ReadonlyMap<string, TableKit> = new Map(
  [...FIXED, ...KEYS].map((kit) => [kit.name, kit]),
);

const enabled = (kits: readonly TableKit[]): string[] =>
  kits.filter(({ waitsFor }) => waitsFor === undefined).map(({ name }) => name);
export const FIXED_TABLES: readonly string[] = enabled(FIXED);
export const KEY_TABLES: readonly string[] = enabled(KEYS);

export const EXTENSIONS = ['citext', 'ltree', 'hstore', 'cube', 'seg', 'isn'] as const;

export function kit(name: string): TableKit {
  const found = KITS.get(name);
  if (found === undefined) throw new RangeError(`no table ${name} in the kit`);
  return found;
}

/** Makes the table, with its first rows, which are the same on every node. */
export function setupSql(name: string): string {
  const { keyType, key, before, more, after, isPartitioned } = kit(name);
  return [
    before ?? 'SELECT 1',
    `CREATE TABLE ${name} (id ${keyType} PRIMARY KEY, i bigint NOT NULL, v text, w int${more ?? ''})${
      isPartitioned === true ? ' PARTITION BY RANGE (id)' : ''
    }`,
    after ?? 'SELECT 1',
    // Of partitions, for an identity that names another column than the key.
    isPartitioned === true
      ? `CREATE UNIQUE INDEX ${name}_2_i ON ${name}_2 (i)`
      : `CREATE UNIQUE INDEX ${name}_i ON ${name} (i)`,
    `INSERT INTO ${name} (id, i, v, w) SELECT ${key('g')}, g, 'first ' || g, 0
       FROM generate_series(1, ${INITIAL_ROWS}) g`,
  ].join(';\n');
}
