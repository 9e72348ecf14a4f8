import { createHash } from 'node:crypto';
import { hashFormOf, type DigestColumn } from '../digest/digest-column.js';

/** How the order of a key column can be decided outside the server. `server`: it cannot. */
export type KeyOrderKind =
  'integer' | 'uuid' | 'bytes' | 'date' | 'timestamp' | 'numeric' | 'boolean' | 'server';

/**
 * The operators by which the key's index orders and matches, as SQL: `OPERATOR(public.<)`. A bare
 * `<` would be looked up on our search path, where a type of an extension falls back to another's.
 */
export interface KeyOperators {
  readonly less: string;
  readonly equal: string;
  readonly atLeast: string;
  readonly greater: string;
}

export interface KeyColumnSpec {
  readonly name: string;
  /**
   * For `$1::text::<typeName>`; equal on all nodes. With its schema, and of a domain the type that
   * it stands for: a domain's checks may have come after the rows.
   */
  readonly typeName: string;
  readonly textForm: DigestColumn['textForm'];
  readonly orderKind: KeyOrderKind;
  /** Text to put after COLLATE in range conditions; null: the column's own order. */
  readonly collate: string | null;
  readonly operators: KeyOperators;
  /** Equal values have equal texts, unlike numerics inside ranges, or text of a kind of its own. */
  readonly isTextUnique: boolean;
}

/**
 * Why a column is not compared. `named` by the user, or `generated` from others everywhere: no
 * question is left open. `missing` on some node, or generated on some only; `unstable`: its text can
 * change without a message in the stream, so no tree can hold it. Then equal rows are not proved equal.
 */
export type ExclusionCause = 'named' | 'generated' | 'missing' | 'unstable';

export interface ExcludedColumn {
  readonly name: string;
  readonly reason: string;
  readonly cause: ExclusionCause;
}

/** What is compared of one table, the same on every node. Plain data: it is stored as JSON. */
export interface TableSpec {
  readonly schema: string;
  readonly name: string;
  readonly key: readonly KeyColumnSpec[];
  /** The key's index can be read in the order of the key: a B-tree, not a GiST index. */
  readonly isKeyOrdered: boolean;
  /** Compared columns in digest order (sorted by name, bytewise); the key's columns included. */
  readonly columns: readonly DigestColumn[];
  readonly excluded: readonly ExcludedColumn[];
  /** By which rules `columns` are hashed; absent: 1. */
  readonly digestVersion?: number;
  /** It has no key: see multiset.ts. `columns` are those of its own rows. */
  readonly isMultiset?: true;
  /** What a person should know although the tables can be compared, a sentence each. */
  readonly warnings?: readonly string[];
}

/** What columns that could not be compared make of rows that are equal otherwise; null: nothing. */
export function openQuestion({ excluded }: TableSpec): 'schema_mismatch' | 'unverified' | null {
  const causes = excluded.map(({ cause }) => cause);
  if (causes.includes('missing')) return 'schema_mismatch';
  return causes.includes('unstable') ? 'unverified' : null;
}

/** Whether an index of the table has the order of the blocks: else every block costs a scan. */
export function isOrderIndexed(spec: TableSpec): boolean {
  return spec.isKeyOrdered && spec.key.every((column) => column.collate === null);
}

/** The spec without these columns; those of the key stay. */
export function withoutColumns(spec: TableSpec, names: readonly string[]): TableSpec {
  const key = new Set(spec.key.map(({ name }) => name));
  const gone = new Set(names.filter((name) => !key.has(name)));
  return { ...spec, columns: spec.columns.filter(({ name }) => !gone.has(name)) };
}

/** By which rules rows are hashed: what differs by them cannot be compared. */
export function digestRule({ columns, digestVersion = 1 }: TableSpec): string {
  const forms = columns.map((column) => [column.name, hashFormOf(column)]);
  return JSON.stringify([digestVersion, ...forms]);
}

/** Public name of a table's digests, for diff files: equal names mean comparable digests. */
export function digestId(seedId: string, spec: TableSpec): string {
  const rule = createHash('sha256').update(digestRule(spec)).digest('hex').slice(0, 8);
  return `${seedId}-${rule}`;
}

/** The text of a key, a value per key column, by the digest's text forms. Never null. */
export type KeyText = readonly string[];
