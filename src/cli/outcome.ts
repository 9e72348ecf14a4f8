import type {
  BuildResult,
  CommandName,
  CommandResults,
  DiffResult,
  DriftRepairResult,
  InitResult,
  OfServers,
  RepairResult,
  StatusResult,
  UpdateResult,
  VerifiedTable,
  VerifyResult,
} from '../protocol/commands.js';

import { describeCanary, describeDriftList, describeIncident } from './drift-outcome.js';
import {
  EXIT_DIFFERENT,
  EXIT_DONE,
  EXIT_TROUBLE,
  age,
  bytes,
  grid,
  info,
  plain,
  warn,
  type Outcome,
  type OutcomeLine,
} from './outcome-lines.js';
import { describeMany } from './many-outcome.js';
import { describeDoctor } from './doctor-outcome.js';
import { describeReplication } from './replication-outcome.js';
import { describeTasks } from './task-outcome.js';
import { describeStructure } from './structure-outcome.js';
import { describeServer } from '../protocol/servers.js';

type Describers = {
  readonly [Name in CommandName]: (result: CommandResults[Name]) => Outcome;
};

const DESCRIBERS: Describers = {
  'mtree-init': describeInit,
  'mtree-build': describeBuild,
  'mtree-update': describeUpdate,
  'mtree-verify': describeVerify,
  'mtree-table-diff': describeDiff,
  'mtree-teardown': describeInit,
  'mtree-teardown-table': describeInit,
  'table-diff': describeDiff,
  'structure-diff': describeStructure,
  'table-rerun': describeDiff,
  'replication-diff': describeReplication,
  doctor: describeDoctor,
  tasks: describeTasks,
  'table-repair': describeRepair,
  status: describeStatus,
  'drift-list': describeDriftList,
  'drift-show': describeIncident,
  'drift-watch': nothingToSay,
  // Asked for by completion and by the screen.
  names: nothingToSay,
  top: nothingToSay,
  'drift-ack': describeIncident,
  'drift-canary': describeCanary,
  'drift-repair': describeDriftRepair,
  'mtree-build-many': describeMany,
  'mtree-update-many': describeMany,
  'mtree-verify-many': describeMany,
  'mtree-table-diff-many': describeMany,
  'mtree-teardown-table-many': describeMany,
  'table-diff-many': describeMany,
};

function nothingToSay(): Outcome {
  return { lines: [], exitCode: EXIT_DONE };
}

export function describeOutcome<Name extends CommandName>(
  name: Name,
  result: CommandResults[Name],
): Outcome {
  return DESCRIBERS[name](result);
}

function describeDiff(result: DiffResult & OfServers): Outcome {
  const lines: OutcomeLine[] = result.excludedColumns.map(({ name, reason }) =>
    warn(`Column ${name} was not compared: ${reason}`),
  );
  lines.push(...result.warnings.map(warn));
  const found = Object.entries(result.differences).filter(([, rows]) => rows > 0);
  lines.push(verdictLine(result));
  for (const [pair, rows] of found) lines.push(warn(`Found ${rows} differences between ${pair}`));
  for (const [pair, rows] of Object.entries(result.toleratedRows ?? {})) {
    lines.push(warn(`${rows} more differ within the tolerance between ${pair}`));
  }
  if (result.newerRows !== undefined) {
    lines.push(info(`${result.newerRows} rows that differ were written later, and left out`));
  }
  const agreement = agreementLine(result);
  if (agreement !== null) lines.push(agreement);
  if (result.verdict === 'drift' && result.inFlightRows > 0) {
    lines.push(warn(`Another ${rowsOf(result.inFlightRows)} still being replicated`));
  }
  if (result.rowLimitReached) {
    lines.push(warn('Stopped at the limit of differing rows (max_diff_rows): there may be more'));
  }
  lines.push(...result.files.map((file) => info(`Diff report written to ${file}`)));
  for (const [node, position] of Object.entries(result.positions)) {
    lines.push(info(`As of ${position} on ${named(result, node)}`));
  }
  return { lines, exitCode: exitCodeOf(result) };
}

function verdictLine(result: DiffResult): OutcomeLine {
  const { verdict, table, inFlightRows, comparedRows } = result;
  switch (verdict) {
    case 'match':
      // Of the other rows nothing is known.
      return info(
        comparedRows === undefined
          ? '✔ TABLES MATCH'
          : `✔ THE ${comparedRows} ROWS OF THE DIFF FILE MATCH`,
      );
    case 'drift':
      return warn(
        comparedRows === undefined
          ? '✘ TABLES DO NOT MATCH'
          : `✘ OF THE ${comparedRows} ROWS OF THE DIFF FILE SOME STILL DIFFER`,
      );
    case 'in_flight':
      return warn(`NOT PROVED EQUAL: ${rowsOf(inFlightRows)} still being replicated`);
    case 'starved':
      return warn('NOT PROVED EQUAL: a stream or a subscription is behind');
    case 'schema_mismatch':
      return warn(`NOT COMPARABLE: the definitions of ${table} differ`);
    case 'unverified':
      return warn('NOT PROVED EQUAL: something could not be checked');
  }
}

