import { steadyNowMs } from '../base/clock.js';
import { errorMessage } from '../base/errors.js';
import { formatLsn, parseLsn, type Lsn } from '../base/lsn.js';
import { readSlot } from '../replication/slot.js';
import type { Session } from '../postgres/session.js';
import type {
  LeaseStatus,
  NodeStatus,
  NodeTableStatus,
  StatusResult,
  SubscriptionStatus,
  TableStatus,
} from '../protocol/commands.js';
import type { TableState } from '../protocol/states.js';
import { chooseReadingOrders } from '../ingest/reading-facts.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { ReadingOrder } from '../merkle/reading-order.js';
import type { Cluster } from '../cluster/cluster.js';
import type { DriftWatch } from '../drift/drift-watch.js';
import { statusProblems } from './status-problems.js';
import { VERSION } from './version.js';

/** A node that does not answer must not keep the others from being shown. */
const NODE_TIMEOUT_MS = 3_000;

export interface StatusOptions {
  readonly nodes: readonly string[];
  readonly signal: AbortSignal;
  readonly isDaemon: boolean;
  readonly startedAtMs: number;
  /** Null: nobody judges the tables all the time. */
  readonly watch: DriftWatch | null;
  readonly subscriptions: readonly SubscriptionStatus[];
  readonly misspelt: readonly string[];
}

/** Never fails because of a node: what cannot be asked is shown as its error. */
export async function readStatus(cluster: Cluster, options: StatusOptions): Promise<StatusResult> {
  // Of the moment of the question, before the nodes are waited for.
  const tracked = cluster.tables;
  const seen = tracked.map((table) => ({
    ...tableStatus(cluster, table, options.nodes),
    live: options.watch?.verdict(table) ?? null,
  }));
  const answers = await Promise.all(
    options.nodes.map((node) =>
      nodeStatus(cluster, node, tracked, { signal: options.signal, timeoutMs: NODE_TIMEOUT_MS }),
    ),
  );
  const nodes = answers.map(({ status }) => status);
  const readings = new Map(answers.map(({ status, orders }) => [status.name, orders]));
  const tables = seen.map((table, i) => ({
    ...table,
    nodes: Object.fromEntries(
      Object.entries(table.nodes).map(([node, leaves]) => [
        node,
        { ...leaves, reading: readings.get(node)?.[i] ?? null },
      ]),
    ),
  }));
  const shown = {
    cluster: cluster.config.cluster,
    daemon: options.isDaemon,
    nodes,
    subscriptions: options.subscriptions,
    conditions: cluster.conditions.open,
    tables,
  };
  return {
    ...shown,
    ...(options.misspelt.length === 0 ? {} : { misspelt: options.misspelt }),
    pid: process.pid,
    version: VERSION,
    lease: leaseStatus(cluster),
    uptimeSeconds: Math.round((steadyNowMs() - options.startedAtMs) / 1000),
    problems: statusProblems({
      ...shown,
      isInitialised: cluster.store.isInitialised(),
      socketPath: cluster.config.socketPath,
    }),
  };
}

function leaseStatus({ reign }: Cluster): LeaseStatus | null {
  return reign === null ? null : { role: 'active', holder: reign.holder, epoch: reign.epoch };
}

/** Never rejects because of the node: what cannot be asked is its `error`. */
export async function nodeStatus(
  cluster: Cluster,
  name: string,
  tables: readonly TrackedTable[],
  { signal, timeoutMs }: { readonly signal: AbortSignal; readonly timeoutMs: number },
): Promise<{ readonly status: NodeStatus; readonly orders: readonly ReadingOrder[] }> {
  const pipeline = cluster.pipelines.get(name);
  const pool = cluster.pool(name);
  const { host, port, database } = pool.node;
  const position = pipeline?.position ?? cluster.store.node(name)?.position ?? null;
  let seen: ServerReading | null = null;
  let orders: readonly ReadingOrder[] = [];
  let error: string | null =
    pipeline?.state.kind === 'waiting' ? pipeline.state.error.message : null;
  const timeout = AbortSignal.timeout(timeoutMs);
  const either = AbortSignal.any([signal, timeout]);
  const questions = tables.map(({ spec, sql, layout: { size } }) => ({
    ...{ spec, sql, blocks: size, allBlocks: size },
  }));
  try {
    [seen, orders] = await pool.use(
      async (session) => [
        await readServer(session, cluster.config.slotName),
        await chooseReadingOrders(session, questions, either),
      ],
      either,
    );
  } catch (cause) {
    error ??= timeout.aborted ? `no answer in ${timeoutMs / 1000} s` : errorMessage(cause);
  }
  const isBehind = position !== null && seen?.end != null;
  const status = {
    name,
    server: { host, port, database },
    state: pipeline?.state.kind ?? 'stopped',
    position: position === null ? null : formatLsn(position),
    lagBytes: isBehind ? Math.max(0, Number((seen?.end ?? position) - position)) : null,
    heldBytes: seen?.heldBytes ?? null,
    slot: cluster.config.slotName,
    slotPid: seen?.slotPid ?? null,
    error,
  };
  return { status, orders };
}

interface ServerReading {
  /** Where the server's log ends; null: a standby. */
  readonly end: Lsn | null;
  readonly heldBytes: number | null;
  readonly slotPid: number | null;
}

async function readServer(session: Session, slotName: string): Promise<ServerReading> {
  const slot = await readSlot(session, slotName);
  const rows = await session.query(
    `SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL
                 ELSE pg_catalog.pg_current_wal_lsn()::text END`,
  );
  const end = rows[0]?.[0];
  return {
    end: typeof end === 'string' ? parseLsn(end) : null,
    heldBytes: slot === null ? null : Number(slot.retainedBytes),
    slotPid: slot?.activePid ?? null,
  };
}

/** What is being done to a table shows before what was. */
export function stateOf(cluster: Cluster, table: TrackedTable): TableState {
  if (!cluster.isRebuilding(table)) return table.state;
  return table.state === 'failed' ? 'building' : 'rebuilding';
}

function tableStatus(
  cluster: Cluster,
  table: TrackedTable,
  nodes: readonly string[],
): Omit<TableStatus, 'live' | 'nodes'> & {
  readonly nodes: Readonly<Record<string, Omit<NodeTableStatus, 'reading'>>>;
} {
  const oldestMs = Math.min(...nodes.map((node) => table.leaves(node).oldestProofMs));
  return {
    table: table.label,
    state: stateOf(cluster, table),
    reason: table.reason,
    blocks: table.layout.size,
    oldestProof: oldestMs === 0 ? null : new Date(oldestMs).toISOString(),
    wrongLeaves: cluster.store.wrongLeaves(table.spec.schema, table.spec.name),
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
    lastDiff: cluster.store.lastDiff(table.spec.schema, table.spec.name),
  };
}
