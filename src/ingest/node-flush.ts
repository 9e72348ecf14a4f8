import { steadyNowMs } from '../base/clock.js';
import { failpoint } from '../base/failpoint.js';
import type { Lsn } from '../base/lsn.js';
import type { NodeBatch, Store } from '../store/store.js';
import type { NodeChanges } from './node-changes.js';
import type { TrackedTable } from './tracked-table.js';

export interface NodeFlushOptions {
  readonly changes: NodeChanges;
  readonly store: Store;
  /** While there are changes. */
  readonly intervalMs: number;
  /** Commits on the node wait for our confirmation: each is made durable at once. */
  readonly isAwaited: () => boolean;
  /** All before it is on disk, and may be confirmed to the slot. */
  readonly onDurable: (position: Lsn) => void;
  /** A batch whose time had come could not be stored. */
  readonly onFailure: (error: unknown) => void;
}

/** Idle positions are made durable less often than changes. */
const IDLE_FLUSH_MS = 5_000;

/** Makes one node's leaves durable, with the position they stand at, a batch at a time. */
export class NodeFlush {
  readonly #options: NodeFlushOptions;
  #durable: Lsn | null;
  #timer: NodeJS.Timeout | null = null;
  #delayMs = 0;
  #lastMs = 0;

  constructor(options: NodeFlushOptions) {
    this.#options = options;
    const { changes, store } = options;
    this.#durable = store.node(changes.node)?.position ?? null;
  }

  /** Null: nothing may be stored. */
  get durable(): Lsn | null {
    return this.#durable;
  }

  /** Until goOn nothing is written: it would mix leaves of before with a position of after. */
  suspend(): void {
    this.#durable = null;
  }

  /** The store's leaves stand at `durable`. */
  goOn(durable: Lsn): void {
    this.#durable = durable;
  }

  /** Makes everything applied so far durable. Errors: STORE; its leaves are in the next batch then. */
  flush(): void {
    const { changes, store, onDurable } = this.#options;
    this.stop();
    if (this.#durable === null) return;
    changes.filters.pass(changes.position);
    const batch = collectBatch(changes);
    if (batch.leaves.length === 0 && batch.position === this.#durable) return;
    failpoint('store-committing');
    try {
      store.saveBatch(batch);
    } catch (error) {
      returnBatch(batch, changes.tables);
      throw error;
    }
    failpoint('store-committed');
    this.#durable = batch.position;
    this.#lastMs = steadyNowMs();
    onDurable(batch.position);
  }

  /** A leaf was changed by something else than the stream: flushes it soon. */
  touch(): void {
    this.#schedule(this.#intervalMs);
  }

  /** The leaves stand at another position. */
  passed(position: Lsn): void {
    if (position === this.#durable) return;
    const intervalMs = this.#intervalMs;
    if (this.#timer !== null && this.#delayMs <= intervalMs) return;
    const { changes, isAwaited } = this.#options;
    this.#schedule(isAwaited() || changes.hasUnsaved ? intervalMs : IDLE_FLUSH_MS);
  }

  /** What is due is not flushed by itself any more. */
  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  get #intervalMs(): number {
    return this.#options.isAwaited() ? 0 : this.#options.intervalMs;
  }

  #schedule(delayMs: number): void {
    // An idle position may wait longer than a change that comes after it.
    if (this.#timer !== null && delayMs >= this.#delayMs) return;
    this.stop();
    this.#delayMs = delayMs;
    const waitMs = Math.max(0, this.#lastMs + delayMs - steadyNowMs());
    this.#timer = setTimeout(() => {
      this.#timer = null;
      try {
        this.flush();
      } catch (error) {
        this.#options.onFailure(error);
      }
    }, waitMs);
    this.#timer.unref();
  }
}

/** All leaves of a node that changed since the last batch, with the position they stand at. */
function collectBatch({ node, position, tables, filters, applier }: NodeChanges): NodeBatch {
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
  return { node, position, leaves, filters: filters.toStored(), last: applier.last };
}

/** The batch could not be stored: its leaves belong into the next one. */
function returnBatch(batch: NodeBatch, tables: Iterable<TrackedTable>): void {
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
