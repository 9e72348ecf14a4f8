import type { Logger } from '../base/log.js';
import { NO_LSN, type Lsn } from '../base/lsn.js';
import { PgoutputDecoder } from '../pgoutput/decoder.js';
import type { LastTransaction } from '../replication/start-decision.js';
import type { Store } from '../store/store.js';
import { ChangeApplier } from './change-applier.js';
import { HiddenCommits } from './hidden-commits.js';
import type { StreamFlow } from './key-location.js';
import type { NodeServer } from './node-server.js';
import { SnapshotFilters } from './snapshot-filters.js';
import type { TableApplier } from './table-applier.js';
import type { TrackedTable } from './tracked-table.js';

export interface NodeChangesOptions {
  readonly node: string;
  readonly server: NodeServer;
  readonly store: Store;
  readonly tables: readonly TrackedTable[];
  /** Bound to the node. */
  readonly log: Logger;
  readonly flow: StreamFlow;
  /** Ends questions to the server. */
  readonly signal: AbortSignal;
  readonly onPosition: (position: Lsn) => void;
  readonly onSchemaChange: (table: TrackedTable, reason: string) => void;
}

/**
 * What one node's stream makes of its leaves, from one connection to the next: who applies changes to
 * which table, from where on, and what snapshots of the node show of them.
 */
export class NodeChanges {
  readonly node: string;
  readonly #options: NodeChangesOptions;
  readonly #appliers = new Map<TrackedTable, TableApplier>();
  #filters: SnapshotFilters;
  #hiddenCommits: HiddenCommits;
  #applier: ChangeApplier;
  #epoch = 0;

  /** Goes on where the store's leaves stand. */
  constructor(options: NodeChangesOptions) {
    const { node, store, tables } = options;
    this.node = node;
    this.#options = options;
    this.#filters = SnapshotFilters.restore(store.filters(node), highestFilter(tables, node));
    this.#hiddenCommits = new HiddenCommits(options);
    const { position, last } = store.node(node) ?? { position: NO_LSN, last: null };
    this.#applier = this.#createApplier(position, last ?? begunAt(position));
    for (const table of tables) this.addTable(table);
  }

  /** Changes whenever the stream starts over: what was read under another one proves nothing. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Of the stream that runs, or of the next one. Another one after startOver. */
  get applier(): ChangeApplier {
    return this.#applier;
  }

  /** Everything that committed on the node before this position is in the leaves. */
  get position(): Lsn {
    return this.#applier.position;
  }

  get filters(): SnapshotFilters {
    return this.#filters;
  }

  get hiddenCommits(): HiddenCommits {
    return this.#hiddenCommits;
  }

  get tables(): readonly TrackedTable[] {
    return [...this.#appliers.keys()];
  }

  get hasUnsaved(): boolean {
    for (const table of this.#appliers.keys()) {
      if (table.leaves(this.node).hasChanged) return true;
    }
    return false;
  }

  addTable(table: TrackedTable): void {
    const { server, onSchemaChange } = this.#options;
    const applier = table.createApplier(this.node, {
      filters: this.#filters,
      locateKeys: (keys) => server.locate(table, keys),
      transaction: () => this.#applier.transaction,
      onSchemaChange: (reason) => onSchemaChange(table, reason),
    });
    this.#appliers.set(table, applier);
    this.#applier.refreshTables();
  }

  removeTable(table: TrackedTable): void {
    this.#appliers.delete(table);
    this.#applier.refreshTables();
  }

  /** What blocks were read as may have been on a server that is no longer there. */
  distrustSnapshots(position: Lsn): void {
    this.#epoch++;
    this.#hiddenCommits.searchAgain();
    const ids = this.#filters.clear();
    for (const table of this.#appliers.keys()) {
      const leaves = table.leaves(this.node);
      leaves.filters.forEach((id, at) => {
        if (!ids.has(id)) return;
        leaves.markDirty(at);
        table.rowDigests(this.node).delete(at);
      });
    }
    this.#applier.rewind(position);
  }

  /** After a gap: nothing that was known of the node's leaves holds any more. */
  startOver(position: Lsn): void {
    this.#epoch++;
    this.#filters = SnapshotFilters.restore([], 0);
    this.#hiddenCommits = new HiddenCommits(this.#options);
    this.#applier = this.#createApplier(position, begunAt(position));
    for (const table of this.#appliers.keys()) {
      table.leaves(this.node).markAllDirty();
      table.leaves(this.node).filters.fill(0);
      table.rowDigests(this.node).clear();
      this.addTable(table);
    }
  }

  #createApplier(position: Lsn, last: LastTransaction): ChangeApplier {
    const { flow, onPosition } = this.#options;
    return new ChangeApplier({
      decoder: new PgoutputDecoder(),
      position,
      last,
      flow,
      hiddenCommits: this.#hiddenCommits,
      lookup: (oid) =>
        Array.from(this.#appliers).flatMap(([table, applier]) =>
          table.readings[this.node]?.oid === oid ? [applier] : [],
        ),
      onPosition,
    });
  }
}

function begunAt(endLsn: Lsn): LastTransaction {
  return { endLsn, commit: null };
}

function highestFilter(tables: readonly TrackedTable[], node: string): number {
  let highest = 0;
  for (const table of tables) {
    for (const id of table.leaves(node).filters) highest = Math.max(highest, id);
  }
  return highest;
}
