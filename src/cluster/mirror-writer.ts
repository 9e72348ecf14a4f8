import { allOrCause } from '../base/abort.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { LeafCopy } from '../merkle/leaf-copy.js';
import { ensureNodeSchema } from '../mirror/mirror-schema.js';
import { writeTree, type NodeTableChange, type NodeTreeBatch } from '../mirror/mirror-tables.js';
import type { Cluster } from './cluster.js';
import { Loop, tellsFailures } from '../base/loop.js';

const WRITE_INTERVAL_MS = 2_000;
const BACKOFF = { firstMs: 1_000, maxMs: 10_000 };

/** A table's leaves as its node has them. */
interface TableCopy {
  readonly table: TrackedTable;
  readonly leaves: LeafCopy;
}

/** What a node holds, and over which of its pipeline's connections we learned so. */
interface NodeCopy {
  readonly connection: number;
  readonly tables: ReadonlyMap<string, TableCopy>;
}

/** Copies changed leaves, roots and positions into the `aced` schema of each node, now and then. */
export class NodeTreeWriter {
  readonly #cluster: Cluster;
  readonly #copies = new Map<string, NodeCopy>();
  #loop: Loop | null = null;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  static start(cluster: Cluster): NodeTreeWriter {
    const writer = new NodeTreeWriter(cluster);
    writer.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'node_tree_failed'),
      backoff: BACKOFF,
      round: async (signal) => {
        await writer.writeOnce(signal);
        return WRITE_INTERVAL_MS;
      },
    });
    return writer;
  }

  async stop(): Promise<void> {
    await this.#loop?.stop();
  }

  /** Brings the copies on all nodes up to date. */
  async writeOnce(signal?: AbortSignal): Promise<void> {
    await allOrCause(
      Array.from(this.#cluster.pipelines.keys(), (node) => this.#writeNode(node, signal)),
    );
  }

  async #writeNode(node: string, signal: AbortSignal | undefined): Promise<void> {
    const { pipelines, config } = this.#cluster;
    const pipeline = pipelines.get(node);
    if (pipeline?.state.kind !== 'streaming') return;
    const { connection } = pipeline;
    const before = await this.#knownCopy(node, connection, signal);
    const after = new Map<string, TableCopy>();
    const written: (() => void)[] = [];
    const tables: NodeTableChange[] = [];
    const roots: NodeTreeBatch['roots'][number][] = [];
    // Everything is captured before the next await: leaves and position are of one moment.
    for (const table of this.#cluster.tables.filter(({ state }) => state === 'live')) {
      const known = before.get(table.label);
      const isKnown = known?.table === table;
      const copy = isKnown ? known : { table, leaves: new LeafCopy() };
      after.set(table.label, copy);
      const leaves = table.leaves(node);
      const changes = copy.leaves.changes(table.layout, leaves);
      if (changes.isEmpty) continue;
      written.push(() => {
        copy.leaves.follow(changes);
      });
      tables.push({
        tableName: table.label,
        removedIds: isKnown ? changes.removedIds : 'all',
        leaves: changes.records(),
      });
      roots.push({
        tableName: table.label,
        root: table.root(node),
        rows: leaves.totalRows,
        blocks: table.layout.size,
        dirtyBlocks: leaves.dirtyCount,
      });
    }
    if (tables.length === 0) return;
    const batch = { node, position: pipeline.position, tables, roots };
    await this.#cluster
      .pool(node)
      .use((session) => writeTree(session, config.nodeSchema, batch), signal);
    for (const follow of written) follow();
    this.#copies.set(node, { connection, tables: after });
  }

  /**
   * Tables that the node still has as we wrote them. A server that crashes empties its unlogged
   * tables: after each new connection they are looked at, and made anew when they are not there.
   */
  async #knownCopy(
    node: string,
    connection: number,
    signal: AbortSignal | undefined,
  ): Promise<ReadonlyMap<string, TableCopy>> {
    const copy = this.#copies.get(node);
    if (copy?.connection === connection) return copy.tables;
    const { nodeSchema } = this.#cluster.config;
    const schema = await this.#cluster
      .pool(node)
      .use((session) => ensureNodeSchema(session, nodeSchema), signal);
    const tables =
      copy === undefined || schema !== 'already_current'
        ? new Map<string, TableCopy>()
        : copy.tables;
    this.#copies.set(node, { connection, tables });
    return tables;
  }
}
