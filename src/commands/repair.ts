import { AcedError } from '../base/errors.js';
import { findTable, readClusterTable, readReplication } from '../cluster/cluster-table.js';
import type { Cluster } from '../cluster/cluster.js';
import type { CommandContext, RepairParams, RepairResult } from '../protocol/commands.js';
import { beginAudit, endAudit } from './repair-audit.js';
import { repairTable } from '../repair/repair.js';

/** `table-repair`: from a diff file, with the topology as it is now. What may write is remembered. */
export async function repair(
  cluster: Cluster,
  params: RepairParams,
  context: CommandContext,
): Promise<RepairResult> {
  if (params.dryRun === true) return repairNow(cluster, params, context);
  // The file is hashed while the servers are waited for.
  const beginning = beginAudit(params, context, cluster.reign?.epoch ?? null);
  const result = await repairNow(cluster, params, context).catch(async (error: unknown) => {
    context.onAudit?.(await beginning);
    throw error;
  });
  context.onAudit?.(endAudit(await beginning, result));
  return result;
}

async function repairNow(
  cluster: Cluster,
  params: RepairParams,
  context: CommandContext,
): Promise<RepairResult> {
  const nodes = cluster.selectNodes(params.nodes, 2);
  const pools = cluster.poolsOf(nodes);
  const name = await findTable(pools, params.table, context.signal);
  // The file is read meanwhile; whoever awaits this still gets its failure.
  const replication = readReplication(cluster.pools, pools, context.signal);
  replication.catch(() => undefined);
  const { spec, infos } = await readClusterTable(pools, name, context.signal, {
    ...(params.key === undefined ? { allowsMultiset: true } : { key: params.key }),
  }).catch((error: unknown) => {
    throw namingSurvivors(error, params);
  });
  const work = (): Promise<RepairResult> =>
    repairTable({
      spec,
      infos,
      pools,
      replication,
      seed: cluster.store.seed,
      seedId: cluster.store.seedId,
      params,
      context,
      config: cluster.config,
      reign: cluster.reign,
    });
  return params.dryRun === true ? work() : cluster.repairs.during(name, work);
}

/** The lost node is in the definition yet, and cannot be reached. */
function namingSurvivors(error: unknown, { recoveryMode }: RepairParams): unknown {
  const isLost = error instanceof AcedError && error.code === 'NODE_UNREACHABLE';
  if (!isLost || recoveryMode !== true) return error;
  return new AcedError(error.code, error.message, {
    hint: 'Leave the lost node out: --nodes <survivors>.',
    cause: error,
  });
}
