import type { Cluster } from '../cluster/cluster.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { CommandContext } from '../protocol/commands.js';
import type { TableChoice } from '../protocol/many-tables.js';
import { chooseTables, type ChosenTable, type ChosenTables } from './choose-tables.js';

export interface ChosenTrees extends ChosenTables {
  readonly trees: ReadonlyMap<ChosenTable, TrackedTable>;
}

/**
 * The tables of a choice that have a tree, whatever the nodes say of them: a table that was dropped has
 * one still. Those without are skipped.
 */
export async function chooseTrees(
  cluster: Cluster,
  choice: TableChoice,
  context: CommandContext,
): Promise<ChosenTrees> {
  const nodes = cluster.selectNodes(choice.nodes, 1);
  const tables = await chooseTables(cluster.poolsOf(nodes), choice, {
    nodeSchema: cluster.config.nodeSchema,
    known: cluster.tables.map(({ spec }) => spec),
    signal: context.signal,
  });
  const trees = new Map<ChosenTable, TrackedTable>();
  const skipped = [...tables.skipped];
  for (const table of tables.chosen) {
    const tree = cluster.trackedTable(table.schema, table.name);
    if (tree === undefined) skipped.push({ ...table, reason: 'it has no tree' });
    else trees.set(table, tree);
  }
  return { ...tables, chosen: [...trees.keys()], skipped, trees };
}
