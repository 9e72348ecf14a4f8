import type { DigestColumn } from '../digest/digest-column.js';

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

export interface ExcludedColumn {
  readonly name: string;
  readonly reason: string;
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
  /** What a person should know although the tables can be compared, a sentence each. */
  readonly warnings?: readonly string[];
}

/** Whether an index of the table has the order of the blocks: else every block costs a scan. */
export function isOrderIndexed(spec: TableSpec): boolean {
  return spec.isKeyOrdered && spec.key.every((column) => column.collate === null);
}

/** The text of a key, a value per key column, by the digest's text forms. Never null. */
export type KeyText = readonly string[];
