import { readFile } from 'node:fs/promises';
import { customerRows } from '../support/customers.js';
import { expect } from './failure.js';

/**
 * The rows that drift on n2. With three nodes the load never touches ids that leave the rest 3
 * modulo 4, so that no later update of theirs makes the rows equal again by itself.
 */
const UPDATED = spread(40, 20_003);
const DELETED = spread(30, 100_003);
const ADDED = spread(29, 900_003);

export const DRIFTED_KEYS: readonly number[] = [...UPDATED, ...DELETED, ...ADDED];

export const DRIFT_STATEMENTS: readonly string[] = [
  `UPDATE customers SET balance = balance + 0.01 WHERE id IN (${UPDATED.join(', ')})`,
  `DELETE FROM customers WHERE id IN (${DELETED.join(', ')})`,
  ...ADDED.map((id) => `INSERT INTO customers ${customerRows(id, id)}`),
];

export const DRIFT_SUMMARY = `${UPDATED.length} rows changed, ${DELETED.length} deleted, ${ADDED.length} inserted`;

interface DiffFile {
  readonly diffs: Readonly<
    Record<string, { readonly rows: Readonly<Record<string, readonly { readonly id: number }[]>> }>
  >;
}

/** The diff file must hold the drifted rows, all of them and no others, for both pairs with n2. */
export async function checkDiffFile(path: string): Promise<void> {
  const { diffs } = JSON.parse(await readFile(path, 'utf8')) as DiffFile;
  const expected = [...DRIFTED_KEYS].sort((a, b) => a - b).join();
  for (const [pair, nodes] of [
    ['n1/n2', ['n1', 'n2']],
    ['n2/n3', ['n2', 'n3']],
  ] as const) {
    const rows = diffs[pair]?.rows ?? {};
    const keys = new Set(nodes.flatMap((node) => (rows[node] ?? []).map((row) => row.id)));
    const found = [...keys].sort((a, b) => a - b).join();
    expect(found === expected, `the diff file has other rows for ${pair} than those that drifted`);
  }
  const others = Object.values(diffs['n1/n3']?.rows ?? {}).flat().length;
  expect(others === 0, `the diff file has ${others} rows for n1/n3, which did not drift`);
}

function spread(count: number, first: number): number[] {
  return Array.from({ length: count }, (_, index) => first + index * 1_964);
}
