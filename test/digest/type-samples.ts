/** A column type and values for it, as literals; every type is tried with NULL besides. */
export interface TypeSample {
  readonly type: string;
  readonly values: readonly string[];
  /** The type comes with this extension, which a server may not have. */
  readonly extension?: string;
}

export const TYPE_SETUP = `
  CREATE TYPE mood AS ENUM ('sad', 'o k', 'Hap"py');
  CREATE TYPE pair AS (a text, b boolean);
  CREATE TYPE casted AS (a int, b text);
  CREATE FUNCTION casted_text(casted) RETURNS text LANGUAGE sql IMMUTABLE RETURN 'from the cast';
  CREATE CAST (casted AS text) WITH FUNCTION casted_text(casted);
  CREATE TYPE nested AS (p pair, n numeric[]);
  CREATE TYPE textrange AS RANGE (subtype = text, multirange_type_name = textmultirange);
  CREATE DOMAIN flag AS boolean;
  CREATE DOMAIN deep_flag AS flag;
  CREATE DOMAIN loose AS numeric;
  CREATE DOMAIN deep_loose AS loose CHECK (VALUE IS NOT NULL OR VALUE IS NULL);
  CREATE DOMAIN tight AS numeric(12,3);
  CREATE DOMAIN code AS char(5);
  CREATE DOMAIN words AS text COLLATE "C";
  CREATE DOMAIN address AS inet;
  CREATE DOMAIN couple AS pair;
  CREATE DOMAIN flags AS boolean[];
  CREATE DOMAIN converted AS casted;
  CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
`;

const TEXTS = [
  '',
  ' ',
  'a',
  ' padded ',
  'Ærø 日本 𝄞',
  'quote \' " \\ | , ()',
  'line\nbreak\ttab',
  'NULL',
  'x'.repeat(5000),
];
const NUMERICS = [
  '0',
  '0.00',
  '-0.0',
  '1',
  '1.0',
  '1.00',
  '-10.500',
  '100',
  '1000000.000',
  '1e-30',
  '1e300',
  '123456789012345678901234567890.1234567890',
  'NaN',
  'Infinity',
  '-Infinity',
];
const FLOATS = [
  '0',
  '-0',
  '0.1',
  '0.30000000000000004',
  '1e-300',
  '3.4028235e38',
  'NaN',
  'Infinity',
  '-Infinity',
  '123456.789',
];