/** Of two nodes there is nothing to say that the differences do not. */
function agreementLine({ verdict, nodes, agreement }: DiffResult): OutcomeLine | null {
  if (verdict !== 'drift' || agreement === undefined || nodes.length < 3) return null;
  const agreeing = agreement.filter((group) => group.length > 1).map((group) => group.join(', '));
  return info(
    agreeing.length === 0
      ? 'No two nodes agree'
      : agreeing.map((group) => `These nodes agree: ${group}`).join('. '),
  );
}

function exitCodeOf({ verdict }: DiffResult): number {
  if (verdict === 'match') return EXIT_DONE;
  return verdict === 'drift' ? EXIT_DIFFERENT : EXIT_TROUBLE;
}

function rowsOf(rows: number): string {
  return rows === 1 ? '1 row is' : `${rows} rows are`;
}

const SHOWN_FAILED_ROWS = 20;

function keyOf(key: Readonly<Record<string, string>>): string {
  return Object.entries(key)
    .map(([name, text]) => `${name} = ${text}`)
    .join(', ');
}

function describeRepair(result: RepairResult & OfServers): Outcome {
  const lines: OutcomeLine[] = result.warnings.map(warn);
  const would = result.dryRun ? 'would be ' : '';
  let isWhole = true;
  for (const [node, counts] of Object.entries(result.nodes)) {
    const { upserted, deleted, skipped, failed, alreadyEqual = 0, left = 0 } = counts;
    const where = named(result, node);
    lines.push(info(`${where}: ${upserted} rows ${would}upserted, ${deleted} ${would}deleted`));
    if (alreadyEqual > 0) lines.push(info(`${node}: ${alreadyEqual} rows were equal already`));
    if (skipped > 0) lines.push(warn(`${node}: ${skipped} rows ${would}skipped`));
    if (failed > 0) lines.push(warn(`${node}: ${failed} rows failed`));
    isWhole &&= skipped === 0 && failed === 0 && left === 0;
  }
  const failed = result.failedRows ?? [];
  for (const { node, key, reason } of failed.slice(0, SHOWN_FAILED_ROWS)) {
    lines.push(warn(`    ${node}, ${keyOf(key)}: ${reason}`));
  }
  if (failed.length > SHOWN_FAILED_ROWS) {
    lines.push(warn(`    and ${failed.length - SHOWN_FAILED_ROWS} more, see --json`));
  }
  for (const [rule, rows] of Object.entries(result.ruleMatches ?? {})) {
    lines.push(info(`Rule ${rule}: ${rows} rows`));
  }
  lines.push(...result.files.map((file) => info(`Report written to ${file}`)));
  const verb = result.dryRun ? 'Dry run of the repair' : 'Repair';
  lines.push(
    isWhole
      ? info(`✔ ${verb} of ${result.table} done in ${seconds(result.timeTakenMs)}`)
      : warn(`✘ ${verb} of ${result.table} had to leave rows as they are`),
  );
  return { lines, exitCode: isWhole ? EXIT_DONE : EXIT_DIFFERENT };
}

function describeDriftRepair(result: DriftRepairResult & OfServers): Outcome {
  const { lines, exitCode } = describeRepair(result);
  const { incident, isResolved } = result;
  const end = isResolved
    ? info(`✔ Incident ${incident} is resolved: every stream has shown the fix`)
    : warn(`✘ Incident ${incident} is still open`);
  return { lines: [...lines, end], exitCode: isResolved ? exitCode : EXIT_DIFFERENT };
}

function describeBuild(result: BuildResult & OfServers): Outcome {
  const { table, blocks, rows, timeTakenMs } = result;
  const lines = Object.entries(rows).map(([node, count]) =>
    info(`${named(result, node)}: ${count} rows`),
  );
  lines.push(info(`✔ Built the tree of ${table}, ${blocks} blocks, in ${seconds(timeTakenMs)}`));
  return { lines, exitCode: EXIT_DONE };
}

function describeUpdate(result: UpdateResult & OfServers): Outcome {
  const lines = Object.entries(result.refreshedBlocks).map(([node, blocks]) =>
    info(`${named(result, node)}: ${blocks} blocks rehashed`),
  );
  const { splitBlocks, mergedBlocks } = result;
  if (splitBlocks + mergedBlocks > 0) {
    lines.push(info(`${splitBlocks} blocks split, ${mergedBlocks} merged`));
  }
  lines.push(info(`✔ Updated the tree of ${result.table} in ${seconds(result.timeTakenMs)}`));
  return { lines, exitCode: EXIT_DONE };
}

