import type { ValueForm } from './digest-column.js';
import { runWord } from './value-form.js';

/** How a form reads in SQL, given the column as a value of the form's type. */
interface ValueSql {
  readonly type: string;
  /** SQL bigint: the value hashed on top of `seed`; never NULL. */
  readonly hash: (value: string, seed: string) => string;
  /** SQL int4: `weight` times the column's mark, never NULL. */
  readonly mark: (value: string, weight: number) => string;
}

/**
 * Every function of these is in PostgreSQL 15 and later and gives the same everywhere; a node proves it
 * before it is relied upon (digest-proof.ts). Their weaknesses, and what stands against each:
 * - hashint8extended and timestamp_hash_extended fold the upper half of the value into the lower one,
 *   so 1 and 4294967296 are the same to them. The upper half is hashed on its own as well.
 * - The fold turns a negative upper half over: a timestamp's sign is its mark. (An integer's upper half
 *   has it.)
 * - hash_numeric_extended knows no sign: the mark tells -1, 0 and 1. It gives its seed for NaN: see runWord.
 * - All are strict: NULL is hashed as some value, and the mark tells it from that one.
 */
const VALUE_SQL: Readonly<Record<ValueForm, ValueSql>> = {
  int4: {
    type: 'int4',
    hash: (value, seed) => `pg_catalog.hashint4extended(coalesce(${value}, 0), ${seed})`,
    mark: nullMark,
  },
  int8: {
    type: 'int8',
    hash: (value, seed) => {
      const filled = `coalesce(${value}, 0::pg_catalog.int8)`;
      const upper = `(${filled} OPERATOR(pg_catalog.>>) 32)::pg_catalog.int4`;
      return `pg_catalog.hashint8extended(${filled}, pg_catalog.hashint4extended(${upper}, ${seed}))`;
    },
    mark: nullMark,
  },
  bool: {
    type: 'bool',
    hash: (_, seed) => seed,
    mark: (value, weight) =>
      `CASE WHEN ${value} THEN ${weight} WHEN NOT ${value} THEN 0 ELSE ${2 * weight} END`,
  },
  decimal: {
    type: 'numeric',
    hash: (value, seed) =>
      `pg_catalog.hash_numeric_extended(coalesce(${value}, '0'::pg_catalog.numeric), ${seed})`,
    mark: (value, weight) =>
      comparisonMark(`pg_catalog.numeric_cmp(${value}, '0'::pg_catalog.numeric)`, weight),
  },
  date: {
    type: 'date',
    hash: (value, seed) => {
      const epoch = `'2000-01-01'::pg_catalog.date`;
      // What lies in the value itself, infinities too, which no subtraction takes.
      return `pg_catalog.hashint4extended(CASE WHEN pg_catalog.isfinite(${value})
        THEN ${value} OPERATOR(pg_catalog.-) ${epoch}
        WHEN ${value} OPERATOR(pg_catalog.>) ${epoch} THEN 2147483647
        ELSE '-2147483648'::pg_catalog.int4 END, ${seed})`;
    },
    mark: nullMark,
  },
  timestamp: {
    type: 'timestamp',
    hash: (value, seed) => {
      const type = 'pg_catalog.timestamp';
      const upper = `CASE WHEN ${value} OPERATOR(pg_catalog.>=) '${SECOND_BIN}'::${type}
        THEN pg_catalog.date_bin(${BIN}, ${value}, '${EPOCH}'::${type})
        WHEN ${value} OPERATOR(pg_catalog.>) '-infinity'::${type} THEN 'infinity'::${type}
        ELSE '-infinity'::${type} END`;
      const filled = `coalesce(${value}, '-infinity'::${type})`;
      return `pg_catalog.timestamp_hash_extended(${filled}, pg_catalog.timestamp_hash_extended(${upper}, ${seed}))`;
    },
    mark: (value, weight) =>
      comparisonMark(
        `pg_catalog.timestamp_cmp(${value}, '${EPOCH}'::pg_catalog.timestamp)`,
        weight,
      ),
  },
  timestamptz: {
    type: 'timestamptz',
    hash: (value, seed) => {
      const type = 'pg_catalog.timestamptz';
      const epoch = `'${EPOCH}+00'::${type}`;
      const isLater = `${value} OPERATOR(pg_catalog.>) '-infinity'::${type}`;
      const sinceEpoch = (time: string): string => `${time} OPERATOR(pg_catalog.-) ${epoch}`;
      const upper = `CASE WHEN ${value} OPERATOR(pg_catalog.>=) '${SECOND_BIN.replace(' BC', '+00 BC')}'::${type}
          AND ${value} OPERATOR(pg_catalog.<) 'infinity'::${type}
        THEN ${sinceEpoch(`pg_catalog.date_bin(${BIN}, ${value}, ${epoch})`)}
        WHEN ${isLater} THEN ${INFINITE} ELSE ${MINUS_INFINITE} END`;
      const whole = `CASE WHEN pg_catalog.isfinite(${value}) THEN ${sinceEpoch(value)}
        WHEN ${isLater} THEN ${INFINITE} ELSE ${MINUS_INFINITE} END`;
      return `pg_catalog.interval_hash_extended(${whole}, pg_catalog.interval_hash_extended(${upper}, ${seed}))`;
    },
    mark: (value, weight) =>
      comparisonMark(
        `pg_catalog.timestamptz_cmp(${value}, '${EPOCH}+00'::pg_catalog.timestamptz)`,
        weight,
      ),
  },
  uuid: {
    type: 'uuid',
    hash: (value, seed) =>
      `pg_catalog.uuid_hash_extended(coalesce(${value}, '00000000-0000-0000-0000-000000000000'::pg_catalog.uuid), ${seed})`,
    mark: nullMark,
  },
};