export const TYPE_SAMPLES: readonly TypeSample[] = [
  { type: 'text', values: TEXTS },
  { type: 'text COLLATE public.caseless', values: ['a', 'A', ''] },
  { type: 'varchar', values: TEXTS },
  { type: 'varchar(10)', values: ['', 'a', 'a  '] },
  { type: 'char(8)', values: ['', 'a', ' a b', 'éé', 'a       '] },
  { type: 'bpchar', values: ['', 'a', 'a   '] },
  { type: 'name', values: ['', 'a', ' x ', 'pg_class'] },
  { type: '"char"', values: ['', 'a', '\\303', '\\001', ' '] },
  { type: 'boolean', values: ['t', 'f'] },
  { type: 'smallint', values: ['0', '-32768', '32767'] },
  { type: 'integer', values: ['0', '-2147483648', '2147483647'] },
  { type: 'bigint', values: ['0', '-9223372036854775808', '9223372036854775807'] },
  { type: 'numeric', values: NUMERICS },
  { type: 'numeric(20,5)', values: ['0', '1.5', '-1.50000', 'NaN', '100'] },
  { type: 'numeric(5,-2)', values: ['0', '12345', '-100'] },
  { type: 'real', values: FLOATS.filter((value) => value !== '1e-300') },
  { type: 'double precision', values: FLOATS },
  { type: 'money', values: ['0', '-1234567.89', '0.01', '92233720368547758.07'] },
  { type: 'bytea', values: ['', '\\x00', '\\xdeadbeef', '\\x5c27', '\\x' + '00ff'.repeat(3000)] },
  {
    type: 'date',
    values: [
      '2024-02-29',
      '0044-03-15 BC',
      'infinity',
      '-infinity',
      '5874897-12-31',
      '4714-11-24 BC',
    ],
  },
  { type: 'time', values: ['00:00', '24:00', '04:05:06.789012'] },
  { type: 'time(2)', values: ['04:05:06.789'] },
  { type: 'timetz', values: ['00:00+00', '04:05:06.7+05:30', '23:59:59.999999-15:59'] },
  {
    type: 'timestamp',
    values: [
      '2024-01-02 03:04:05.123456',
      '0044-03-15 12:00 BC',
      'infinity',
      '-infinity',
      '294276-12-31 23:59:59.999999',
    ],
  },
  {
    type: 'timestamptz',
    values: [
      '2024-01-02 03:04:05.123456+00',
      '2024-07-02 03:04:05+09',
      '0044-03-15 12:00+00 BC',
      'infinity',
      '-infinity',
      '1883-11-18 12:00-05',
    ],
  },
  { type: 'timestamptz(0)', values: ['2024-01-02 03:04:05.6+00'] },
  {
    type: 'interval',
    values: [
      '0',
      '1 year 2 mons -3 days 04:05:06.7',
      '-1 day',
      '1 day 2 hours',
      '-00:00:00.000001',
    ],
  },
  {
    type: 'uuid',
    values: ['00000000-0000-0000-0000-000000000000', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'],
  },
  {
    type: 'inet',
    values: ['10.0.0.1', '10.0.0.1/8', '10.0.0.1/32', '::1', '2001:db8::/32', '::ffff:1.2.3.4/128'],
  },
  { type: 'cidr', values: ['10.0.0.0/8', '10.0.0.1/32', '::/0', '2001:db8::1/128'] },
  { type: 'macaddr', values: ['08:00:2b:01:02:03'] },
  { type: 'macaddr8', values: ['08:00:2b:01:02:03:04:05'] },
  { type: 'bit(5)', values: ['00000', '10101'] },
  { type: 'bit varying', values: ['', '0', '10101', '1'.repeat(100)] },
  { type: 'json', values: ['{}', '{"a" :  1.0, "a":2}', 'null', '"x"', ' [1, 2] '] },
  { type: 'jsonb', values: ['{}', '{"b": 1.00, "a": [null, "é", 1e3]}', 'null', '"x"'] },
  { type: 'jsonpath', values: ['$', 'strict $."a"[*] ? (@ > 1)'] },
  { type: 'xml', values: ['', '<a>é</a>', '<?xml version="1.0" encoding="UTF-8"?><a/>', 'x<b/>y'] },
  { type: 'tsvector', values: ['', "'a':1A,2 'b c':3"] },
  { type: 'tsquery', values: ['', "'a' & !'b':*AB <2> 'c'"] },
  { type: 'point', values: ['(1,2)', '(0.1,-0.30000000000000004)', '(NaN,Infinity)'] },
  { type: 'line', values: ['{1,2,3}'] },
  { type: 'lseg', values: ['[(0,0),(1,1.5)]'] },
  { type: 'box', values: ['(2,2),(0,0.1)'] },
  { type: 'path', values: ['[(0,0),(1,1)]', '((0,0),(1,1))'] },
  { type: 'polygon', values: ['((0,0),(1,1),(2,0))'] },
  { type: 'circle', values: ['<(1,2),3.5>'] },
  { type: 'oid', values: ['0', '4294967295'] },
  { type: 'xid', values: ['3', '4294967295'] },
  { type: 'xid8', values: ['3', '18446744073709551615'] },
  { type: 'cid', values: ['7'] },
  { type: 'tid', values: ['(1,2)'] },
  { type: 'pg_lsn', values: ['0/0', '16/B374D848'] },
  { type: 'pg_snapshot', values: ['10:20:10,14'] },
  { type: 'txid_snapshot', values: ['10:20:10,14'] },
  { type: 'refcursor', values: ['', 'cursor'] },
  { type: 'oidvector', values: ['', '1 2 3'] },
  { type: 'int2vector', values: ['', '1 2 3'] },
  { type: 'regclass', values: ['pg_class', '0', '999999999'] },
  { type: 'regtype', values: ['integer', 'public.mood', 'integer[]'] },
  { type: 'regproc', values: ['now'] },
  { type: 'regprocedure', values: ['sum(integer)'] },
  { type: 'regoper', values: ['|/', '||/'] },
  { type: 'regoperator', values: ['+(integer,integer)'] },
  { type: 'regrole', values: ['postgres'] },
  { type: 'regnamespace', values: ['public'] },
  { type: 'regconfig', values: ['english'] },
  { type: 'regdictionary', values: ['simple'] },
  { type: 'regcollation', values: ['"C"'] },
  { type: 'aclitem', values: ['postgres=arw/postgres', '=r/postgres'] },

  { type: 'boolean[]', values: ['{}', '{t,f,NULL}', '[0:1]={t,f}'] },
  { type: 'text[]', values: ['{}', '{"",NULL,"NULL","a,b","\\"q\\\\"}', '{{a,b},{c,d}}'] },
  { type: 'char(3)[]', values: ['{a,"b "}'] },
  { type: 'numeric[]', values: ['{1.0,1.00,NaN}'] },
  { type: 'bytea[]', values: ['{"\\\\xdead",""}'] },
  { type: 'timestamptz[]', values: ['{2024-01-02 03:04:05+09,infinity}'] },
  { type: 'inet[]', values: ['{10.0.0.1,10.0.0.0/8}'] },
  { type: 'jsonb[]', values: [`{"{\\"a\\": 1}",NULL}`] },
  { type: 'public.mood[]', values: ['{sad,"o k"}'] },
  { type: 'public.pair[]', values: ['{"(a,t)","(,)",NULL}'] },
  { type: 'public.flag[]', values: ['{t,NULL}'] },

  { type: 'int4range', values: ['empty', '[1,5)', '(,)', '[3,]'] },
  { type: 'int8range', values: ['[1,5)'] },
  { type: 'numrange', values: ['[1.0,1.50)', '(,5.00]'] },
  { type: 'daterange', values: ['[2024-01-01,infinity)'] },
  { type: 'tsrange', values: ['["2024-01-01 10:00","2024-01-02 11:00:00.5")'] },
  { type: 'tstzrange', values: ['["2024-01-01 10:00+09",)'] },
  { type: 'public.textrange', values: ['["a,b","c\\"d")'] },
  { type: 'int4multirange', values: ['{}', '{[1,3),[5,8)}'] },
  { type: 'int8multirange', values: ['{}', '{[1,3),[9223372036854775806,)}'] },
  { type: 'tsmultirange', values: ['{["2024-01-01 10:00",)}', '{(,"2024-01-01 10:00:00.5")}'] },
  { type: 'nummultirange', values: ['{[1.0,2.00)}'] },
  { type: 'tstzmultirange', values: ['{["2024-01-01 10:00+09",)}'] },
  { type: 'datemultirange', values: ['{[2024-01-01,2024-02-01)}'] },
  { type: 'public.textmultirange', values: ['{[a,b)}'] },

  { type: 'public.mood', values: ['sad', 'o k', 'Hap"py'] },
  { type: 'public.pair', values: ['(,)', '("",)', '("a ""b"" \\\\ c",t)', '(x,f)'] },
  { type: 'public.nested', values: ['(,)', '("(a,t)","{1.0,2.00}")', '("(,)",)'] },
  { type: 'public.casted', values: ['(,)', '(1,)', '(1,"x y")'] },
  { type: 'public.flag', values: ['t', 'f'] },
  { type: 'public.deep_flag', values: ['t', 'f'] },
  { type: 'public.loose', values: NUMERICS },
  { type: 'public.deep_loose', values: NUMERICS },
  { type: 'public.tight', values: ['1', '1.5'] },
  { type: 'public.code', values: ['', 'ab'] },
  { type: 'public.words', values: TEXTS },
  { type: 'public.address', values: ['10.0.0.1', '10.0.0.0/8'] },
  { type: 'public.couple', values: ['(,)', '(a,t)'] },
  { type: 'public.flags', values: ['{t,f}'] },
  { type: 'public.converted', values: ['(,)', '(1,x)'] },

  { type: 'public.citext', values: ['', 'MiXed', 'mixed'], extension: 'citext' },
  { type: 'public.hstore', values: ['', 'a=>1, "b c"=>NULL'], extension: 'hstore' },
  { type: 'public.ltree', values: ['', 'Top.Science'], extension: 'ltree' },
  { type: 'public.lquery', values: ['Top.*{1,2}.a|b'], extension: 'ltree' },
  { type: 'public.isbn', values: ['978-0-393-04002-9'], extension: 'isn' },
  { type: 'public.cube', values: ['(1,2),(3,4.5)'], extension: 'cube' },
  { type: 'public.seg', values: ['1.50 .. 2.500'], extension: 'seg' },
  { type: 'public.query_int', values: ['1&(2|3)'], extension: 'intarray' },
  { type: 'public.lo', values: ['123'], extension: 'lo' },
];