function describeVerify(result: VerifyResult & OfServers): Outcome {
  const { tables, timeTakenMs } = result;
  const lines = tables.flatMap((table) => verifiedLines(table, result));
  if (tables.length === 0) lines.push(info('No table has a tree'));
  else lines.push(info(`Verified in ${seconds(timeTakenMs)}`));
  if (tables.some(({ error }) => error !== null)) return { lines, exitCode: EXIT_TROUBLE };
  const isWrong = tables.some(({ wrongLeaves }) => wrongLeaves > 0);
  return { lines, exitCode: isWrong ? EXIT_DIFFERENT : EXIT_DONE };
}

function verifiedLines(result: VerifiedTable, servers: OfServers): OutcomeLine[] {
  const { table, wrong, wrongLeaves, provedLeaves, rereadLeaves, error } = result;
  const leaf = ({ rows, sum }: VerifiedTable['wrong'][number]['leaf']): string =>
    `${rows} rows, ${sum}`;
  const lines = wrong.map((found) =>
    warn(
      `${named(servers, found.node)}: block ${found.block} of ${table} was ${leaf(found.leaf)}; the table says ${leaf(found.read)}`,
    ),
  );
  if (result.isRebuilt) lines.push(warn(`The tree of ${table} was built again`));
  if (error !== null) lines.push(warn(`✘ ${table} could not be verified: ${error}`));
  const counts = `${provedLeaves} leaves proved, ${rereadLeaves} read again`;
  if (wrongLeaves > 0) {
    lines.push(warn(`✘ ${table}: ${wrongLeaves} leaves were wrong and are mended; ${counts}`));
  } else if (error === null) lines.push(info(`✔ ${table}: ${counts}`));
  return lines;
}

function describeInit(result: InitResult & OfServers): Outcome {
  const lines = Object.entries(result.nodes).map(([node, done]) =>
    info(`${named(result, node)}: ${done.replaceAll('_', ' ')}`),
  );
  return { lines, exitCode: EXIT_DONE };
}

function describeStatus(result: StatusResult): Outcome {
  const who = result.daemon
    ? `aced ${result.version}, pid ${result.pid}, up ${result.uptimeSeconds} s${roleOf(result)}`
    : 'no aced is running';
  const lines = [plain(`Cluster ${result.cluster}: ${who}`), plain('')];
  const nodes = result.nodes.map((node) => [
    node.name,
    node.state,
    node.position ?? '-',
    node.lagBytes === null ? '-' : bytes(node.lagBytes),
    node.heldBytes === null ? '-' : bytes(node.heldBytes),
    node.slot,
    describeServer(node.server),
  ]);
  const head = ['NODE', 'STATE', 'POSITION', 'LAG', 'HELD', 'SLOT', 'SERVER'];
  lines.push(...grid([head, ...nodes]).map(plain));
  if (result.tables.length > 0) lines.push(plain(''), ...tableLines(result));
  const problems = result.problems.map(({ subject, message }) => warn(`${subject}: ${message}`));
  const told = [...problems, ...(result.misspelt ?? []).map(warn)];
  if (told.length > 0) lines.push(plain(''), ...told);
  return { lines, exitCode: exitCodeOfStatus(result) };
}

function roleOf({ lease }: StatusResult): string {
  if (lease === null) return '';
  const { role, holder, epoch } = lease;
  if (role === 'active') return `, active in epoch ${epoch}`;
  return `, standby; active in epoch ${epoch}: ${holder ?? 'nobody'}`;
}

function tableLines({ tables }: StatusResult): OutcomeLine[] {
  const rows = tables.flatMap(
    ({ table, state, reason, blocks, oldestProof, wrongLeaves, lastDiff, live, nodes }) =>
      Object.entries(nodes).map(([node, leaf]) => [
        table,
        reason === null ? state : `${state} (${reason})`,
        String(blocks),
        node,
        String(leaf.rows),
        String(leaf.dirtyBlocks),
        leaf.root.slice(0, 12),
        oldestProof === null ? 'never' : age(Date.parse(oldestProof)),
        String(wrongLeaves),
        ...(live === null
          ? [lastDiff?.verdict ?? 'never', lastDiff === null ? '-' : age(Date.parse(lastDiff.at))]
          : [live.verdict, age(live.sinceMs)]),
        leaf.reading === null ? '-' : `by ${leaf.reading.by}: ${leaf.reading.reason}`,
      ]),
  );
  const head = [
    'TABLE',
    'STATE',
    'BLOCKS',
    'NODE',
    'ROWS',
    'DIRTY',
    'ROOT',
    'PROVED',
    'WRONG',
    'VERDICT',
    'SINCE',
    'READ',
  ];
  return grid([head, ...rows]).map(plain);
}

/** As for a diff: 1 when tables are known to differ and nothing else is wrong. */
export function exitCodeOfStatus({ problems }: Pick<StatusResult, 'problems'>): number {
  if (problems.some(({ kind }) => kind === 'trouble')) return EXIT_TROUBLE;
  return problems.length > 0 ? EXIT_DIFFERENT : EXIT_DONE;
}

/** `n1 (app at db1:5432)`: two clusters may call different servers alike. */
function named({ servers }: OfServers, node: string): string {
  const server = servers[node];
  return server === undefined ? node : `${node} (${describeServer(server)})`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
