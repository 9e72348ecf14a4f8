import type { Lsn } from '../base/lsn.js';
import type { NodeBatch } from '../store/store.js';
import type { SnapshotFilters } from './snapshot-filters.js';
import type { TrackedTable } from './tracked-table.js';

/** All leaves of a node that changed since the last batch, with the position they stand at. */
export function collectBatch(
  node: string,
  position: Lsn,
  tables: Iterable<TrackedTable>,
  filters: SnapshotFilters,
): NodeBatch {
  const leaves: NodeBatch['leaves'][number][] = [];
  for (const table of tables) {
    const set = table.leaves(node);
    for (const at of set.takeChanged()) {
      leaves.push({
        tableId: table.id,
        leaf: {
          blockId: table.layout.ids[at] ?? 0,
          rows: set.rows[at] ?? 0,
          sumLow: set.sumLow[at] ?? 0,
          sumHigh: set.sumHigh[at] ?? 0,
          isDirty: set.isDirty(at),
          filter: set.filters[at] ?? 0,
          provedAtMs: set.provedAtMs[at] ?? 0,
        },
      });
    }
  }
  return { node, position, leaves, filters: filters.toStored() };
}

/** The batch could not be stored: its leaves belong into the next one. */
export function returnBatch(batch: NodeBatch, tables: Iterable<TrackedTable>): void {
  for (const table of tables) {
    const unsaved = new Set(
      batch.leaves.filter(({ tableId }) => tableId === table.id).map(({ leaf }) => leaf.blockId),
    );
    if (unsaved.size === 0) continue;
    const leaves = table.leaves(batch.node);
    table.layout.ids.forEach((id, at) => {
      if (unsaved.has(id)) leaves.markChanged(at);
    });
  }
}