/** Where a timestamp is 0 (microseconds). */
const EPOCH = '2000-01-01 00:00:00';
/** 2³² microseconds: the start of a value's bin is its upper half. */
const BIN = `'4294.967296 s'::pg_catalog.interval`;
/** Before it the bin's start is no timestamp any more, and date_bin() an error. */
const SECOND_BIN = '4714-11-24 00:53:22.37568 BC';
// timestamptz has no hash function of its own before 18, but differences of two have: that of an interval
// is the fold of its microseconds. These are folded to what infinite timestamps are: 2³¹ and 2³¹ - 1.
const INFINITE = `'2562047788:00:54.775807'::pg_catalog.interval`;
const MINUS_INFINITE = `'2562047786:49:19.808512'::pg_catalog.interval`;

function nullMark(value: string, weight: number): string {
  return `CASE WHEN ${value} IS NULL THEN ${weight} ELSE 0 END`;
}

function comparisonMark(comparison: string, weight: number): string {
  const mark = `coalesce(${comparison}, 2)`;
  // In brackets: spelled like this, all operators bind alike.
  return weight === 1 ? mark : `(${mark} OPERATOR(pg_catalog.*) ${weight})`;
}

/** A column of the row. */
export interface ValueColumn {
  readonly form: ValueForm;
  /** SQL. */
  readonly column: string;
  /** See runWord. */
  readonly run: number;
}

/** SQL bigint: a column hashed on top of `seed`, which is an SQL bigint too. */
export function valueHash({ form, column, run }: ValueColumn, seed: string): string {
  const { type, hash } = VALUE_SQL[form];
  const word = BigInt.asIntN(64, runWord(run));
  const isChanged = form === 'decimal' && run > 0;
  const changed = isChanged ? `(${seed} OPERATOR(pg_catalog.#) '${word}'::pg_catalog.int8)` : seed;
  return hash(`${column}::pg_catalog.${type}`, changed);
}

/** SQL bigint: so many marks as fit into a word, or fewer, hashed on top of `seed`. */
export function marksHash(
  columns: readonly { readonly form: ValueForm; readonly column: string }[],
  seed: string,
): string {
  const marks = columns.map(({ form, column }, i) => {
    const { type, mark } = VALUE_SQL[form];
    return mark(`${column}::pg_catalog.${type}`, 4 ** i);
  });
  return `pg_catalog.hashint4extended(${marks.join(' OPERATOR(pg_catalog.+) ')}, ${seed})`;
}
