import type { LeafValue } from '../merkle/leaves.js';
import { HashTree } from '../merkle/hash-tree.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { DiffResult } from '../protocol/commands.js';
import type { BlockRange } from '../merkle/layout.js';
import type { Contradiction } from './block-check.js';
import { Comparison, type ComparisonOptions } from './comparison.js';

export interface TreeDiffOptions extends Omit<ComparisonOptions, 'findFaults' | 'onContradiction'> {
  readonly tracked: TrackedTable;
  /** Compares leaves with the tables; returns the positions of blocks where one was wrong, and why. */
  readonly proveLeaves: (positions: readonly number[]) => Promise<ReadonlyMap<number, string>>;
  readonly onContradiction: (position: number, found: Contradiction) => void;
  /**
   * Node -> values of the blocks that were dirty when the comparison began, read since. They count
   * even when a change has made the block dirty again: what they show is later than the fence.
   */
  readonly refreshed: ReadonlyMap<string, ReadonlyMap<number, LeafValue>>;
  /** Node -> the position that its leaves, and what was read since, contain at least. */
  readonly positions: Readonly<Record<string, string>>;
}

/** Compares the trees of the nodes as they stand, and looks into the blocks that differ. */
export async function treeDiff(options: TreeDiffOptions): Promise<DiffResult> {
  const { tracked } = options;
  const { layout } = tracked;
  const positions = new Map<BlockRange, number>();
  const comparison = new Comparison({
    ...options,
    findFaults: async (ranges) => {
      const nodes = [...options.table.pools.keys()];
      const doubtful = ranges
        .map((range) => positions.get(range) ?? 0)
        .filter((position) => !haveEqualLeaves(tracked, nodes, position));
      const faults = doubtful.length === 0 ? [] : await options.proveLeaves(doubtful);
      return Array.from(faults, ([position, reason]) => ({
        range: layout.range(position),
        reason,
      }));
    },
    onContradiction: (found) => options.onContradiction(positions.get(found.range) ?? 0, found),
  });
  try {
    const nodes = [...options.table.pools.keys()];
    const blocks = differingBlocks(tracked, nodes, options.refreshed);
    for (const position of blocks) positions.set(layout.range(position), position);
    await comparison.examine([...positions.keys()]);
    return await comparison.finish({
      positions: options.positions,
      totalRows: Math.max(0, ...nodes.map((node) => tracked.leaves(node).totalRows)),
      ranges: layout.size,
      mismatchedRanges: blocks.length,
      blockSize: tracked.blockRows,
      compareUnitSize: 0,
      concurrencyFactor: 0,
    });
  } catch (error) {
    await comparison.abort();
    throw error;
  }
}

export function haveEqualLeaves(
  table: TrackedTable,
  nodes: readonly string[],
  position: number,
): boolean {
  const [first, ...others] = nodes.map((node) => table.leaves(node));
  if (first?.isDirty(position) !== false) return false;
  return others.every((other) => !other.isDirty(position) && first.isEqual(other, position));
}

/** Blocks whose leaves are not provably the same on these nodes, ascending. `refreshed`: see TreeDiffOptions. */
export function differingBlocks(
  table: TrackedTable,
  nodes: readonly string[],
  refreshed: ReadonlyMap<string, ReadonlyMap<number, LeafValue>>,
): number[] {
  const blocks = new Set<number>();
  const [first, ...others] = nodes.map((node) => HashTree.build(table.leaves(node)));
  for (const other of others) {
    if (first === undefined) break;
    for (const position of first.differences(other)) blocks.add(position);
  }
  // A leaf that became dirty again after it was read says nothing; the value read does.
  for (let position = 0; position < table.layout.size; position++) {
    if (nodes.every((node) => !table.leaves(node).isDirty(position))) continue;
    const values = nodes.map((node) =>
      table.leaves(node).isDirty(position)
        ? refreshed.get(node)?.get(position)
        : table.leaves(node).value(position),
    );
    const isProvedEqual = values.every(
      (value) =>
        value !== undefined && value.rows === values[0]?.rows && value.sum === values[0].sum,
    );
    if (isProvedEqual) blocks.delete(position);
    else blocks.add(position);
  }
  return [...blocks].sort((a, b) => a - b);
}
