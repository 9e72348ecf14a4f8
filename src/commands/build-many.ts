import { steadyNowMs } from '../base/clock.js';
import { AcedError } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import { readClusterTables, type ClusterTable } from '../cluster/cluster-table.js';
import { configuredColumns } from '../cluster/left-out-columns.js';
import { growTree, publishOptions, requireInitialised } from '../cluster/tree-building.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { BuildResult, CommandContext } from '../protocol/commands.js';
import type { BuildManyParams, ManyTablesResult, TableOutcome } from '../protocol/many-tables.js';
import { addTablesToPublication } from '../replication/publication.js';
import type { TableName } from '../table/table-name.js';
import { analyse, buildOptions, builtResult, recreateObjects } from './build.js';
import { chooseTables, type ChosenTable } from './choose-tables.js';
import { judgeDone, leftOutcomes, manyResult, runOnEach } from './many-tables.js';

/** Published and read together: a round trip for many tables costs hardly more than for one. */
const TABLES_PER_BATCH = 64;
/** So that what the catalog said is not old by the time the last table of a batch is read. */
const ROWS_PER_BATCH = 2_000_000;

/** `mtree build` of many tables. One with a live tree is skipped unless asked for: so it can go on. */
export async function buildMany(
  cluster: Cluster,
  params: BuildManyParams,
  context: CommandContext,
): Promise<ManyTablesResult<BuildResult>> {
  const startedAtMs = steadyNowMs();
  requireInitialised(cluster);
  const tables = await chooseTables(cluster.pools, params, {
    nodeSchema: cluster.config.nodeSchema,
    signal: context.signal,
  });
  if (params.recreateObjects === true) await recreateObjects(cluster, context);
  const hasTree = ({ schema, name }: ChosenTable): boolean =>
    params.rebuild !== true && cluster.trackedTable(schema, name)?.state === 'live';
  const kept = tables.chosen.filter(hasTree).map((table) => ({
    ...table,
    reason: 'it has a live tree already',
  }));
  const skipped = [...tables.skipped, ...kept];
  const outcomes = leftOutcomes<BuildResult>({ ...tables, skipped }, 'failed');
  const work = tables.chosen.filter((table) => !hasTree(table));
  let done = 0;
  for (const batch of batchesOf(work)) {
    const before = done;
    outcomes.push(
      ...(await buildBatch(cluster, batch, params, {
        ...context,
        emit: (event) =>
          context.emit(
            event.type === 'progress'
              ? { ...event, done: before + event.done, total: work.length }
              : event,
          ),
      })),
    );
    done += batch.length;
  }
  return manyResult(outcomes, {
    startedAtMs,
    warnings: tables.warnings,
  });
}

/** Largest first, as runOnEach begins. */
export function batchesOf(tables: readonly ChosenTable[]): ChosenTable[][] {
  const batches: ChosenTable[][] = [];
  let rows = 0;
  for (const table of tables.toSorted((a, b) => b.estimatedRows - a.estimatedRows)) {
    const batch = batches.at(-1);
    rows += Math.max(0, table.estimatedRows);
    if (batch !== undefined && batch.length < TABLES_PER_BATCH && rows <= ROWS_PER_BATCH) {
      batch.push(table);
    } else {
      batches.push([table]);
      rows = Math.max(0, table.estimatedRows);
    }
  }
  return batches;
}

async function buildBatch(
  cluster: Cluster,
  batch: readonly ChosenTable[],
  params: BuildManyParams,
  context: CommandContext,
): Promise<TableOutcome<BuildResult>[]> {
  if (params.analyse === true) {
    for (const table of batch) await analyse(cluster, table, context);
  }
  const catalogs = await publishBatch(cluster, batch, params, context);
  const most = cluster.hashConcurrency(params.maxCpuRatio ?? cluster.config.tree.maxCpuRatio);
  const sideBySide = Math.min(most, batch.length);
  return runOnEach(batch, context, {
    phase: 'Building trees',
    sideBySide,
    judge: judgeDone,
    work: async (table, tableContext) => {
      const startedAtMs = steadyNowMs();
      const { schema, name } = table;
      const catalog = catalogs.get(table);
      if (catalog instanceof AcedError) throw catalog;
      if (catalog === undefined) throw new AcedError('INTERNAL', `no catalog of ${name}`);
      return cluster.mutex(schema, name).run(async () => {
        requireInitialised(cluster);
        const options = buildOptions(cluster, table, { params, context: tableContext });
        const work = { ...options.work, concurrency: Math.floor(most / sideBySide) };
        return builtResult(await growTree(cluster, catalog, { ...options, work }), startedAtMs);
      });
    },
  });
}

type Catalogs = ReadonlyMap<ChosenTable, ClusterTable | AcedError>;

/** What the tables of a batch are once they are published, or why one of them cannot be built. */
async function publishBatch(
  cluster: Cluster,
  batch: readonly ChosenTable[],
  { excludeColumns: leftOut = [] }: BuildManyParams,
  context: CommandContext,
): Promise<Catalogs> {
  const { publicationName } = cluster.config;
  const { signal } = context;
  const configuredOf = (table: TableName): string[] => configuredColumns(cluster.config, table);
  const what = { leftOut, configuredOf, isTree: true };
  const refused = new Map<ChosenTable, AcedError>();
  const note = (tables: readonly ChosenTable[], found: readonly unknown[]): void => {
    for (const [index, table] of tables.entries()) {
      const one = found[index];
      if (one instanceof AcedError && !refused.has(table)) refused.set(table, one);
    }
  };
  // First what can be refused, before anything is changed anywhere.
  note(batch, await readClusterTables(cluster.pools, batch, signal, what));
  const sound = batch.filter((table) => !refused.has(table));
  const published = await onEveryNode(cluster.pools, signal, (node, pool, either) => {
    const options = publishOptions(node, context, either);
    return pool.use(
      (session) => addTablesToPublication(session, publicationName, sound, options),
      either,
    );
  });
  for (const onNode of published.values()) note(sound, onNode);
  const publication = publicationName;
  const catalogs = await readClusterTables(cluster.pools, sound, signal, { ...what, publication });
  note(sound, catalogs);
  return new Map([
    ...sound.flatMap((table, i) => {
      const catalog = catalogs[i];
      return catalog === undefined ? [] : [[table, catalog] as const];
    }),
    ...refused,
  ]);
}
