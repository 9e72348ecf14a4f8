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
import { LookFirst } from './decided-rows.js';
import { inParts, swapped, ValueHasher, type ExpectedRows } from './expectation.js';
import { describeLeftRows } from './left-rows.js';
import { describeOrphans } from './orphans.js';
import type { OwnWrites } from './own-writes.js';
import { ReadSession } from './read-session.js';
import type { RepairFile } from './repair-file.js';
import { RepairSql, writtenColumns } from './repair-sql.js';
import type { RepairPair, RepairWay } from './request.js';
import { toAll, toReport, type TakeChanges } from './row-changes.js';
import { joinSpellings } from './spellings.js';
import { TargetRepair, type RepairCounts, type TargetRepairResult } from './target-repair.js';
import { TargetSession } from './target-session.js';
import { UndoFile } from './undo-file.js';
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
  readonly isDryRun: boolean;
}

export interface PairWork {
  readonly way: Exclude<RepairWay, { kind: 'undo' }>;
  readonly pair: RepairPair;
  readonly report: RepairReportWriter | null;
  readonly ownWrites: OwnWrites | null;
}

/** What is known of the end of a node's repair. */
export interface NodeRepair {
  readonly node: string;
  readonly counts: RepairCounts;
  readonly warnings: readonly string[];
  readonly files: readonly string[];
}

/** One node of a pair, with what it is to get something of. */
interface Side {
  readonly node: string;
  readonly peer: string;
  readonly expectations: ExpectedRows;
}

/** Repairs the target of a pair, or both nodes, one after the other. */
export async function repairPair(run: RepairRun, work: PairWork): Promise<NodeRepair[]> {
  const { source, target } = work.pair;
  const expectations = await expectedRows(run, work.pair);
  const sides: Side[] = [{ node: target, peer: source, expectations }];
  if (work.way.kind !== 'source') {
    sides.push({ node: source, peer: target, expectations: swapped(expectations) });
  }
  const results: NodeRepair[] = [];
  for (const side of sides) results.push(await repairSide(run, side, work));
  return results;
}

async function expectedRows(run: RepairRun, pair: RepairPair): Promise<ExpectedRows> {
  const { file, spec, context } = run;
  const expectations = await file.expectations(pair, valueHasher(run, pair.target));
  await poolOf(run, pair.target).use(
    (session) => joinSpellings(expectations, { spec, target: session, signal: context.signal }),
    context.signal,
  );
  return expectations;
}

/** So many rows are looked at in one go. */
const LOOK_ROWS = 5_000;

/** How many rows of a pair are no longer what the diff saw. */
export async function countChanged(run: RepairRun, pair: RepairPair): Promise<number> {
  const { spec, seed, context } = run;
  const { signal } = context;
  const expectations = await expectedRows(run, pair);
  return poolOf(run, pair.source).use(
    (source) =>
      poolOf(run, pair.target).use(async (target) => {
        const looking = new LookFirst({
          ...{ source: new ReadSession(source), targetReader: new ReadSession(target) },
          sql: new RepairSql(
            spec,
            { target: infoOf(run, pair.target), source: infoOf(run, pair.source) },
            seed,
          ),
          values: valueHasher(run, pair.target),
          withValues: false,
          rulingOf: () => ({ wish: { kind: 'leave' }, appliesToStale: false }),
          ...{ peer: pair.source, node: pair.target, ownWrites: null, signal },
        });
        let changed = 0;
        for (const keys of inParts(expectations.entries(), LOOK_ROWS)) {
          const decided = await looking.look(keys);
          changed += decided.filter(({ decision }) => decision.endsWith('changed')).length;
        }
        return changed;
      }, signal),
    signal,
  );
}

function valueHasher(run: RepairRun, node: string): ValueHasher | null {
  const { file, seedId, path, spec } = run;
  const info = infoOf(run, node);
  const ignored = info.columns.map(({ name }) => name);
  const isOurs = file.head.seedId === digestId(seedId, spec);
  return isOurs ? null : new ValueHasher(path, columnsOf(spec, info), ignored);
}

