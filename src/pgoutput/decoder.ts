import { Cursor, malformed } from './cursor.js';
import {
  COLUMN_NULL,
  COLUMN_TEXT,
  COLUMN_UNCHANGED,
  type Message,
  type OldTupleKind,
  type RelationColumn,
  type ReplicaIdentity,
  type Tuple,
} from './message.js';
import { createTuple, growTuple } from './tuple.js';

/** Message types, and the letters that announce a tuple. */
const ABORT = 0x41;
const BEGIN = 0x42;
const COMMIT = 0x43;
const DELETE = 0x44;
const INSERT = 0x49;
const FULL_TUPLE = 0x4f;
const KEY_TUPLE = 0x4b;
const MESSAGE = 0x4d;
const NEW_TUPLE = 0x4e;
const ORIGIN = 0x4f;
const RELATION = 0x52;
const TRUNCATE = 0x54;
const UPDATE = 0x55;
const TYPE = 0x59;

const REPLICA_IDENTITIES: Readonly<Record<number, ReplicaIdentity>> = {
  0x64: 'default',
  0x66: 'full',
  0x69: 'index',
  0x6e: 'nothing',
};

const TRUNCATE_CASCADE = 1;
const TRUNCATE_RESTART_IDENTITY = 2;
const COLUMN_IS_IDENTITY = 1;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type InsertMessage = Mutable<Extract<Message, { kind: 'insert' }>>;
type UpdateMessage = Mutable<Extract<Message, { kind: 'update' }>>;
type DeleteMessage = Mutable<Extract<Message, { kind: 'delete' }>>;

/**
 * Bytes of pgoutput, protocol version 1, to messages
 * (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html). Stateless but
 * for the objects that it reuses: a row costs no allocation.
 *
 * Anything that is not exactly one whole message throws STREAM_PROTOCOL, which names the message's
 * type and the offset. Nothing outside `[start, end)` is ever read.
 */
export class PgoutputDecoder {
  readonly #insert: InsertMessage;
  readonly #update: UpdateMessage;
  readonly #delete: DeleteMessage;

  constructor() {
    const oldTuple = createTuple();
    const newTuple = createTuple();
    this.#insert = { kind: 'insert', relationOid: 0, newTuple };
    this.#update = { kind: 'update', relationOid: 0, oldKind: 'none', oldTuple, newTuple };
    this.#delete = { kind: 'delete', relationOid: 0, oldKind: 'none', oldTuple };
  }

  /** `buffer` must stay as it is while the message is in use. */
  decode(buffer: Buffer, start: number, end: number): Message {
    const type = start < end ? buffer[start] : undefined;
    switch (type) {
      case INSERT:
        return this.#readInsert(buffer, start, end);
      case UPDATE:
        return this.#readUpdate(buffer, start, end);
      case DELETE:
        return this.#readDelete(buffer, start, end);
      case undefined:
        throw malformed({ type: 0, offset: 0, what: 'empty' });
      default:
        return readRare(type, new Cursor(buffer, start, end));
    }
  }

  #readInsert(buffer: Buffer, start: number, end: number): Message {
    const message = this.#insert;
    message.relationOid = readOid(buffer, start, end);
    if (buffer[start + 5] !== NEW_TUPLE) throw noTuple(buffer, start, start + 5);
    const at = readTuple(message.newTuple, buffer, { start, at: start + 6, end });
    if (at !== end) throw trailing(buffer, start, at);
    return message;
  }

  #readUpdate(buffer: Buffer, start: number, end: number): Message {
    const message = this.#update;
    message.relationOid = readOid(buffer, start, end);
    let at = start + 5;
    message.oldKind = oldTupleKind(buffer[at]);
    if (message.oldKind === 'none') {
      message.oldTuple.columnCount = 0;
    } else {
      at = readTuple(message.oldTuple, buffer, { start, at: at + 1, end });
    }
    if (at >= end || buffer[at] !== NEW_TUPLE) throw noTuple(buffer, start, at);
    at = readTuple(message.newTuple, buffer, { start, at: at + 1, end });
    if (at !== end) throw trailing(buffer, start, at);
    return message;
  }

  #readDelete(buffer: Buffer, start: number, end: number): Message {
    const message = this.#delete;
    message.relationOid = readOid(buffer, start, end);
    message.oldKind = oldTupleKind(buffer[start + 5]);
    if (message.oldKind === 'none') throw noTuple(buffer, start, start + 5);
    const at = readTuple(message.oldTuple, buffer, { start, at: start + 6, end });
    if (at !== end) throw trailing(buffer, start, at);
    return message;
  }
}

/** The relation's oid; also makes sure that the letter of the first tuple is there. */
function readOid(buffer: Buffer, start: number, end: number): number {
  if (end - start < 6) throw truncated(buffer, start, end);
  return uint32At(buffer, start + 1);
}

function oldTupleKind(letter: number | undefined): OldTupleKind {
  if (letter === KEY_TUPLE) return 'key';
  return letter === FULL_TUPLE ? 'full' : 'none';
}

interface TupleRange {
  /** Of the message, for errors. */
  readonly start: number;
  /** After the tuple's letter. */
  readonly at: number;
  readonly end: number;
}

