import type { KeyText } from '../postgres/table-spec.js';

/** A key whose row is not the same on all nodes; the digests are decimal texts, null: no row. */
export interface RowDifference {
  readonly key: KeyText;
  /** In the order of the compared nodes. */
  readonly digests: readonly (string | null)[];
}

/** One key as one string; unambiguous because the parts' lengths are in it. */
export function keyId(key: KeyText): string {
  return key.length === 1 ? (key[0] ?? '') : JSON.stringify(key);
}

export function isSameOnAll(digests: readonly (string | null)[]): boolean {
  return digests.every((digest) => digest === digests[0]);
}

/** Rows of some blocks by key, a map per node -> the keys that are not equal on all of them. */
export function findDifferences(
  nodes: readonly ReadonlyMap<string, { readonly key: KeyText; readonly digest: string }>[],
): RowDifference[] {
  const differences: RowDifference[] = [];
  const seen = new Set<string>();
  nodes.forEach((rows, index) => {
    for (const [id, { key, digest }] of rows) {
      // A key that an earlier node has was compared when that node's rows were walked.
      if (index > 0 && seen.has(id)) continue;
      if (index < nodes.length - 1) seen.add(id);
      const digests = nodes.map((other, i) =>
        i === index ? digest : (other.get(id)?.digest ?? null),
      );
      if (!isSameOnAll(digests)) differences.push({ key, digests });
    }
  });
  return differences;
}
