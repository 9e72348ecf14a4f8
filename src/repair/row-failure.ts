import { sqlStateOf } from '../postgres/connect-error.js';

/** Why a row could not be written; never its values. */
export interface RowFailure {
  readonly sqlState: string;
  /** The constraint, where there is one. */
  readonly constraint: string | null;
}

/** Integrity constraints, bad data, triggers that object, and rows that others hold. */
const ROW_CLASSES = ['22', '23', '44', 'P0'];
const ROW_STATES = ['55P03', '40001', '40P01', '27000', '09000'];

/** The failure when it is a matter of single rows; null: nothing else would work either. */
export function rowFailureOf(error: unknown): RowFailure | null {
  const sqlState = sqlStateOf(error);
  if (sqlState === undefined) return null;
  if (!ROW_CLASSES.includes(sqlState.slice(0, 2)) && !ROW_STATES.includes(sqlState)) return null;
  return { sqlState, constraint: constraintOf(error) };
}

function constraintOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  if ('constraint' in error && typeof error.constraint === 'string') return error.constraint;
  return constraintOf(error.cause);
}

/** `3 rows failed with SQLSTATE 23505 (orders_email_key)`, a sentence per kind. */
export function describeFailures(node: string, failures: Iterable<RowFailure>): string[] {
  const counts = new Map<string, number>();
  for (const { sqlState, constraint } of failures) {
    const kind = `SQLSTATE ${sqlState}${constraint === null ? '' : ` (${constraint})`}`;
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].map(
    ([kind, count]) =>
      `On ${node} ${count === 1 ? '1 row' : `${count} rows`} could not be written: ${kind}.`,
  );
}
