import { AcedError } from '../base/errors.js';
import type { ReportColumn, RowImage } from '../diff-file/row-text.js';

/** smallint, integer, bigint, real, double precision, numeric. */
const NUMBER_OIDS: ReadonlySet<number> = new Set([21, 23, 20, 700, 701, 1700]);
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** A number as digits and how many of them come after the point. */
interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}

/** Column -> by how much its values may differ at most. */
export type Tolerances = ReadonlyMap<string, Decimal>;

/**
 * `col=0.01` each. Errors: BAD_USAGE for what is not one, or is not about a compared column of numbers
 * outside the key.
 */
export function parseTolerances(
  texts: readonly string[],
  columns: readonly ReportColumn[],
  key: readonly string[],
): Tolerances {
  return new Map(
    texts.map((text): [string, Decimal] => {
      const at = text.lastIndexOf('=');
      const name = text.slice(0, at);
      const limit = at < 1 ? null : decimalOf(text.slice(at + 1));
      if (limit === null || limit.digits < 0n) {
        throw usage(`--tolerance ${text} is not column=number`, 'Write it as in amount=0.01.');
      }
      const column = columns.find((one) => one.name === name);
      if (column === undefined || key.includes(name) || !NUMBER_OIDS.has(column.baseTypeOid)) {
        throw usage(
          `--tolerance: ${name} is not a compared column of numbers outside the key`,
          'Name a column of an integer, numeric or float type.',
        );
      }
      return [name, limit];
    }),
  );
}

/**
 * Whether two rows, which are not equal, differ in nothing but numbers that are as close as is
 * tolerated. Exact: the numbers are compared as decimals.
 */
export function isTolerated(
  a: RowImage,
  b: RowImage,
  { columns, tolerances }: { columns: readonly ReportColumn[]; tolerances: Tolerances },
): boolean {
  return columns.every(({ name }, i) => {
    const one = a.values[i] ?? null;
    const other = b.values[i] ?? null;
    if (one === other) return true;
    const limit = tolerances.get(name);
    return limit !== undefined && one !== null && other !== null && areClose(one, other, limit);
  });
}

function areClose(one: string, other: string, limit: Decimal): boolean {
  const a = decimalOf(one);
  const b = decimalOf(other);
  if (a === null || b === null) return false;
  const scale = Math.max(a.scale, b.scale, limit.scale);
  const difference = scaled(a, scale) - scaled(b, scale);
  return (difference < 0n ? -difference : difference) <= scaled(limit, scale);
}

/** Null for NaN, infinities and what is no number, and for exponents beyond those of float8. */
function decimalOf(text: string): Decimal | null {
  if (!NUMBER.test(text)) return null;
  const [mantissa = '', exponent = '0'] = text.toLowerCase().split('e');
  const [whole = '', fraction = ''] = mantissa.split('.');
  const shift = Number(exponent);
  if (Math.abs(shift) > 400) return null;
  const digits = BigInt(`${whole}${fraction}`.replace('+', '') || '0');
  const scale = fraction.length - shift;
  return scale >= 0 ? { digits, scale } : { digits: digits * 10n ** BigInt(-scale), scale: 0 };
}

function scaled({ digits, scale }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(to - scale);
}

function usage(message: string, hint: string): AcedError {
  return new AcedError('BAD_USAGE', message, { hint });
}
