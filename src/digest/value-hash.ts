import type { ValueForm } from './digest-column.js';
import { hashBytesExtended } from './hash.js';

/** No mark: the text is not one of the type's. */
export const UNREADABLE = 3;

const ZERO = 0x30;
const MINUS = 0x2d;
const COLON = 0x3a;
const DOT = 0x2e;
const BLANK = 0x20;
/** Unix days of 2000-01-01. */
const EPOCH_DAY = 10_957;
const TWO_32 = 2 ** 32;
/** Upper half of the first timestamp there is: date_bin() cannot give the start of its bin. */
const FIRST_UPPER = -49_316_671;
const INFINITE_FOLD = -0x8000_0000;
const MINUS_INFINITE_FOLD = 0x7fff_ffff;

const scratch = new Uint8Array(16);
/** For the digits of a numeric; grows with the longest one. */
let groups = new Uint8Array(64);

export interface TextRange {
  readonly bytes: Uint8Array;
  /** -1: NULL. */
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/**
 * Hashes the text of a column by its value on top of `state` (low and high 32 bits), as
 * value-sql.ts does in the server. Returns the column's mark (-1 to 2), or
 * UNREADABLE, after which `state` is unspecified.
 */
export function hashValue(
  form: ValueForm,
  { bytes, start, end }: TextRange,
  state: Int32Array,
): number {
  const isNull = start < 0;
  switch (form) {
    case 'int4':
      return hashInt4(isNull ? 0 : readInteger(bytes, start, end), isNull, state);
    case 'int8':
      return hashInt8(bytes, start, end, state);
    case 'bool':
      if (isNull) return 2;
      if (end - start !== 1) return UNREADABLE;
      return bytes[start] === 0x74 ? 1 : bytes[start] === 0x66 ? 0 : UNREADABLE;
    case 'decimal':
      return isNull ? hashZero(2, state) : hashDecimal(bytes, start, end, state);
    case 'date':
      return hashInt4(isNull ? -0x8000_0000 : readDate(bytes, start, end), isNull, state);
    case 'timestamp':
    case 'timestamptz':
      if (isNull) return hashTimestamp(MINUS_INFINITE_FOLD, MINUS_INFINITE_FOLD, 2, state);
      return hashTimestampText(bytes, start, end, state);
    case 'uuid':
      return hashUuid(bytes, start, end, state);
  }
}

/** PostgreSQL's hash_bytes_uint32_extended: that of the four bytes. */
export function hashWord(word: number, state: Int32Array): void {
  for (let i = 0; i < 4; i++) scratch[i] = word >> (8 * i);
  hashBytesExtended(scratch, 0, 4, state[0] ?? 0, state[1] ?? 0, state);
}

function hashInt4(value: number, isNull: boolean, state: Int32Array): number {
  if (!(value >= -0x8000_0000 && value <= 0x7fff_ffff)) return UNREADABLE;
  hashWord(value, state);
  return isNull ? 1 : 0;
}

function hashInt8(bytes: Uint8Array, start: number, end: number, state: Int32Array): number {
  let low = 0;
  let high = 0;
  if (start >= 0) {
    const value = readInteger(bytes, start, end);
    if (Number.isSafeInteger(value)) {
      high = Math.floor(value / TWO_32);
      low = value - high * TWO_32;
    } else {
      if (Number.isNaN(value)) return UNREADABLE;
      const exact = BigInt(Buffer.from(bytes.subarray(start, end)).toString('latin1'));
      if (exact !== BigInt.asIntN(64, exact)) return UNREADABLE;
      high = Number(exact >> 32n);
      low = Number(BigInt.asUintN(32, exact));
    }
  }
  hashWord(high, state);
  hashWord(fold(low, high), state);
  return start < 0 ? 1 : 0;
}

/** What hashint8extended makes of the two halves. */
function fold(low: number, high: number): number {
  return (low | 0) ^ (high >= 0 ? high : ~high);
}

/** NaN: no integer. Beyond 2^53 the digits are right and the value is not. */
function readInteger(bytes: Uint8Array, start: number, end: number): number {
  const isNegative = bytes[start] === MINUS;
  const value = readDigits(bytes, isNegative ? start + 1 : start, end);
  return isNegative ? 0 - value : value;
}

function readDigits(bytes: Uint8Array, start: number, end: number): number {
  if (start >= end || end - start > 19) return Number.NaN;
  let value = 0;
  for (let i = start; i < end; i++) {
    const digit = (bytes[i] ?? 0) - ZERO;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}

function hashZero(mark: number, state: Int32Array): number {
  // hash_numeric_extended gives seed - 1.
  if (state[0] === 0) state[1] = (state[1] ?? 0) - 1;
  state[0] = (state[0] ?? 0) - 1;
  return mark;
}

/** By the digits to base 10,000 that the server stores, without zeros at either end. */
function hashDecimal(bytes: Uint8Array, start: number, end: number, state: Int32Array): number {
  if (end - start === 3 && bytes[start] === 0x4e)
    return isWord(bytes, start, end, 'NaN') ? 1 : UNREADABLE;
  const isNegative = bytes[start] === MINUS;
  const first = isNegative ? start + 1 : start;
  let dot = first;
  while (dot < end && bytes[dot] !== DOT) dot++;
  if (dot === first) return UNREADABLE;
  let weight = Math.ceil((dot - first) / 4) - 1;
  const fractionGroups = Math.ceil(Math.max(0, end - dot - 1) / 4);
  const size = 2 * (weight + 1 + fractionGroups);
  if (groups.length < size) groups = new Uint8Array(size);
  let length = 0;
  // Digit i of the number, counted from the dot; those that are not there are 0.
  for (let group = weight; group >= -fractionGroups; group--) {
    let value = 0;
    for (let i = 4 * group + 3; i >= 4 * group; i--) {
      const at = i >= 0 ? dot - 1 - i : dot - i;
      const digit = at < first || at >= end ? 0 : (bytes[at] ?? 0) - ZERO;
      if (digit < 0 || digit > 9) return UNREADABLE;
      value = value * 10 + digit;
    }
    if (value === 0 && length === 0) {
      weight--;
      continue;
    }
    groups[length++] = value & 0xff;
    groups[length++] = value >> 8;
  }
  while (length > 0 && groups[length - 1] === 0 && groups[length - 2] === 0) length -= 2;
  if (length === 0) return hashZero(0, state);
  hashBytesExtended(groups, 0, length, state[0] ?? 0, state[1] ?? 0, state);
  state[0] = (state[0] ?? 0) ^ weight;
  if (weight < 0) state[1] = ~(state[1] ?? 0);
  return isNegative ? -1 : 1;
}

/** Days since 2000-01-01, as the server stores a date; NaN: no date. */
function readDate(bytes: Uint8Array, start: number, end: number): number {
  if (isWord(bytes, start, end, 'infinity')) return 0x7fff_ffff;
  if (isWord(bytes, start, end, '-infinity')) return -0x8000_0000;
  const isBc = isWord(bytes, end - 3, end, ' BC');
  return readDay(bytes, start, isBc ? end - 3 : end, isBc);
}

/** `y…y-mm-dd` of [start, end): days since 2000-01-01. */
function readDay(bytes: Uint8Array, start: number, end: number, isBc: boolean): number {
  if (bytes[end - 3] !== MINUS || bytes[end - 6] !== MINUS) return Number.NaN;
  const year = readDigits(bytes, start, end - 6);
  const month = readDigits(bytes, end - 5, end - 3);
  const day = readDigits(bytes, end - 2, end);
  // Days since the first of March of year 0, in the calendar that goes on for ever.
  const shifted = (isBc ? 1 - year : year) - (month <= 2 ? 1 : 0);
  const leapDays = Math.floor(shifted / 4) - Math.floor(shifted / 100) + Math.floor(shifted / 400);
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  return shifted * 365 + leapDays + dayOfYear - 719_468 - EPOCH_DAY;
}

/** `y…y-mm-dd hh:mm:ss[.f…f]`, `+00` of a timestamptz, ` BC`. */
function hashTimestampText(
  bytes: Uint8Array,
  start: number,
  end: number,
  state: Int32Array,
): number {
  if (isWord(bytes, start, end, 'infinity')) {
    return hashTimestamp(INFINITE_FOLD, INFINITE_FOLD, 1, state);
  }
  if (isWord(bytes, start, end, '-infinity')) {
    return hashTimestamp(MINUS_INFINITE_FOLD, MINUS_INFINITE_FOLD, -1, state);
  }
  let stop = end;
  const isBc = isWord(bytes, stop - 3, stop, ' BC');
  if (isBc) stop -= 3;
  if (isWord(bytes, stop - 3, stop, '+00')) stop -= 3;
  let blank = start;
  while (blank < stop && bytes[blank] !== BLANK) blank++;
  const time = blank + 1;
  if (bytes[time + 2] !== COLON || bytes[time + 5] !== COLON) return UNREADABLE;
  const seconds =
    readDay(bytes, start, blank, isBc) * 86_400 +
    readDigits(bytes, time, time + 2) * 3_600 +
    readDigits(bytes, time + 3, time + 5) * 60 +
    readDigits(bytes, time + 6, time + 8);
  let micros = 0;
  if (stop > time + 8) {
    const digits = stop - time - 9;
    if (bytes[time + 8] !== DOT || digits < 1 || digits > 6) return UNREADABLE;
    micros = readDigits(bytes, time + 9, stop) * 10 ** (6 - digits);
  }
  if (Number.isNaN(seconds) || Number.isNaN(micros)) return UNREADABLE;
  // seconds * 1e6 + micros as two halves; the product has more digits than a number keeps.
  const upperSeconds = Math.floor(seconds / 65_536) * 1e6;
  const lowerSeconds = (seconds - Math.floor(seconds / 65_536) * 65_536) * 1e6;
  const upper = Math.floor(upperSeconds / 65_536);
  const rest = (upperSeconds - upper * 65_536) * 65_536 + lowerSeconds + micros;
  const high = upper + Math.floor(rest / TWO_32);
  const low = rest % TWO_32;
  const mark = high < 0 ? -1 : high === 0 && low === 0 ? 0 : 1;
  const upperFold = high <= FIRST_UPPER ? INFINITE_FOLD : fold(0, high);
  return hashTimestamp(fold(low, high), upperFold, mark, state);
}

function hashTimestamp(whole: number, upper: number, mark: number, state: Int32Array): number {
  hashWord(upper, state);
  hashWord(whole, state);
  return mark;
}

function hashUuid(bytes: Uint8Array, start: number, end: number, state: Int32Array): number {
  scratch.fill(0);
  if (start >= 0) {
    if (end - start !== 36) return UNREADABLE;
    let at = start;
    for (let i = 0; i < 16; i++) {
      if (i === 4 || i === 6 || i === 8 || i === 10) {
        if (bytes[at] !== MINUS) return UNREADABLE;
        at++;
      }
      const upper = hexDigit(bytes[at++]);
      const lower = hexDigit(bytes[at++]);
      if (upper < 0 || lower < 0) return UNREADABLE;
      scratch[i] = upper * 16 + lower;
    }
  }
  hashBytesExtended(scratch, 0, 16, state[0] ?? 0, state[1] ?? 0, state);
  return start < 0 ? 1 : 0;
}

function hexDigit(code: number | undefined): number {
  if (code === undefined) return -1;
  if (code >= ZERO && code <= 0x39) return code - ZERO;
  return code >= 0x61 && code <= 0x66 ? code - 0x57 : -1;
}

function isWord(bytes: Uint8Array, start: number, end: number, word: string): boolean {
  if (end - start !== word.length || start < 0) return false;
  for (let i = 0; i < word.length; i++) {
    if (bytes[start + i] !== word.charCodeAt(i)) return false;
  }
  return true;
}
