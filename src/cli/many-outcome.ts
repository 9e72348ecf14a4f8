import type { ManyTablesResult, TableEnd, TableOutcome } from '../protocol/many-tables.js';
import {
  EXIT_DIFFERENT,
  EXIT_DONE,
  EXIT_TROUBLE,
  info,
  warn,
  type Outcome,
  type OutcomeLine,
} from './outcome-lines.js';

/** In the order in which they are told: the worst last, where the eye is. */
const ENDS: Readonly<Record<TableEnd, { readonly what: string; readonly exitCode: number }>> = {
  equal: { what: 'equal', exitCode: EXIT_DONE },
  done: { what: 'done', exitCode: EXIT_DONE },
  skipped: { what: 'skipped', exitCode: EXIT_DONE },
  missing: { what: 'not on all nodes', exitCode: EXIT_DIFFERENT },
  different: { what: 'different', exitCode: EXIT_DIFFERENT },
  unproved: { what: 'not proved equal', exitCode: EXIT_TROUBLE },
  failed: { what: 'failed', exitCode: EXIT_TROUBLE },
};

/** One summary; of the tables that are as they should be only the number. The worst exit code. */
export function describeMany(result: ManyTablesResult<unknown>): Outcome {
  const { tables, counts, warnings, files, timeTakenMs } = result;
  const seconds = (timeTakenMs / 1000).toFixed(2);
  const lines: OutcomeLine[] = [
    ...warnings.map(warn),
    info(`Summary: ${countOf(tables.length)} in ${seconds} s`),
  ];
  let exitCode = EXIT_DONE;
  for (const [end, told] of Object.entries(ENDS) as [TableEnd, (typeof ENDS)[TableEnd]][]) {
    if (counts[end] === 0) continue;
    exitCode = Math.max(exitCode, told.exitCode);
    const tell = told.exitCode === EXIT_DONE ? info : warn;
    const mark = told.exitCode === EXIT_DONE ? '✔' : '✘';
    const isListed = end !== 'equal' && end !== 'done';
    const of = tables.filter((table) => table.end === end);
    lines.push(tell(`${end === 'skipped' ? '-' : mark} ${of.length} ${told.what}`));
    if (isListed) lines.push(...of.map((table) => tell(`    ${tableLine(table)}`)));
  }
  lines.push(...files.map((file) => info(`Diff report written to ${file}`)));
  return { lines, exitCode };
}

function countOf(tables: number): string {
  return tables === 1 ? '1 table' : `${tables} tables`;
}

function tableLine({ table, reason }: TableOutcome<unknown>): string {
  return reason === null ? table : `${table}: ${reason}`;
}
