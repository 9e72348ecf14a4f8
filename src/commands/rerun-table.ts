import { allOrCause } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import {
  readClusterTable,
  readCommitTimeNodes,
  type ClusterTable,
} from '../cluster/cluster-table.js';
import { comparedTable } from '../cluster/table-to-compare.js';
import type { Cluster } from '../cluster/cluster.js';
import { readDiffFile, type DiffFileHead } from '../diff-file/diff-reader.js';
import { namedAsTyped, requireInput } from '../diff-file/input-file.js';
import { rerun } from '../diff/rerun.js';
import type { NodePools } from '../postgres/every-node.js';
import { ROW_COLUMN } from '../table/multiset.js';
import { BlockSql } from '../merkle/block-sql.js';
import type { CommandContext, DiffResult, RerunParams } from '../protocol/commands.js';
import { tellLeftOut } from './diff-table.js';

/** `table-rerun`: the rows of a diff file once more. */
export async function rerunTable(
  cluster: Cluster,
  params: RerunParams,
  context: CommandContext,
): Promise<DiffResult> {
  try {
    return await rerunFromFile(cluster, params, context);
  } catch (error) {
    throw namedAsTyped(error, context);
  }
}

async function rerunFromFile(
  cluster: Cluster,
  params: RerunParams,
  context: CommandContext,
): Promise<DiffResult> {
  const { signal } = context;
  const path = requireInput(context);
  const head = await readDiffFile(path);
  const nodes = cluster.selectNodes(nodesOf(head, params), 2);
  tellLeftOut(cluster, nodes, context);
  const pools = cluster.poolsOf(nodes);
  const [{ spec, infos }, commitTimeNodes] = await allOrCause([
    readFileTable(pools, head, signal),
    readCommitTimeNodes(pools, signal),
  ]);
  if (head.tableFilter !== null) {
    const message = 'The filter of the diff is left out: its rows are compared as they are now';
    context.emit({ type: 'log', level: 'info', message });
  }
  const sql = new BlockSql({ spec, seed: cluster.store.seed });
  return rerun({
    path,
    head,
    config: cluster.config,
    table: comparedTable(cluster, {
      ...{ spec, infos, sql, pools, signal },
      commitTimeNodes: spec.isMultiset === true ? new Set() : commitTimeNodes,
    }),
    output: params.output ?? 'json',
    ...(params.maxHtmlRows === undefined ? {} : { maxHtmlRows: params.maxHtmlRows }),
    context,
  });
}

/** By the key that the file has, where it is not the primary key. */
async function readFileTable(
  pools: NodePools,
  { schema, table: name, primaryKey, excludedColumns: leftOut }: DiffFileHead,
  signal: AbortSignal,
): Promise<ClusterTable> {
  try {
    return await readClusterTable(pools, { schema, name }, signal, { leftOut });
  } catch (error) {
    if (!(error instanceof AcedError) || error.code !== 'NO_PRIMARY_KEY') throw error;
    const byKey = primaryKey.length > 0 && primaryKey[0] !== ROW_COLUMN;
    const key = byKey ? { key: primaryKey } : { allowsMultiset: true };
    return readClusterTable(pools, { schema, name }, signal, { leftOut, ...key });
  }
}

/** Those that are asked for, else those of the file; a file that does not say is about all. */
function nodesOf(head: DiffFileHead, { nodes = [] }: RerunParams): readonly string[] {
  if (nodes.length > 0) return nodes;
  return head.nodes;
}
