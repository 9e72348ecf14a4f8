import type { TrackedTable } from '../ingest/tracked-table.js';
import {
  replaceTree,
  writeTree,
  type NodeLeaf,
  type NodeTreeBatch,
} from '../postgres/node-tree.js';
import type { Session } from '../postgres/session.js';
import type { Cluster } from './cluster.js';
import { Periodic } from './periodic.js';

const WRITE_INTERVAL_MS = 2_000;
const FAILURE_REST_MS = 10_000;

/** What a node's copy of a table's leaves was when it was written last. */
interface Written {
  readonly table: TrackedTable;
  readonly layoutVersion: number;
  readonly rows: Float64Array;
  readonly sumLow: Int32Array;
  readonly sumHigh: Int32Array;
  readonly dirty: Uint8Array;
}

/** Copies changed leaves, roots and positions into the `aced` schema of each node, now and then. */
export class NodeTreeWriter {
  readonly #cluster: Cluster;
  readonly #written = new Map<string, Map<string, Written>>();
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
    await Promise.all(
      Array.from(this.#cluster.pipelines.keys(), (node) => this.#writeNode(node, signal)),
    );
  }

  async #writeNode(node: string, signal: AbortSignal | undefined): Promise<void> {
    const { pipelines, config } = this.#cluster;
    const pipeline = pipelines.get(node);
    if (pipeline?.state.kind !== 'streaming') return;
    const before = this.#written.get(node) ?? new Map<string, Written>();
    const after = new Map<string, Written>();
    const changed: { tableName: string; leaves: NodeLeaf[] }[] = [];
    const replaced: { tableName: string; leaves: NodeLeaf[] }[] = [];
    const roots: NodeTreeBatch['roots'][number][] = [];
    // Everything is copied before the first await: leaves and position are of one moment.
    for (const table of this.#cluster.tables.filter(({ state }) => state === 'live')) {
      const old = before.get(table.label);
      const isSameLayout = old?.table === table && old.layoutVersion === table.layout.version;
      const leaves = changedLeaves(table, node, isSameLayout ? old : null);
      after.set(table.label, isSameLayout && leaves.length === 0 ? old : copy(table, node));
      if (leaves.length === 0) continue;
      (isSameLayout ? changed : replaced).push({ tableName: table.label, leaves });
      roots.push({
        tableName: table.label,
        root: table.root(node),
        rows: table.leaves(node).totalRows,
        blocks: table.layout.size,
        dirtyBlocks: table.leaves(node).dirtyCount,
      });
    }
    if (roots.length === 0) return;
    const batch = { node, position: pipeline.position, roots };
    const write = async (session: Session): Promise<void> => {
      if (replaced.length > 0) {
        await replaceTree(session, config.nodeSchema, { ...batch, leaves: replaced });
      }
      if (changed.length > 0) {
        await writeTree(session, config.nodeSchema, { ...batch, leaves: changed });
      }
    };
    await this.#cluster.pool(node).use(write, signal);
    this.#written.set(node, after);
  }
}

function changedLeaves(table: TrackedTable, node: string, old: Written | null): NodeLeaf[] {
  const now = table.leaves(node);
  const leaves: NodeLeaf[] = [];
  for (let position = 0; position < now.size; position++) {
    if (
      old !== null &&
      old.rows[position] === now.rows[position] &&
      old.sumLow[position] === now.sumLow[position] &&
      old.sumHigh[position] === now.sumHigh[position] &&
      old.dirty[position] === now.dirty[position]
    ) {
      continue;
    }
    leaves.push({
      ...now.value(position),
      blockId: BigInt(table.layout.ids[position] ?? 0),
      position,
      lowerKey: table.layout.lowers[position] ?? null,
      isDirty: now.isDirty(position),
    });
  }
  return leaves;
}

function copy(table: TrackedTable, node: string): Written {
  const { rows, sumLow, sumHigh, dirty } = table.leaves(node);
  return {
    table,
    layoutVersion: table.layout.version,
    rows: rows.slice(),
    sumLow: sumLow.slice(),
    sumHigh: sumHigh.slice(),
    dirty: dirty.slice(),
  };
}
