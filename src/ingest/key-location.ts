import { logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { ReplicationStream } from '../stream/replication-stream.js';
import type { ChangeApplier } from './change-applier.js';
import type { TableApplier } from './table-applier.js';
import type { TrackedTable } from './tracked-table.js';

export interface KeyLocationOptions {
  readonly pool: SessionPool;
  readonly log: Logger;
  readonly appliers: ReadonlyMap<TrackedTable, TableApplier>;
  /** The current ones of the pipeline. */
  readonly applier: () => ChangeApplier;
  readonly stream: () => ReplicationStream | null;
}

/** Keys that the server locates, and transactions that wait for them, stop the stream above this number. */
const MAX_UNLOCATED = 20_000;

/** Blocks of keys whose order only the server knows. */
export class KeyLocation {
  readonly #options: KeyLocationOptions;
  #isLocating = false;

  constructor(options: KeyLocationOptions) {
    this.#options = options;
  }

  /**
   * Asks the server where the keys of pending commits lie, and applies those. Resolves at once while
   * another call is at it; above a limit that call's stream is paused.
   */
  async locate(): Promise<void> {
    const changes = this.#options.applier();
    if (this.#isLocating) {
      if (changes.pendingWork > MAX_UNLOCATED) this.#options.stream()?.pause('locating keys');
      return;
    }
    this.#isLocating = true;
    try {
      while (changes === this.#options.applier() && changes.pendingTransactions > 0) {
        const count = changes.pendingTransactions;
        const stream = this.#options.stream();
        for (const applier of changes.pendingAppliers) await this.#locateTable(applier);
        // A reconnect has dropped what was pending; it comes again.
        if (this.#options.stream() !== stream) continue;
        changes.release(count);
        stream?.resume();
      }
    } catch (error) {
      // The transactions were not applied and their end is not confirmed: streaming again from
      // the durable position brings them back.
      this.#options.log.warn({ event: 'locate_failed' }, logMessage(error));
      void this.#options.stream()?.close();
    } finally {
      this.#isLocating = false;
    }
  }

  async #locateTable(applier: TableApplier): Promise<void> {
    const table = Array.from(this.#options.appliers).find(([, other]) => other === applier)?.[0];
    if (table === undefined) throw new RangeError('a table was dropped while keys were located');
    await applier.locateHeld(
      async (keys) => {
        const bounds = table.layout.lowers.slice(1).map((lower) => lower ?? []);
        const query = table.sql.locate(keys, bounds);
        const rows = await this.#options.pool.use((session) =>
          session.query(query.text, query.params),
        );
        const positions = new Array<number>(keys.length).fill(0);
        for (const [index, position] of rows) positions[Number(index)] = Number(position);
        return positions;
      },
      () => table.layout.version,
    );
  }
}
