import { steadyNowMs } from '../base/clock.js';
import { allOrCause } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { withoutColumns, type TableSpec } from '../table/table-spec.js';
import { RepairReportWriter } from '../report/repair-report.js';
import type {
  CommandContext,
  FailedRow,
  RepairParams,
  RepairResult,
} from '../protocol/commands.js';
import { OwnWrites } from './own-writes.js';
import { countChanged, repairPair, type NodeRepair } from './pair-repair.js';
import { infoOf, shownColumns, type RepairOptions, type RepairRun } from './repair-run.js';
import { namedAsTyped, requireInput } from '../diff-file/input-file.js';
import { checkProof } from './file-proof.js';
import { readDiffFile } from '../diff-file/diff-reader.js';
import { describeApplied, furthestSurvivor, readRecovery, type Recovery } from './recovery.js';
import { RepairFile } from './repair-file.js';
import {
  checkFile,
  echoes,
  repairRequest,
  repairWay,
  takesSource,
  type RepairPair,
  type RepairRequest,
  type RepairWay,
  type RequestFacts,
} from './request.js';
import { noCounts, sumCounts, type RepairCounts } from './target-repair.js';
import { RowSums } from './row-sums.js';
import { undoneNodes } from './undo-file.js';
import { undoNode } from './undo.js';
import { checkCopies, repairCopies } from './copies-repair.js';

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

async function repairFromFile(options: RepairOptions): Promise<TableRepairResult> {
  const { context, config } = options;
  const startedAt = new Date();
  const startedAtMs = steadyNowMs();
  const path = requireInput(context);
  const clusterNodes = config.nodes.map(({ name }) => name);
  const usableNodes = [...options.pools.keys()];
  const table = `${options.spec.schema}.${options.spec.name}`;
  const recovery = await recoveryOf(options, path);
  const params = withSource(options.params, recovery);
  if (recovery !== null) tellRecovery(recovery, params, context);
  const way = repairWay(params, { table, clusterNodes, usableNodes });
  const source = way.kind === 'source' ? way.source : null;
  const keyColumns = options.spec.key.map(({ name }) => name);
  context.emit({ type: 'progress', phase: 'Reading the diff file', done: 0, total: 1 });
  const [file, replication] = await allOrCause([
    RepairFile.read({ path, source, keyColumns }),
    recovery?.replication ?? options.replication,
  ]);
  const { head } = file;
  // The file's digests are of these columns only, and what was not compared is not written.
  const spec = withoutColumns(options.spec, head.excludedColumns);
  const compared = new Set(spec.columns.map(({ name }) => name));
  const leftOut = options.spec.columns.filter(({ name }) => !compared.has(name));
  const isDryRun = params.dryRun === true;
  const run: RepairRun = { ...options, params, replication, spec, path, file, isDryRun, leftOut };
  const isRecovery = recovery !== null;
  const facts = { source, head, path, spec, clusterNodes, usableNodes, isRecovery };
  const request = way.kind === 'undo' ? undoRequest(facts) : repairRequest(facts);
  const warnings = [
    ...(recovery?.warnings ?? []),
    ...request.warnings,
    ...(await check(run, way, request)),
  ];
  const report = params.generateReport === true ? await createReport(run, way, startedAt) : null;
  const nodes: Record<string, RepairCounts> = {};
  const files: string[] = [];
  const sums = new Map<string, RowSums>();
  const failedRows: FailedRow[] = [];
  const ruleMatches: Record<string, number> = {};
  try {
    for await (const result of repairAll(run, { way, pairs: request.pairs, report })) {
      const { node, counts } = result;
      nodes[node] = sumCounts(nodes[node] ?? noCounts(), counts);
      const sum = sums.get(node) ?? new RowSums();
      sum.addAll(result.sums);
      sums.set(node, sum);
      warnings.push(...result.warnings);
      files.push(...result.files);
      failedRows.push(...namedRows(spec, result));
      for (const [rule, rows] of result.matches ?? []) {
        ruleMatches[rule] = (ruleMatches[rule] ?? 0) + rows;
      }
    }
    if (report !== null) files.push(await report.finish(steadyNowMs() - startedAtMs));
  } catch (error) {
    await report?.abort();
    throw error;
  }
  return {
    table,
    dryRun: isDryRun,
    nodes,
    warnings: [...new Set(warnings)],
    files,
    ...(isDryRun ? {} : { digests: textsOf(sums) }),
    ...(failedRows.length === 0 ? {} : { failedRows }),
    ...(recovery === null
      ? {}
      : { recovery: { lost: recovery.lost, applied: recovery.applied, source } }),
    ...(way.kind === 'plan' ? { ruleMatches } : {}),
    timeTakenMs: steadyNowMs() - startedAtMs,
  };
}

