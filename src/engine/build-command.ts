import { AcedError } from '../base/errors.js';
import { onEveryNode } from '../diff/compared-nodes.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import {
  addTableToPublication,
  publishedTable,
  removeTableFromPublication,
  type AddTableOptions,
} from '../postgres/publication.js';
import type { Session } from '../postgres/session.js';
import { ensureNodeSchema } from '../postgres/node-schema.js';
import type { TableName } from '../postgres/table-name.js';
import { quoteIdentifier } from '../base/sql.js';
import type {
  BuildParams,
  BuildResult,
  CommandContext,
  UpdateParams,
  UpdateResult,
} from '../server/protocol.js';
import { findTable, readClusterTable, type ClusterTable } from './catalog-reader.js';
import type { Cluster } from './cluster.js';
import { passFences, takeFences } from './fences.js';
import {
  cutAndRead,
  mergeSmall,
  refreshDirty,
  splitOversize,
  type TreeWorkOptions,
} from './tree-work.js';

const RUNNING_TRANSACTIONS_TIMEOUT_MS = 600_000;
/** Without an index in the order of the key every block costs a scan: use few of them. */
const MAX_UNINDEXED_BLOCKS = 64;

/** `mtree build`: publishes the table, cuts it into blocks and reads them, on all nodes. */
export async function build(
  cluster: Cluster,
  params: BuildParams,
  context: CommandContext,
): Promise<BuildResult> {
  const startedAtMs = Date.now();
  requireInitialised(cluster);
  const name = await findTable(cluster.pools, params.table, context.signal);
  const table = await cluster.mutex(name.schema, name.name).run(async () => {
    requireInitialised(cluster);
    if (params.analyse === true) await analyse(cluster, name, context);
    if (params.recreateObjects === true) {
      await onEveryNode(cluster.pools, context.signal, (_, pool, signal) =>
        pool.use((session) => ensureNodeSchema(session, cluster.config.nodeSchema), signal),
      );
    }
    return buildTree(cluster, name, {
      blockRows: params.blockRows ?? cluster.config.tree.blockRows,
      work: workOptions(cluster, params.maxCpuRatio, context),
      context,
    });
  });
  return {
    table: table.label,
    blocks: table.layout.size,
    rows: Object.fromEntries(table.nodes.map((node) => [node, table.leaves(node).totalRows])),
    timeTakenMs: Date.now() - startedAtMs,
  };
}

/**
 * The tracked table, with a tree of the catalog as it is now. DDL that sends no row messages is
 * seen here at the latest: a changed catalog means a new tree. Holds the table's mutex already.
 * A new tree is not begun before `isReady` has resolved.
 */
export async function ensureCurrentTree(
  cluster: Cluster,
  table: TrackedTable,
  context: CommandContext,
  isReady: Promise<unknown> = Promise.resolve(),
): Promise<{ table: TrackedTable; catalog: ClusterTable }> {
  const { publicationName } = cluster.config;
  const catalog = await readClusterTable(
    cluster.pools,
    table.spec,
    context.signal,
    publicationName,
  );
  const changed = table.nodes.filter(
    (node) => table.fingerprints[node] !== catalog.fingerprints[node],
  );
  if (changed.length === 0 && table.state === 'live') return { table, catalog };
  const reason =
    changed.length > 0
      ? `its definition or publication changed on ${changed.join(', ')}`
      : (table.reason ?? 'its build did not finish');
  context.emit({
    type: 'log',
    level: 'info',
    message: `The tree of ${table.label} is built again: ${reason}`,
  });
  await isReady;
  const rebuilt = await buildTree(cluster, table.spec, {
    blockRows: table.blockRows,
    work: workOptions(cluster, undefined, context),
    context,
  });
  return { table: rebuilt, catalog };
}

interface BuildTreeOptions {
  readonly blockRows: number;
  readonly work: TreeWorkOptions;
  readonly context: CommandContext;
}

