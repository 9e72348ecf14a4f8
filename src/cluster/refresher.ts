import type { TrackedTable } from '../ingest/tracked-table.js';
import type { CommandContext } from '../protocol/commands.js';
import { ensureCurrentTree, workOptions } from './tree-building.js';
import type { Cluster } from './cluster.js';
import { Periodic } from './periodic.js';
import { rehashOnNodes, splitOversize } from './tree-work.js';

const IDLE_ROUND_MS = 250;
const FAILURE_REST_MS = 5_000;
/** Blocks read in one go; a user's command waits for at most so many. */
const BLOCKS_PER_ROUND = 200;
/** A table to be built again must not wait for ever behind a small budget. */
const MAX_REST_MS = 60_000;

/**
 * Reads dirty blocks again once they have been quiet for a while, within its share of time, so
 * that a diff finds few. Also rebuilds tables whose definition has changed, whatever the share is.
 */
export class Refresher {
  readonly #cluster: Cluster;
  readonly #suspects = new Set<TrackedTable>();
  readonly #loop: Periodic;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    cluster.onSchemaChange((table, reason) => {
      cluster.log.info({ event: 'schema_change', table: table.label }, reason);
      this.#suspects.add(table);
    });
    this.#loop = new Periodic({
      log: cluster.log,
      failureEvent: 'refresh_failed',
      restAfterFailureMs: FAILURE_REST_MS,
      round: (signal) => this.#round(signal),
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #round(signal: AbortSignal): Promise<number> {
    const startedAtMs = Date.now();
    let hasWorked = false;
    for (const table of this.#cluster.tables) {
      const { schema, name } = table.spec;
      const mutex = this.#cluster.mutex(schema, name);
      if (mutex.isBusy) continue;
      hasWorked = (await mutex.run(() => this.#refresh(table, signal))) || hasWorked;
    }
    const { refreshBudget } = this.#cluster.config.tree;
    // Without a budget there was nothing but rebuilds, which count against none.
    if (!hasWorked || refreshBudget === 0) return IDLE_ROUND_MS;
    const restMs = (Date.now() - startedAtMs) * (1 / refreshBudget - 1);
    return Math.min(MAX_REST_MS, Math.max(IDLE_ROUND_MS, restMs));
  }

  async #refresh(table: TrackedTable, signal: AbortSignal): Promise<boolean> {
    const cluster = this.#cluster;
    if (!cluster.tables.includes(table)) return false;
    const context = this.#context(signal);
    if (this.#suspects.has(table)) {
      await ensureCurrentTree(cluster, table, context);
      this.#suspects.delete(table);
      return true;
    }
    // A build that failed or was cancelled is the user's to repeat; only what was live is kept up.
    if (table.state !== 'live' || cluster.config.tree.refreshBudget === 0) return false;
    const quietSince = Date.now() - cluster.config.tree.refreshQuietMs;
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
