import { steadyNowMs } from '../base/clock.js';
import { parseLsn } from '../base/lsn.js';
import type { Cluster } from '../cluster/cluster.js';
import type { NotFollowed } from '../cluster/table-tracker.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { NodeStatus, TableStatus } from '../protocol/commands.js';
import type { TableVerdict } from '../protocol/drift.js';
import type { BlockMap, TopNode, TopParams, TopResult, TopTable } from '../protocol/top.js';
import { listDrift, type LiveDrift } from './drift.js';
import { nodeStatus, stateOf, type StatusOptions } from './status.js';
import { statusProblems } from './status-problems.js';
import { VERSION } from './version.js';

/** Who looks at it every second is not to wait for a node that hangs. */
const NODE_TIMEOUT_MS = 1_000;
const DEFAULT_CELLS = 100;
const MAX_CELLS = 1_000;

export interface TopOptions extends Omit<StatusOptions, 'watch' | 'misspelt'> {
  /** Null: nobody judges the tables all the time. */
  readonly live: LiveDrift | null;
  readonly notFollowed: readonly NotFollowed[];
}

/**
 * `top`: what `status` and `drift list` say, without what takes going over all leaves. Asked for every
 * second: of a node only its slot and the end of its log are read, of one table the blocks.
 */
export async function readTop(
  cluster: Cluster,
  params: TopParams,
  { live, notFollowed, nodes: names, subscriptions, signal, startedAtMs, isDaemon }: TopOptions,
): Promise<TopResult> {
  const drift =
    live === null ? { tables: [], incidents: [] } : listDrift(cluster, live, notFollowed);
  const verdicts = new Map(drift.tables.map((verdict) => [verdict.table, verdict]));
  const followed = cluster.tables.map((table) => ({
    table,
    status: {
      table: table.label,
      state: stateOf(cluster, table),
      reason: table.reason,
      lastDiff: cluster.store.lastDiff(table.spec.schema, table.spec.name),
      live: verdicts.get(table.label) ?? null,
    },
  }));
  const known = new Set(followed.map(({ status }) => status.table));
  const tables = [
    ...followed.map(({ table, status }) => topTable(table, status, names)),
    ...drift.tables.filter(({ table }) => !known.has(table)).map(withoutTree),
  ];
  const chosen = followed.find(({ status }) => status.table === params.table)?.table;
  const cells = Math.min(params.cells ?? DEFAULT_CELLS, MAX_CELLS);
  const differing = chosen === undefined ? new Set<number>() : live?.watch.driftedBlocks(chosen);
  const map =
    chosen === undefined ? null : blockMap(chosen, names, differing ?? new Set<number>(), cells);
  // Last, since nodes are waited for.
  const answers = await Promise.all(
    names.map((name) => nodeStatus(cluster, name, [], { signal, timeoutMs: NODE_TIMEOUT_MS })),
  );
  const nodes = answers.map(({ status }) => status);
  const shown = {
    cluster: cluster.config.cluster,
    nodes: nodes.map((node) => ({
      ...node,
      changes: cluster.pipelines.get(node.name)?.changes ?? null,
      ...bytesOf(node),
    })),
    subscriptions,
    conditions: cluster.conditions.open,
  };
  return {
    ...shown,
    tables,
    incidents: drift.incidents,
    map,
    pid: process.pid,
    version: VERSION,
    uptimeSeconds: Math.round((steadyNowMs() - startedAtMs) / 1000),
    problems: statusProblems({
      ...shown,
      daemon: isDaemon,
      tables: followed.map(({ status }) => status),
      isInitialised: cluster.store.isInitialised(),
      socketPath: cluster.config.socketPath,
    }),
  };
}

function bytesOf({ position, lagBytes }: NodeStatus): Pick<TopNode, 'positionBytes' | 'endBytes'> {
  const positionBytes = position === null ? null : Number(parseLsn(position));
  const isKnown = positionBytes !== null && lagBytes !== null;
  return { positionBytes, endBytes: isKnown ? positionBytes + lagBytes : null };
}

function topTable(
  table: TrackedTable,
  { state, reason, live, lastDiff }: Pick<TableStatus, 'state' | 'reason' | 'live' | 'lastDiff'>,
  nodes: readonly string[],
): TopTable {
  return {
    table: table.label,
    state,
    verdict: live?.verdict ?? lastDiff?.verdict ?? null,
    sinceMs: live?.sinceMs ?? (lastDiff === null ? null : Date.parse(lastDiff.at)),
    reason: live?.reason ?? reason,
    openRows: live?.openRows ?? 0,
    blocks: table.layout.size,
    dirtyBlocks: nodes.reduce((sum, node) => sum + table.leaves(node).dirtyCount, 0),
    incident: live?.incident ?? null,
  };
}

function withoutTree({ table, verdict, sinceMs, reason }: TableVerdict): TopTable {
  const nothing = { openRows: 0, blocks: 0, dirtyBlocks: 0, incident: null };
  return { table, state: null, verdict, sinceMs, reason, ...nothing };
}

function blockMap(
  table: TrackedTable,
  nodes: readonly string[],
  differing: ReadonlySet<number>,
  cells: number,
): BlockMap {
  const { size } = table.layout;
  const count = Math.min(size, cells);
  const cellOf = (block: number): number => Math.floor((block * count) / size);
  const differs = new Array<number>(count).fill(0);
  for (const block of differing) differs[cellOf(block)] = (differs[cellOf(block)] ?? 0) + 1;
  const ofNode = (node: string): BlockMap['nodes'][string] => {
    const { dirty, provedAtMs } = table.leaves(node);
    const found = {
      dirty: new Array<number>(count).fill(0),
      oldestProofMs: new Array<number>(count).fill(Infinity),
    };
    for (let block = 0; block < size; block++) {
      const cell = cellOf(block);
      found.dirty[cell] = (found.dirty[cell] ?? 0) + (dirty[block] ?? 0);
      const provedMs = provedAtMs[block] ?? 0;
      found.oldestProofMs[cell] = Math.min(found.oldestProofMs[cell] ?? 0, provedMs);
    }
    return found;
  };
  return {
    table: table.label,
    blocks: size,
    differing: differs,
    nodes: Object.fromEntries(nodes.map((node) => [node, ofNode(node)])),
  };
}