async function buildTree(
  cluster: Cluster,
  name: TableName,
  options: BuildTreeOptions,
): Promise<TrackedTable> {
  const { context, work } = options;
  // First what can be refused, before anything is changed anywhere.
  await readClusterTable(cluster.pools, name, context.signal);
  await onEveryNode(cluster.pools, context.signal, (node, pool, signal) =>
    pool.use(
      (session) =>
        publishWhole(session, cluster.config.publicationName, name, {
          signal,
          timeoutMs: RUNNING_TRANSACTIONS_TIMEOUT_MS,
          onWait: (description) =>
            context.emit({ type: 'log', level: 'info', message: `${node}: ${description}` }),
        }),
      signal,
    ),
  );
  const { spec, infos, fingerprints } = await readClusterTable(
    cluster.pools,
    name,
    context.signal,
    cluster.config.publicationName,
  );
  const estimates = Array.from(infos, ([node, info]) => ({ node, rows: info.estimatedRows }));
  const reference = estimates.reduce((best, one) => (one.rows > best.rows ? one : best));
  const isOrderIndexed = spec.key.every((column) => column.collate === null);
  const blockRows = isOrderIndexed
    ? options.blockRows
    : Math.max(options.blockRows, Math.ceil(reference.rows / MAX_UNINDEXED_BLOCKS));
  const table = cluster.trackTable(spec, fingerprints, blockRows);
  const partition = {
    sql: table.sql,
    pool: cluster.pool(reference.node),
    range: { lower: null, upper: null },
    blockRows,
    isOrderIndexed,
  };
  const expectedBlocks = Math.ceil(reference.rows / blockRows);
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
  table.setState('live', null);
  return table;
}

/** Publishes all rows and columns of a table; somebody may have restricted what is published. */
async function publishWhole(
  session: Session,
  publication: string,
  name: TableName,
  options: AddTableOptions,
): Promise<void> {
  const published = await publishedTable(session, publication, name);
  if (published?.isRestricted === true) {
    await removeTableFromPublication(session, publication, name.schema, name.name);
  }
  await addTableToPublication(session, publication, name.schema, name.name, options);
}

/** `mtree update`: catches up, reads dirty blocks, and cuts or joins blocks when asked. */
export async function update(
  cluster: Cluster,
  params: UpdateParams,
  context: CommandContext,
): Promise<UpdateResult> {
  const startedAtMs = Date.now();
  requireInitialised(cluster);
  const tracked = cluster.requireTable(params.table);
  const { schema, name } = tracked.spec;
  const nodes = cluster.config.nodes.map((node) => node.name);
  return cluster.mutex(schema, name).run(async () => {
    await passFences(cluster, await takeFences(cluster, nodes, params, context), params, context);
    const { table } = await ensureCurrentTree(cluster, cluster.requireTable(params.table), context);
    const work: TreeWorkOptions = {
      ...workOptions(cluster, params.maxCpuRatio, context),
      onProgress: (done, total) =>
        context.emit({ type: 'progress', phase: 'Updating blocks', done, total }),
    };
    const refreshed = await refreshDirty(cluster, table, work);
    const splitBlocks = await splitOversize(cluster, table, work);
    const mergedBlocks = params.rebalance === true ? await mergeSmall(cluster, table, work) : 0;
    return {
      table: table.label,
      refreshedBlocks: Object.fromEntries(
        Array.from(refreshed, ([node, values]) => [node, values.size]),
      ),
      splitBlocks,
      mergedBlocks,
      timeTakenMs: Date.now() - startedAtMs,
    };
  });
}

/** Within a table's mutex too: a teardown may have been there before. Errors: NOT_INITIALISED. */
export function requireInitialised(cluster: Cluster): void {
  if (cluster.isStreaming) return;
  throw new AcedError('NOT_INITIALISED', `cluster ${cluster.config.cluster} is not initialised`, {
    hint: `run: acectl mtree init ${cluster.config.cluster}`,
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

async function analyse(cluster: Cluster, name: TableName, context: CommandContext): Promise<void> {
  const table = `${quoteIdentifier(name.schema)}.${quoteIdentifier(name.name)}`;
  await onEveryNode(cluster.pools, context.signal, (_, pool, signal) =>
    pool.use((session) => session.query(`ANALYZE ${table}`, [], signal), signal),
  );
}
