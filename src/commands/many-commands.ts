import { steadyNowMs } from '../base/clock.js';
import type { Cluster } from '../cluster/cluster.js';
import { AcedError } from '../base/errors.js';
import type { CommandContext } from '../protocol/commands.js';
import type {
  ManyTablesName,
  ManyTablesOutcomes,
  ManyTablesParams,
  ManyTablesResult,
  TableChoice,
} from '../protocol/many-tables.js';
import { buildMany } from './build-many.js';
import { diffTrees } from './diff-trees.js';
import {
  judgeDiff,
  judgeDone,
  judgeVerified,
  leftOutcomes,
  manyResult,
  onTable,
  runOnEach,
  runOnTables,
  tableText,
  type ManyTablesWork,
  type RecordedDiffs,
} from './many-tables.js';
import { chooseTrees } from './tracked-tables.js';
import { update } from './update.js';
import { verify } from './verify.js';

type Handlers = {
  readonly [Name in ManyTablesName]: (
    params: ManyTablesParams[Name],
    context: CommandContext,
  ) => Promise<ManyTablesOutcomes[Name]>;
};

/** The commands on many tables: each does to every table what the one on a single table does. */
export function manyHandlers(cluster: Cluster, diffs: RecordedDiffs): Handlers {
  return {
    'mtree-build-many': (params, context) => buildMany(cluster, params, context),
    'mtree-table-diff-many': (params, context) => diffTrees(cluster, params, context, diffs),
    'table-diff-many': (params, context) => {
      const factor = params.concurrencyFactor ?? cluster.config.diff.concurrencyFactor;
      const sideBySide = cluster.hashConcurrency(factor);
      return runOnTables(cluster, params, context, {
        phase: 'Comparing tables',
        sideBySide,
        judge: judgeDiff,
        work: (table, one) =>
          // Side by side they use what one alone would.
          diffs.tableDiff(
            { ...onTable(params, table), concurrencyFactor: factor / sideBySide },
            one,
          ),
      });
    },
    'mtree-update-many': (params, context) => {
      const ratio = params.maxCpuRatio ?? cluster.config.tree.maxCpuRatio;
      const sideBySide = cluster.hashConcurrency(ratio);
      return runOnTrees(cluster, params, context, {
        phase: 'Updating trees',
        sideBySide,
        judge: judgeDone,
        work: (table, one) =>
          update(cluster, { ...onTable(params, table), maxCpuRatio: ratio / sideBySide }, one),
      });
    },
    'mtree-verify-many': (params, context) =>
      runOnTrees(cluster, params, context, {
        phase: 'Verifying trees',
        // One after the other: the rate is one table's.
        sideBySide: 1,
        judge: judgeVerified,
        work: async (table, one) => {
          const [verified] = (await verify(cluster, onTable(params, table), one)).tables;
          if (verified === undefined) throw new AcedError('INTERNAL', 'no table was verified');
          return verified;
        },
      }),
    'mtree-teardown-table-many': (params, context) =>
      runOnTrees(cluster, params, context, {
        phase: 'Removing trees',
        sideBySide: 1,
        judge: judgeDone,
        work: (table) => diffs.teardown(tableText(table)),
      }),
  };
}

async function runOnTrees<Result>(
  cluster: Cluster,
  choice: TableChoice,
  context: CommandContext,
  work: ManyTablesWork<Result>,
): Promise<ManyTablesResult<Result>> {
  const startedAtMs = steadyNowMs();
  const trees = await chooseTrees(cluster, choice, context);
  const outcomes = await runOnEach(trees.chosen, context, work);
  return manyResult([...leftOutcomes<Result>(trees, 'missing'), ...outcomes], {
    startedAtMs,
    warnings: trees.warnings,
  });
}
