/**
 * How a column's text is obtained so that SQL and stream agree. What the stream carries is always
 * the output function's text; only `numeric` changes it. The rest differ in SQL alone:
 * - `plain`: `col::text` equals the output function (or the type is text/varchar).
 * - `output`: the type has its own cast to text (pg_cast), so SQL must use `concat(col)`.
 * - `numeric`: unconstrained numeric; trailing zeros of the fraction are dropped in both forms.
 * - `boolean`, `bpchar`: those two built-in types, which would be `output`, by cheaper expressions.
 */
export type TextForm = 'plain' | 'output' | 'numeric' | 'boolean' | 'bpchar';

/**
 * Types that are hashed by their value, which costs the server a fraction of what its output function
 * does. Only such whose values are equal exactly when their texts are. `int4` is smallint too; `int8`
 * is any integer, where the nodes declare them differently; `decimal` is numeric with a scale.
 */
export type ValueForm =
  'int4' | 'int8' | 'bool' | 'decimal' | 'date' | 'timestamp' | 'timestamptz' | 'uuid';

export type HashForm = TextForm | ValueForm;

export interface DigestColumn {
  readonly name: string;
  readonly textForm: TextForm;
  /** Absent: hashed by its text. */
  readonly valueForm?: ValueForm;
  /** Some node's database is not in UTF-8: what is hashed are the bytes that the text has in UTF-8. */
  readonly isTranscoded?: true;
}

/** Named in a table's state: digests of another version cannot be compared. 1 knew texts only. ADDON_VERSION goes with it. */
export const DIGEST_VERSION = 3;

export function hashFormOf(column: DigestColumn): HashForm {
  return column.valueForm ?? column.textForm;
}

/**
 * Random per state directory, where it is kept; no secret: it stands in our statements. Digests of
 * another seed cannot be compared.
 */
export interface DigestSeed {
  /** Signed 64-bit start of the hash chain. */
  readonly seed: bigint;
  /** Hashed in the place of SQL NULL: 32 lower-case hex digits from a random source. */
  readonly nullToken: string;
}
