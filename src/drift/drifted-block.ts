import type { FetchedRow } from '../diff/settle.js';
import type { Agreement, DriftKind } from '../protocol/drift.js';

/** What is known of the rows of one block that differ between nodes. */
export interface DriftedBlock {
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
  /** Agreements, as JSON, with the number of rows. */
  readonly agreements: ReadonlyMap<string, number>;
}

/** Rows on the nodes, in the nodes' order; null: the node has no such row. */
export type RowOnNodes = readonly (FetchedRow | null)[];

export function agreementOf(rows: RowOnNodes, nodes: readonly string[]): Agreement {
  const groups = new Map<string | null, string[]>();
  nodes.forEach((node, i) => {
    const digest = rows[i]?.digest ?? null;
    const group = groups.get(digest);
    if (group === undefined) groups.set(digest, [node]);
    else group.push(node);
  });
  return [...groups.values()].sort((a, b) => b.length - a.length);
}

export function kindOf(rows: RowOnNodes): DriftKind {
  const present = rows.filter((row) => row !== null).length;
  if (present === rows.length) return 'different';
  return 2 * present >= rows.length ? 'missing' : 'extra';
}

/** Counts the drifted rows of a block, one by one. */
export class BlockCounter implements DriftedBlock {
  missing = 0;
  extra = 0;
  different = 0;
  readonly agreements = new Map<string, number>();

  add(rows: RowOnNodes, nodes: readonly string[]): void {
    this[kindOf(rows)]++;
    const agreement = JSON.stringify(agreementOf(rows, nodes));
    this.agreements.set(agreement, (this.agreements.get(agreement) ?? 0) + 1);
  }
}

/** The rows of all blocks together. */
export function totalOf(blocks: Iterable<DriftedBlock>): DriftedBlock {
  const total = new BlockCounter();
  for (const block of blocks) {
    total.missing += block.missing;
    total.extra += block.extra;
    total.different += block.different;
    for (const [agreement, rows] of block.agreements) {
      total.agreements.set(agreement, (total.agreements.get(agreement) ?? 0) + rows);
    }
  }
  return total;
}

export function rowsOf({ missing, extra, different }: DriftedBlock): number {
  return missing + extra + different;
}
