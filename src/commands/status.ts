import { errorMessage } from '../base/errors.js';
import { formatLsn } from '../base/lsn.js';
import { readSlot } from '../replication/slot.js';
import type { NodeStatus, StatusResult, TableStatus } from '../protocol/commands.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { Cluster } from '../cluster/cluster.js';
import { VERSION } from './version.js';

export interface StatusOptions {
  readonly nodes: readonly string[];
  readonly signal: AbortSignal;
  readonly isDaemon: boolean;
  readonly startedAtMs: number;
}

/** Never fails because of a node: what cannot be asked is shown as its error. */
export async function readStatus(cluster: Cluster, options: StatusOptions): Promise<StatusResult> {
  const nodes = await Promise.all(
    options.nodes.map((node) => nodeStatus(cluster, node, options.signal)),
  );
  return {
    cluster: cluster.config.cluster,
    daemon: options.isDaemon,
    pid: process.pid,
    version: VERSION,
    uptimeSeconds: Math.round((Date.now() - options.startedAtMs) / 1000),
    nodes,
    tables: cluster.tables.map((table) => tableStatus(table, options.nodes)),
  };
}

async function nodeStatus(
  cluster: Cluster,
  name: string,
  signal: AbortSignal,
): Promise<NodeStatus> {
  const pipeline = cluster.pipelines.get(name);
  const position = pipeline?.position ?? cluster.store.node(name)?.position ?? null;
  let lagBytes: number | null = null;
  let error: string | null =
    pipeline?.state.kind === 'waiting' ? pipeline.state.error.message : null;
  try {
    const slot = await cluster
      .pool(name)
      .use((session) => readSlot(session, cluster.config.slotName), signal);
    lagBytes = slot === null ? null : Number(slot.retainedBytes);
  } catch (cause) {
    error ??= errorMessage(cause);
  }
  return {
    name,
    state: pipeline?.state.kind ?? 'stopped',
    position: position === null ? null : formatLsn(position),
    lagBytes,
    slot: cluster.config.slotName,
    error,
  };
}

function tableStatus(table: TrackedTable, nodes: readonly string[]): TableStatus {
  return {
    table: table.label,
    state: table.state,
    reason: table.reason,
    blocks: table.layout.size,
    nodes: Object.fromEntries(
      nodes.map((node) => [
        node,
        {
          rows: table.leaves(node).totalRows,
          dirtyBlocks: table.leaves(node).dirtyCount,
          root: table.root(node),
        },
      ]),
    ),
  };
}
