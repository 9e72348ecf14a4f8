import { allOrCause } from '../base/abort.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { BlockLayout } from '../merkle/layout.js';
import { ensureNodeSchema } from '../postgres/node-schema.js';
import {
  writeTree,
  type NodeLeaf,
  type NodeTableChange,
  type NodeTreeBatch,
} from '../postgres/node-tree.js';
import type { Cluster } from './cluster.js';
import { Periodic } from './periodic.js';

const WRITE_INTERVAL_MS = 2_000;
const FAILURE_REST_MS = 10_000;

/** What a node's copy of a table's leaves was when it was written last. */
interface Written {
  readonly table: TrackedTable;
  readonly layout: BlockLayout;
  readonly rows: Float64Array;
  readonly sumLow: Int32Array;
  readonly sumHigh: Int32Array;
  readonly dirty: Uint8Array;
}

/** What a node holds, and over which of its pipeline's connections we learned so. */
interface NodeCopy {
  readonly connection: number;
  readonly tables: ReadonlyMap<string, Written>;
}

/** Copies changed leaves, roots and positions into the `aced` schema of each node, now and then. */
export class NodeTreeWriter {
  readonly #cluster: Cluster;
  readonly #copies = new Map<string, NodeCopy>();
  #loop: Periodic | null = null;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  static start(cluster: Cluster): NodeTreeWriter {
    const writer = new NodeTreeWriter(cluster);
    writer.#loop = new Periodic({
      log: cluster.log,
      failureEvent: 'node_tree_failed',
      restAfterFailureMs: FAILURE_REST_MS,
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
    const after = new Map<string, Written>();
    const tables: NodeTableChange[] = [];
    const roots: NodeTreeBatch['roots'][number][] = [];
    // Everything is copied before the next await: leaves and position are of one moment.
    for (const table of this.#cluster.tables.filter(({ state }) => state === 'live')) {
      const known = before.get(table.label);
      const old = known?.table === table ? known : null;
      const change = changeOf(table, node, old);
      const isSame = change.leaves.length === 0 && old?.layout === table.layout;
      after.set(table.label, isSame ? old : copy(table, node));
      if (isSame) continue;
      tables.push(change);
      roots.push({
        tableName: table.label,
        root: table.root(node),
        rows: table.leaves(node).totalRows,
        blocks: table.layout.size,
        dirtyBlocks: table.leaves(node).dirtyCount,
      });
    }
    if (tables.length === 0) return;
    const batch = { node, position: pipeline.position, tables, roots };
    await this.#cluster
      .pool(node)
      .use((session) => writeTree(session, config.nodeSchema, batch), signal);
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
  ): Promise<ReadonlyMap<string, Written>> {
    const copy = this.#copies.get(node);
    if (copy?.connection === connection) return copy.tables;
    const { nodeSchema } = this.#cluster.config;
    const schema = await this.#cluster
      .pool(node)
      .use((session) => ensureNodeSchema(session, nodeSchema), signal);
    const tables =
      copy === undefined || schema !== 'already_current' ? new Map<string, Written>() : copy.tables;
    this.#copies.set(node, { connection, tables });
    return tables;
  }
}

function changeOf(table: TrackedTable, node: string, old: Written | null): NodeTableChange {
  const { layout, label } = table;
  const now = table.leaves(node);
  const oldPositions = old === null || old.layout === layout ? null : positionsById(old.layout);
  const leaves: NodeLeaf[] = [];
  layout.ids.forEach((id, position) => {
    const before = oldPositions === null ? position : oldPositions.get(id);
    if (
      old !== null &&
      before !== undefined &&
      old.layout.ranks[before] === layout.ranks[position] &&
      old.rows[before] === now.rows[position] &&
      old.sumLow[before] === now.sumLow[position] &&
      old.sumHigh[before] === now.sumHigh[position] &&
      old.dirty[before] === now.dirty[position]
    ) {
      return;
    }
    leaves.push({
      ...now.value(position),
      blockId: BigInt(id),
      rank: layout.ranks[position] ?? 0,
      lowerKey: layout.lowers[position] ?? null,
      isDirty: now.isDirty(position),
    });
  });
  if (old === null) return { tableName: label, removedIds: 'all', leaves };
  if (oldPositions === null) return { tableName: label, removedIds: [], leaves };
  const stayed = new Set(layout.ids);
  const removedIds = old.layout.ids.filter((id) => !stayed.has(id)).map(BigInt);
  return { tableName: label, removedIds, leaves };
}

function positionsById({ ids }: BlockLayout): Map<number, number> {
  return new Map(ids.map((id, position) => [id, position]));
}

function copy(table: TrackedTable, node: string): Written {
  const { rows, sumLow, sumHigh, dirty } = table.leaves(node);
  return {
    table,
    layout: table.layout,
    rows: rows.slice(),
    sumLow: sumLow.slice(),
    sumHigh: sumHigh.slice(),
    dirty: dirty.slice(),
  };
}
