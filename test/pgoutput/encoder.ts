import type { Message, OldTupleKind, ReplicaIdentity } from '../../src/pgoutput/message.js';

/** A column of a row to encode: text, null, or undefined for an unchanged TOAST value. */
export type Column = string | null | undefined;

/** Messages as plain values, for tests: rows as arrays, and no buffers that are reused. */
export type PlainMessage =
  | Exclude<Message, { kind: 'insert' | 'update' | 'delete' }>
  | { readonly kind: 'insert'; readonly relationOid: number; readonly newRow: readonly Column[] }
  | {
      readonly kind: 'update';
      readonly relationOid: number;
      readonly oldKind: OldTupleKind;
      readonly oldRow: readonly Column[];
      readonly newRow: readonly Column[];
    }
  | {
      readonly kind: 'delete';
      readonly relationOid: number;
      readonly oldKind: OldTupleKind;
      readonly oldRow: readonly Column[];
    };

const POSTGRES_EPOCH_US = 946_684_800_000_000n;
const IDENTITY_LETTERS: Readonly<Record<ReplicaIdentity, string>> = {
  default: 'd',
  nothing: 'n',
  full: 'f',
  index: 'i',
};

/** pgoutput, protocol version 1, as a server would send it. */
export function encode(message: PlainMessage): Buffer {
  switch (message.kind) {
    case 'abort':
      return join('A', uint32(message.xid), uint32(message.subtransactionXid));
    case 'begin':
      return join('B', int64(message.finalLsn), time(message.commitTimeUs), uint32(message.xid));
    case 'commit':
      return join(
        'C',
        byte(0),
        int64(message.commitLsn),
        int64(message.endLsn),
        time(message.commitTimeUs),
      );
    case 'origin':
      return join('O', int64(message.originLsn), string(message.name));
    case 'relation': {
      const { oid, schema, name, replicaIdentity, columns } = message.relation;
      return join(
        'R',
        uint32(oid),
        string(schema === 'pg_catalog' ? '' : schema),
        string(name),
        IDENTITY_LETTERS[replicaIdentity],
        uint16(columns.length),
        ...columns.flatMap((column) => [
          byte(column.isIdentity ? 1 : 0),
          string(column.name),
          uint32(column.typeOid),
          uint32(column.typeModifier >>> 0),
        ]),
      );
    }
    case 'type':
      return join('Y', uint32(message.oid), string(message.schema), string(message.name));
    case 'insert':
      return join('I', uint32(message.relationOid), 'N', tuple(message.newRow));
    case 'update':
      return join(
        'U',
        uint32(message.relationOid),
        ...oldTuple(message.oldKind, message.oldRow),
        'N',
        tuple(message.newRow),
      );
    case 'delete':
      return join('D', uint32(message.relationOid), ...oldTuple(message.oldKind, message.oldRow));
    case 'truncate':
      return join(
        'T',
        uint32(message.relationOids.length),
        byte((message.cascade ? 1 : 0) | (message.restartIdentity ? 2 : 0)),
        ...message.relationOids.map(uint32),
      );
    case 'message':
      return join(
        'M',
        byte(message.transactional ? 1 : 0),
        int64(message.lsn),
        string(message.prefix),
        uint32(message.content.length),
        message.content,
      );
  }
}

function oldTuple(kind: OldTupleKind, row: readonly Column[]): (string | Buffer)[] {
  if (kind === 'none') return [];
  return [kind === 'key' ? 'K' : 'O', tuple(row)];
}

function tuple(row: readonly Column[]): Buffer {
  return join(
    uint16(row.length),
    ...row.flatMap((value) => {
      if (value === null) return ['n'];
      if (value === undefined) return ['u'];
      const text = Buffer.from(value);
      return ['t', uint32(text.length), text];
    }),
  );
}

function join(...parts: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)),
  );
}

function byte(value: number): Buffer {
  return Buffer.from([value]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function int64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, value));
  return bytes;
}

function time(unixUs: bigint): Buffer {
  return int64(unixUs - POSTGRES_EPOCH_US);
}

function string(value: string): Buffer {
  return Buffer.from(`${value}\0`);
}