/** Returns the offset after the tuple. */
function readTuple(tuple: Tuple, buffer: Buffer, range: TupleRange): number {
  const { start, end } = range;
  let at = range.at;
  if (end - at < 2) throw truncated(buffer, start, at);
  const columnCount = (byteAt(buffer, at) << 8) | byteAt(buffer, at + 1);
  at += 2;
  // Each column has one byte at least: a wrong count must not make us allocate.
  if (columnCount > end - at) throw truncated(buffer, start, at);
  growTuple(tuple, columnCount);
  const { kinds, starts, ends } = tuple;
  tuple.buffer = buffer;
  tuple.columnCount = columnCount;
  for (let i = 0; i < columnCount; i++) {
    if (at >= end) throw truncated(buffer, start, at);
    const kind = byteAt(buffer, at);
    at += 1;
    kinds[i] = kind;
    if (kind === COLUMN_TEXT) {
      if (end - at < 4) throw truncated(buffer, start, at);
      const length = uint32At(buffer, at);
      at += 4;
      if (length > end - at) throw truncated(buffer, start, at);
      starts[i] = at;
      at += length;
      ends[i] = at;
    } else if (kind === COLUMN_NULL || kind === COLUMN_UNCHANGED) {
      starts[i] = at;
      ends[i] = at;
    } else {
      throw fail(buffer, start, at - 1, 'an unknown kind of column');
    }
  }
  return at;
}

function readRare(type: number, cursor: Cursor): Message {
  const message = readRareBody(type, cursor);
  cursor.expectEnd();
  return message;
}

function readRareBody(type: number, cursor: Cursor): Message {
  switch (type) {
    case ABORT: {
      const xid = cursor.uint32();
      return { kind: 'abort', xid, subtransactionXid: cursor.uint32() };
    }
    case BEGIN: {
      const finalLsn = cursor.lsn();
      const commitTimeUs = cursor.timeUs();
      return { kind: 'begin', finalLsn, commitTimeUs, xid: cursor.uint32() };
    }
    case COMMIT: {
      cursor.byte(); // Flags, unused so far.
      const commitLsn = cursor.lsn();
      const endLsn = cursor.lsn();
      return { kind: 'commit', commitLsn, endLsn, commitTimeUs: cursor.timeUs() };
    }
    case ORIGIN: {
      const originLsn = cursor.lsn();
      return { kind: 'origin', originLsn, name: cursor.string() };
    }
    case TYPE: {
      const oid = cursor.uint32();
      const schema = cursor.string();
      return { kind: 'type', oid, schema, name: cursor.string() };
    }
    case RELATION:
      return readRelation(cursor);
    case TRUNCATE:
      return readTruncate(cursor);
    case MESSAGE:
      return readMessage(cursor);
    default:
      throw malformed({ type, offset: 0, what: 'an unknown type of message' });
  }
}

function readRelation(cursor: Cursor): Message {
  const oid = cursor.uint32();
  // pgoutput shortens pg_catalog to nothing.
  const schema = cursor.string() || 'pg_catalog';
  const name = cursor.string();
  const replicaIdentity = REPLICA_IDENTITIES[cursor.byte()];
  if (replicaIdentity === undefined) throw cursor.fail('an unknown replica identity');
  const columnCount = cursor.int16();
  cursor.expectItems(columnCount, 10);
  const columns: RelationColumn[] = [];
  for (let i = 0; i < columnCount; i++) {
    const isIdentity = (cursor.byte() & COLUMN_IS_IDENTITY) !== 0;
    const columnName = cursor.string();
    const typeOid = cursor.uint32();
    columns.push({ name: columnName, typeOid, typeModifier: cursor.int32(), isIdentity });
  }
  return { kind: 'relation', relation: { oid, schema, name, replicaIdentity, columns } };
}

function readTruncate(cursor: Cursor): Message {
  const count = cursor.int32();
  const options = cursor.byte();
  cursor.expectItems(count, 4);
  const relationOids: number[] = [];
  for (let i = 0; i < count; i++) relationOids.push(cursor.uint32());
  return {
    kind: 'truncate',
    relationOids,
    cascade: (options & TRUNCATE_CASCADE) !== 0,
    restartIdentity: (options & TRUNCATE_RESTART_IDENTITY) !== 0,
  };
}

function readMessage(cursor: Cursor): Message {
  const transactional = (cursor.byte() & 1) !== 0;
  const lsn = cursor.lsn();
  const prefix = cursor.string();
  const content = cursor.bytes(cursor.int32());
  return { kind: 'message', transactional, lsn, prefix, content };
}

/** The caller has checked the range; Buffer's own readers would check it again, for each value. */
function uint32At(buffer: Buffer, at: number): number {
  return (
    ((byteAt(buffer, at) << 24) |
      (byteAt(buffer, at + 1) << 16) |
      (byteAt(buffer, at + 2) << 8) |
      byteAt(buffer, at + 3)) >>>
    0
  );
}

function byteAt(buffer: Buffer, at: number): number {
  return buffer[at] ?? 0;
}

function truncated(buffer: Buffer, start: number, at: number): Error {
  return fail(buffer, start, at, 'truncated');
}

function trailing(buffer: Buffer, start: number, at: number): Error {
  return fail(buffer, start, at, 'bytes after the end of the message');
}

function noTuple(buffer: Buffer, start: number, at: number): Error {
  return fail(buffer, start, at, 'a tuple was expected');
}

function fail(buffer: Buffer, start: number, at: number, what: string): Error {
  return malformed({ type: byteAt(buffer, start), offset: at - start, what });
}
