import { AcedError } from '../base/errors.js';
import type { Config } from '../config/config.js';
import type { ReportColumn } from '../diff-file/row-text.js';
import type { DigestSeed } from '../digest/digest-column.js';
import type { Session } from '../postgres/session.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { CommandContext, RepairParams } from '../protocol/commands.js';
import type { Replication } from '../replication/passage.js';
import type { RepairReportWriter } from '../report/repair-report.js';
import { declarationOf } from '../table/build-spec.js';
import type { TableInfo } from '../table/table-info.js';
import { digestId, type TableSpec } from '../table/table-spec.js';
import { swapped, ValueHasher, type ExpectedRows } from './expectation.js';
import { describeLeftRows } from './left-rows.js';
import { describeOrphans } from './orphans.js';
import type { OwnWrites } from './own-writes.js';
import { ReadSession } from './read-session.js';
import type { RepairFile } from './repair-file.js';
import { RepairSql, writtenColumns } from './repair-sql.js';
import type { RepairPair, RepairWay } from './request.js';
import { joinSpellings } from './spellings.js';
import { TargetRepair, type RepairCounts } from './target-repair.js';
import { TargetSession } from './target-session.js';
import { rulingOfWay } from './ways.js';

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
}

/** A repair that has been checked. */
export interface RepairRun extends Omit<RepairOptions, 'replication'> {
  readonly path: string;
  readonly file: RepairFile;
  readonly way: RepairWay;
  readonly isDryRun: boolean;
}

export interface PairWork {
  readonly pair: RepairPair;
  readonly report: RepairReportWriter | null;
  readonly ownWrites: OwnWrites | null;
}

export interface NodeRepair {
  readonly counts: RepairCounts;
  readonly warnings: readonly string[];
}

/** One node of a pair, with what it is to get something of. */
interface Side {
  readonly node: string;
  readonly peer: string;
  readonly expectations: ExpectedRows;
}

/** Repairs the target of a pair, or both nodes, one after the other. */
export async function repairPair(
  run: RepairRun,
  work: PairWork,
): Promise<{ readonly node: string; readonly result: NodeRepair }[]> {
  const { file, spec, way, context } = run;
  const { source, target } = work.pair;
  const values = valueHasher(run, target);
  const expectations = await file.expectations(work.pair, values);
  await poolOf(run, target).use(
    (session) => joinSpellings(expectations, { spec, target: session, signal: context.signal }),
    context.signal,
  );
  const sides: Side[] = [{ node: target, peer: source, expectations }];
  if (way.kind !== 'source') {
    sides.push({ node: source, peer: target, expectations: swapped(expectations) });
  }
  const results: { node: string; result: NodeRepair }[] = [];
  for (const side of sides) {
    results.push({ node: side.node, result: await repairSide(run, side, work) });
  }
  return results;
}

function valueHasher(run: RepairRun, node: string): ValueHasher | null {
  const { file, seedId, path, spec } = run;
  const info = infoOf(run, node);
  const ignored = info.columns.map(({ name }) => name);
  const isOurs = file.head.seedId === digestId(seedId, spec);
  return isOurs ? null : new ValueHasher(path, columnsOf(spec, info), ignored);
}

async function repairSide(run: RepairRun, side: Side, work: PairWork): Promise<NodeRepair> {
  const { isDryRun, params, context } = run;
  const { signal } = context;
  const { node, peer } = side;
  return poolOf(run, peer).use(
    (source) =>
      poolOf(run, node).use(async (session) => {
        const sessions = { source, session };
        if (isDryRun) return repairTarget(run, { ...side, ...work, ...sessions, target: null });
        const target = await TargetSession.open(session, {
          firesTriggers: params.fireTriggers === true,
          tableOid: infoOf(run, node).oid,
          signal,
        });
        try {
          return await repairTarget(run, { ...side, ...work, ...sessions, target });
        } finally {
          await target.close();
        }
      }, signal),
    signal,
  );
}

interface TargetWork extends Side, PairWork {
  readonly source: Session;
  readonly session: Session;
  readonly target: TargetSession | null;
}

async function repairTarget(run: RepairRun, work: TargetWork): Promise<NodeRepair> {
  const { spec, seed, file, way, context, params } = run;
  const { node, peer, source, session, target } = work;
  const info = infoOf(run, node);
  const ruling = rulingOfWay(way, false);
  const reader = new ReadSession(session);
  const result = await new TargetRepair({
    ...work,
    ...{ source: new ReadSession(source), targetReader: reader },
    rowBytes: file.head.rowBytes,
    rulingOf: () => ruling,
    tableOid: info.oid,
    sql: new RepairSql(spec, { target: info, source: infoOf(run, peer) }, seed),
    mayConvert: typesDiffer(spec, info, infoOf(run, peer)),
    keepsCommitTime: target?.facts.hasSpock === true && (await hasCommitTimes(source)),
    values: valueHasher(run, node),
    looksFirst: way.kind !== 'source',
    looksAtValues: ruling.wish.kind === 'merge',
    signal: context.signal,
    onProgress: (done, total) =>
      context.emit({ type: 'progress', phase: `Repairing ${node}`, done, total }),
  }).run();
  const facts = { node, source: peer, tableOid: info.oid, session };
  const warnings = await describeLeftRows(result, facts);
  if (target !== null && params.fireTriggers !== true) {
    warnings.push(...(await describeOrphans({ ...result, ...facts, reader, spec })));
  }
  return { counts: result.counts, warnings };
}

/** Whether a value of the source may be stored differently: `numeric(10,2)` here, `numeric` there. */
function typesDiffer(spec: TableSpec, target: TableInfo, source: TableInfo): boolean {
  const types = (info: TableInfo): string[] => writtenColumns(spec, info).map(declarationOf);
  return types(target).join('\n') !== types(source).join('\n');
}

async function hasCommitTimes(session: Session): Promise<boolean> {
  const rows = await session.query("SELECT pg_catalog.current_setting('track_commit_timestamp')");
  return rows[0]?.[0] === 'on';
}

export function columnsOf(spec: TableSpec, info: TableInfo): ReportColumn[] {
  return writtenColumns(spec, info).map(({ name, baseTypeOid }) => ({ name, baseTypeOid }));
}

type Facts = Pick<RepairOptions, 'infos' | 'pools'>;

export function infoOf(run: Facts, node: string): TableInfo {
  const info = run.infos.get(node);
  if (info === undefined) throw new AcedError('INTERNAL', `node ${node} was not looked at`);
  return info;
}

function poolOf(run: Facts, node: string): SessionPool {
  const pool = run.pools.get(node);
  if (pool === undefined) throw new AcedError('INTERNAL', `no connections to node ${node}`);
  return pool;
}
