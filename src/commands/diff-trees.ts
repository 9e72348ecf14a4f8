import { steadyNowMs } from '../base/clock.js';
import { allOrCause } from '../base/abort.js';
import { formatLsn } from '../base/lsn.js';
import type { Cluster } from '../cluster/cluster.js';
import { withPublication } from '../cluster/cluster-table.js';
import { passFences, takeFences } from '../cluster/fences.js';
import { requireInitialised } from '../cluster/tree-building.js';
import { differingBlocks } from '../diff/tree-diff.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { CommandContext, DiffResult } from '../protocol/commands.js';
import type {
  ManyTablesResult,
  TableOutcome,
  TreeDiffManyParams,
} from '../protocol/many-tables.js';
import { publishedTables } from '../replication/published-tables.js';
import { readCatalog } from '../table/fingerprint.js';
import { openQuestion } from '../table/table-spec.js';
import { labelOf, type ChosenTable } from './choose-tables.js';
import { tellLeftOut } from './diff-table.js';
import {
  judgeDiff,
  leftOutcomes,
  manyResult,
  onTable,
  runOnEach,
  type RecordedDiffs,
} from './many-tables.js';
import { chooseTrees } from './tracked-tables.js';

/**
 * `mtree table-diff` of many tables: one fence for all of them, one look at the catalogs. Where nothing
 * is dirty and the leaves agree that is the proof; every other table is looked at by itself.
 */
export async function diffTrees(
  cluster: Cluster,
  params: TreeDiffManyParams,
  context: CommandContext,
  { treeDiff, record }: RecordedDiffs,
): Promise<ManyTablesResult<DiffResult>> {
  const startedAtMs = steadyNowMs();
  requireInitialised(cluster);
  const nodes = cluster.selectNodes(params.nodes, 2);
  tellLeftOut(cluster, nodes, context);
  const fences = await takeFences(cluster, nodes, params, context);
  // Catalogs are read after the fences were taken, as diffTree does.
  const [chosen] = await allOrCause([
    chooseTrees(cluster, params, context),
    passFences(cluster, fences, params, context),
  ]);
  const equal = await proveEqual(cluster, nodes, chosen.trees, context);
  record([...equal.values()]);
  const ratio = params.maxCpuRatio ?? cluster.config.tree.maxCpuRatio;
  const sideBySide = cluster.hashConcurrency(ratio);
  const others = chosen.chosen.filter((table) => !equal.has(table));
  const outcomes: TableOutcome<DiffResult>[] = Array.from(equal, ([table, result]) => ({
    table: labelOf(table),
    ...judgeDiff(result),
    result,
  }));
  outcomes.push(
    ...(await runOnEach(others, context, {
      phase: 'Comparing trees',
      sideBySide,
      judge: judgeDiff,
      work: (table, one) =>
        treeDiff({ ...onTable(params, table), maxCpuRatio: ratio / sideBySide }, one),
    })),
  );
  return manyResult([...leftOutcomes<DiffResult>(chosen, 'missing'), ...outcomes], {
    startedAtMs,
    warnings: chosen.warnings,
  });
}

/**
 * The tables whose trees say all by themselves: live, of the catalog as it is now, nothing dirty, all
 * leaves alike. The streams have passed the fences already.
 */
async function proveEqual(
  cluster: Cluster,
  nodes: readonly string[],
  trees: ReadonlyMap<ChosenTable, TrackedTable>,
  { signal }: CommandContext,
): Promise<Map<ChosenTable, DiffResult>> {
  const startedAtMs = steadyNowMs();
  const entries = [...trees];
  const specs = entries.map(([, { spec }]) => spec);
  const { publicationName } = cluster.config;
  const fingerprints = await onEveryNode(cluster.poolsOf(nodes), signal, (_, pool, either) =>
    pool.use(async (session) => {
      const readings = await readCatalog(session, specs, either);
      const published = await publishedTables(session, publicationName, specs);
      return readings.map((reading, index) =>
        reading === null ? '' : withPublication(reading, published[index] ?? null).fingerprint,
      );
    }, either),
  );
  // From here on nothing waits: what the leaves say is of one moment.
  const positions = Object.fromEntries(
    nodes.map((node) => [node, formatLsn(cluster.pipeline(node).position)]),
  );
  const equal = new Map<ChosenTable, DiffResult>();
  for (const [index, [table, tree]] of entries.entries()) {
    const isAsBuilt = (node: string): boolean => {
      const now = fingerprints.get(node)?.[index] ?? '';
      return now !== '' && now === tree.readings[node]?.fingerprint;
    };
    const isCurrent = cluster.trackedTable(table.schema, table.name) === tree;
    if (!isCurrent || tree.state !== 'live' || !nodes.every(isAsBuilt)) continue;
    if (openQuestion(tree.spec) !== null) continue;
    if (differingBlocks(tree, nodes, new Map()).length > 0) continue;
    equal.set(table, {
      table: tree.label,
      verdict: 'match',
      nodes,
      positions,
      differences: {},
      inFlightRows: 0,
      rowLimitReached: false,
      excludedColumns: tree.spec.excluded.map(({ name, reason }) => ({ name, reason })),
      warnings: [],
      unverifiedBlocks: [],
      files: [],
      timeTakenMs: steadyNowMs() - startedAtMs,
    });
  }
  return equal;
}
