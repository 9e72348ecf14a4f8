import { steadyNowMs } from '../base/clock.js';
import { runAll } from '../base/abort.js';
import { AcedError, errorMessage, type ErrorCode } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import type {
  CommandContext,
  DiffResult,
  InitResult,
  TableDiffParams,
  TreeDiffParams,
  VerifiedTable,
  Verdict,
} from '../protocol/commands.js';
import type {
  ManyTablesResult,
  TableChoice,
  TableEnd,
  TableOutcome,
} from '../protocol/many-tables.js';
import type { TableName } from '../table/table-name.js';
import { chooseTables, labelOf, type ChosenTable, type ChosenTables } from './choose-tables.js';

/** What is done with each of many tables. */
export interface ManyTablesWork<Result> {
  /** Of the progress bar. */
  readonly phase: string;
  /** Tables at once. */
  readonly sideBySide: number;
  readonly work: (table: ChosenTable, context: CommandContext) => Promise<Result>;
  readonly judge: (result: Result) => Judgement;
}

export interface Judgement {
  readonly end: TableEnd;
  readonly reason: string | null;
}

/** The commands on one table whose results are also recorded. */
export interface RecordedDiffs {
  readonly tableDiff: (params: TableDiffParams, context: CommandContext) => Promise<DiffResult>;
  readonly treeDiff: (params: TreeDiffParams, context: CommandContext) => Promise<DiffResult>;
  readonly teardown: (table: string) => Promise<InitResult>;
  /** For results that were not made by one of these. */
  readonly record: (results: readonly DiffResult[]) => void;
}

/** Errors that say more of a node than of a table: after so many in a row the others are not tried. */
const MAX_LOST_NODES = 3;
const OF_A_NODE: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['NODE_UNREACHABLE', 'AUTH_FAILED']);

/** A single command's text for a table: quoted, so that it is that name and no pattern. */
export function tableText({ schema, name }: TableName): string {
  const quote = (part: string): string => `"${part.replaceAll('"', '""')}"`;
  return `${quote(schema)}.${quote(name)}`;
}

/** Runs a command on every table of a choice; one that fails keeps no other from its turn. */
export async function runOnTables<Result>(
  cluster: Cluster,
  choice: TableChoice,
  context: CommandContext,
  work: ManyTablesWork<Result>,
): Promise<ManyTablesResult<Result>> {
  const startedAtMs = steadyNowMs();
  const nodes = cluster.selectNodes(choice.nodes, 1);
  const tables = await chooseTables(cluster.poolsOf(nodes), choice, {
    nodeSchema: cluster.config.nodeSchema,
    signal: context.signal,
  });
  const outcomes = await runOnEach(tables.chosen, context, work);
  const { warnings } = tables;
  return manyResult([...leftOutcomes<Result>(tables, 'missing'), ...outcomes], {
    startedAtMs,
    warnings,
  });
}

/** What was not looked at, and why. */
export function leftOutcomes<Result>(
  { skipped, missing }: ChosenTables,
  missingEnd: 'missing' | 'failed',
): TableOutcome<Result>[] {
  const left = (end: TableEnd, tables: ChosenTables['skipped']): TableOutcome<Result>[] =>
    tables.map((table) => ({ table: labelOf(table), end, reason: table.reason, result: null }));
  return [...left('skipped', skipped), ...left(missingEnd, missing)];
}

/**
 * The largest tables begin: a small one at the end is soon done. Logs of one table name it, and there
 * is one progress, of tables. Errors: CANCELLED.
 */
