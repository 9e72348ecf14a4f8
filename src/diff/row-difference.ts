import type { KeyText, TableSpec } from '../table/table-spec.js';
import type { RowState } from './settle-rule.js';

/** A key whose row is not the same on all nodes. */
export interface RowDifference {
  readonly key: KeyText;
  /** Number of the range that it was found in. */
  readonly range: number;
  /** In the order of the compared nodes. */
  readonly states: readonly RowState[];
}

/** Rows can be matched by the texts of their keys: equal keys are spelled alike. */
export function isKeyTextUnique(spec: TableSpec): boolean {
  return spec.key.every((column) => column.isTextUnique);
}

/** One key as one string; unambiguous because the parts' lengths are in it. */
export function keyId(key: KeyText): string {
  return key.length === 1 ? (key[0] ?? '') : JSON.stringify(key);
}

export function isSameOnAll(states: readonly RowState[]): boolean {
  return states.every((state) => state?.digest === states[0]?.digest);
}

/** A row that a node has. */
export type KeyedRow = NonNullable<RowState> & { readonly key: KeyText; readonly range: number };

/** Rows of some blocks by key, a map per node -> the keys that are not equal on all of them. */
export function findDifferences(nodes: readonly ReadonlyMap<string, KeyedRow>[]): RowDifference[] {
  const differences: RowDifference[] = [];
  const seen = new Set<string>();
  nodes.forEach((rows, index) => {
    for (const [id, row] of rows) {
      // A key that an earlier node has was compared when that node's rows were walked.
      if (index > 0 && seen.has(id)) continue;
      if (index < nodes.length - 1) seen.add(id);
      const states = nodes.map((other) => other.get(id) ?? null);
      if (!isSameOnAll(states)) differences.push({ key: row.key, range: row.range, states });
    }
  });
  return differences;
}
