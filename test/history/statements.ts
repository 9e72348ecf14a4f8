import type { Random } from './random.js';
import { kit, MOVE, RANGES } from './tables.js';

/** Which of a table's rows a statement touches: numbers from..to of one owner. */
export interface Rows {
  readonly table: string;
  readonly from: number;
  readonly to: number;
  /** i % modulus = rest. Rows of an owner are inserted and deleted on that node only. */
  readonly modulus: number;
  readonly rest: number;
}

const where = ({ from, to, modulus, rest }: Rows): string =>
  `i BETWEEN ${from} AND ${to}${modulus === 1 ? '' : ` AND i % ${modulus} = ${rest}`}`;

export function insertRows(rows: Rows, random: Random): string {
  const { table, from, to, modulus, rest } = rows;
  return `INSERT INTO ${table} (id, i, v, w) SELECT ${kit(table).key('g')}, g, ${text(random)}, ${random.below(9)}
    FROM generate_series(${from}, ${to}) g WHERE g % ${modulus} = ${rest} ON CONFLICT DO NOTHING`;
}

export function upsertRows(rows: Rows, random: Random): string {
  const insert = insertRows(rows, random).replace('DO NOTHING', '(i) DO UPDATE');
  return `${insert} SET v = excluded.v, w = ${rows.table}.w + 1`;
}

export function updateRows(rows: Rows, random: Random): string {
  const more = kit(rows.table).moreValues;
  const set =
    more !== undefined && random.oneIn(2)
      ? random.pick(more)
      : random.pick([`v = ${text(random)}`, 'w = w + 1', `v = ${text(random)}, w = -w`, 'v = v']);
  return `UPDATE ${rows.table} SET ${set} WHERE ${where(rows)}`;
}

export function deleteRows(rows: Rows): string {
  return `DELETE FROM ${rows.table} WHERE ${where(rows)}`;
}

/** Gives rows another key, or their old one back. */
export function moveRows(rows: Rows, random: Random): string {
  const key = kit(rows.table).key;
  const by = random.oneIn(2) ? MOVE : -MOVE;
  const shifted = by > 0 ? rows : { ...rows, from: rows.from + MOVE, to: rows.to + MOVE };
  // A row that is in the way makes the statement fail, as it may.
  return `UPDATE ${rows.table} SET id = ${key(`i + ${by}`)}, i = i + ${by} WHERE ${where(shifted)}`;
}

/** Null: the key's type has one spelling of each value. */
export function respellRows(rows: Rows, random: Random): string | null {
  const { respelled, key } = kit(rows.table);
  if (respelled === undefined) return null;
  const spelling = random.oneIn(3) ? key('i') : respelled('i');
  return `UPDATE ${rows.table} SET id = ${spelling}, w = ${random.below(9)} WHERE ${where(rows)}`;
}

/** Somewhere in a range of row numbers; mostly few of them. */
export function someOf(
  range: { readonly from: number; readonly to: number },
  random: Random,
): { from: number; to: number } {
  const span = random.oneIn(8) ? range.to - range.from : random.pick([0, 2, 5, 20]);
  const from = random.between(range.from, range.to);
  return { from, to: Math.min(range.to, from + span) };
}

export const baseRows = (random: Random): { from: number; to: number } =>
  someOf(RANGES.base, random);

function text(random: Random): string {
  return random.pick([
    'NULL',
    "''",
    `'v${random.below(1000)}'`,
    `'v${random.below(1000)}'`,
    `'Wört "q" ''${random.below(10)}'' \\ | ,'`,
    // Out of line, so that later updates leave it out of the stream.
    `(SELECT string_agg(md5(s::text || '${random.below(1000)}'), '') FROM generate_series(1, 90) s)`,
  ]);
}
