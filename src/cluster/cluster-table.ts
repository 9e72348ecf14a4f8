import { AcedError } from '../base/errors.js';
import { onEveryNode, withSessions, type NodePools } from '../postgres/every-node.js';
import type { Replication } from '../replication/passage.js';
import { readTables, resolveTable } from '../table/catalog.js';
import { readUnprovedForms } from '../table/digest-check.js';
import type { ValueForm } from '../digest/digest-column.js';
import { publishedTables, type PublishedTable } from '../replication/published-tables.js';
import { buildTableSpec, type SpecOptions } from '../table/build-spec.js';
import type { CatalogReading } from '../table/fingerprint.js';
import type { TableInfo } from '../table/table-info.js';
import type { TableName } from '../table/table-name.js';
import type { TableSpec } from '../table/table-spec.js';
import { readTopology, type Topology } from '../replication/topology.js';

export interface ClusterTable {
  readonly infos: ReadonlyMap<string, TableInfo>;
  readonly spec: TableSpec;
  /**
   * Node -> what its catalog said when the spec was made. The fingerprint is also of how the table
   * is published: while it was not, or not as a whole, its changes were not streamed.
   */
  readonly readings: Readonly<Record<string, CatalogReading>>;
}

export interface ClusterTableOptions extends SpecOptions {
  /** Absent: how the tables are published is not asked for. */
  readonly publication?: string;
  /** Of many tables: what the configuration leaves out of each. */
  readonly configuredOf?: (table: TableName) => readonly string[];
}

/** What a table is on every node, and what of it can be compared. */
export async function readClusterTable(
  pools: NodePools,
  table: TableName,
  signal: AbortSignal,
  options: ClusterTableOptions = {},
): Promise<ClusterTable> {
  const [found] = await readClusterTables(pools, [table], signal, options);
  if (found === undefined) throw new AcedError('INTERNAL', 'no answer about a table');
  if (found instanceof AcedError) throw found;
  return found;
}

/** Many tables for the round trips of one, in their order; readClusterTable's error in a table's place. */
export async function readClusterTables(
  pools: NodePools,
  tables: readonly TableName[],
  signal: AbortSignal,
  options: ClusterTableOptions = {},
): Promise<(ClusterTable | AcedError)[]> {
  const { publication, configuredOf } = options;
  const unproved = new Set<ValueForm>();
  const onNodes = await onEveryNode(pools, signal, (_, pool, either) =>
    pool.use(async (session) => {
      const infos = await readTables(session, tables, either, options.key);
      for (const form of await readUnprovedForms(session, either)) unproved.add(form);
      const published =
        publication === undefined ? [] : await publishedTables(session, publication, tables);
      return { infos, published };
    }, either),
  );
  return tables.map((table, index) => {
    const infos = new Map<string, TableInfo>();
    const readings: Record<string, CatalogReading> = {};
    for (const [node, found] of onNodes) {
      const info = found.infos[index];
      if (info === undefined || info instanceof AcedError) {
        return info ?? new AcedError('INTERNAL', `no answer about ${table.name}`);
      }
      infos.set(node, info);
      const { oid, leaves, fingerprint } = info;
      const published = found.published[index] ?? null;
      readings[node] = withPublication({ oid, leaves, fingerprint }, published);
    }
    const configured = configuredOf === undefined ? {} : { configured: configuredOf(table) };
    try {
      return {
        infos,
        spec: buildTableSpec(infos, { ...options, ...configured, unproved }),
        readings,
      };
    } catch (error) {
      if (error instanceof AcedError) return error;
      throw error;
    }
  });
}

/** Errors: BAD_USAGE for names, given with `flag`, that are no columns of the table. */
export function requireColumns(
  { infos, spec }: ClusterTable,
  names: readonly string[],
  flag = '--exclude-columns',
): void {
  const known = new Set([...infos.values()].flatMap(({ columns }) => columns.map((c) => c.name)));
  for (const name of names) {
    if (known.has(name)) continue;
    throw new AcedError(
      'BAD_USAGE',
      `${flag}: ${spec.schema}.${spec.name} has no column ${JSON.stringify(name)}`,
      { hint: 'Write names as the catalog has them, with commas between them.' },
    );
  }
}

/** What a table is and how it is published, in one fingerprint. */
export function withPublication(
  reading: CatalogReading,
  published: PublishedTable | null,
): CatalogReading {
  const fingerprint = `${reading.fingerprint} ${published?.identity ?? 'not published'}`;
  return { ...reading, fingerprint };
}

/**
 * Finds the table that a person typed, on the first node that has it: where one node only lacks it,
 * nothing is misspelt, and whoever reads it there says so. Errors: NO_SUCH_TABLE of the first node.
 */
export async function findTable(
  pools: NodePools,
  text: string,
  signal: AbortSignal,
): Promise<TableName> {
  let missing: AcedError | undefined;
  for (const pool of pools.values()) {
    try {
      return await pool.use((session) => resolveTable(session, text), signal);
    } catch (error) {
      if (!(error instanceof AcedError) || error.code !== 'NO_SUCH_TABLE') throw error;
      missing ??= error;
    }
  }
  throw missing ?? new RangeError('no nodes');
}

export async function readClusterTopology(
  pools: NodePools,
  signal: AbortSignal,
): Promise<Topology> {
  return withSessions(pools, signal, (sessions) => readTopology(sessions));
}

/**
 * How changes travel in the whole cluster, also through nodes that are not compared. Rejects when
 * a compared node cannot be asked; another one is listed as unreachable.
 */
export async function readReplication(
  all: NodePools,
  compared: NodePools,
  signal: AbortSignal,
): Promise<Replication> {
  const pools = new Map(all);
  const unreachable: string[] = [];
  await onEveryNode(all, signal, async (node, pool, either) => {
    try {
      await pool.use((session) => session.query('SELECT 1', [], either), either);
    } catch (error) {
      if (compared.has(node) || either.aborted) throw error;
      pools.delete(node);
      unreachable.push(node);
    }
  });
  return { pools, unreachable, topology: await readClusterTopology(pools, signal) };
}

/** The nodes that record when and where from a row was written last. */
export async function readCommitTimeNodes(
  pools: NodePools,
  signal: AbortSignal,
): Promise<Set<string>> {
  const settings = await onEveryNode(pools, signal, (_, pool, either) =>
    pool.use(
      (session) =>
        session.query("SELECT pg_catalog.current_setting('track_commit_timestamp')", [], either),
      either,
    ),
  );
  return new Set(
    Array.from(settings).flatMap(([node, rows]) => (rows[0]?.[0] === 'on' ? [node] : [])),
  );
}
