import type { FetchedRow } from '../diff/settle.js';
import type { Agreement, DriftKind } from '../protocol/drift.js';

/** Rows of a block that are kept one by one. */
const MAX_KEPT_ROWS = 1000;

/** A row that differs. */
export interface KnownRow {
  readonly kind: DriftKind;
  /** As JSON. */
  readonly agreement: string;
}

/** What is known of the rows of one block that differ between nodes. */
export interface DriftedBlock {
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
  /** Agreements, as JSON, with the number of rows. */
  readonly agreements: ReadonlyMap<string, number>;
  /** By key; null: they are too many to keep. */
  readonly rows: ReadonlyMap<string, KnownRow> | null;
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
  rows: Map<string, KnownRow> | null = new Map();

  add(key: string, rows: RowOnNodes, nodes: readonly string[]): void {
    this.addKnown(key, {
      kind: kindOf(rows),
      agreement: JSON.stringify(agreementOf(rows, nodes)),
    });
  }

  addKnown(key: string, row: KnownRow): void {
    if (this.rows?.has(key) === true) return;
    this[row.kind]++;
    this.agreements.set(row.agreement, (this.agreements.get(row.agreement) ?? 0) + 1);
    if ((this.rows?.size ?? 0) >= MAX_KEPT_ROWS) this.rows = null;
    this.rows?.set(key, row);
  }
}

/**
 * What is known of a block's rows after another look, which found `drifted` and could not decide on
 * some: of these, the ones that were known to differ still count. Null: none is left.
 */
export function afterAnotherLook(
  before: DriftedBlock,
  drifted: DriftedBlock | undefined,
  undecided: ReadonlySet<string> | null | undefined,
): DriftedBlock | null {
  if (undecided === undefined || undecided?.size === 0) return drifted ?? null;
  // Which rows differed is not known: they may all be among those.
  if (undecided === null || before.rows === null || drifted?.rows === null) {
    return drifted !== undefined && rowsOf(drifted) > rowsOf(before) ? drifted : before;
  }
  const rows = new BlockCounter();
  for (const [key, row] of drifted?.rows ?? []) rows.addKnown(key, row);
  for (const [key, row] of before.rows) if (undecided.has(key)) rows.addKnown(key, row);
  return rowsOf(rows) === 0 ? null : rows;
}

/** The rows of all blocks together. */
export function totalOf(blocks: Iterable<DriftedBlock>): DriftedBlock {
  const total = new BlockCounter();
  total.rows = null;
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
