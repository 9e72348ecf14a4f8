import { allOrCause } from '../base/abort.js';
import {
  findTable,
  readClusterTable,
  requireColumns,
  readCommitTimeNodes,
  readReplication,
} from '../cluster/cluster-table.js';
import type { Cluster } from '../cluster/cluster.js';
import { tableDiff } from '../diff/table-diff.js';
import { BlockSql } from '../merkle/block-sql.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { CommandContext, DiffResult, TableDiffParams } from '../protocol/commands.js';
import { checkRowFilter } from '../table/row-filter.js';
import { isOrderIndexed } from '../table/table-spec.js';

/** Rows a block of `table-diff` has at most: smaller ones make differing rows cheaper to find. */
const TABLE_DIFF_BLOCK_ROWS = 1000;
const MAX_UNINDEXED_BLOCKS = 64;

/** `table-diff`: needs no tree, no slot and no rights beyond SELECT. */
export async function diffTable(
  cluster: Cluster,
  params: TableDiffParams,
  context: CommandContext,
): Promise<DiffResult> {
  const nodes = cluster.selectNodes(params.nodes, 2);
  const pools = cluster.poolsOf(nodes);
  const name = await findTable(pools, params.table, context.signal);
  const leftOut = params.excludeColumns ?? [];
  const [catalog, commitTimeNodes] = await allOrCause([
    readClusterTable(pools, name, context.signal, { leftOut }),
    readCommitTimeNodes(pools, context.signal),
  ]);
  requireColumns(catalog, leftOut);
  const { spec, infos } = catalog;
  const { config } = cluster;
  const { tableFilter } = params;
  if (tableFilter !== undefined) {
    await onEveryNode(pools, context.signal, (_, pool, signal) =>
      pool.use((session) => checkRowFilter(session, name, tableFilter, signal), signal),
    );
  }
  const blockSize = params.blockSize ?? 100_000;
  const concurrencyFactor = params.concurrencyFactor ?? config.diff.concurrencyFactor;
  const mostRows = Math.max(0, ...Array.from(infos.values(), (info) => info.estimatedRows));
  return tableDiff({
    config,
    spec,
    sql: new BlockSql({
      spec,
      seed: cluster.store.seed,
      ...(tableFilter === undefined ? {} : { filter: tableFilter }),
    }),
    infos,
    pools,
    replication: () => readReplication(cluster.pools, pools, context.signal),
    commitTimeNodes,
    seedId: cluster.store.seedId,
    blockRows: isOrderIndexed(spec)
      ? Math.min(blockSize, TABLE_DIFF_BLOCK_ROWS)
      : Math.max(TABLE_DIFF_BLOCK_ROWS, Math.ceil(mostRows / MAX_UNINDEXED_BLOCKS)),
    output: params.output ?? 'json',
    context,
    blockSize,
    compareUnitSize: params.compareUnitSize ?? config.diff.compareUnitSize,
    concurrencyFactor,
    concurrency: cluster.hashConcurrency(concurrencyFactor),
    ...(tableFilter === undefined ? {} : { tableFilter }),
  });
}
