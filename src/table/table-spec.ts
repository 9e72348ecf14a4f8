import type { DigestColumn } from '../digest/digest-column.js';

/** How the order of a key column can be decided outside the server. `server`: it cannot. */
export type KeyOrderKind =
  'integer' | 'uuid' | 'bytes' | 'date' | 'timestamp' | 'numeric' | 'boolean' | 'server';

export interface KeyColumnSpec {
  readonly name: string;
  /** For `$1::text::<typeName>`; equal on all nodes. */
  readonly typeName: string;
  readonly textForm: DigestColumn['textForm'];
  readonly orderKind: KeyOrderKind;
  /** Text to put after COLLATE in range conditions; null: the column's own order. */
  readonly collate: string | null;
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
  /** Compared columns in digest order (sorted by name, bytewise); the key's columns included. */
  readonly columns: readonly DigestColumn[];
  readonly excluded: readonly ExcludedColumn[];
  /** What a person should know although the tables can be compared, a sentence each. */
  readonly warnings?: readonly string[];
}

/** The text of a key, a value per key column, by the digest's text forms. Never null. */
export type KeyText = readonly string[];
