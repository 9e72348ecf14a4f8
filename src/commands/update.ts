import { steadyNowMs } from '../base/clock.js';
import type { Cluster } from '../cluster/cluster.js';
import { passFences, takeFences } from '../cluster/fences.js';
import { ensureCurrentTree, requireInitialised, workOptions } from '../cluster/tree-building.js';
import {
  mergeSmall,
  refreshDirty,
  splitOversize,
  type TreeWorkOptions,
} from '../cluster/tree-work.js';
import type { CommandContext, UpdateParams, UpdateResult } from '../protocol/commands.js';

/** `mtree update`: catches up, reads dirty blocks, and cuts or joins blocks when asked. */
export async function update(
  cluster: Cluster,
  params: UpdateParams,
  context: CommandContext,
): Promise<UpdateResult> {
  const startedAtMs = steadyNowMs();
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
      timeTakenMs: steadyNowMs() - startedAtMs,
    };
  });
}
