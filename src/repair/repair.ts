import { allOrCause } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { withoutColumns } from '../table/table-spec.js';
import type { Replication } from '../replication/passage.js';
import { RepairReportWriter } from '../report/repair-report.js';
import type { RepairResult } from '../protocol/commands.js';
import { OwnWrites } from './own-writes.js';
import {
  columnsOf,
  infoOf,
  repairPair,
  type RepairOptions,
  type RepairRun,
} from './pair-repair.js';
import { namedAsTyped, requireInput } from '../diff-file/input-file.js';
import { checkProof } from './proof.js';
import { RepairFile } from './repair-file.js';
import { echoes, repairRequest, repairWay, type RepairPair } from './request.js';
import type { RepairCounts } from './target-repair.js';

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
  const { context, params, config } = options;
  const startedAt = new Date();
  const path = requireInput(context);
  const clusterNodes = config.nodes.map(({ name }) => name);
  const usableNodes = [...options.pools.keys()];
  const way = repairWay(params, clusterNodes, usableNodes);
  const source = way.kind === 'source' ? way.source : null;
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
  const run: RepairRun = { ...options, spec, path, file, way, isDryRun };
  const warnings = [...request.warnings, ...(await check(run, replication, request.pairs))];
  const report = params.generateReport === true ? await createReport(run, startedAt) : null;
  const nodes: Record<string, RepairCounts> = {};
  const files: string[] = [];
  try {
    const ownWrites = way.kind === 'source' ? null : new OwnWrites();
    for (const pair of request.pairs) {
      for (const { node, result } of await repairPair(run, { pair, report, ownWrites })) {
        nodes[node] = sum(nodes[node], result.counts);
        warnings.push(...result.warnings);
      }
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
    warnings: [...new Set(warnings)],
    files,
    timeTakenMs: Date.now() - startedAt.getTime(),
  };
}

function sum(before: RepairCounts | undefined, counts: RepairCounts): RepairCounts {
  if (before === undefined) return counts;
  return {
    upserted: before.upserted + counts.upserted,
    deleted: before.deleted + counts.deleted,
    skipped: before.skipped + counts.skipped,
    failed: before.failed + counts.failed,
    alreadyEqual: before.alreadyEqual + counts.alreadyEqual,
    left: before.left + counts.left,
  };
}

/** What the repair is refused for; returns it as warnings where the user insists. */
async function check(
  run: RepairRun,
  replication: Replication,
  pairs: readonly RepairPair[],
): Promise<string[]> {
  if (pairs.length === 0) return [];
  const { way, isDryRun, file, path } = run;
  const targets = pairs.map(({ target }) => target);
  const nodes = new Set([...targets, ...pairs.map(({ source }) => source)]);
  const written = way.kind === 'source' ? new Set(targets) : nodes;
  const found = echoes(replication.topology, written);
  const [first] = found;
  if (first !== undefined && !isDryRun) throw first;
  return [
    ...found.map((error) => `${error.message}. ${error.hint ?? ''}`),
    ...(await checkProof({ ...run, replication, nodes, head: file.head, path })),
  ];
}

async function createReport(run: RepairRun, startedAt: Date): Promise<RepairReportWriter> {
  const { context, config, params, spec, path, way } = run;
  const source = way.kind === 'source' ? way.source : '';
  const credentials = config.nodes.find(({ name }) => name === source) ?? config.nodes[0];
  if (credentials === undefined) {
    throw new AcedError('UNKNOWN_NODE', 'the cluster has no nodes');
  }
  return RepairReportWriter.create({
    directory: context.reportDir,
    startedAt,
    columns: columnsOf(spec, infoOf(run, credentials.name)),
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
    },
  });
}
