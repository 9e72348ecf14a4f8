import { allOrCause } from '../base/abort.js';
import { readClusterTable, readCommitTimeNodes } from '../cluster/cluster-table.js';
import { comparedTable } from '../cluster/compared-table.js';
import type { Cluster } from '../cluster/cluster.js';
import { readDiffFile, type DiffFileHead } from '../diff-file/diff-reader.js';
import { namedAsTyped, requireInput } from '../diff-file/input-file.js';
import { rerun } from '../diff/rerun.js';
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
  const name = { schema: head.schema, name: head.table };
  const [{ spec, infos }, commitTimeNodes] = await allOrCause([
    readClusterTable(pools, name, signal, { leftOut: head.excludedColumns }),
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
    table: comparedTable(cluster, { spec, infos, sql, pools, commitTimeNodes, signal }),
    output: params.output ?? 'json',
    ...(params.maxHtmlRows === undefined ? {} : { maxHtmlRows: params.maxHtmlRows }),
    context,
  });
}

/** Those that are asked for, else those of the file; a file that does not say is about all. */
function nodesOf(head: DiffFileHead, { nodes = [] }: RerunParams): readonly string[] {
  if (nodes.length > 0) return nodes;
  return head.nodes;
}
