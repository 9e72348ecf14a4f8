import type { LeaderKey } from '../mirror/leader.js';
import type { Session } from '../postgres/session.js';
import type { RepairReportWriter } from '../report/repair-report.js';
import { declarationOf } from '../table/build-spec.js';
import type { TableInfo } from '../table/table-info.js';
import { digestId, type TableSpec } from '../table/table-spec.js';
import { LookFirst } from './decided-rows.js';
import type { Ruling } from './decision.js';
import { chosen, inParts, swapped, type ExpectedRows } from './expectation.js';
import { carriedColumns } from './carried-columns.js';
import { describeLeftRows } from './left-rows.js';
import { describeOrphans } from './orphans.js';
import type { OwnWrites } from './own-writes.js';
import { rulePair, type PairRulings } from './plan-pair.js';
import { ReadSession } from './read-session.js';
import {
  hasCommitTimes,
  infoOf,
  poolOf,
  shownColumns,
  sqlOf,
  valueHasher,
  type RepairRun,
} from './repair-run.js';
import { writtenColumns } from './repair-sql.js';
import type { RepairPair, RepairWay } from './request.js';
import type { RowSums } from './row-sums.js';
import { toAll, toReport, type TakeChanges } from './row-changes.js';
import { joinSpellings } from './spellings.js';
import { TargetRepair, type RepairCounts, type TargetRepairResult } from './target-repair.js';
import { TargetSession } from './target-session.js';
import { UndoFile } from './undo-file.js';
import { rulingOfWay } from './ways.js';

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
  readonly failedRows: TargetRepairResult['failedRows'];
  readonly sums: RowSums;
  /** Of the pair, with its first node: rule of the plan -> rows. */
  readonly matches?: ReadonlyMap<string, number>;
}

/** One node of a pair, with what it is to get something of. */
interface Side {
  readonly node: string;
  readonly peer: string;
  readonly expectations: ExpectedRows;
  /** By the place of the key. Null: the way of the repair rules all of them. */
  readonly rulings: ReadonlyMap<number, Ruling> | null;
}

/** Repairs the target of a pair, or both nodes, one after the other. */
export async function repairPair(run: RepairRun, work: PairWork): Promise<NodeRepair[]> {
  const { pair, way } = work;
  const expectations = await expectedRows(run, pair);
  const ruled = way.kind === 'plan' ? await rulePair(run, { ...work, ...way, expectations }) : null;
  const results: NodeRepair[] = [];
  for (const side of sidesOf(work, expectations, ruled)) {
    const result = await repairSide(run, side, work);
    const isFirst = results.length === 0;
    results.push(ruled !== null && isFirst ? { ...result, matches: ruled.matches } : result);
  }
  return results;
}

function sidesOf(
  { pair: { source, target }, way }: PairWork,
  expectations: ExpectedRows,
  ruled: PairRulings | null,
): Side[] {
  const there: Side = { node: target, peer: source, expectations, rulings: null };
  if (way.kind === 'source') return [there];
  const here: Side = {
    ...{ node: source, peer: target, rulings: null },
    expectations: swapped(expectations),
  };
  if (ruled === null) return [there, here];
  const of = (side: Side, rulings: ReadonlyMap<number, Ruling>): Side => ({
    ...side,
    expectations: chosen(side.expectations, rulings),
    rulings,
  });
  return [of(there, ruled.target), of(here, ruled.source)];
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
  const { signal } = run.context;
  const expectations = await expectedRows(run, pair);
  return poolOf(run, pair.source).use(
    (source) =>
      poolOf(run, pair.target).use(async (target) => {
        const looking = new LookFirst({
          ...{ source: new ReadSession(source), targetReader: new ReadSession(target) },
          sql: sqlOf(run, { node: pair.target, peer: pair.source }),
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
      leader: leaderKey(run),
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

function leaderKey({ config, reign }: RepairRun): LeaderKey | null {
  return reign === null ? null : { schema: config.nodeSchema, cluster: config.cluster, reign };
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
    columns: shownColumns(spec, infoOf(run, node)),
    primaryKey: spec.key.map(({ name }) => name),
    seedId: digestId(seedId, spec),
    servers: Object.fromEntries(servers),
    excludedColumns: file.head.excludedColumns,
  });
}

const LEAVE: Ruling = { wish: { kind: 'leave' }, appliesToStale: false };

interface TargetWork extends Side, PairWork, OpenedTarget {
  readonly source: Session;
}

async function repairTarget(
  run: RepairRun,
  work: TargetWork,
): Promise<Omit<NodeRepair, 'node' | 'files'>> {
  const { spec, file, context, params } = run;
  const { way, rulings, node, peer, source, session, target } = work;
  const info = infoOf(run, node);
  const appliesToStale = params.stale === 'apply';
  const ruling = way.kind === 'plan' ? null : rulingOfWay(way, appliesToStale);
  const carried = await carriedColumns(run, work);
  const reader = new ReadSession(session);
  const result = await new TargetRepair({
    ...work,
    ...{ source: new ReadSession(source), targetReader: reader },
    rowBytes: file.head.rowBytes,
    rulingOf: ({ place }) => ruling ?? rulings?.get(place) ?? LEAVE,
    tableOid: info.oid,
    sql: sqlOf(run, { node, peer, carried: carried.columns }),
    mayConvert: typesDiffer(spec, info, infoOf(run, peer)),
    keepsCommitTime:
      (target?.facts.hasSpock === true || params.preserveOrigin === true) &&
      (await hasCommitTimes(source)),
    values: valueHasher(run, node),
    looksFirst: way.kind !== 'source' || appliesToStale,
    looksAtValues: ruling?.wish.kind === 'merge',
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
  const { counts, failedRows, sums } = result;
  return { counts, failedRows, sums, warnings: [...carried.warnings, ...warnings] };
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
