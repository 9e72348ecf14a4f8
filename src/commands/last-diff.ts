import type { DiffResult, LastDiff, TableDiffParams } from '../protocol/commands.js';
import type { TableSpec } from '../table/table-spec.js';

/** By these a diff looks at some rows or columns only, or takes unequal ones for equal. */
const PARTIAL = [
  'tableFilter',
  'againstOrigin',
  'until',
  'samplePercent',
  'tolerances',
  'columns',
  'excludeColumns',
] as const satisfies readonly (keyof TableDiffParams)[];

/** What is found in a part of a table holds for the whole, what is not found there does not. */
export function saysOfWhole(params: TableDiffParams, { verdict }: DiffResult): boolean {
  return verdict === 'drift' || PARTIAL.every((name) => params[name] === undefined);
}

/**
 * What `status` shows from now on as a table's last diff; null: what it showed before. A diff that leaves
 * columns out does not tell that those are equal by now that differed in a diff of more columns. Pure.
 *
 * @param tree the spec of the table's tree, whose builder may have left columns out
 */
export function nextLastDiff(
  { verdict, differences, excludedColumns }: DiffResult,
  tree: Pick<TableSpec, 'excluded'>,
  before: LastDiff | null,
): Omit<LastDiff, 'at'> | null {
  const leftOut = new Set(excludedColumns.map(({ name }) => name));
  const named = tree.excluded.filter(({ cause }) => cause === 'named');
  const isBeyondTree = named.some(({ name }) => !leftOut.has(name));
  const isNarrower = named.length > 0 && !isBeyondTree;
  const isOpen = before?.verdict === 'drift' && before.isBeyondTree;
  if (isOpen && isNarrower && verdict !== 'drift') return null;
  return { verdict, differences, isBeyondTree };
}
