import { DIGEST_VERSION } from '../digest/digest-column.js';
import { AcedError, logMessage } from '../base/errors.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { CommandContext } from '../protocol/commands.js';
import { publishTableWhole, type AddTableOptions } from '../replication/publication.js';
import type { TableName } from '../table/table-name.js';
import { digestRule, isOrderIndexed } from '../table/table-spec.js';
import { OLD_DIGEST_VERSION, type Cluster } from './cluster.js';
import { readClusterTable, type ClusterTable } from './cluster-table.js';
import { noticingStale } from './stale.js';
import { unpublishForerunner } from './unpublish.js';
import { cutAndRead, splitOversize, type TreeWorkOptions } from './tree-work.js';

const RUNNING_TRANSACTIONS_TIMEOUT_MS = 600_000;
/** Without an index in the order of the key every block costs a scan: use few of them. */
const MAX_UNINDEXED_BLOCKS = 64;

export interface CurrentTreeOptions {
  /** A new tree is not begun before this has resolved. */
  readonly isReady?: Promise<unknown>;
  /** Those that the tree is wanted of: others may be down. A new tree needs all. */
  readonly nodes?: readonly string[];
}

/**
 * The tracked table, with a tree of the catalog as it is now. DDL that sends no row messages is
 * seen here at the latest: a changed catalog means a new tree. A stale tree whose catalog is as it
 * was is good, and live again once its dirty blocks have been read. Holds the table's mutex already.
 */
export async function ensureCurrentTree(
  cluster: Cluster,
  table: TrackedTable,
  context: CommandContext,
  { isReady, nodes = table.nodes }: CurrentTreeOptions = {},
): Promise<{ table: TrackedTable; catalog: ClusterTable }> {
  const { catalog, changed } = await noticingStale(table, () =>
    readCatalogChanges(cluster, table, { nodes, signal: context.signal }),
  );
  const isWhole = table.state === 'live' || table.state === 'stale';
  const oldDigest = whyOldDigest(table, catalog, nodes);
  if (changed.length === 0 && oldDigest === null && isWhole) return { table, catalog };
  const reason =
    changed.length > 0
      ? `its definition or publication changed on ${changed.join(', ')}`
      : (oldDigest ?? table.reason ?? 'its build did not finish');
  if (isWhole) table.setState('stale', reason);
  context.emit({
    type: 'log',
    level: 'info',
    message: `The tree of ${table.label} is built again: ${reason}`,
  });
  await isReady;
  const rebuilt = await buildTree(cluster, table.spec, {
    blockRows: table.blockRows,
    leftOut: namedColumns(table),
    work: workOptions(cluster, undefined, context),
    context,
  }).catch((error: unknown) => {
    throw nodes.length < table.nodes.length ? needsEveryNode(table.label, reason, error) : error;
  });
  return { table: rebuilt, catalog };
}

/** Why the leaves cannot be compared with what is read from now on; null: they can. */
function whyOldDigest(
  table: TrackedTable,
  { spec }: ClusterTable,
  nodes: readonly string[],
): string | null {
  if (table.spec.digestVersion !== DIGEST_VERSION) return OLD_DIGEST_VERSION;
  // Fewer nodes may agree on more: the tree's own rules are those of all.
  const isSame = nodes.length < table.nodes.length || digestRule(spec) === digestRule(table.spec);
  return isSame ? null : 'a node hashes values in another way than when it was built';
}

function needsEveryNode(label: string, reason: string, cause: unknown): unknown {
  if (!(cause instanceof AcedError) || cause.code !== 'NODE_UNREACHABLE') return cause;
  return new AcedError(
    cause.code,
    `the tree of ${label} must be built again (${reason}), on every node of the cluster: ${cause.message}`,
    { hint: 'Compare it with table-diff --nodes, which needs no tree.', cause },
  );
}

/** The catalog as it is now, and the nodes where it is no longer what the tree was made of. */
export async function readCatalogChanges(
  cluster: Cluster,
  table: TrackedTable,
  { nodes, signal }: { readonly nodes: readonly string[]; readonly signal: AbortSignal },
): Promise<{ catalog: ClusterTable; changed: readonly string[] }> {
  const { publicationName } = cluster.config;
  const catalog = await readClusterTable(cluster.poolsOf(nodes), table.spec, signal, {
    publication: publicationName,
    leftOut: namedColumns(table),
    isTree: true,
  });
  const changed = nodes.filter(
    (node) => table.readings[node]?.fingerprint !== catalog.readings[node]?.fingerprint,
  );
  return { catalog, changed };
}

/** Columns that the user named when the tree was built. */
function namedColumns({ spec }: TrackedTable): string[] {
  return spec.excluded.filter(({ cause }) => cause === 'named').map(({ name }) => name);
}

