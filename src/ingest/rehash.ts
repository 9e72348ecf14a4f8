import { steadyNowMs } from '../base/clock.js';
import type { LeafValue } from '../merkle/leaves.js';
import { isVisible } from '../postgres/snapshot.js';
import {
  readInChunks,
  readObserved,
  type BlockReadingOptions,
  type BlocksRead,
} from './block-reading.js';
import { applyLeafChange } from './leaf-change.js';
import type { ChangeRecording } from './table-applier.js';

export interface RehashOptions extends BlockReadingOptions {
  /** Keeps the digests of the rows too, so that changes to them will be exact. */
  readonly keepsRows: boolean;
}

/**
 * Reads blocks of one node again while its changes go on arriving; afterwards their leaves are
 * exact and clean, unless a change with an unknown old row came in between.
 * Returns each block's value as it was in the snapshot that it was read in.
 */
export async function rehash(options: RehashOptions): Promise<Map<number, LeafValue>> {
  const { keepsRows } = options;
  return readInChunks(options, (positions, signal) =>
    readObserved(
      options,
      {
        positions,
        keepsRows,
        records: 'changes',
        use: (read, recording) => {
          replaceLeaves(options, read, recording);
          return read.values;
        },
      },
      signal,
    ),
  );
}

function replaceLeaves(
  { table, pipeline }: RehashOptions,
  read: BlocksRead,
  recording: ChangeRecording,
): void {
  const leaves = table.leaves(pipeline.name);
  const rowDigests = table.rowDigests(pipeline.name);
  const filter = pipeline.filters.add(read.snapshot, read.fence);
  for (const [position, value] of read.values) {
    leaves.set(position, value, false, filter);
    leaves.proved(position, read.readAtMs);
    // Rows that were kept are of another snapshot than the leaf is now.
    rowDigests.delete(position);
    const rows = read.rows.get(position);
    if (rows !== undefined) rowDigests.set(position, rows);
  }
  for (const change of recording.changes) {
    if (isVisible(read.snapshot, change.xid)) continue;
    applyLeafChange({ leaves, rowDigests }, change, steadyNowMs());
  }
}
