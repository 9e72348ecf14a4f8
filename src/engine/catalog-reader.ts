import { onEveryNode, withSessions, type NodePools } from '../diff/compared-nodes.js';
import { readTable, resolveTable } from '../postgres/catalog.js';
import { buildTableSpec } from '../postgres/spec.js';
import type { TableInfo } from '../postgres/table-info.js';
import type { TableName } from '../postgres/table-name.js';
import type { TableSpec } from '../postgres/table-spec.js';
import { readTopology, type Topology } from '../postgres/topology.js';

export interface ClusterTable {
  readonly infos: ReadonlyMap<string, TableInfo>;
  readonly spec: TableSpec;
  /** Node -> fingerprint of the catalog that the spec was made from. */
  readonly fingerprints: Readonly<Record<string, string>>;
}

/** What a table is on every node, and what of it can be compared. */
export async function readClusterTable(
  pools: NodePools,
  table: TableName,
  signal: AbortSignal,
): Promise<ClusterTable> {
  const infos = await onEveryNode(pools, (_, pool) =>
    pool.use((session) => readTable(session, table.schema, table.name, signal), signal),
  );
  return {
    infos,
    spec: buildTableSpec(infos),
    fingerprints: Object.fromEntries(Array.from(infos, ([node, info]) => [node, info.fingerprint])),
  };
}

/** Finds the table that a person typed, on the first node that is asked. */
export async function findTable(
  pools: NodePools,
  text: string,
  signal: AbortSignal,
): Promise<TableName> {
  const [pool] = pools.values();
  if (pool === undefined) throw new RangeError('no nodes');
  return pool.use((session) => resolveTable(session, text), signal);
}

export async function readClusterTopology(
  pools: NodePools,
  signal: AbortSignal,
): Promise<Topology> {
  return withSessions(pools, signal, (sessions) => readTopology(sessions));
}

/** The nodes that record when and where from a row was written last. */
export async function readCommitTimeNodes(
  pools: NodePools,
  signal: AbortSignal,
): Promise<Set<string>> {
  const settings = await onEveryNode(pools, (_, pool) =>
    pool.use(
      (session) =>
        session.query("SELECT pg_catalog.current_setting('track_commit_timestamp')", [], signal),
      signal,
    ),
  );
  return new Set(
    Array.from(settings).flatMap(([node, rows]) => (rows[0]?.[0] === 'on' ? [node] : [])),
  );
}
