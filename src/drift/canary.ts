import { steadyNowMs } from '../base/clock.js';
import { AcedError, errorMessage } from '../base/errors.js';
import { sleep } from '../base/abort.js';
import { quoteIdentifier } from '../base/quote.js';
import type { Cluster } from '../cluster/cluster.js';
import { Mutex } from '../cluster/mutex.js';
import { Loop, tellsFailures } from '../base/loop.js';
import { buildTree, requireInitialised, workOptions } from '../cluster/tree-building.js';
import { CANARY_TABLE } from '../mirror/mirror-schema.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { Session } from '../postgres/session.js';
import { inTransaction } from '../postgres/transaction.js';
import { inDdlTransaction } from '../replication/spock.js';
import type { CommandContext } from '../protocol/commands.js';
import type { CanaryResult, Condition } from '../protocol/drift.js';
import { publicationsOfNewTables } from '../replication/publication-members.js';
import type { DriftWatch } from './drift-watch.js';

const IDLE_MS = 60_000;
const BACKOFF = { firstMs: 1_000, maxMs: 60_000 };
const POLL_MS = 10;
const BLOCK_ROWS = 100;

/**
 * Shows that drift would be found: a row of our own in a table of our own, on one node alone, must be
 * found within a time, on each node in turn, and is taken away again. The table is in nobody's
 * publication but ours, so that the row goes nowhere. Nobody is alarmed by it; when it is not found,
 * that is told as `coverage`.
 */
export class Canary {
  readonly #cluster: Cluster;
  readonly #watch: DriftWatch;
  readonly #mutex = new Mutex();
  readonly #loop: Loop;
  #foundAtMs: number | null = null;

  constructor(cluster: Cluster, watch: DriftWatch) {
    this.#cluster = cluster;
    this.#watch = watch;
    const { intervalMs } = cluster.config.canary;
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'canary_failed'),
      backoff: BACKOFF,
      round: async (signal) => {
        if (intervalMs === 0 || !cluster.isStreaming) return IDLE_MS;
        await sleep(intervalMs, signal);
        await this.run({ signal, emit: () => undefined, reportDir: cluster.config.stateDir });
        return 0;
      },
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** When a difference was last made and found on every node; null: not since the start. */
  get foundAtMs(): number | null {
    return this.#foundAtMs;
  }

  /**
   * On each node in turn. A difference that was not found is a result; what keeps one from being made
   * is an error: NOT_INITIALISED, UNSUPPORTED, MISSING_PRIVILEGE, those of a build. Both are told.
   */
  async run(context: CommandContext): Promise<CanaryResult> {
    return this.#mutex.run(async () => {
      requireInitialised(this.#cluster);
      const nowMs = (): { nowMs: number } => ({ nowMs: Date.now() });
      const { conditions } = this.#cluster;
      try {
        await this.#prepare(context);
        const foundAfterMs: Record<string, number | null> = {};
        for (const node of this.#cluster.pools.keys()) {
          foundAfterMs[node] = await this.#try(node, context.signal);
        }
        const lost = Object.keys(foundAfterMs).filter((node) => foundAfterMs[node] === null);
        conditions.report('canary', lost.map(notFound), nowMs());
        if (lost.length === 0) this.#foundAtMs = steadyNowMs();
        return { foundAfterMs };
      } catch (error) {
        context.signal.throwIfAborted();
        conditions.report('canary', [notTried(errorMessage(error))], nowMs());
        throw error;
      }
    });
  }

  /** The table on every node, empty, and followed. */
  async #prepare(context: CommandContext): Promise<void> {
    const cluster = this.#cluster;
    const { nodeSchema, publicationName } = cluster.config;
    await onEveryNode(cluster.pools, context.signal, (_, pool, either) =>
      pool.use(async (session) => {
        await refusePublished(session, { nodeSchema, publicationName });
        await inDdlTransaction(session, {}, async () => {
          await session.query(`CREATE TABLE IF NOT EXISTS ${this.#table} (
            id int PRIMARY KEY, v bigint NOT NULL)`);
        });
        await this.#write(session, `DELETE FROM ${this.#table}`);
      }, either),
    );
    const name = { schema: nodeSchema, name: CANARY_TABLE };
    await cluster.mutex(name.schema, name.name).run(async () => {
      if (cluster.trackedTable(name.schema, name.name)?.state === 'live') return;
      await buildTree(cluster, name, {
        leftOut: [],
        blockRows: BLOCK_ROWS,
        work: { ...workOptions(cluster, undefined, context), concurrency: 1 },
        context,
      });
    });
    // The start of a table compares it as a whole: only then a row is found by itself.
    await this.#until((verdict) => verdict === 'match', context.signal);
  }

  /** From the row's commit to its being found, in ms; null: it was not, in time. */
  async #try(node: string, signal: AbortSignal): Promise<number | null> {
    const pool = this.#cluster.pool(node);
    await pool.use(
      (session) => this.#write(session, `INSERT INTO ${this.#table} VALUES (1, 1)`),
      signal,
    );
    const startedAtMs = performance.now();
    const isFound = await this.#until((verdict) => verdict === 'drift', signal);
    const tookMs = Math.round(performance.now() - startedAtMs);
    await pool.use((session) => this.#write(session, `DELETE FROM ${this.#table}`), signal);
    const isOver = await this.#until((verdict) => verdict === 'match', signal);
    return isFound && isOver ? tookMs : null;
  }

  async #until(
    isSo: (verdict: string | undefined) => boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { nodeSchema, canary } = this.#cluster.config;
    const endMs = performance.now() + canary.timeoutMs;
    for (;;) {
      const table = this.#cluster.trackedTable(nodeSchema, CANARY_TABLE);
      if (table !== undefined && isSo(this.#watch.verdict(table).verdict)) return true;
      if (performance.now() > endMs) return false;
      await sleep(POLL_MS, signal);
    }
  }

  get #table(): string {
    return `${quoteIdentifier(this.#cluster.config.nodeSchema)}.${CANARY_TABLE}`;
  }

  async #write(session: Session, sql: string): Promise<void> {
    await inTransaction(session, {}, () => session.query(sql));
  }
}

/** A publication that has every table would send the row to nodes that do not expect it. */
async function refusePublished(
  session: Session,
  {
    nodeSchema,
    publicationName,
  }: { readonly nodeSchema: string; readonly publicationName: string },
): Promise<void> {
  const publications = await publicationsOfNewTables(session, nodeSchema);
  const name = publications.find((publication) => publication !== publicationName);
  if (name === undefined) return;
  throw new AcedError(
    'UNSUPPORTED',
    `publication ${name} on node ${session.node.name} would publish the canary's table too`,
    { hint: `A canary needs publications that name their tables; or set canary.interval_ms to 0.` },
  );
}

function notFound(node: string): Condition {
  return {
    kind: 'coverage',
    about: 'canary',
    subject: node,
    reason:
      'a difference of our own on this node was not found in time: drift there may go unnoticed',
    facts: { node },
  };
}

function notTried(message: string): Condition {
  return {
    kind: 'coverage',
    about: 'canary',
    subject: 'canary',
    reason: `a difference of our own could not be made: ${message}`,
    facts: {},
  };
}
