import type { Lsn } from '../base/lsn.js';
import { formatSnapshot, isVisible, parseSnapshot, type Snapshot } from '../postgres/snapshot.js';
import type { StoredFilter } from '../store/store.js';

interface Filter {
  readonly snapshot: Snapshot;
  readonly fence: Lsn;
}

/**
 * The snapshots that leaves of one node were read in. A streamed transaction that such a snapshot
 * shows is in the leaf already; it must not be applied twice. Once the stream has passed the fence
 * (a WAL position taken after the snapshot) no such transaction can come any more.
 */
export class SnapshotFilters {
  readonly #filters = new Map<number, Filter>();
  #nextId = 1;

  /**
   * `highestUsed` is the highest id that any leaf carries: a leaf keeps the id of a filter that was
   * forgotten, and a new filter of that id would hide changes from it.
   */
  static restore(stored: readonly StoredFilter[], highestUsed: number): SnapshotFilters {
    const filters = new SnapshotFilters();
    filters.#nextId = highestUsed + 1;
    for (const { id, snapshot, fence } of stored) {
      filters.#filters.set(id, { snapshot: parseSnapshot(snapshot), fence });
      filters.#nextId = Math.max(filters.#nextId, id + 1);
    }
    return filters;
  }

  /** Returns the new filter's id, for LeafSet.filters. */
  add(snapshot: Snapshot, fence: Lsn): number {
    const id = this.#nextId++;
    this.#filters.set(id, { snapshot, fence });
    return id;
  }

  /** True when the leaf that carries the filter already holds the transaction's changes. */
  shows(id: number, xid: number): boolean {
    const filter = this.#filters.get(id);
    return filter !== undefined && isVisible(filter.snapshot, xid);
  }

  /** Forgets the filters whose fence the stream has passed. */
  pass(position: Lsn): void {
    for (const [id, filter] of this.#filters) {
      if (filter.fence <= position) this.#filters.delete(id);
    }
  }

  /** Forgets all; returns their ids, for the leaves that carry them. */
  clear(): ReadonlySet<number> {
    const ids = new Set(this.#filters.keys());
    this.#filters.clear();
    return ids;
  }

  toStored(): StoredFilter[] {
    return Array.from(this.#filters, ([id, { snapshot, fence }]) => ({
      id,
      snapshot: formatSnapshot(snapshot),
      fence,
    }));
  }
}
