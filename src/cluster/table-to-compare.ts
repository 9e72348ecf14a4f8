import type { ComparedTable } from '../diff/compared-table.js';
import type { BlockSql } from '../merkle/block-sql.js';
import type { NodePools } from '../postgres/every-node.js';
import { readReplication, type ClusterTable } from './cluster-table.js';
import type { Cluster } from './cluster.js';

export interface ComparedTableFacts extends Pick<ClusterTable, 'spec' | 'infos'> {
  readonly sql: BlockSql;
  readonly pools: NodePools;
  readonly commitTimeNodes: ReadonlySet<string>;
  readonly signal: AbortSignal;
}

/** A table of the cluster as a diff takes it. */
export function comparedTable(
  cluster: Cluster,
  { signal, ...table }: ComparedTableFacts,
): ComparedTable {
  return {
    ...table,
    replication: () => readReplication(cluster.pools, table.pools, signal),
    seedId: cluster.store.seedId,
  };
}
