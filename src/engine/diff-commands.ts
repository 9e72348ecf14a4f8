import { allOrCause } from '../base/abort.js';
import { formatLsn } from '../base/lsn.js';
import { onEveryNode } from '../diff/compared-nodes.js';
import { tableDiff } from '../diff/table-diff.js';
import { treeDiff } from '../diff/tree-diff.js';
import { BlockSql } from '../merkle/block-sql.js';
import { checkRowFilter } from '../postgres/row-filter.js';
import type {
  CommandContext,
  DiffResult,
  TableDiffParams,
  TreeDiffParams,
} from '../server/protocol.js';
import { ensureCurrentTree, requireInitialised, workOptions } from './build-command.js';
import {
  findTable,
  readClusterTable,
  readCommitTimeNodes,
  readReplication,
} from './catalog-reader.js';
import type { Cluster } from './cluster.js';
import { passFences, takeFences } from './fences.js';
import { refreshDirty, splitOversize } from './tree-work.js';

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
  const [{ spec, infos }, commitTimeNodes] = await allOrCause([
    readClusterTable(pools, name, context.signal),
    readCommitTimeNodes(pools, context.signal),
  ]);
  const { config } = cluster;
  const { tableFilter } = params;
  if (tableFilter !== undefined) {
    await onEveryNode(pools, context.signal, (_, pool, signal) =>
      pool.use((session) => checkRowFilter(session, name, tableFilter, signal), signal),
    );
  }
  const blockSize = params.blockSize ?? 100_000;
  const concurrencyFactor = params.concurrencyFactor ?? config.diff.concurrencyFactor;
  const isOrderIndexed = spec.key.every((column) => column.collate === null);
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
    blockRows: isOrderIndexed
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
