import type {
  BuildResult,
  CommandName,
  CommandResults,
  DiffResult,
  InitResult,
  RepairResult,
  StatusResult,
  UpdateResult,
} from '../protocol/commands.js';

export const EXIT_DONE = 0;
export const EXIT_DIFFERENT = 1;
export const EXIT_TROUBLE = 2;

export interface OutcomeLine {
  /** `plain` has no label. */
  readonly level: 'info' | 'warn' | 'plain';
  readonly text: string;
}

/** What a person is told of a result, and the process's exit code. */
export interface Outcome {
  readonly lines: readonly OutcomeLine[];
  readonly exitCode: number;
}

type Describers = {
  readonly [Name in CommandName]: (result: CommandResults[Name]) => Outcome;
};

const DESCRIBERS: Describers = {
  'mtree-init': describeInit,
  'mtree-build': describeBuild,
  'mtree-update': describeUpdate,
  'mtree-table-diff': describeDiff,
  'mtree-teardown': describeInit,
  'mtree-teardown-table': describeInit,
  'table-diff': describeDiff,
  'table-repair': describeRepair,
  status: describeStatus,
};

export function describeOutcome<Name extends CommandName>(
  name: Name,
  result: CommandResults[Name],
): Outcome {
  return DESCRIBERS[name](result);
}

const info = (text: string): OutcomeLine => ({ level: 'info', text });
const warn = (text: string): OutcomeLine => ({ level: 'warn', text });
const plain = (text: string): OutcomeLine => ({ level: 'plain', text });

function describeDiff(result: DiffResult): Outcome {
  const lines: OutcomeLine[] = result.excludedColumns.map(({ name, reason }) =>
    warn(`Column ${name} was not compared: ${reason}`),
  );
  lines.push(...result.warnings.map(warn));
  const found = Object.entries(result.differences).filter(([, rows]) => rows > 0);
  lines.push(verdictLine(result));
  for (const [pair, rows] of found) lines.push(warn(`Found ${rows} differences between ${pair}`));
  if (result.verdict === 'drift' && result.inFlightRows > 0) {
    lines.push(warn(`Another ${rowsOf(result.inFlightRows)} still being replicated`));
  }
  if (result.rowLimitReached) {
    lines.push(warn('Stopped at the limit of differing rows (max_diff_rows): there may be more'));
  }
  lines.push(...result.files.map((file) => info(`Diff report written to ${file}`)));
  for (const [node, position] of Object.entries(result.positions)) {
    lines.push(info(`As of ${position} on ${node}`));
  }
  return { lines, exitCode: exitCodeOf(result) };
}

function verdictLine({ verdict, table, inFlightRows }: DiffResult): OutcomeLine {
  switch (verdict) {
    case 'match':
      return info('✔ TABLES MATCH');
    case 'drift':
      return warn('✘ TABLES DO NOT MATCH');
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

function exitCodeOf({ verdict }: DiffResult): number {
  if (verdict === 'match') return EXIT_DONE;
  return verdict === 'drift' ? EXIT_DIFFERENT : EXIT_TROUBLE;
}

function rowsOf(rows: number): string {
  return rows === 1 ? '1 row is' : `${rows} rows are`;
}

function describeRepair(result: RepairResult): Outcome {
  const lines: OutcomeLine[] = result.warnings.map(warn);
  const would = result.dryRun ? 'would be ' : '';
  let isWhole = true;
  for (const [node, counts] of Object.entries(result.nodes)) {
    const { upserted, deleted, skipped, failed, alreadyEqual = 0 } = counts;
    lines.push(info(`${node}: ${upserted} rows ${would}upserted, ${deleted} ${would}deleted`));
    if (alreadyEqual > 0) lines.push(info(`${node}: ${alreadyEqual} rows were equal already`));
    if (skipped > 0) {
      lines.push(warn(`${node}: ${skipped} rows ${would}skipped: no longer as the diff saw them`));
    }
    if (failed > 0) lines.push(warn(`${node}: ${failed} rows failed`));
    isWhole &&= skipped === 0 && failed === 0;
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

function describeBuild({ table, blocks, rows, timeTakenMs }: BuildResult): Outcome {
  const lines = Object.entries(rows).map(([node, count]) => info(`${node}: ${count} rows`));
  lines.push(info(`✔ Built the tree of ${table}, ${blocks} blocks, in ${seconds(timeTakenMs)}`));
  return { lines, exitCode: EXIT_DONE };
}

function describeUpdate(result: UpdateResult): Outcome {
  const lines = Object.entries(result.refreshedBlocks).map(([node, blocks]) =>
    info(`${node}: ${blocks} blocks rehashed`),
  );
  const { splitBlocks, mergedBlocks } = result;
  if (splitBlocks + mergedBlocks > 0) {
    lines.push(info(`${splitBlocks} blocks split, ${mergedBlocks} merged`));
  }
  lines.push(info(`✔ Updated the tree of ${result.table} in ${seconds(result.timeTakenMs)}`));
  return { lines, exitCode: EXIT_DONE };
}

function describeInit({ nodes }: InitResult): Outcome {
  const lines = Object.entries(nodes).map(([node, done]) =>
    info(`${node}: ${done.replaceAll('_', ' ')}`),
  );
  return { lines, exitCode: EXIT_DONE };
}

function describeStatus(result: StatusResult): Outcome {
  const who = result.daemon
    ? `aced ${result.version}, pid ${result.pid}, up ${result.uptimeSeconds} s`
    : 'no aced is running';
  const lines = [plain(`Cluster ${result.cluster}: ${who}`), plain('')];
  const nodes = result.nodes.map((node) => [
    node.name,
    node.state,
    node.position ?? '-',
    node.lagBytes === null ? '-' : bytes(node.lagBytes),
    node.slot,
    node.error ?? '',
  ]);
  lines.push(...grid([['NODE', 'STATE', 'POSITION', 'LAG', 'SLOT', ''], ...nodes]).map(plain));
  if (result.tables.length > 0) {
    const tables = result.tables.flatMap((table) =>
      Object.entries(table.nodes).map(([node, { rows, dirtyBlocks, root }]) => [
        table.table,
        table.reason === null ? table.state : `${table.state} (${table.reason})`,
        String(table.blocks),
        node,
        String(rows),
        String(dirtyBlocks),
        root.slice(0, 12),
      ]),
    );
    const head = ['TABLE', 'STATE', 'BLOCKS', 'NODE', 'ROWS', 'DIRTY', 'ROOT'];
    lines.push(plain(''), ...grid([head, ...tables]).map(plain));
  }
  return { lines, exitCode: EXIT_DONE };
}

function grid(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = count <= 0 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** step;
  return `${step === 0 ? value : value.toFixed(1)} ${units[step] ?? ''}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
