import { allOrCause } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { Config } from '../config/config.js';
import type { DigestSeed } from '../digest/digest-column.js';
import type { Session } from '../postgres/session.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { TableInfo } from '../table/table-info.js';
import { withoutColumns, type TableSpec } from '../table/table-spec.js';
import type { Replication } from '../replication/passage.js';
import { RepairReportWriter } from '../report/repair-report.js';
import type { ReportColumn } from '../diff-file/row-text.js';
import type { CommandContext, RepairParams, RepairResult } from '../protocol/commands.js';
import type { Ruling } from './decision.js';
import { ValueHasher } from './expectation.js';
import { RepairFile } from './repair-file.js';
import { RepairSql, writtenColumns } from './repair-sql.js';
import { echoes, repairMode, repairRequest, sourceOfTruth, type RepairTarget } from './request.js';
import { checkProof } from './proof.js';
import { joinSpellings } from './spellings.js';
import { describeOrphans } from './orphans.js';
import { ReadSession } from './read-session.js';
import { describeLeftRows } from './left-rows.js';
import { TargetRepair, type RepairCounts } from './target-repair.js';
import { TargetSession } from './target-session.js';

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

/** As the protocol's, with the rows that needed nothing. */
export interface TableRepairResult extends RepairResult {
  readonly nodes: Readonly<Record<string, Readonly<RepairCounts>>>;
}

/**
 * Repairs a table from a diff file. In each pair with the source of truth the other node gets the
 * source's rows as they are now; a row that is no longer what the diff saw is left alone. Running
 * it again is harmless. Errors: BAD_USAGE, UNKNOWN_NODE, BAD_DIFF_FILE, REPAIR_ECHO, NOT_PROVED,
 * MISSING_PRIVILEGE, REPORT_WRITE, those of the connections.
 */
export async function repairTable(options: RepairOptions): Promise<TableRepairResult> {
  try {
    return await repairFromFile(options);
  } catch (error) {
    throw namedAsTyped(error, options.context);
  }
}

/** The daemon reads a copy of the file, under a path that says nothing to the user. */
function namedAsTyped(error: unknown, { inputPath, inputName }: CommandContext): unknown {
  if (!(error instanceof AcedError) || error.code !== 'BAD_DIFF_FILE') return error;
  if (inputPath === undefined || inputName === undefined) return error;
  return new AcedError(error.code, error.message.replaceAll(inputPath, inputName), {
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    logMessage: error.logMessage.replaceAll(inputPath, inputName),
    cause: error,
  });
}

async function repairFromFile(options: RepairOptions): Promise<TableRepairResult> {
  const { context, params, config } = options;
  const startedAt = new Date();
  const mode = repairMode(params);
  const path = context.inputPath;
  if (path === undefined) {
    throw new AcedError('BAD_USAGE', 'no diff file is given', {
      hint: 'Name the file that table-diff wrote: --diff-file <file>.',
    });
  }
  const clusterNodes = config.nodes.map(({ name }) => name);
  const usableNodes = [...options.pools.keys()];
  const source = sourceOfTruth(params, clusterNodes, usableNodes);
  const keyColumns = options.spec.key.map(({ name }) => name);
  context.emit({ type: 'progress', phase: 'Reading the diff file', done: 0, total: 1 });
  const [file, replication] = await allOrCause([
    RepairFile.read({ path, source, keyColumns }),
    options.replication,
  ]);
  const { head } = file;
  // The file's digests are of these columns only, and what was not compared is not written.
  const spec = withoutColumns(options.spec, head.excludedColumns);
  const request = repairRequest({ source, head, path, spec, clusterNodes, usableNodes });
  const isDryRun = params.dryRun === true;
  const warnings = [...request.warnings, ...checkEchoes(replication, request.targets, isDryRun)];
  if (request.targets.length > 0)
    warnings.push(
      ...(await checkProof({ ...options, replication, source, ...request, head, path })),
    );
  const run: RepairRun = { ...options, spec, path, file, source, mode, isDryRun };
  const report = params.generateReport === true ? await createReport(run, startedAt) : null;
  const nodes: Record<string, RepairCounts> = {};
  const files: string[] = [];
  try {
    for (const target of request.targets) {
      const { counts, warnings: more } = await repairTarget(run, target, report);
      nodes[target.node] = counts;
      warnings.push(...more);
    }
    if (report !== null) files.push(await report.finish(Date.now() - startedAt.getTime()));
  } catch (error) {
    await report?.abort();
    throw error;
  }
  return {
    table: `${spec.schema}.${spec.name}`,
    dryRun: isDryRun,
    nodes,
    warnings,
    files,
    timeTakenMs: Date.now() - startedAt.getTime(),
  };
}

interface RepairRun extends RepairOptions {
  readonly path: string;
  readonly file: RepairFile;
  readonly source: string;
  readonly mode: ReturnType<typeof repairMode>;
  readonly isDryRun: boolean;
}

