import { createRowHasher, type RowHasher } from '../digest/row-hasher.js';
import {
  hashFormOf,
  type DigestColumn,
  type DigestSeed,
  type HashForm,
} from '../digest/digest-column.js';
import {
  COLUMN_NULL,
  COLUMN_TEXT,
  COLUMN_UNCHANGED,
  type Relation,
  type Tuple,
} from '../pgoutput/message.js';
import type { TableSpec } from '../table/table-spec.js';

/** Where each compared column and each key column is in the tuples of the current Relation. */
export interface TupleMapping {
  readonly hasher: RowHasher | null;
  readonly keyHasher: RowHasher | null;
  readonly keyColumns: Int32Array | null;
  readonly signature: string;
}

/** What old rows hold. */
export interface OldRows {
  /** All columns. */
  readonly isFull: boolean;
  /** The primary key at least, where it was changed or the row was deleted. */
  readonly hasKey: boolean;
}

export const NOTHING_KNOWN: OldRows = { isFull: false, hasKey: false };

/** The tuple has the whole key. */
export function isLocatable(tuple: Tuple, keyColumns: Int32Array): boolean {
  for (const index of keyColumns) {
    if (index >= tuple.columnCount || tuple.kinds[index] !== COLUMN_TEXT) return false;
  }
  return true;
}

/** Under FULL the old row has the values of TOAST columns that the new one leaves out. */
export function fillUnchanged(newTuple: Tuple, oldTuple: Tuple): void {
  for (let i = 0; i < newTuple.columnCount; i++) {
    if (newTuple.kinds[i] !== COLUMN_UNCHANGED) continue;
    newTuple.kinds[i] = oldTuple.kinds[i] ?? COLUMN_NULL;
    newTuple.starts[i] = oldTuple.starts[i] ?? 0;
    newTuple.ends[i] = oldTuple.ends[i] ?? 0;
  }
}

function formOf(column: DigestColumn | undefined): HashForm {
  return column === undefined ? 'plain' : hashFormOf(column);
}

/** For the tuples that follow a Relation message. */
export function mapTuples(relation: Relation, spec: TableSpec, seed: DigestSeed): TupleMapping {
  const indexes = new Map(relation.columns.map((column, index) => [column.name, index]));
  const keyColumns = spec.key.map((column) => indexes.get(column.name));
  const compared = spec.columns.map((column) => indexes.get(column.name));
  const isComplete = (list: readonly (number | undefined)[]): list is number[] =>
    list.every((index) => index !== undefined);
  return {
    hasher: isComplete(compared)
      ? createRowHasher(
          seed,
          compared.map((tupleIndex, i) => ({
            tupleIndex,
            form: formOf(spec.columns[i]),
          })),
        )
      : null,
    keyHasher: isComplete(keyColumns)
      ? createRowHasher(
          seed,
          keyColumns.map((tupleIndex, i) => ({
            tupleIndex,
            form: formOf(spec.key[i]),
          })),
        )
      : null,
    keyColumns: isComplete(keyColumns) ? Int32Array.from(keyColumns) : null,
    signature: JSON.stringify([
      relation.replicaIdentity,
      relation.columns.map(({ name, typeOid, typeModifier }) => [name, typeOid, typeModifier]),
    ]),
  };
}

/** What the Relation message of a table, or of a partition of it, promises of old rows. */
export function oldRowsOf(relation: Relation, spec: TableSpec): OldRows {
  const isFull = relation.replicaIdentity === 'full';
  const identity = new Set(
    relation.columns.flatMap(({ name, isIdentity }) => (isIdentity ? [name] : [])),
  );
  return { isFull, hasKey: isFull || spec.key.every(({ name }) => identity.has(name)) };
}