function textsOf(sums: ReadonlyMap<string, RowSums>): Required<RepairResult>['digests'] {
  return Object.fromEntries([...sums].map(([node, sum]) => [node, sum.texts()]));
}

/** For a person: keys with the names of their columns. */
function namedRows(spec: TableSpec, { node, failedRows }: NodeRepair): FailedRow[] {
  return failedRows.map(({ key, reason }) => ({
    node,
    key: Object.fromEntries(spec.key.map(({ name }, i) => [name, key[i] ?? ''])),
    reason,
  }));
}

/** Null: nobody has said that a node was lost. Errors: BAD_USAGE, those of readRecovery. */
async function recoveryOf(options: RepairOptions, path: string): Promise<Recovery | null> {
  if (options.params.recoveryMode !== true || options.params.undo === true) return null;
  return readRecovery(options, await readDiffFile(path), await options.replication);
}

/** Where no source of truth is named and the way takes one, the furthest survivor is it. */
function withSource(params: RepairParams, recovery: Recovery | null): RepairParams {
  if (recovery === null || params.sourceOfTruth !== undefined || !takesSource(params))
    return params;
  return { ...params, sourceOfTruth: furthestSurvivor(recovery) };
}

function tellRecovery(recovery: Recovery, params: RepairParams, { emit }: CommandContext): void {
  const source = params.sourceOfTruth;
  const chosen = source === undefined ? '' : `; ${source} is the source of truth`;
  emit({ type: 'log', level: 'info', message: `${describeApplied(recovery)}${chosen}` });
}

interface AllPairs {
  readonly way: RepairWay;
  readonly pairs: readonly RepairPair[];
  readonly report: RepairReportWriter | null;
}

/** One node after the other. */
async function* repairAll(
  run: RepairRun,
  { way, pairs, report }: AllPairs,
): AsyncGenerator<NodeRepair> {
  const ownWrites = way.kind === 'source' ? null : new OwnWrites();
  for (const pair of pairs) {
    if (run.spec.isMultiset === true) yield* await repairCopies(run, { way, pair, report });
    else if (way.kind === 'undo') yield await undoNode(run, { node: pair.target, report });
    else yield* await repairPair(run, { way, pair, report, ownWrites });
  }
}

/** What an undo file is about: pairs of a node with itself. */
function undoRequest(facts: RequestFacts): RepairRequest {
  const { head, path, clusterNodes, usableNodes } = facts;
  checkFile(facts);
  const pairs = undoneNodes(head.pairs, path).map((node) => {
    if (!clusterNodes.includes(node) || !usableNodes.includes(node)) {
      throw new AcedError(
        'UNKNOWN_NODE',
        `${path} is about node ${node}, which is not among them`,
        {
          hint: `The nodes are ${usableNodes.join(', ')}.`,
        },
      );
    }
    return { name: node, source: node, target: node };
  });
  return { pairs, warnings: [] };
}

