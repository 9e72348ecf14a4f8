import { AcedError, logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { CommandName, DiffResult } from '../protocol/commands.js';

export function isDiff(name: CommandName): boolean {
  return name === 'table-diff' || name === 'mtree-table-diff' || name === 'table-rerun';
}

/** One line a diff, whoever asked for it: what log shipping can alert on. */
export function logDiff(log: Logger, result: DiffResult): void {
  const { table, verdict, nodes, differences, inFlightRows, positions, warnings } = result;
  const level = verdict === 'match' ? 'info' : 'warn';
  log[level](
    {
      event: 'diff_finished',
      table,
      verdict,
      nodes,
      differences,
      inFlightRows,
      positions,
      warnings,
      tookMs: result.timeTakenMs,
    },
    verdict === 'match' ? 'equal' : 'not proved equal',
  );
}

/** A diff that could not be made: nothing is proved. Cancelling one is no failure. */
export function logFailedDiff(log: Logger, params: object, error: unknown): void {
  const code = error instanceof AcedError ? error.code : 'INTERNAL';
  if (code === 'CANCELLED') return;
  const table = 'table' in params ? params.table : undefined;
  log.warn({ event: 'diff_failed', table, code }, logMessage(error));
}
