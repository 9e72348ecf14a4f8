/** A type that can be a primary key, and texts of values of it. */
export interface KeyType {
  /** As after a column's name. */
  readonly type: string;
  /** By any number: many different ones, in no order. */
  readonly text: (seed: number) => string;
  /** Pairs of values that are equal to the type but written differently. */
  readonly spellings?: readonly (readonly [string, string])[];
  /** What a column needs behind it to be compared: domains over enums have no operators. */
  readonly compared?: string;
}

/** 32 bits that look random. */
function mixed(seed: number): number {
  let x = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

const LETTERS = ['a', 'B', 'c', 'Z', 'é', 'É', '1', '_', 'ss', 'ß'];

const word = (seed: number): string =>
  Array.from({ length: 3 }, (_, i) => LETTERS[mixed(seed * 7 + i) % LETTERS.length]).join('') +
  String(mixed(seed) % 1000);

const bits = (length: number, seed: number): string =>
  (mixed(seed) >>> 0).toString(2).padStart(length, '0').slice(-length);

const hex = (length: number, seed: number): string =>
  Array.from({ length }, (_, i) => (mixed(seed * 31 + i) % 16).toString(16)).join('');

const pad = (value: number, length: number): string => String(value).padStart(length, '0');

/** 12 digits with the check digit of an EAN. */
function ean(digits: string): string {
  const sum = Array.from(digits).reduce(
    (all, digit, i) => all + Number(digit) * (i % 2 === 0 ? 1 : 3),
    0,
  );
  return `${digits}${(10 - (sum % 10)) % 10}`;
}

const number = (seed: number): number => (mixed(seed) % 100_000) - 50_000;
const time = (seed: number): string =>
  `${pad(mixed(seed) % 24, 2)}:${pad(mixed(seed + 1) % 60, 2)}:${pad(mixed(seed + 2) % 60, 2)}`;
const day = (seed: number): string =>
  `${2000 + (mixed(seed) % 30)}-${pad(1 + (mixed(seed + 1) % 12), 2)}-${pad(1 + (mixed(seed + 2) % 28), 2)}`;

/** Of every type with a B-tree operator class: pg_type.typname -> values. */
export const BASE_TYPES: Readonly<Record<string, Omit<KeyType, 'type'>>> = {
  bit: { text: (seed) => bits(12, seed) },
  bool: { text: (seed) => (seed % 2 === 0 ? 't' : 'f') },
  bpchar: { text: word },
  bytea: { text: (seed) => `\\x${hex(6, seed)}` },
  char: { text: (seed) => String.fromCharCode(33 + (mixed(seed) % 90)) },
  citext: {
    text: word,
    spellings: [
      ['equal one', 'EQUAL one'],
      ['a', 'A'],
    ],
  },
  cube: { text: (seed) => `(${number(seed)}, ${seed}),(${number(seed + 1)}, 1)` },
  date: { text: day },
  ean13: { text: (seed) => ean(`4${pad(mixed(seed) % 1e9, 11)}`) },
  float4: { text: (seed) => String(number(seed) / 8), spellings: [['0', '-0']] },
  float8: { text: (seed) => String(number(seed) / 16), spellings: [['0', '-0']] },
  hstore: { text: (seed) => `a=>${number(seed)}, ${word(seed)}=>NULL` },
  inet: { text: (seed) => `10.${mixed(seed) % 256}.${mixed(seed + 1) % 256}.7/${8 + (seed % 25)}` },
  int2: { text: (seed) => String(number(seed) % 30_000) },
  int4: { text: (seed) => String(number(seed)) },
  int8: { text: (seed) => String(number(seed) * 1e9) },
  interval: {
    text: (seed) => `${number(seed)} hours`,
    spellings: [
      ['1 day', '24 hours'],
      ['1 mon', '30 days'],
    ],
  },
  isbn: { text: (seed) => ean(`978${pad(mixed(seed) % 1e9, 9)}`) },
  isbn13: { text: (seed) => ean(`978${pad(mixed(seed) % 1e9, 9)}`) },
  ismn: { text: (seed) => ean(`9790${pad(mixed(seed) % 1e8, 8)}`) },
  ismn13: { text: (seed) => ean(`9790${pad(mixed(seed) % 1e8, 8)}`) },
  issn: { text: (seed) => ean(`977${pad(mixed(seed) % 1e7, 7)}00`) },
  issn13: { text: (seed) => ean(`977${pad(mixed(seed) % 1e7, 7)}00`) },
  jsonb: {
    text: (seed) => (seed % 3 === 0 ? `{"a": ${number(seed)}}` : `"${word(seed)}"`),
    spellings: [['{"n": 1.0}', '{"n": 1.00}']],
  },
  ltree: { text: (seed) => `A${hex(2, seed)}.b${hex(3, seed)}` },
  macaddr: { text: (seed) => hex(12, seed) },
  macaddr8: { text: (seed) => hex(16, seed) },
  money: { text: (seed) => String(number(seed) / 100) },
  name: { text: word },
  numeric: { text: (seed) => String(number(seed) / 8), spellings: [['1', '1.00']] },
  oid: { text: (seed) => String(mixed(seed)) },
  oidvector: { text: (seed) => `${mixed(seed)} ${seed}` },
  pg_lsn: { text: (seed) => `${hex(2, seed)}/${hex(6, seed)}` },
  seg: { text: (seed) => `${number(seed)}..${number(seed) + 7}`, spellings: [['1.0', '1.00']] },
  text: { text: word },
  tid: { text: (seed) => `(${mixed(seed) % 1000},${seed})` },
  time: { text: time },
  timestamp: { text: (seed) => `${day(seed)} ${time(seed)}` },
  timestamptz: { text: (seed) => `${day(seed)} ${time(seed)}+03` },
  timetz: { text: (seed) => `${time(seed)}+${pad(seed % 12, 2)}` },
  tsquery: { text: (seed) => `'a${hex(3, seed)}' & 'b'` },
  tsvector: { text: (seed) => `'a${hex(3, seed)}':${1 + (seed % 9)} 'b'` },
  upc: { text: (seed) => ean(`0${pad(mixed(seed) % 1e9, 11)}`) },
  uuid: { text: (seed) => hex(32, seed) },
  varbit: { text: (seed) => bits(1 + (seed % 20), seed) },
  xid8: { text: (seed) => String(mixed(seed)) },
};

/** Types made of others, whose operator classes are those of pseudo-types or of their base. */
export const MADE_TYPES: Readonly<Record<string, KeyType & { readonly ddl?: string }>> = {
  array: { type: 'int[]', text: (seed) => `{${number(seed)},${seed}}` },
  citexts: {
    type: 'citext[]',
    text: (seed) => `{${word(seed)},x}`,
    spellings: [['{equal,one}', '{EQUAL,one}']],
  },
  label: {
    ddl: `CREATE TYPE label AS ENUM (${Array.from({ length: 40 }, (_, i) => `'${hex(4, 39 - i)}'`).join(', ')})`,
    type: 'label',
    text: (seed) => hex(4, mixed(seed) % 40),
  },
  label_domain: {
    ddl: 'CREATE DOMAIN label_domain AS label',
    type: 'label_domain',
    compared: '::label',
    text: (seed) => hex(4, mixed(seed) % 40),
  },
  blank_padded: { type: 'bpchar', text: word, spellings: [['blank', 'blank  ']] },
  citext_domain: {
    ddl: 'CREATE DOMAIN citext_domain AS citext',
    type: 'citext_domain',
    text: word,
    spellings: [['equal one', 'Equal One']],
  },
  array_domain: {
    ddl: 'CREATE DOMAIN array_domain AS int[]',
    type: 'array_domain',
    text: (seed) => `{${number(seed)}}`,
  },
  pair: {
    ddl: 'CREATE TYPE pair AS (a citext, b numeric)',
    type: 'pair',
    text: (seed) => `(${word(seed)},${number(seed)})`,
    spellings: [['(x,1)', '(X,1.0)']],
  },
  range: {
    type: 'numrange',
    text: (seed) => `[${number(seed)},${number(seed) + 9})`,
    spellings: [['[1,2)', '[1.0,2.00)']],
  },
  multirange: { type: 'int4multirange', text: (seed) => `{[${number(seed)},60000)}` },
  caseless: {
    ddl: `CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
    type: 'text COLLATE caseless',
    text: word,
    spellings: [
      ['equal one', 'EQUAL one'],
      ['a', 'A'],
      ['zz', 'ZZ'],
    ],
  },
  varchar: { type: 'varchar(20)', text: word },
  cidr: { type: 'cidr', text: (seed) => `10.${mixed(seed) % 256}.${mixed(seed + 1) % 256}.0/24` },
  scaled: { type: 'numeric(12,2)', text: (seed) => String(number(seed) / 4) },
};

const of = (type: string): KeyType => {
  const base = BASE_TYPES[type];
  if (base === undefined) throw new RangeError(type);
  return { ...base, type };
};

/** Keys whose columns are ordered by the same operators, and by operators of different schemas. */
export const COMPOSITE_KEYS: readonly (readonly KeyType[])[] = [
  [of('int4'), of('text')],
  [of('citext'), of('citext')],
  [of('citext'), of('int4')],
  [of('int4'), of('citext')],
  [of('int2'), of('ltree'), of('citext')],
  [of('citext'), of('timestamptz'), of('hstore')],
];
