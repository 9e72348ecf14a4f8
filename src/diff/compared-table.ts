import type { ReportColumn } from '../diff-file/row-text.js';
import type { BlockSql } from '../merkle/block-sql.js';
import type { NodePools } from '../postgres/every-node.js';
import type { Replication } from '../replication/passage.js';
import { MULTISET_REPORT_COLUMNS } from '../table/multiset.js';
import type { TableInfo } from '../table/table-info.js';
import type { TableSpec } from '../table/table-spec.js';

/** One table as it is compared: on which nodes, what of it, by which statements. */
export interface ComparedTable {
  readonly spec: TableSpec;
  readonly sql: BlockSql;
  /** Catalog of every compared node. */
  readonly infos: ReadonlyMap<string, TableInfo>;
  /** The compared nodes, in the cluster's order. */
  readonly pools: NodePools;
  /** Asked for when something differs, once. */
  readonly replication: () => Promise<Replication>;
  /** Nodes that record commit times. */
  readonly commitTimeNodes: ReadonlySet<string>;
  /** Names the seed of the digests. */
  readonly seedId: string;
}

/** The compared columns in the table's own order, as files and pages show them. */
export function reportColumns({ spec, infos }: ComparedTable): ReportColumn[] {
  const compared = new Set(spec.columns.map(({ name }) => name));
  const [info] = infos.values();
  const own = (info?.columns ?? [])
    .filter(({ name }) => compared.has(name))
    .map(({ name, baseTypeOid }) => ({ name, baseTypeOid }));
  return spec.isMultiset === true ? [...MULTISET_REPORT_COLUMNS, ...own] : own;
}
