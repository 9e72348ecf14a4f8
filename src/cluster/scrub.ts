import { steadyNowMs } from '../base/clock.js';
import { AcedError } from '../base/errors.js';
import { formatLsn } from '../base/lsn.js';
import type { NodePipeline } from '../ingest/pipeline.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { Cluster } from './cluster.js';
import { Loop, tellsFailures } from '../base/loop.js';
import { proveBlocks } from './block-proof.js';

const IDLE_ROUND_MS = 1_000;
const BACKOFF = { firstMs: 1_000, maxMs: 60_000 };
/** A node that has enough to do is left alone for so long. */
const BUSY_REST_MS = 5_000;
/** Rows read in one go: a user's command on the table waits for at most so many. */
const ROWS_PER_ROUND = 20_000;
/** Blocks chosen with one look at all leaves. */
const MAX_QUEUE = 5_000;
/** Blocks count as equally old within a minute: sorting all of them would cost more than it brings. */
const AGE_STEP_MS = 60_000;
const MAX_REST_MS = 60_000;
/** A stream, or somebody's replication, that is so far behind has enough to do. */
const MAX_LAG_BYTES = 64 * 1024 ** 2;
/** The table is kept from commands while the stream passes a reading. */
const FENCE_TIMEOUT_MS = 5_000;

/** Blocks of one table on one node whose turn has come, by their ids. */
interface Queue {
  readonly table: TrackedTable;
  readonly node: string;
  readonly ids: number[];
  readonly oldestMs: number;
}

/**
 * Compares leaves with their tables in the background, those first that were not compared for longest,
 * within its share of time. The slower the node, the longer the rests; a node that is busy or behind
 * is left alone, and so is a table that a command works on.
 */
export class Scrub {
  readonly #cluster: Cluster;
  readonly #loop: Loop;
  readonly #restUntilMs = new Map<string, number>();
  #queue: Queue | null = null;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'scrub_failed'),
      backoff: BACKOFF,
      round: (signal) => this.#round(signal),
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #round(signal: AbortSignal): Promise<number> {
    const { budget } = this.#cluster.config.scrub;
    if (budget === 0) return MAX_REST_MS;
    if (this.#queue === null || this.#queue.ids.length === 0) this.#queue = this.#findOldest();
    const queue = this.#queue;
    if (queue === null) return IDLE_ROUND_MS;
    const { table, node } = queue;
    const pipeline = this.#cluster.pipelines.get(node);
    const mutex = this.#cluster.mutex(table.spec.schema, table.spec.name);
    if (pipeline?.state.kind !== 'streaming') return this.#leaveAlone(node, IDLE_ROUND_MS);
    if (await this.#isBusy(pipeline, signal)) return this.#leaveAlone(node, BUSY_REST_MS);
    if (mutex.isBusy) return IDLE_ROUND_MS;
    const startedAtMs = steadyNowMs();
    try {
      await mutex.run(() => this.#prove(queue, signal));
    } catch (error) {
      const restMs = this.#leaveAlone(node, BUSY_REST_MS);
      if (error instanceof AcedError && error.code === 'STARVED') return restMs;
      throw error;
    }
    return Math.min(MAX_REST_MS, (steadyNowMs() - startedAtMs) * (1 / budget - 1));
  }

  /** Other nodes have their turn meanwhile; returns how long the loop itself rests. */
  #leaveAlone(node: string, forMs: number): number {
    this.#restUntilMs.set(node, steadyNowMs() + forMs);
    this.#queue = null;
    return Math.min(forMs, IDLE_ROUND_MS);
  }

  async #prove({ table, node, ids }: Queue, signal: AbortSignal): Promise<void> {
    const chunk = new Set(ids.splice(0, Math.max(1, Math.floor(ROWS_PER_ROUND / table.blockRows))));
    // Meanwhile it may be gone, built again, or found to be another than it was.
    if (!this.#cluster.isTracked(table) || table.state !== 'live') return;
    const positions = table.layout.ids.flatMap((id, position) => (chunk.has(id) ? [position] : []));
    await proveBlocks(this.#cluster, table, new Map([[node, positions]]), {
      concurrency: 1,
      signal,
      foundBy: 'scrub',
      fenceTimeoutMs: FENCE_TIMEOUT_MS,
    });
  }

  /** The table and node with the oldest proof, if it is old enough. */
  #findOldest(): Queue | null {
    const { tables, pipelines, config } = this.#cluster;
    const nowMs = Date.now();
    let found: Omit<Queue, 'ids'> | null = null;
    for (const table of tables) {
      if (table.state !== 'live') continue;
      for (const node of pipelines.keys()) {
        if ((this.#restUntilMs.get(node) ?? 0) > steadyNowMs()) continue;
        const oldestMs = table.leaves(node).oldestCleanProofMs;
        if (oldestMs > nowMs - config.scrub.intervalMs) continue;
        if (found === null || oldestMs < found.oldestMs) found = { table, node, oldestMs };
      }
    }
    if (found === null) return null;
    const { table, node, oldestMs } = found;
    const leaves = table.leaves(node);
    const upToMs = Math.min(oldestMs + AGE_STEP_MS, nowMs - config.scrub.intervalMs);
    const ids: number[] = [];
    for (let position = 0; position < leaves.size && ids.length < MAX_QUEUE; position++) {
      // Dirty blocks are the refresher's, which reads them anyway.
      if (leaves.isDirty(position) || (leaves.provedAtMs[position] ?? 0) > upToMs) continue;
      ids.push(table.layout.ids[position] ?? 0);
    }
    return { ...found, ids };
  }

  async #isBusy(pipeline: NodePipeline, signal: AbortSignal): Promise<boolean> {
    const { config } = this.#cluster;
    const rows = await this.#cluster.pool(pipeline.name).use(
      (session) =>
        session.query(
          `SELECT (SELECT count(*) FROM pg_catalog.pg_stat_activity
             WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()),
           greatest(
             pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), $1::pg_lsn),
             (SELECT max(pg_catalog.pg_wal_lsn_diff(
                pg_catalog.pg_current_wal_insert_lsn(), coalesce(confirmed_flush_lsn, restart_lsn)))
              FROM pg_catalog.pg_replication_slots WHERE active AND slot_name <> $2))`,
          [formatLsn(pipeline.position), config.slotName],
          signal,
        ),
      signal,
    );
    const [active, lagBytes] = rows[0] ?? [];
    return Number(active) > config.scrub.maxActiveBackends || Number(lagBytes) > MAX_LAG_BYTES;
  }
}
