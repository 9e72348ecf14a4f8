import { steadyNowMs } from '../base/clock.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { Backoff } from '../base/backoff.js';
import { logMessage } from '../base/errors.js';
import type { CommandContext } from '../protocol/commands.js';
import { noticingStale } from './stale.js';
import { ensureCurrentTree, workOptions } from './tree-building.js';
import type { Cluster } from './cluster.js';
import { Loop, tellsFailures } from '../base/loop.js';
import { rehashOnNodes, splitOversize } from './tree-work.js';

const IDLE_ROUND_MS = 250;
const BACKOFF = { firstMs: 1_000, maxMs: 5_000 };
/** Blocks read in one go; a user's command waits for at most so many. */
const BLOCKS_PER_ROUND = 200;
/** A table to be built again must not wait for ever behind a small budget. */
const MAX_REST_MS = 60_000;

/** A table that cannot be refreshed is tried again after so long, twice as long each time. */
const TABLE_BACKOFF = { firstMs: 1_000, maxMs: 60_000 };

/** A table that cannot be refreshed. */
interface Trouble {
  readonly backoff: Backoff;
  /** Told last. */
  message: string;
}

/**
 * Reads dirty blocks again once they have been quiet for a while, within its share of time, so
 * that a diff finds few. Also rebuilds tables whose definition has changed, whatever the share is.
 * A table that cannot be read keeps none of the others from being refreshed: it is stale, and tried
 * again by itself.
 */
export class Refresher {
  readonly #cluster: Cluster;
  readonly #suspects = new Set<TrackedTable>();
  readonly #troubles = new Map<TrackedTable, Trouble>();
  readonly #loop: Loop;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    cluster.onSchemaChange((table, reason) => {
      cluster.log.info({ event: 'schema_change', table: table.label }, reason);
      this.#suspects.add(table);
    });
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'refresh_failed'),
      backoff: BACKOFF,
      round: (signal) => this.#round(signal),
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #round(signal: AbortSignal): Promise<number> {
    const startedAtMs = steadyNowMs();
    let hasWorked = false;
    for (const table of this.#cluster.tables) {
      const { schema, name } = table.spec;
      const mutex = this.#cluster.mutex(schema, name);
      if (mutex.isBusy || this.#mustWait(table)) continue;
      if (!this.#hasWork(table)) {
        this.#troubles.delete(table);
        continue;
      }
      hasWorked = (await mutex.run(() => this.#refreshOrTell(table, signal))) || hasWorked;
    }
    this.#forgetGone();
    const { refreshBudget } = this.#cluster.config.tree;
    // Without a budget there was nothing but rebuilds, which count against none.
    if (!hasWorked || refreshBudget === 0) return IDLE_ROUND_MS;
    const restMs = (steadyNowMs() - startedAtMs) * (1 / refreshBudget - 1);
    return Math.min(MAX_REST_MS, Math.max(IDLE_ROUND_MS, restMs));
  }

  /** Of thousands of tables few have any: found without a turn of the event loop for each. */
  #hasWork(table: TrackedTable): boolean {
    if (this.#suspects.has(table) || table.state === 'stale') return true;
    // A build that failed or was cancelled is the user's to repeat; only what was live is kept up.
    if (table.state !== 'live' || this.#cluster.config.tree.refreshBudget === 0) return false;
    for (const node of this.#cluster.pipelines.keys()) {
      if (table.leaves(node).dirtyCount > 0) return true;
    }
    return false;
  }

  #mustWait(table: TrackedTable): boolean {
    return this.#troubles.get(table)?.backoff.isResting === true;
  }

  /** Tables that were torn down, or whose tree was replaced. */
  #forgetGone(): void {
    for (const known of [this.#suspects, this.#troubles]) {
      for (const table of known.keys()) if (!this.#cluster.isTracked(table)) known.delete(table);
    }
  }

  async #refreshOrTell(table: TrackedTable, signal: AbortSignal): Promise<boolean> {
    try {
      const hasWorked = await noticingStale(table, () => this.#refresh(table, signal));
      this.#troubles.delete(table);
      return hasWorked;
    } catch (error) {
      signal.throwIfAborted();
      this.#note(table, error);
      return true;
    }
  }

  #note(table: TrackedTable, error: unknown): void {
    const trouble = this.#troubles.get(table) ?? {
      backoff: new Backoff(TABLE_BACKOFF),
      message: '',
    };
    this.#troubles.set(table, trouble);
    trouble.backoff.failed(error);
    const message = logMessage(error);
    // Once for each reason, not for each attempt.
    if (trouble.message === message) return;
    trouble.message = message;
    this.#cluster.log.warn({ event: 'refresh_failed', table: table.label }, message);
  }

  async #refresh(table: TrackedTable, signal: AbortSignal): Promise<boolean> {
    const cluster = this.#cluster;
    // Others had their turn on it meanwhile.
    if (!cluster.isTracked(table) || !this.#hasWork(table)) return false;
    const context = this.#context(signal);
    if (this.#suspects.has(table) || table.state === 'stale') {
      if (!cluster.isStreaming) return false;
      const current = await ensureCurrentTree(cluster, table, context);
      this.#suspects.delete(table);
      if (current.table !== table || table.state !== 'stale') return true;
    }
    const hasRead = await this.#readQuiet(table, context);
    // What could not be read has just been read, or need not be.
    if (table.state === 'stale') table.setState('live', null);
    return hasRead;
  }

  async #readQuiet(table: TrackedTable, context: CommandContext): Promise<boolean> {
    const cluster = this.#cluster;
    const quietSince = steadyNowMs() - cluster.config.tree.refreshQuietMs;
    const positions = new Map<string, number[]>();
    for (const [node, pipeline] of cluster.pipelines) {
      if (pipeline.state.kind !== 'streaming') continue;
      const leaves = table.leaves(node);
      if (leaves.dirtyCount === 0) continue;
      const quiet = leaves
        .dirtyPositions()
        .filter((position) => (leaves.touchedAtMs[position] ?? 0) <= quietSince);
      if (quiet.length > 0) positions.set(node, quiet.slice(0, BLOCKS_PER_ROUND));
    }
    if (positions.size === 0) return false;
    const work = { ...workOptions(cluster, undefined, context), concurrency: 1 };
    await rehashOnNodes(cluster, table, positions, work);
    await splitOversize(cluster, table, work);
    return true;
  }

  #context(signal: AbortSignal): CommandContext {
    return {
      signal,
      reportDir: this.#cluster.config.stateDir,
      emit: (event) => {
        if (event.type === 'log') this.#cluster.log.info({ event: 'refresh' }, event.message);
      },
    };
  }
}