function checkEchoes(
  replication: Replication,
  targets: readonly RepairTarget[],
  isDryRun: boolean,
): string[] {
  const found = echoes(replication.topology, targets);
  const [first] = found;
  if (first !== undefined && !isDryRun) throw first;
  return found.map((error) => `${error.message}. ${error.hint ?? ''}`);
}

async function createReport(run: RepairRun, startedAt: Date): Promise<RepairReportWriter> {
  const { context, config, params, spec, source, path } = run;
  const credentials = config.nodes.find(({ name }) => name === source);
  if (credentials === undefined) {
    throw new AcedError('UNKNOWN_NODE', `no node ${source} in the cluster`);
  }
  return RepairReportWriter.create({
    directory: context.reportDir,
    startedAt,
    columns: columnsOf(spec, infoOf(run, source)),
    credentials,
    arguments: {
      cluster: config.cluster,
      table: `${spec.schema}.${spec.name}`,
      diffFile: context.inputName ?? path,
      sourceOfTruth: source,
      isDryRun: run.isDryRun,
      isInsertOnly: params.insertOnly === true,
      isUpsertOnly: params.upsertOnly === true,
      firesTriggers: params.fireTriggers === true,
    },
  });
}

async function repairTarget(
  run: RepairRun,
  requested: RepairTarget,
  report: RepairReportWriter | null,
): Promise<{ counts: RepairCounts; warnings: string[] }> {
  const { node } = requested;
  const { spec, seed, seedId, file, path, source, context, params } = run;
  const { signal } = context;
  const info = infoOf(run, node);
  const columns = columnsOf(spec, info);
  const ignored = info.columns.map(({ name }) => name);
  const values = file.head.seedId === seedId ? null : new ValueHasher(path, columns, ignored);
  const expectations = await file.expectations(requested, values);
  const sql = new RepairSql(spec, info, seed);
  const ruling: Ruling = { wish: { kind: 'copy', mode: run.mode }, appliesToStale: false };
  return poolOf(run, source).use(
    (sourceSession) =>
      poolOf(run, node).use(async (targetSession) => {
        await joinSpellings(expectations, { spec, target: targetSession, signal });
        const repair = async (
          target: TargetSession | null,
        ): Promise<{ counts: RepairCounts; warnings: string[] }> => {
          const result = await new TargetRepair({
            node,
            expectations,
            rowBytes: file.head.rowBytes,
            rulingOf: () => ruling,
            source: new ReadSession(sourceSession),
            targetReader: new ReadSession(targetSession),
            target,
            tableOid: info.oid,
            sql,
            mayConvert: typesDiffer(spec, info, infoOf(run, source)),
            keepsCommitTime:
              target?.facts.hasSpock === true && (await hasCommitTimes(sourceSession)),
            values,
            ...{ looksFirst: false, looksAtValues: false },
            report,
            signal,
            onProgress: (done, total) =>
              context.emit({ type: 'progress', phase: `Repairing ${node}`, done, total }),
          }).run();
          const facts = { node, source, tableOid: info.oid, session: targetSession };
          const warnings = await describeLeftRows(result, facts);
          if (target !== null && params.fireTriggers !== true) {
            const reader = new ReadSession(targetSession);
            warnings.push(...(await describeOrphans({ ...result, ...facts, reader, spec })));
          }
          return { counts: result.counts, warnings };
        };
        if (run.isDryRun) return repair(null);
        const firesTriggers = params.fireTriggers === true;
        const target = await TargetSession.open(targetSession, {
          firesTriggers,
          tableOid: info.oid,
          signal,
        });
        try {
          return await repair(target);
        } finally {
          await target.close();
        }
      }, signal),
    signal,
  );
}

/** Whether a value of the source may be stored differently: `numeric(10,2)` here, `numeric` there. */
function typesDiffer(spec: TableSpec, target: TableInfo, source: TableInfo): boolean {
  const types = (info: TableInfo): string[] =>
    writtenColumns(spec, info).map(({ declaredType }) => declaredType);
  return types(target).join('\n') !== types(source).join('\n');
}

async function hasCommitTimes(session: Session): Promise<boolean> {
  const rows = await session.query("SELECT pg_catalog.current_setting('track_commit_timestamp')");
  return rows[0]?.[0] === 'on';
}

function columnsOf(spec: TableSpec, info: TableInfo): ReportColumn[] {
  return writtenColumns(spec, info).map(({ name, baseTypeOid }) => ({ name, baseTypeOid }));
}

function infoOf(run: RepairRun, node: string): TableInfo {
  const info = run.infos.get(node);
  if (info === undefined) throw new AcedError('INTERNAL', `node ${node} was not looked at`);
  return info;
}

function poolOf(run: RepairRun, node: string): SessionPool {
  const pool = run.pools.get(node);
  if (pool === undefined) throw new AcedError('INTERNAL', `no connections to node ${node}`);
  return pool;
}
