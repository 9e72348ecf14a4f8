import { trimNumericText } from '../digest/numeric-text.js';
import type { KeyOrderKind } from '../table/table-spec.js';

/** A value whose JavaScript order (`<`, `>`) is the server's order of the key column. */
export type Sortable = number | bigint | string;

/**
 * Turns a key column's text into a Sortable. Only kinds whose server order is simple enough to be
 * repeated exactly outside the server exist here; all others are located by the server itself.
 */
export function sortableKey(kind: Exclude<KeyOrderKind, 'server'>, text: string): Sortable {
  switch (kind) {
    case 'integer':
      return text.length <= 15 ? Number(text) : BigInt(text);
    case 'uuid':
    case 'boolean':
      return text;
    case 'bytes':
      // UTF-16 order differs from UTF-8 byte order above U+D7FF, so compare the bytes themselves.
      return Buffer.from(text, 'utf8').toString('latin1');
    case 'date':
    case 'timestamp':
      return sortableTimestamp(text);
    case 'numeric':
      return sortableNumeric(text);
  }
}

const MICROS_PER_DAY = 86_400_000_000n;
const TIMESTAMP_PATTERN =
  /^(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:\+00)?)?( BC)?$/;
const BEYOND_ALL_TIMES = 1n << 80n;

/** ISO dates and timestamps (UTC) in the order of time; the scale is uneven but monotonic. */
function sortableTimestamp(text: string): bigint {
  if (text === 'infinity') return BEYOND_ALL_TIMES;
  if (text === '-infinity') return -BEYOND_ALL_TIMES;
  const match = TIMESTAMP_PATTERN.exec(text);
  if (match === null) throw new RangeError('not an ISO date or timestamp');
  const [, year, month, day, hour = '0', minute = '0', second = '0', fraction = '', era] = match;
  // There is no year zero: 1 BC is astronomical year 0.
  const astronomicalYear = era === undefined ? BigInt(year ?? '0') : 1n - BigInt(year ?? '0');
  const dayNumber = astronomicalYear * 372n + BigInt(Number(month) * 31 + Number(day));
  const secondOfDay = Number(hour) * 3600 + Number(minute) * 60 + Number(second);
  return (
    dayNumber * MICROS_PER_DAY + BigInt(secondOfDay * 1_000_000 + Number(fraction.padEnd(6, '0')))
  );
}

const LENGTH_DIGITS = 6;

/**
 * Decimal text in numeric order as a string: sign class, number of integer digits, digits. Digits
 * of negative numbers are complemented so that string order turns around. -Infinity < numbers <
 * Infinity < NaN, as PostgreSQL sorts them.
 */
function sortableNumeric(text: string): string {
  if (text === 'NaN') return '4';
  if (text === 'Infinity') return '3';
  if (text === '-Infinity') return '0';
  const isNegative = text.startsWith('-');
  const trimmed = trimNumericText(isNegative ? text.slice(1) : text);
  const [integer = '', fraction = ''] = trimmed.split('.');
  const digits = integer.replace(/^0+/, '');
  if (digits === '' && fraction === '') return '2';
  const magnitude = `${String(digits.length).padStart(LENGTH_DIGITS, '0')}${digits}${fraction}`;
  if (!isNegative) return `2${magnitude}`;
  // '~' sorts after every digit: of two negatives with a common prefix the longer is the smaller.
  return `1${complementDigits(magnitude)}~`;
}

function complementDigits(digits: string): string {
  const bytes = Buffer.from(digits, 'latin1');
  for (let i = 0; i < bytes.length; i++) bytes[i] = 0x69 - (bytes[i] ?? 0);
  return bytes.toString('latin1');
}

/** Lexicographic comparison of composite keys. */
export function compareSortables(a: readonly Sortable[], b: readonly Sortable[]): number {
  for (let i = 0; i < a.length; i++) {
    const left = a[i];
    const right = b[i];
    if (left === undefined || right === undefined) throw new RangeError('keys of unequal length');
    if (left < right) return -1;
    if (left > right) return 1;
  }
  return 0;
}