export async function runOnEach<Result>(
  tables: readonly ChosenTable[],
  context: CommandContext,
  options: ManyTablesWork<Result>,
): Promise<TableOutcome<Result>[]> {
  const queue = tables.toSorted((a, b) => b.estimatedRows - a.estimatedRows);
  const outcomes: TableOutcome<Result>[] = [];
  let lostNodes = 0;
  const worker = async (signal: AbortSignal): Promise<void> => {
    for (let table = queue.shift(); table !== undefined; table = queue.shift()) {
      const label = labelOf(table);
      if (lostNodes >= MAX_LOST_NODES) {
        outcomes.push(failed(label, 'not tried, since a node is out of reach'));
        continue;
      }
      try {
        const result = await options.work(table, contextOf(context, label, signal));
        outcomes.push({ table: label, ...options.judge(result), result });
        lostNodes = 0;
      } catch (error) {
        if (signal.aborted) throw error;
        const isOfNode = error instanceof AcedError && OF_A_NODE.has(error.code);
        lostNodes = isOfNode ? lostNodes + 1 : 0;
        outcomes.push(failed(label, errorMessage(error)));
      }
      const { length: done } = outcomes;
      context.emit({ type: 'progress', phase: options.phase, done, total: tables.length });
    }
  };
  const workers = Array.from({ length: Math.max(1, options.sideBySide) });
  await runAll(workers, context.signal, (_, signal) => worker(signal));
  return outcomes;
}

function failed<Result>(table: string, reason: string): TableOutcome<Result> {
  return { table, end: 'failed', reason, result: null };
}

function contextOf(context: CommandContext, label: string, signal: AbortSignal): CommandContext {
  return {
    ...context,
    signal,
    isOneOfMany: true,
    emit: (event) => {
      if (event.type === 'progress') return;
      const isLog = event.type === 'log';
      context.emit(isLog ? { ...event, message: `${label}: ${event.message}` } : event);
    },
  };
}

export function manyResult<Result>(
  outcomes: readonly TableOutcome<Result>[],
  { startedAtMs, warnings }: { readonly startedAtMs: number; readonly warnings: readonly string[] },
): ManyTablesResult<Result> {
  const tables = outcomes.toSorted((a, b) => (a.table < b.table ? -1 : 1));
  const counts: Record<TableEnd, number> = {
    equal: 0,
    different: 0,
    done: 0,
    unproved: 0,
    missing: 0,
    skipped: 0,
    failed: 0,
  };
  for (const { end } of tables) counts[end]++;
  return {
    ...{ tables, counts, warnings, files: filesOf(tables) },
    timeTakenMs: steadyNowMs() - startedAtMs,
  };
}

function filesOf(tables: readonly TableOutcome<unknown>[]): string[] {
  return tables.flatMap(({ result }) => {
    const files: unknown =
      typeof result === 'object' && result !== null && 'files' in result ? result.files : [];
    return Array.isArray(files) ? files.filter((file) => typeof file === 'string') : [];
  });
}

const CHOICE: Readonly<Record<Exclude<keyof TableChoice, 'nodes'>, true>> = {
  tables: true,
  schemas: true,
  repset: true,
  publication: true,
  all: true,
  skipTables: true,
};

/** What the command on one table is given: everything but the choice. */
export function onTable<Params extends TableChoice>(
  params: Params,
  table: ChosenTable,
): Omit<Params, keyof typeof CHOICE> & { readonly table: string } {
  const others = Object.entries(params).filter(([field]) => !Object.hasOwn(CHOICE, field));
  const rest = Object.fromEntries(others) as Omit<Params, keyof typeof CHOICE>;
  return { ...rest, table: tableText(table) };
}

const UNPROVED: Readonly<Record<Exclude<Verdict, 'match' | 'drift'>, string>> = {
  in_flight: 'rows are still being replicated',
  starved: 'a stream or a subscription is behind',
  schema_mismatch: 'columns could not be compared',
  unverified: 'something could not be checked',
};

export function judgeDiff({ verdict, differences, warnings }: DiffResult): Judgement {
  if (verdict === 'match') return { end: 'equal', reason: null };
  if (verdict === 'drift') {
    const pairs = Object.entries(differences).filter(([, rows]) => rows > 0);
    return {
      end: 'different',
      reason: pairs.map(([pair, rows]) => `${rows} rows between ${pair}`).join(', '),
    };
  }
  return { end: 'unproved', reason: warnings[0] ?? UNPROVED[verdict] };
}

export function judgeVerified({ wrongLeaves, error }: VerifiedTable): Judgement {
  if (error !== null) return { end: 'failed', reason: error };
  if (wrongLeaves === 0) return { end: 'equal', reason: null };
  return { end: 'different', reason: `${wrongLeaves} leaves were wrong and are mended` };
}

export const judgeDone = (): Judgement => ({ end: 'done', reason: null });
