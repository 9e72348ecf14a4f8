import { steadyNowMs } from '../base/clock.js';
import { findTable, readClusterTable, requireColumns } from '../cluster/cluster-table.js';
import type { Cluster } from '../cluster/cluster.js';
import { configuredColumns } from '../cluster/left-out-columns.js';
import {
  buildTree,
  requireInitialised,
  workOptions,
  type BuildTreeOptions,
} from '../cluster/tree-building.js';
import { quoteQualified } from '../base/quote.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { ensureNodeSchema } from '../mirror/mirror-schema.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { BuildParams, BuildResult, CommandContext } from '../protocol/commands.js';
import type { TableName } from '../table/table-name.js';

/** `mtree build`: publishes the table, cuts it into blocks and reads them, on all nodes. */
export async function build(
  cluster: Cluster,
  params: BuildParams,
  context: CommandContext,
): Promise<BuildResult> {
  const startedAtMs = steadyNowMs();
  requireInitialised(cluster);
  const name = await findTable(cluster.pools, params.table, context.signal);
  const table = await cluster.mutex(name.schema, name.name).run(async () => {
    requireInitialised(cluster);
    if (params.analyse === true) await analyse(cluster, name, context);
    if (params.recreateObjects === true) await recreateObjects(cluster, context);
    const leftOut = leftOutColumns(cluster, name, params);
    if (leftOut.length > 0) {
      const what = { leftOut, isTree: true };
      requireColumns(await readClusterTable(cluster.pools, name, context.signal, what), leftOut);
    }
    return buildTree(cluster, name, buildOptions(cluster, name, { params, context }));
  });
  return builtResult(table, startedAtMs);
}

/** Columns that the tree is to do without. */
function leftOutColumns(
  { config }: Cluster,
  name: TableName,
  { excludeColumns = [] }: Pick<BuildParams, 'excludeColumns'>,
): string[] {
  return [...excludeColumns, ...configuredColumns(config, name)];
}

/** As the parameters ask, of a table that is known. */
export function buildOptions(
  cluster: Cluster,
  name: TableName,
  {
    params,
    context,
  }: { readonly params: Omit<BuildParams, 'table'>; readonly context: CommandContext },
): BuildTreeOptions {
  return {
    leftOut: leftOutColumns(cluster, name, params),
    blockRows: params.blockRows ?? unfinished(cluster, name) ?? cluster.config.tree.blockRows,
    work: workOptions(cluster, params.maxCpuRatio, context),
    context,
  };
}

export function builtResult(table: TrackedTable, startedAtMs: number): BuildResult {
  return {
    table: table.label,
    blocks: table.layout.size,
    rows: Object.fromEntries(table.nodes.map((node) => [node, table.leaves(node).totalRows])),
    timeTakenMs: steadyNowMs() - startedAtMs,
  };
}

/** A build that is repeated after it failed aims at what the first one did. */
function unfinished(cluster: Cluster, { schema, name }: TableName): number | undefined {
  const table = cluster.trackedTable(schema, name);
  return table?.state === 'failed' ? table.blockRows : undefined;
}

export async function recreateObjects(cluster: Cluster, context: CommandContext): Promise<void> {
  await onEveryNode(cluster.pools, context.signal, (_, pool, signal) =>
    pool.use((session) => ensureNodeSchema(session, cluster.config.nodeSchema), signal),
  );
}

export async function analyse(
  cluster: Cluster,
  { schema, name }: TableName,
  context: CommandContext,
): Promise<void> {
  const statement = `ANALYZE ${quoteQualified(schema, name)}`;
  await onEveryNode(cluster.pools, context.signal, (_, pool, signal) =>
    pool.use((session) => session.query(statement, [], signal), signal),
  );
}
