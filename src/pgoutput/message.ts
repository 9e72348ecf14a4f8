import type { Lsn } from '../base/lsn.js';

/** Tuple column kinds, as bytes in the protocol: NULL, unchanged TOAST (no value sent), text. */
export const COLUMN_NULL = 0x6e;
export const COLUMN_UNCHANGED = 0x75;
export const COLUMN_TEXT = 0x74;

/**
 * One row image, as offsets into the received buffer; nothing is copied. The decoder reuses its
 * Tuple objects: contents are valid until the next decode() call only. Arrays may be longer than
 * columnCount.
 */
export interface Tuple {
  buffer: Buffer;
  columnCount: number;
  kinds: Uint8Array;
  starts: Int32Array;
  /** Exclusive. */
  ends: Int32Array;
}

export interface RelationColumn {
  readonly name: string;
  readonly typeOid: number;
  readonly typeModifier: number;
  /** Part of the replica identity; every column under FULL. */
  readonly isIdentity: boolean;
}

export type ReplicaIdentity = 'default' | 'nothing' | 'full' | 'index';

export interface Relation {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly replicaIdentity: ReplicaIdentity;
  readonly columns: readonly RelationColumn[];
}

/** What the old image of an update or delete holds: nothing, the identity columns, or the row. */
export type OldTupleKind = 'none' | 'key' | 'full';

/**
 * What decode() returns. Times are microseconds since the Unix epoch. Like their tuples, the insert,
 * update and delete objects are reused by the next decode() call; all others are the caller's.
 */
export type Message =
  | {
      /**
       * Of the streaming of unfinished transactions, which nobody asked for: PostgreSQL 18 sends it
       * all the same for a transaction that it found to be rolled back while it was short of memory.
       * Nothing of that transaction was sent, and nothing will be.
       */
      readonly kind: 'abort';
      readonly xid: number;
      readonly subtransactionXid: number;
    }
  | {
      readonly kind: 'begin';
      readonly finalLsn: Lsn;
      readonly commitTimeUs: bigint;
      readonly xid: number;
    }
  | {
      readonly kind: 'commit';
      readonly commitLsn: Lsn;
      readonly endLsn: Lsn;
      readonly commitTimeUs: bigint;
    }
  | { readonly kind: 'origin'; readonly originLsn: Lsn; readonly name: string }
  | { readonly kind: 'relation'; readonly relation: Relation }
  | { readonly kind: 'type'; readonly oid: number; readonly schema: string; readonly name: string }
  | { readonly kind: 'insert'; readonly relationOid: number; readonly newTuple: Tuple }
  | {
      readonly kind: 'update';
      readonly relationOid: number;
      readonly oldKind: OldTupleKind;
      /** Meaningful unless oldKind is 'none'. */
      readonly oldTuple: Tuple;
      readonly newTuple: Tuple;
    }
  | {
      readonly kind: 'delete';
      readonly relationOid: number;
      readonly oldKind: OldTupleKind;
      readonly oldTuple: Tuple;
    }
  | {
      readonly kind: 'truncate';
      readonly relationOids: readonly number[];
      readonly cascade: boolean;
      readonly restartIdentity: boolean;
    }
  | {
      readonly kind: 'message';
      readonly transactional: boolean;
      readonly lsn: Lsn;
      readonly prefix: string;
      readonly content: Buffer;
    };
