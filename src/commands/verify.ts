import { steadyNowMs } from '../base/clock.js';
import { sleep } from '../base/abort.js';
import { errorMessage } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import { leafText, proveBlocks } from '../cluster/block-proof.js';
import { ensureCurrentTree, requireInitialised, workOptions } from '../cluster/tree-building.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { blocksPerStatement } from '../merkle/block-sql.js';
import type {
  CommandContext,
  VerifiedTable,
  VerifyParams,
  VerifyResult,
} from '../protocol/commands.js';
import type { WrongLeaf } from '../store/store.js';

/** Wrong leaves that a result lists one by one; the number tells of all. */
const MAX_LISTED = 1_000;

/** `mtree verify`: the leaves against the tables, block by block, on every node. */
export async function verify(
  cluster: Cluster,
  params: VerifyParams,
  context: CommandContext,
): Promise<VerifyResult> {
  const startedAtMs = steadyNowMs();
  requireInitialised(cluster);
  const tables = params.table === undefined ? cluster.tables : [cluster.requireTable(params.table)];
  const results: VerifiedTable[] = [];
  for (const table of tables) {
    const pass = new VerifyPass(cluster, table, { params, context });
    try {
      await pass.run();
    } catch (error) {
      // Of several tables the others are looked at all the same.
      if (params.table !== undefined || context.signal.aborted) throw error;
      pass.fail(errorMessage(error));
    }
    results.push(pass.result);
  }
  return { tables: results, timeTakenMs: steadyNowMs() - startedAtMs };
}

interface PassOptions {
  readonly params: VerifyParams;
  readonly context: CommandContext;
}

/** One table, a turn of some blocks at a time: other work on the table takes its turns between. */
class VerifyPass {
  readonly #cluster: Cluster;
  readonly #options: PassOptions;
  readonly #nodes: readonly string[];
  readonly #wrong: WrongLeaf[] = [];
  #table: TrackedTable;
  #proved = 0;
  #reread = 0;
  #isRebuilt = false;
  #error: string | null = null;

  constructor(cluster: Cluster, table: TrackedTable, options: PassOptions) {
    this.#cluster = cluster;
    this.#table = table;
    this.#options = options;
    this.#nodes = cluster.selectNodes(options.params.nodes, 1);
  }

  get result(): VerifiedTable {
    return {
      table: this.#table.label,
      blocks: this.#table.layout.size,
      nodes: this.#nodes,
      provedLeaves: this.#proved,
      rereadLeaves: this.#reread,
      wrongLeaves: this.#wrong.length,
      wrong: this.#wrong.slice(0, MAX_LISTED).map(({ node, blockId, leaf, read }) => ({
        node,
        block: blockId,
        leaf: leafText(leaf),
        read: leafText(read),
      })),
      isRebuilt: this.#isRebuilt,
      error: this.#error,
    };
  }

  fail(message: string): void {
    this.#error = message;
  }

  async run(): Promise<void> {
    await this.#turn(async () => {
      await this.#ensureCurrent();
    });
    const { ids } = this.#table.layout;
    const { context, params } = this.#options;
    const work = workOptions(this.#cluster, params.maxCpuRatio, context);
    const perTurn = blocksPerStatement(this.#table.blockRows) * work.concurrency;
    for (let next = 0; next < ids.length && !this.#isRebuilt; next += perTurn) {
      const startedAtMs = steadyNowMs();
      const chunk = new Set(ids.slice(next, next + perTurn));
      await this.#turn(() => this.#prove(chunk, work));
      const done = Math.min(next + perTurn, ids.length);
      context.emit({ type: 'progress', phase: 'Verifying blocks', done, total: ids.length });
      await this.#keepRate(chunk.size, startedAtMs);
    }
  }

  /** A table that was built again meanwhile has been read from end to end. */
  async #ensureCurrent(): Promise<void> {
    const { context } = this.#options;
    const tracked = this.#cluster.requireTable(this.#table.label);
    const { table } = await ensureCurrentTree(this.#cluster, tracked, context);
    this.#isRebuilt ||= table !== this.#table;
    this.#table = table;
  }

  async #prove(ids: ReadonlySet<number>, work: ReturnType<typeof workOptions>): Promise<void> {
    const tracked = this.#cluster.requireTable(this.#table.label);
    if (tracked !== this.#table) {
      await this.#ensureCurrent();
      return;
    }
    // Blocks that were cut or joined since have been read then.
    const positions = this.#table.layout.ids.flatMap((id, position) =>
      ids.has(id) ? [position] : [],
    );
    const byNode = new Map(this.#nodes.map((node) => [node, positions] as const));
    const outcome = await proveBlocks(this.#cluster, this.#table, byNode, {
      ...work,
      foundBy: 'verify',
    });
    this.#proved += outcome.proved;
    this.#reread += outcome.reread;
    this.#wrong.push(...outcome.wrong);
    if (outcome.isOutdated) await this.#ensureCurrent();
  }

  async #turn(work: () => Promise<void>): Promise<void> {
    const { schema, name } = this.#table.spec;
    await this.#cluster.mutex(schema, name).run(work);
  }

  async #keepRate(blocks: number, startedAtMs: number): Promise<void> {
    const { params, context } = this.#options;
    const { rowsPerSecond } = params;
    if (rowsPerSecond === undefined) return;
    const budgetMs = (blocks * this.#table.blockRows * 1000) / rowsPerSecond;
    const restMs = budgetMs - (steadyNowMs() - startedAtMs);
    if (restMs > 0) await sleep(restMs, context.signal);
  }
}