export interface BuildTreeOptions {
  readonly blockRows: number;
  /** Columns that the user does not want compared. */
  readonly leftOut: readonly string[];
  readonly work: TreeWorkOptions;
  readonly context: CommandContext;
}

export async function buildTree(
  cluster: Cluster,
  name: TableName,
  options: BuildTreeOptions,
): Promise<TrackedTable> {
  const { context } = options;
  const what = { leftOut: options.leftOut, isTree: true };
  // First what can be refused, before anything is changed anywhere.
  await readClusterTable(cluster.pools, name, context.signal, what);
  await onEveryNode(cluster.pools, context.signal, (node, pool, signal) =>
    pool.use(
      (session) =>
        publishTableWhole(
          session,
          cluster.config.publicationName,
          name,
          publishOptions(node, context, signal),
        ),
      signal,
    ),
  );
  const catalog = await readClusterTable(cluster.pools, name, context.signal, {
    ...what,
    publication: cluster.config.publicationName,
  });
  return growTree(cluster, catalog, options);
}

/** Of a published table, from what its catalog has said since. */
export async function growTree(
  cluster: Cluster,
  { spec, infos, readings }: ClusterTable,
  options: BuildTreeOptions,
): Promise<TrackedTable> {
  const estimates = Array.from(infos, ([node, info]) => ({ node, rows: info.estimatedRows }));
  const reference = estimates.reduce((best, one) => (one.rows > best.rows ? one : best));
  const { maxBlocks } = cluster.config.tree;
  const mostBlocks = isOrderIndexed(spec) ? maxBlocks : Math.min(maxBlocks, MAX_UNINDEXED_BLOCKS);
  const blockRows = Math.max(options.blockRows, Math.ceil(reference.rows / mostBlocks));
  const before = cluster.trackedTable(spec.schema, spec.name);
  const table = cluster.beginTree(spec, readings, blockRows);
  try {
    await readWhole(cluster, table, reference, options);
    cluster.finishTree(table);
  } catch (error) {
    const isCancelled = error instanceof AcedError && error.code === 'CANCELLED';
    cluster.failTree(
      table,
      `a build ${isCancelled ? 'was cancelled' : `failed: ${logMessage(error)}`}`,
    );
    throw error;
  }
  const isOther = ([node, { oid }]: [string, { readonly oid: number }]): boolean =>
    oid !== table.readings[node]?.oid;
  if (before !== undefined && Object.entries(before.readings).some(isOther)) {
    await unpublishForerunner(cluster, before, options.context.signal);
  }
  return table;
}

/** How a table is published that is about to be read. */
export function publishOptions(
  node: string,
  context: CommandContext,
  signal: AbortSignal,
): AddTableOptions {
  return {
    signal,
    timeoutMs: RUNNING_TRANSACTIONS_TIMEOUT_MS,
    onWait: (description) =>
      context.emit({ type: 'log', level: 'info', message: `${node}: ${description}` }),
  };
}

/** Cuts the table by the keys of the node that has the most rows, and reads it on every node. */
async function readWhole(
  cluster: Cluster,
  table: TrackedTable,
  reference: { readonly node: string; readonly rows: number },
  { context, work }: BuildTreeOptions,
): Promise<void> {
  const { blockRows } = table;
  const expectedBlocks = Math.ceil(reference.rows / blockRows);
  const partition = {
    sql: table.sql,
    pool: cluster.pool(reference.node),
    range: { lower: null, upper: null },
    blockRows,
    expectedBlocks,
  };
  await cutAndRead(cluster, table, partition, {
    ...work,
    onProgress: (done, total) =>
      context.emit({
        type: 'progress',
        phase: 'Hashing blocks',
        done,
        total: Math.max(total, expectedBlocks * table.nodes.length),
      }),
  });
  await splitOversize(cluster, table, work);
}

/** Within a table's mutex too: a teardown may have been there before. Errors: NOT_INITIALISED. */
export function requireInitialised(cluster: Cluster): void {
  if (cluster.isStreaming) return;
  throw new AcedError('NOT_INITIALISED', `cluster ${cluster.config.cluster} is not initialised`, {
    hint: `Run: acectl mtree init ${cluster.config.cluster}`,
  });
}

export function workOptions(
  cluster: Cluster,
  maxCpuRatio: number | undefined,
  context: CommandContext,
): TreeWorkOptions {
  return {
    nodes: cluster.config.nodes.map((node) => node.name),
    concurrency: cluster.hashConcurrency(maxCpuRatio ?? cluster.config.tree.maxCpuRatio),
    signal: context.signal,
  };
}
