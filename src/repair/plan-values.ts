/** Values of rows as a plan compares them: by what they are, not by how they are written. Pure. */
export type ValueKind = 'number' | 'time' | 'bool' | 'text';

// https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat
const KINDS: Readonly<Record<number, ValueKind>> = {
  ...{ 20: 'number', 21: 'number', 23: 'number', 26: 'number' },
  ...{ 700: 'number', 701: 'number', 1700: 'number' },
  ...{ 1082: 'time', 1114: 'time', 1184: 'time', 16: 'bool' },
};

export function kindOf(baseTypeOid: number): ValueKind {
  return KINDS[baseTypeOid] ?? 'text';
}

/** Negative, zero or positive; null: one of them is not of the kind. */
export function compareValues(kind: ValueKind, a: string, b: string): number | null {
  switch (kind) {
    case 'number':
      return compareNumbers(a, b);
    case 'time':
      return compareParsed(microsOf(a), microsOf(b));
    case 'bool':
      return compareParsed(boolOf(a), boolOf(b));
    case 'text':
      return a === b ? 0 : a < b ? -1 : 1;
  }
}

function compareParsed<T extends bigint | number>(a: T | null, b: T | null): number | null {
  if (a === null || b === null) return null;
  return a === b ? 0 : a < b ? -1 : 1;
}

function boolOf(text: string): number | null {
  const lower = text.toLowerCase();
  if (['t', 'true', 'yes', 'on', '1'].includes(lower)) return 1;
  return ['f', 'false', 'no', 'off', '0'].includes(lower) ? 0 : null;
}

/** value = digits / 10 ^ scale */
interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}

const NUMBER = /^([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d{1,5}))?$/;

/** As PostgreSQL orders them: NaN is the greatest. */
const ENDLESS: Readonly<Record<string, number>> = {
  ...{ nan: 2, infinity: 1, inf: 1, '-infinity': -1, '-inf': -1 },
};

function compareNumbers(a: string, b: string): number | null {
  const [endlessA, endlessB] = [a, b].map((text) => ENDLESS[text.toLowerCase()] ?? 0);
  if (endlessA !== 0 || endlessB !== 0) return Math.sign((endlessA ?? 0) - (endlessB ?? 0));
  const [x, y] = [decimalOf(a), decimalOf(b)];
  if (x === null || y === null) return null;
  const scale = Math.max(x.scale, y.scale);
  return compareParsed(scaled(x, scale), scaled(y, scale));
}

function scaled({ digits, scale }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(to - scale);
}

function decimalOf(text: string): Decimal | null {
  const [, sign, whole = '', fraction = '', exponent = '0'] = NUMBER.exec(text.trim()) ?? [];
  if (sign === undefined || whole + fraction === '') return null;
  const digits = BigInt(whole + fraction) * (sign === '-' ? -1n : 1n);
  const scale = fraction.length - Number(exponent);
  return scale < 0 ? { digits: digits * 10n ** BigInt(-scale), scale: 0 } : { digits, scale };
}

const TIME =
  /^(\d{4,})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(?:(Z)|([+-]\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?( BC)?$/i;
const FAR = 10n ** 30n;

/** Microseconds since 1970, of a time as PostgreSQL or RFC 3339 writes it, UTC where it says nothing. */
function microsOf(text: string): bigint | null {
  if (/^infinity$/i.test(text)) return FAR;
  if (/^-infinity$/i.test(text)) return -FAR;
  const parts = TIME.exec(text.trim());
  if (parts === null) return null;
  const [, year, month, day, hour = '0', minute = '0', second = '0', fraction = ''] = parts;
  const [zoneHours = '+00', zoneMinutes = '0', zoneSeconds = '0', bc] = parts.slice(9);
  const date = new Date(0);
  const astronomical = bc === undefined ? Number(year) : 1 - Number(year);
  date.setUTCFullYear(astronomical, Number(month) - 1, Number(day));
  date.setUTCHours(Number(hour), Number(minute), Number(second));
  if (Number.isNaN(date.getTime())) return null;
  const sign = zoneHours.startsWith('-') ? -1 : 1;
  const zone = Number(zoneHours) * 3600 + sign * (Number(zoneMinutes) * 60 + Number(zoneSeconds));
  const micros = BigInt(fraction.padEnd(6, '0').slice(0, 6));
  return BigInt(date.getTime() - zone * 1000) * 1000n + micros;
}