async function repairSide(run: RepairRun, side: Side, work: PairWork): Promise<NodeRepair> {
  const { context } = run;
  return poolOf(run, side.peer).use(
    (source) =>
      withTarget(run, { ...work, node: side.node }, (opened) =>
        repairTarget(run, { ...side, ...work, ...opened, source }),
      ),
    context.signal,
  );
}

/** A node that is about to be written; `target` is null when it is a dry run. */
export interface OpenedTarget {
  readonly session: Session;
  readonly target: TargetSession | null;
  readonly changes: TakeChanges | null;
}

/** Opens what writes on a node, and what keeps the rows as they were. */
export async function withTarget(
  run: RepairRun,
  { node, report }: { readonly node: string; readonly report: RepairReportWriter | null },
  work: (opened: OpenedTarget) => Promise<Omit<NodeRepair, 'node' | 'files'>>,
): Promise<NodeRepair> {
  const { isDryRun, params, context } = run;
  const { signal } = context;
  return poolOf(run, node).use(async (session) => {
    const toReportOnly = toReport(report, node);
    if (isDryRun) {
      const done = await work({ session, target: null, changes: toReportOnly });
      return { node, ...done, files: [] };
    }
    const target = await TargetSession.open(session, {
      firesTriggers: params.fireTriggers === true,
      tableOid: infoOf(run, node).oid,
      signal,
    });
    const undo = params.saveUndo === true ? await createUndoFile(run, node) : null;
    let file: string | null;
    let done;
    try {
      const changes = toAll([toReportOnly, undo?.take ?? null]);
      done = await work({ session, target, changes });
    } finally {
      await target.close();
      // Whole batches stay written when the rest fails.
      file = (await undo?.finish()) ?? null;
    }
    return { node, ...done, files: file === null ? [] : [file] };
  }, signal);
}

async function createUndoFile(run: RepairRun, node: string): Promise<UndoFile> {
  const { spec, config, context, seedId, file } = run;
  const servers = config.nodes
    .filter(({ name }) => name === node)
    .map(({ name, host, port, database }) => [name, { host, port, database }] as const);
  return UndoFile.create(node, {
    directory: context.reportDir,
    schema: spec.schema,
    table: spec.name,
    columns: columnsOf(spec, infoOf(run, node)),
    primaryKey: spec.key.map(({ name }) => name),
    seedId: digestId(seedId, spec),
    servers: Object.fromEntries(servers),
    excludedColumns: file.head.excludedColumns,
  });
}

interface TargetWork extends Side, PairWork, OpenedTarget {
  readonly source: Session;
}

async function repairTarget(
  run: RepairRun,
  work: TargetWork,
): Promise<Omit<NodeRepair, 'node' | 'files'>> {
  const { spec, seed, file, context, params } = run;
  const { way, node, peer, source, session, target } = work;
  const info = infoOf(run, node);
  const appliesToStale = params.stale === 'apply';
  const ruling = rulingOfWay(way, appliesToStale);
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
    looksFirst: way.kind !== 'source' || appliesToStale,
    looksAtValues: ruling.wish.kind === 'merge',
    deciding: null,
    signal: context.signal,
    onProgress: (done, total) =>
      context.emit({ type: 'progress', phase: `Repairing ${node}`, done, total }),
  }).run();
  const warnings = await describeResult(run, {
    result,
    node,
    peer,
    session,
    isDry: target === null,
  });
  return { counts: result.counts, warnings };
}

/** What a person must know of a node's repair. */
export async function describeResult(
  { spec, infos, pools, params }: RepairRun,
  { result, node, peer, session, isDry }: DescribedResult,
): Promise<string[]> {
  const tableOid = infoOf({ infos, pools }, node).oid;
  const facts = { node, source: peer, tableOid, session };
  const warnings = await describeLeftRows(result, facts);
  if (isDry || params.fireTriggers === true) return warnings;
  const reader = new ReadSession(session);
  return [...warnings, ...(await describeOrphans({ ...result, ...facts, reader, spec }))];
}

interface DescribedResult {
  readonly result: TargetRepairResult;
  readonly node: string;
  readonly peer: string;
  readonly session: Session;
  readonly isDry: boolean;
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

export function poolOf(run: Facts, node: string): SessionPool {
  const pool = run.pools.get(node);
  if (pool === undefined) throw new AcedError('INTERNAL', `no connections to node ${node}`);
  return pool;
}
