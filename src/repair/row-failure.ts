import { sqlStateOf } from '../postgres/connect-error.js';
import { SQLSTATE } from '../postgres/sqlstate.js';

/** Why a row could not be written; never its values. */
export interface RowFailure {
  /** For people: what was in the way. */
  readonly reason: string;
  readonly kind: 'locked' | 'not unique' | 'reference' | 'other';
}

/** Integrity constraints, bad data, triggers that object, and rows that others hold. */
const ROW_CLASSES = ['22', '23', '44', 'P0'];
const LOCK_STATES: readonly string[] = [SQLSTATE.lockNotAvailable, '40001', '40P01'];
const ROW_STATES = ['27000', '09000'];
const NOT_UNIQUE = ['23505', '23P01'];
const FOREIGN_KEY_VIOLATION = '23503';
const CHECK_VIOLATION = '23514';
/** Of a name, found on no search path, or that the writing role may not use. */
const NAME_CLASSES = ['42', '3F'];

/** The failure when it is a matter of single rows; null: nothing else would work either. */
export function rowFailureOf(error: unknown): RowFailure | null {
  const sqlState = sqlStateOf(error);
  if (sqlState === undefined) return null;
  if (LOCK_STATES.includes(sqlState)) return { reason: `SQLSTATE ${sqlState}`, kind: 'locked' };
  if (NAME_CLASSES.includes(sqlState.slice(0, 2))) return nameFailure(error, sqlState);
  if (!ROW_CLASSES.includes(sqlState.slice(0, 2)) && !ROW_STATES.includes(sqlState)) return null;
  const constraint = detailOf(error, 'constraint');
  const kind = NOT_UNIQUE.includes(sqlState)
    ? 'not unique'
    : sqlState === FOREIGN_KEY_VIOLATION
      ? 'reference'
      : 'other';
  if (constraint !== null) return { reason: `SQLSTATE ${sqlState} (${constraint})`, kind };
  if (sqlState !== CHECK_VIOLATION) return { reason: `SQLSTATE ${sqlState}`, kind };
  // A check has a name; the bounds of a partition have none.
  const table = detailOf(error, 'table') ?? '';
  return { reason: `SQLSTATE ${sqlState}, ${table} has no partition for them`, kind };
}

/**
 * Only names in the user's own functions, of checks, triggers or generated columns: an error in our
 * statement has no context.
 */
function nameFailure(error: unknown, sqlState: string): RowFailure | null {
  if (detailOf(error, 'where') === null) return null;
  const reason = `SQLSTATE ${sqlState}, in a function of a check, trigger or generated column: it names something that is not on the search_path of the writing role, or that the role may not use`;
  return { reason, kind: 'other' };
}

function detailOf(error: unknown, name: 'constraint' | 'table' | 'where'): string | null {
  if (!(error instanceof Error)) return null;
  const detail: unknown = Object.getOwnPropertyDescriptor(error, name)?.value;
  return typeof detail === 'string' && detail !== '' ? detail : detailOf(error.cause, name);
}

/** `3 rows could not be written: SQLSTATE 23505 (orders_email_key)`, a sentence per kind. */
export function describeFailures(node: string, failures: Iterable<RowFailure>): string[] {
  const counts = new Map<string, number>();
  for (const { reason } of failures) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return [...counts].map(
    ([reason, count]) =>
      `On ${node} ${count === 1 ? '1 row' : `${count} rows`} could not be written: ${reason}.`,
  );
}
