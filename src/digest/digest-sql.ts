import { quoteIdentifier, quoteLiteral } from '../base/quote.js';
import { hashFormOf, type DigestColumn, type DigestSeed, type TextForm } from './digest-column.js';
import { MARKS_PER_WORD, nextRun } from './value-form.js';
import { marksHash, valueHash, type ValueColumn } from './value-sql.js';

// Fixed OIDs of pg_type.dat.
const BOOL_OID = 16;
const BPCHAR_OID = 1042;
const NUMERIC_OID = 1700;

export interface TypeFacts {
  /** The type itself, or what a domain (recursively) stands for. */
  readonly baseTypeOid: number;
  /** -1: none. For a domain the modifier that the domain gives its base type. */
  readonly typeModifier: number;
  /** pg_cast has a cast of the base type to text; false for text and varchar. */
  readonly hasTextCast: boolean;
}

/**
 * Decides how SQL must write a column's text to get what the stream carries. A numeric with a
 * modifier has a fixed number of fraction digits on every node, so nothing need be trimmed there;
 * one with a modifier on one node only must be treated as unconstrained on all.
 */
export function textFormOf(type: TypeFacts): TextForm {
  switch (type.baseTypeOid) {
    case NUMERIC_OID:
      if (type.typeModifier < 0) return 'numeric';
      break;
    case BOOL_OID:
      return 'boolean';
    case BPCHAR_OID:
      return 'bpchar';
  }
  return type.hasTextCast ? 'output' : 'plain';
}

/**
 * SQL bigint expression: the digest of a row, as createRowHasher computes it from the stream. The
 * session must have the pinned settings. Parallel safe.
 *
 * Functions carry their schema because a user's `concat(boolean)` on the search path would win
 * over the built-in `concat(VARIADIC "any")`.
 *
 * @param columns in digest order
 * @param alias of the table in the query; without it the columns stand bare
 */
export function digestExpression(
  columns: readonly DigestColumn[],
  seed: DigestSeed,
  alias?: string,
): string {
  const nullToken = quoteLiteral(seed.nullToken);
  // Quoted: -9223372036854775808 without quotes is the negation of a number that is no bigint.
  let expression = `'${BigInt.asIntN(64, seed.seed)}'::bigint`;
  const marked: ValueColumn[] = [];
  let run = 0;
  for (const column of columns) {
    if (column.valueForm === undefined) {
      const text = hashedText(column, nullToken, alias);
      expression = `pg_catalog.hashtextextended(${text} COLLATE "C", ${expression})`;
    } else {
      const value = {
        form: column.valueForm,
        column: reference(column, alias),
        run,
      };
      expression = valueHash(value, expression);
      marked.push(value);
    }
    run = nextRun(hashFormOf(column), run);
  }
  // Last: what a column's own hash does to the digest is not always more than a bit or a unit.
  for (let first = 0; first < marked.length; first += MARKS_PER_WORD) {
    expression = marksHash(marked.slice(first, first + MARKS_PER_WORD), expression);
  }
  return expression;
}

/**
 * SQL text expression: a column's text in its text form, for columns that are never NULL (keys).
 * NULL may come out as NULL or as ''.
 */
export function keyTextExpression(column: DigestColumn, alias?: string): string {
  const value = reference(column, alias);
  switch (column.textForm) {
    case 'plain':
      return `${value}::text`;
    case 'output':
      return `pg_catalog.concat(${value})`;
    case 'numeric':
      return `pg_catalog.trim_scale(${value})::text`;
    case 'boolean':
      return `CASE WHEN ${value} THEN 't' WHEN NOT ${value} THEN 'f' END`;
    case 'bpchar':
      return `pg_catalog.textin(pg_catalog.bpcharout(${value}))`;
  }
}

/** The same for any column: NULL comes out as NULL. */
export function textExpression(column: DigestColumn, alias?: string): string {
  const text = keyTextExpression(column, alias);
  if (column.textForm !== 'output') return text;
  return `CASE WHEN ${isNotNull(column, alias)} THEN ${text} END`;
}

/**
 * Hashing takes a text's bytes as the database has them. Those that it has in UTF-8 are put into a
 * text of the database's own encoding, which a single-byte encoding lets any bytes be.
 */
function hashedText(column: DigestColumn, nullToken: string, alias?: string): string {
  const text = textOrToken(column, nullToken, alias);
  if (column.isTranscoded !== true) return text;
  return `pg_catalog.convert_from(pg_catalog.convert_to(${text}, 'UTF8'), pg_catalog.getdatabaseencoding())`;
}

function textOrToken(column: DigestColumn, nullToken: string, alias?: string): string {
  const text = keyTextExpression(column, alias);
  switch (column.textForm) {
    case 'plain':
    case 'numeric':
    case 'bpchar':
      return `coalesce(${text}, ${nullToken})`;
    case 'output':
      // concat(NULL) is '', so that coalesce would never see the NULL.
      return `CASE WHEN ${isNotNull(column, alias)} THEN ${text} ELSE ${nullToken} END`;
    case 'boolean': {
      const value = reference(column, alias);
      return `CASE WHEN ${value} THEN 't' WHEN NOT ${value} THEN 'f' ELSE ${nullToken} END`;
    }
  }
}

/** `IS NOT NULL` is false for a composite with a NULL field; this looks at the value alone. */
function isNotNull(column: DigestColumn, alias?: string): string {
  return `${reference(column, alias)} IS DISTINCT FROM NULL`;
}

function reference(column: DigestColumn, alias?: string): string {
  const name = quoteIdentifier(column.name);
  return alias === undefined ? name : `${quoteIdentifier(alias)}.${name}`;
}