/** What the repair is refused for; returns it as warnings where the user insists. */
async function check(run: RepairRun, way: RepairWay, { pairs }: RepairRequest): Promise<string[]> {
  if (pairs.length === 0) return [];
  const { isDryRun, file, path, replication } = run;
  if (run.spec.isMultiset === true) checkCopies(run, way);
  if (run.params.saveUndo === true) checkUndo(run, way, pairs);
  const targets = pairs.map(({ target }) => target);
  const nodes = new Set([...targets, ...pairs.map(({ source }) => source)]);
  const written = way.kind === 'source' ? new Set(targets) : nodes;
  const found = echoes(replication.topology, written);
  const [first] = found;
  if (first !== undefined && !isDryRun) throw first;
  const isRecovery = run.params.recoveryMode === true;
  const unproved = await checkProof({ ...run, nodes, head: file.head, path, isRecovery });
  if (run.params.stale === 'fail') await checkUnchanged(run, pairs);
  return [...found.map((error) => `${error.message}. ${error.hint ?? ''}`), ...unproved];
}

/** An undo file has a row once, and its compared columns alone. Errors: BAD_USAGE. */
function checkUndo(
  { params, spec, leftOut }: RepairRun,
  way: RepairWay,
  pairs: readonly RepairPair[],
): void {
  const uncompared = spec.excluded.filter(({ cause }) => cause !== 'generated');
  const lost = [...uncompared, ...leftOut].map(({ name }) => name);
  const mayDelete = params.insertOnly !== true && params.upsertOnly !== true;
  if (lost.length > 0 && mayDelete) {
    throw new AcedError(
      'BAD_USAGE',
      `--save-undo: a deleted row would come back without what is not compared: ${lost.join(', ')}`,
      { hint: 'Repair with --upsert-only, or from a diff that compares all columns.' },
    );
  }
  const written = pairs.flatMap(({ source, target }) =>
    ['source', 'undo'].includes(way.kind) ? [target] : [source, target],
  );
  const twice = written.find((node, i) => written.indexOf(node) !== i);
  if (twice === undefined) return;
  throw new AcedError(
    'BAD_USAGE',
    `--save-undo: ${twice} would be written once for each of its pairs`,
    {
      hint: 'Repair two nodes at a time: --nodes <one>,<other>.',
    },
  );
}

/** Errors: ROWS_CHANGED, before anything is written. */
async function checkUnchanged(run: RepairRun, pairs: readonly RepairPair[]): Promise<void> {
  const counts: string[] = [];
  for (const pair of pairs) {
    const changed = await countChanged(run, pair);
    if (changed > 0) counts.push(`${changed} of ${pair.name}`);
  }
  if (counts.length === 0) return;
  throw new AcedError(
    'ROWS_CHANGED',
    `nothing is repaired: rows are no longer what the diff saw, ${counts.join(', ')}`,
    { hint: 'Run the diff again and repair from the new file, or leave --stale=fail out.' },
  );
}

async function createReport(
  run: RepairRun,
  way: RepairWay,
  startedAt: Date,
): Promise<RepairReportWriter> {
  const { context, config, params, spec, path } = run;
  const source = way.kind === 'source' ? way.source : '';
  const credentials = config.nodes.find(({ name }) => name === source) ?? config.nodes[0];
  if (credentials === undefined) {
    throw new AcedError('UNKNOWN_NODE', 'the cluster has no nodes');
  }
  return RepairReportWriter.create({
    directory: context.reportDir,
    startedAt,
    columns: shownColumns(spec, infoOf(run, credentials.name)),
    credentials,
    arguments: {
      cluster: config.cluster,
      table: `${spec.schema}.${spec.name}`,
      diffFile: context.inputName ?? path,
      sourceOfTruth: source,
      isDryRun: run.isDryRun,
      isInsertOnly: params.insertOnly === true,
      isUpsertOnly: params.upsertOnly === true,
      isBidirectional: params.bidirectional === true,
      fixesNulls: params.fixNulls === true,
      firesTriggers: params.fireTriggers === true,
      isRecovery: params.recoveryMode === true,
    },
  });
}
