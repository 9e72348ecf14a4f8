import { AcedError, errorMessage } from '../base/errors.js';
import { quoteIdentifier } from '../base/quote.js';
import { sqlStateOf } from '../postgres/connect-error.js';
import type { Session } from '../postgres/session.js';
import type { TableName } from './table-name.js';

/** A condition as typed, in brackets that also hold one that ends in a comment. */
export function bracketed(filter: string): string {
  return `(\n${filter}\n)`;
}

/**
 * Of a session with the role's own search path: the condition means there what it means to its user.
 * Lets the server plan a query with the condition, alone and in brackets: what is right in both
 * forms is one condition, and cannot close our brackets and change the statement around it.
 * Nothing is read. Errors: BAD_USAGE with what the server says of it; UNSUPPORTED, see checkPath.
 */
export async function checkRowFilter(
  session: Session,
  table: TableName,
  filter: string,
  signal: AbortSignal,
): Promise<void> {
  const from = `${quoteIdentifier(table.schema)}.${quoteIdentifier(table.name)} t`;
  await checkPath(session, signal);
  for (const condition of [filter, bracketed(filter)]) {
    try {
      // The parameter makes it a prepared statement, which is a single one.
      await session.query(`EXPLAIN SELECT $1::text FROM ${from} WHERE ${condition}`, [''], signal);
    } catch (error) {
      if (!isOfTheText(error)) throw error;
      const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
      throw new AcedError('BAD_USAGE', `--table-filter ${filter}: ${errorMessage(cause)}`, {
        logMessage: '--table-filter: the server refused it',
        hint: "Give one condition over the table's columns, as after WHERE.",
        cause: error,
      });
    }
  }
}

/**
 * The server's own names come first on a path that does not list pg_catalog, so that no object of
 * the user's passes for one of those that our part of the statement uses. Errors: UNSUPPORTED.
 */
async function checkPath(session: Session, signal: AbortSignal): Promise<void> {
  const rows = await session.query(
    `SELECT pg_catalog.unnest(pg_catalog.current_schemas(true)), pg_catalog.current_setting('search_path')`,
    [],
    signal,
  );
  const [first] = rows.filter(([schema]) => schema?.startsWith('pg_temp_') !== true);
  if (first?.[0] === 'pg_catalog') return;
  throw new AcedError(
    'UNSUPPORTED',
    `--table-filter: on node ${session.node.name} the role's search_path has other schemas before pg_catalog: ${first?.[1] ?? ''}`,
    {
      hint: `Set one for this role that does not name pg_catalog: ALTER ROLE ${quoteIdentifier(session.node.user)} SET search_path = ...`,
    },
  );
}

/**
 * Syntax errors and rule violations, except those that are about rights; values that do not fit;
 * parameters of its own.
 * https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
function isOfTheText(error: unknown): boolean {
  const state = sqlStateOf(error) ?? '';
  return state !== '42501' && ['22', '42', '0A', '08P01'].some((start) => state.startsWith(start));
}
