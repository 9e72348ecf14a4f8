import { allOrCause } from '../base/abort.js';
import { formatLsn } from '../base/lsn.js';
import { readCommitTimeNodes } from '../cluster/cluster-table.js';
import { comparedTable } from '../cluster/table-to-compare.js';
import type { Cluster } from '../cluster/cluster.js';
import { passFences, takeFences } from '../cluster/fences.js';
import { ensureCurrentTree, requireInitialised, workOptions } from '../cluster/tree-building.js';
import { proveBlocks, recordWrongLeaves } from '../cluster/block-proof.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { refreshAndSplit, type TreeWorkOptions } from '../cluster/tree-work.js';
import { requireCommitTimes, tellLeftOut } from './diff-table.js';
import { treeDiff } from '../diff/tree-diff.js';
import type { CommandContext, DiffResult, TreeDiffParams } from '../protocol/commands.js';

/** `mtree table-diff`: fence, catch up, read dirty blocks, walk, look into what differs. */
export async function diffTree(
  cluster: Cluster,
  params: TreeDiffParams,
  context: CommandContext,
): Promise<DiffResult> {
  requireInitialised(cluster);
  const nodes = cluster.selectNodes(params.nodes, 2);
  tellLeftOut(cluster, nodes, context);
  const { schema, name } = cluster.requireTable(params.table).spec;
  return cluster.mutex(schema, name).run(async () => {
    const pools = cluster.poolsOf(nodes);
    const fences = await takeFences(cluster, nodes, params, context);
    // The catalog is read after the fences were taken: DDL that sends no rows is older or newer
    // than the verdict, never unseen.
    const isCaughtUp = passFences(cluster, fences, params, context);
    const [current, commitTimeNodes] = await allOrCause([
      ensureCurrentTree(cluster, cluster.requireTable(params.table), context, {
        isReady: isCaughtUp,
        nodes,
      }),
      readCommitTimeNodes(pools, context.signal),
      isCaughtUp,
    ]);
    requireCommitTimes(params, nodes, commitTimeNodes);
    const { table, catalog } = current;
    const work = {
      ...workOptions(cluster, params.maxCpuRatio, context),
      nodes,
      onProgress: (done: number, total: number) =>
        context.emit({ type: 'progress', phase: 'Refreshing dirty blocks', done, total }),
    };
    // What the streams have applied by now every reading that follows shows too.
    const positions = Object.fromEntries(
      nodes.map((node) => [node, formatLsn(cluster.pipeline(node).position)]),
    );
    const refreshed = await refreshAndSplit(cluster, table, work);
    return treeDiff({
      config: cluster.config,
      table: comparedTable(cluster, {
        ...{ spec: table.spec, sql: table.sql, infos: catalog.infos, pools, commitTimeNodes },
        signal: context.signal,
      }),
      blockRows: table.blockRows,
      output: params.output ?? 'json',
      ...(params.maxHtmlRows === undefined ? {} : { maxHtmlRows: params.maxHtmlRows }),
      ...(params.until === undefined ? {} : { until: params.until }),
      context,
      tracked: table,
      refreshed,
      positions,
      proveLeaves: (doubtful) => proveLeaves(cluster, table, doubtful, work),
      onContradiction: (position, found) => {
        recordWrongLeaves(cluster, [
          {
            schema,
            name,
            node: found.node,
            blockId: table.layout.ids[position] ?? 0,
            foundBy: 'mtree-table-diff',
            foundAtMs: Date.now(),
            leaf: found.sum,
            read: found.rows,
          },
        ]);
        for (const node of nodes) table.leaves(node).markDirty(position);
      },
    });
  });
}

/** Which of these blocks have a leaf that was wrong, and why nothing is proved of them. */
async function proveLeaves(
  cluster: Cluster,
  table: TrackedTable,
  positions: readonly number[],
  work: TreeWorkOptions,
): Promise<ReadonlyMap<number, string>> {
  const byNode = new Map(work.nodes.map((node) => [node, positions] as const));
  const options = { ...work, foundBy: 'mtree-table-diff' } as const;
  const { wrong, isOutdated } = await proveBlocks(cluster, table, byNode, options);
  if (isOutdated) {
    return new Map(positions.map((position) => [position, 'the definition changed meanwhile']));
  }
  const reasons = new Map<number, string>();
  for (const { node, blockId } of wrong) {
    const reason = `its leaf on ${node} was not what the table says; it is mended, and acectl mtree verify looks at the others`;
    reasons.set(table.layout.ids.indexOf(blockId), reason);
  }
  return reasons;
}
