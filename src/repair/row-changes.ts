import type { RepairReportWriter } from '../report/repair-report.js';
import type { Found } from './decided-rows.js';

/** A row that was written, or would be. Undefined: there was, or is to be, none. */
export interface RowChange {
  readonly before: Found | undefined;
  readonly after: Found | undefined;
}

/** Who is told of the rows that a repair has written to one node. */
export type TakeChanges = (changes: readonly RowChange[]) => Promise<void>;

/** Null: nobody wants to know, and then nobody reads the rows' values. */
export function toAll(takers: readonly (TakeChanges | null)[]): TakeChanges | null {
  const wanting = takers.filter((taker) => taker !== null);
  if (wanting.length === 0) return null;
  return async (changes) => {
    for (const take of wanting) await take(changes);
  };
}

export function toReport(report: RepairReportWriter | null, node: string): TakeChanges | null {
  if (report === null) return null;
  return async (changes) => {
    const gone = changes.filter(({ after }) => after === undefined);
    await report.add(
      node,
      'deleted',
      gone.map(({ before }) => before?.values ?? []),
    );
    await report.add(
      node,
      'upserted',
      changes.flatMap(({ after }) => (after === undefined ? [] : [after.values])),
    );
  };
}
