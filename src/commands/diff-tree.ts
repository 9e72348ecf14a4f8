import { allOrCause } from '../base/abort.js';
import { formatLsn } from '../base/lsn.js';
import { readCommitTimeNodes, readReplication } from '../cluster/cluster-table.js';
import type { Cluster } from '../cluster/cluster.js';
import { passFences, takeFences } from '../cluster/fences.js';
import { ensureCurrentTree, requireInitialised, workOptions } from '../cluster/tree-building.js';
import { refreshDirty, splitOversize } from '../cluster/tree-work.js';
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
  const { schema, name } = cluster.requireTable(params.table).spec;
  return cluster.mutex(schema, name).run(async () => {
    const pools = cluster.poolsOf(nodes);
    const fences = await takeFences(cluster, nodes, params, context);
    // The catalog is read after the fences were taken: DDL that sends no rows is older or newer
    // than the verdict, never unseen.
    const isCaughtUp = passFences(cluster, fences, params, context);
    const [current, commitTimeNodes] = await allOrCause([
      ensureCurrentTree(cluster, cluster.requireTable(params.table), context, isCaughtUp),
      readCommitTimeNodes(pools, context.signal),
      isCaughtUp,
    ]);
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
    let refreshed = await refreshDirty(cluster, table, work);
    if ((await splitOversize(cluster, table, work)) > 0) {
      // Positions have moved: what was read before no longer names the same blocks.
      refreshed = await refreshDirty(cluster, table, work);
    }
    return treeDiff({
      config: cluster.config,
      spec: table.spec,
      sql: table.sql,
      infos: catalog.infos,
      pools,
      replication: () => readReplication(cluster.pools, pools, context.signal),
      commitTimeNodes,
      seedId: cluster.store.seedId,
      blockRows: table.blockRows,
      output: params.output ?? 'json',
      context,
      table,
      refreshed,
      positions,
    });
  });
}
