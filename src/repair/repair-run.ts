import { AcedError } from '../base/errors.js';
import type { Config } from '../config/config.js';
import type { Reign } from '../lease/lease.js';
import type { ReportColumn } from '../diff-file/row-text.js';
import type { DigestColumn, DigestSeed } from '../digest/digest-column.js';
import type { Session } from '../postgres/session.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { CommandContext, RepairParams } from '../protocol/commands.js';
import type { Replication } from '../replication/passage.js';
import { MULTISET_REPORT_COLUMNS } from '../table/multiset.js';
import type { TableInfo } from '../table/table-info.js';
import { digestId, type TableSpec } from '../table/table-spec.js';
import { ValueHasher } from './expectation.js';
import type { RepairFile } from './repair-file.js';
import { RepairSql, writtenColumns } from './repair-sql.js';

export interface RepairOptions {
  readonly spec: TableSpec;
  readonly infos: ReadonlyMap<string, TableInfo>;
  readonly pools: ReadonlyMap<string, SessionPool>;
  /** Of the whole cluster: a node that is not repaired may still receive the repair. */
  readonly replication: Promise<Replication>;
  readonly seed: DigestSeed;
  readonly seedId: string;
  readonly params: RepairParams;
  readonly context: CommandContext;
  readonly config: Config;
  /** Of the active one of several aced; null: there is one. */
  readonly reign: Reign | null;
}

/** A repair that has been checked. */
export interface RepairRun extends Omit<RepairOptions, 'replication'> {
  readonly replication: Replication;
  readonly path: string;
  readonly file: RepairFile;
  readonly isDryRun: boolean;
  /** Columns that the diff left out, and that could be compared. */
  readonly leftOut: readonly DigestColumn[];
}

export function valueHasher(run: RepairRun, node: string): ValueHasher | null {
  const { file, seedId, path, spec } = run;
  const info = infoOf(run, node);
  const ignored = info.columns.map(({ name }) => name);
  const isOurs = file.head.seedId === digestId(seedId, spec);
  return isOurs ? null : new ValueHasher(path, columnsOf(spec, info), ignored);
}

export async function hasCommitTimes(session: Session): Promise<boolean> {
  const rows = await session.query("SELECT pg_catalog.current_setting('track_commit_timestamp')");
  return rows[0]?.[0] === 'on';
}

export function columnsOf(spec: TableSpec, info: TableInfo): ReportColumn[] {
  return writtenColumns(spec, info).map(({ name, baseTypeOid }) => ({ name, baseTypeOid }));
}

/** What reports and undo files have of a row. */
export function shownColumns(spec: TableSpec, info: TableInfo): ReportColumn[] {
  const own = columnsOf(spec, info);
  return spec.isMultiset === true ? [...MULTISET_REPORT_COLUMNS, ...own] : own;
}

/** The statements that write on a node, with a peer's rows. */
export function sqlOf(
  run: RepairRun,
  {
    node,
    peer,
    carried = [],
  }: {
    readonly node: string;
    readonly peer: string;
    readonly carried?: readonly DigestColumn[];
  },
): RepairSql {
  const infos = { target: infoOf(run, node), source: infoOf(run, peer) };
  return new RepairSql(run.spec, infos, run.seed, { carried });
}

type Facts = Pick<RepairOptions, 'infos' | 'pools'>;

export function infoOf(run: Facts, node: string): TableInfo {
  const info = run.infos.get(node);
  if (info === undefined) throw new AcedError('INTERNAL', `node ${node} was not looked at`);
  return info;
}

export function poolOf(run: Facts, node: string): SessionPool {
  const pool = run.pools.get(node);
  if (pool === undefined) throw new AcedError('INTERNAL', `no connections to node ${node}`);
  return pool;
}
