import fc from 'fast-check';
import type { KeyOrderKind } from '../../src/table/table-spec.js';

/** A key column's type, how the server sorts it, and texts that it can have. */
export interface KeySample {
  readonly typeName: string;
  readonly kind: Exclude<KeyOrderKind, 'server'>;
  readonly collate: string | null;
  readonly text: fc.Arbitrary<string>;
}

const INT8_MAX = (1n << 63n) - 1n;
/** Where the digits of a key stop being exact as a double, and other borders of the fast paths. */
const BORDERS = [
  0n,
  1n,
  9n,
  10n,
  99999999999999n,
  100000000000000n,
  999999999999999n,
  1000000000000000n,
  9007199254740991n,
  9007199254740992n,
  9007199254740993n,
  INT8_MAX,
];

export const int8Text: fc.Arbitrary<string> = fc
  .oneof(
    fc.constantFrom(...BORDERS, ...BORDERS.map((border) => -border), -INT8_MAX - 1n),
    fc.bigInt({ min: -INT8_MAX - 1n, max: INT8_MAX }),
    fc.bigInt({ min: -300n, max: 300n }),
    fc
      .tuple(fc.constantFrom(...BORDERS.slice(5)), fc.bigInt({ min: -3n, max: 3n }), fc.boolean())
      .map(([border, off, isNegative]) => {
        const value = border + off > INT8_MAX ? border : border + off;
        return isNegative ? -value : value;
      }),
  )
  .map(String);

const hex = fc.nat(15).map((digit) => digit.toString(16));

export const uuidText: fc.Arbitrary<string> = fc
  .array(hex, { minLength: 32, maxLength: 32 })
  .map((digits) => digits.join('').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'));

/** Characters on both sides of the surrogates, where UTF-16 and UTF-8 sort apart; no NUL, no halves. */
const character = fc.oneof(
  fc.constantFrom('a', 'A', 'ä', 'z', '\x01', '\x7f', '\u0080', '\u07ff', '\u0800', '\ud7ff'),
  fc.constantFrom('\ue000', '\uffee', '\ufffd', '\uffff', '\u{10000}', '\u{1f600}', '\u{10ffff}'),
);
export const bytesText: fc.Arbitrary<string> = fc
  .array(character, { maxLength: 5 })
  .map((characters) => characters.join(''));

const byteaText = fc
  .uint8Array({ maxLength: 4 })
  .map((bytes) => `\\x${Buffer.from(bytes).toString('hex')}`);

function pad(value: number, digits: number): string {
  return String(value).padStart(digits, '0');
}

const clock = fc.tuple(fc.nat(23), fc.nat(59), fc.nat(59), fc.nat(999_999));

/** Texts for the server to read; `isBc` by year's sign, which the type's own range limits. */
function timeTexts(maxYear: number, hasTime: boolean): fc.Arbitrary<string> {
  const year = fc.oneof(
    fc.integer({ min: -4700, max: maxYear }),
    fc.integer({ min: -3, max: 3 }),
    fc.constantFrom(1999, 2000, 9999, 10000, 99999, 100000, maxYear),
  );
  const day = fc.tuple(fc.constantFrom(1, 2, 6, 11, 12), fc.constantFrom(1, 2, 15, 27, 28, 29));
  return fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom('infinity', '-infinity') },
    {
      weight: 20,
      arbitrary: fc.tuple(year, day, clock).map(([signed, [month, date], time]) => {
        const isBc = signed < 1;
        const dayOfMonth = month === 2 ? Math.min(date, 28) : date;
        const dateText = `${pad(isBc ? 1 - signed : signed, 4)}-${pad(month, 2)}-${pad(dayOfMonth, 2)}`;
        const [hour, minute, second, micros] = time;
        const fraction = micros % 4 === 0 ? '' : `.${pad(micros, 6)}`;
        const timeText = ` ${pad(hour, 2)}:${pad(minute, 2)}:${pad(second, 2)}${fraction}`;
        return `${dateText}${hasTime ? timeText : ''}${isBc ? ' BC' : ''}`;
      }),
    },
  );
}

const digits = (max: number): fc.Arbitrary<string> =>
  fc.array(fc.nat(9), { maxLength: max }).map((list) => list.join(''));

export const numericText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom('NaN', 'Infinity', '-Infinity', '0', '-0', '0.0', '-0.000', '1', '-1', '1.0'),
  fc.constantFrom(
    '1e131071',
    '-1e131071',
    '1e-16383',
    '-1e-16383',
    '9e130000',
    '1e1000',
    '1e-1000',
  ),
  fc
    .tuple(fc.boolean(), digits(4), digits(4))
    .map(([isNegative, whole, fraction]) => `${isNegative ? '-' : ''}0${whole}.${fraction}0`),
  fc
    .tuple(fc.integer({ min: -99, max: 99 }), fc.integer({ min: -12, max: 12 }))
    .map(([mantissa, exponent]) => `${mantissa}e${exponent}`),
);

const oidText = fc.oneof(fc.nat(100), fc.integer({ min: 4294967000, max: 4294967295 })).map(String);

export const KEY_SAMPLES: readonly KeySample[] = [
  { typeName: 'bigint', kind: 'integer', collate: null, text: int8Text },
  {
    typeName: 'smallint',
    kind: 'integer',
    collate: null,
    text: fc.integer({ min: -32768, max: 32767 }).map(String),
  },
  { typeName: 'oid', kind: 'integer', collate: null, text: oidText },
  { typeName: 'uuid', kind: 'uuid', collate: null, text: uuidText },
  { typeName: 'text', kind: 'bytes', collate: 'pg_catalog."C"', text: bytesText },
  { typeName: 'name', kind: 'bytes', collate: 'pg_catalog."C"', text: bytesText },
  { typeName: 'bytea', kind: 'bytes', collate: null, text: byteaText },
  { typeName: 'date', kind: 'date', collate: null, text: timeTexts(5_874_896, false) },
  { typeName: 'timestamp', kind: 'timestamp', collate: null, text: timeTexts(294_275, true) },
  { typeName: 'timestamptz', kind: 'timestamp', collate: null, text: timeTexts(294_275, true) },
  { typeName: 'numeric', kind: 'numeric', collate: null, text: numericText },
  { typeName: 'boolean', kind: 'boolean', collate: null, text: fc.constantFrom('t', 'f') },
];
