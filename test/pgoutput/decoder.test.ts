import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { AcedError } from '../../src/base/errors.js';
import { parseLsn, type Lsn } from '../../src/base/lsn.js';
import { PgoutputDecoder } from '../../src/pgoutput/decoder.js';
import type { OldTupleKind, RelationColumn, ReplicaIdentity } from '../../src/pgoutput/message.js';
import { tupleText } from '../../src/pgoutput/tuple.js';
import { encode, type Column, type PlainMessage } from './encoder.js';
import { toPlain, toRow } from './plain.js';

/** Bytes written out by hand: hexadecimal, and text in quotes. */
function bytes(text: string): Buffer {
  const parts = text.match(/'[^']*'|[0-9a-f]{2}/g) ?? [];
  return Buffer.concat(
    parts.map((part) =>
      part.startsWith("'") ? Buffer.from(part.slice(1, -1)) : Buffer.from(part, 'hex'),
    ),
  );
}

function decode(message: Buffer): PlainMessage {
  return toPlain(new PgoutputDecoder().decode(message, 0, message.length));
}

function assertMalformed(message: Buffer, pattern: RegExp): void {
  assert.throws(
    () => decode(message),
    (error) =>
      error instanceof AcedError && error.code === 'STREAM_PROTOCOL' && pattern.test(error.message),
  );
}

describe('messages by hand', () => {
  it('Begin', () => {
    const message = bytes("'B' 0000000101abcdef 0000000000000001 ffffffff");
    assert.deepEqual(decode(message), {
      kind: 'begin',
      finalLsn: parseLsn('1/1ABCDEF'),
      commitTimeUs: BigInt(Date.UTC(2000, 0, 1)) * 1000n + 1n,
      xid: 0xffffffff,
    });
  });

  it('Stream Abort, which was not asked for', () => {
    const message = bytes("'A' 000002f2 000002f3");
    assert.deepEqual(decode(message), { kind: 'abort', xid: 0x2f2, subtransactionXid: 0x2f3 });
  });

  it('Commit', () => {
    const message = bytes("'C' 00 0000000000000010 0000000000000040 fffffffffffffffe");
    assert.deepEqual(decode(message), {
      kind: 'commit',
      commitLsn: 0x10n,
      endLsn: 0x40n,
      commitTimeUs: BigInt(Date.UTC(2000, 0, 1)) * 1000n - 2n,
    });
  });

  it('Origin', () => {
    const message = bytes("'O' 8000000000000001 'pg_16400' 00");
    assert.deepEqual(decode(message), {
      kind: 'origin',
      originLsn: parseLsn('80000000/1'),
      name: 'pg_16400',
    });
  });

  it('Type', () => {
    const message = bytes("'Y' 00004001 'public' 00 'mood' 00");
    assert.deepEqual(decode(message), {
      kind: 'type',
      oid: 0x4001,
      schema: 'public',
      name: 'mood',
    });
  });

  it('Relation', () => {
    const message = bytes(
      "'R' fffffff0 'public' 00 'Größe' 00 'd' 0002 01 'id' 00 00000017 ffffffff 00 't' 00 00000413 0000000c",
    );
    assert.deepEqual(decode(message), {
      kind: 'relation',
      relation: {
        oid: 0xfffffff0,
        schema: 'public',
        name: 'Größe',
        replicaIdentity: 'default',
        columns: [
          { name: 'id', typeOid: 23, typeModifier: -1, isIdentity: true },
          { name: 't', typeOid: 1043, typeModifier: 12, isIdentity: false },
        ],
      },
    });
  });

  it('Relation in pg_catalog, whose name is shortened to nothing', () => {
    const message = decode(bytes("'R' 00000001 00 'x' 00 'n' 0000"));
    assert.ok(message.kind === 'relation');
    assert.equal(message.relation.schema, 'pg_catalog');
    assert.equal(message.relation.replicaIdentity, 'nothing');
  });

  it('Insert, with NULL and the empty string apart', () => {
    const message = bytes("'I' 00004000 'N' 0003 't' 00000002 '42' 'n' 't' 00000000");
    assert.deepEqual(decode(message), {
      kind: 'insert',
      relationOid: 0x4000,
      newRow: ['42', null, ''],
    });
  });

  it('Update without an old row, with unchanged TOAST', () => {
    const message = bytes("'U' 00004000 'N' 0002 't' 00000001 '1' 'u'");
    assert.deepEqual(decode(message), {
      kind: 'update',
      relationOid: 0x4000,
      oldKind: 'none',
      oldRow: [],
      newRow: ['1', undefined],
    });
  });

  it('Update of a key', () => {
    const message = bytes(
      "'U' 00004000 'K' 0002 't' 00000001 '1' 'n' 'N' 0002 't' 00000001 '2' 't' 00000001 'b'",
    );
    assert.deepEqual(decode(message), {
      kind: 'update',
      relationOid: 0x4000,
      oldKind: 'key',
      oldRow: ['1', null],
      newRow: ['2', 'b'],
    });
  });

  it('Update with the whole old row', () => {
    const message = bytes("'U' 00004000 'O' 0001 't' 00000001 'a' 'N' 0001 't' 00000001 'b'");
    const plain = decode(message);
    assert.ok(plain.kind === 'update');
    assert.deepEqual([plain.oldKind, plain.oldRow, plain.newRow], ['full', ['a'], ['b']]);
  });

  it('Delete by key and with the whole row', () => {
    const byKey = decode(bytes("'D' 00004000 'K' 0002 't' 00000001 '1' 'n'"));
    assert.deepEqual(byKey, {
      kind: 'delete',
      relationOid: 0x4000,
      oldKind: 'key',
      oldRow: ['1', null],
    });
    const whole = decode(bytes("'D' 00004000 'O' 0001 't' 00000001 '1'"));
    assert.ok(whole.kind === 'delete' && whole.oldKind === 'full');
  });

  it('Truncate', () => {
    assert.deepEqual(decode(bytes("'T' 00000002 03 00004000 00004001")), {
      kind: 'truncate',
      relationOids: [0x4000, 0x4001],
      cascade: true,
      restartIdentity: true,
    });
  });

  it('Message, whose content is a copy', () => {
    const input = bytes("'M' 01 0000000000000020 'aced' 00 00000003 'abc'");
    const message = decode(input);
    input.fill(0xff);
    assert.ok(message.kind === 'message');
    assert.deepEqual(
      [message.transactional, message.lsn, message.prefix, message.content.toString()],
      [true, 0x20n, 'aced', 'abc'],
    );
  });
});

describe('malformed messages', () => {
  it('names type and offset', () => {
    assertMalformed(bytes("'I' 00004000 'N' 0001 't' 00000005 'abc'"), /'I' .* byte 13: truncated/);
    assertMalformed(bytes("'I' 00004000 'N' 0001 'b' 00000000"), /'I' .* byte 8: an unknown kind/);
    assertMalformed(bytes("'D' 00004000 'N' 0000"), /'D' .* byte 5: a tuple was expected/);
    assertMalformed(bytes("'B' 00"), /'B' .* byte 1: truncated/);
    assertMalformed(bytes("'O' 0000000000000000 'abc'"), /'O' .* byte 9: a string without an end/);
    assertMalformed(
      bytes("'R' 00000001 00 'x' 00 'q' 0000"),
      /'R' .*: an unknown replica identity/,
    );
    assertMalformed(bytes("'S' 00000001"), /'S' .* byte 0: an unknown type/);
    assertMalformed(bytes('07'), /0x07 .* byte 0/);
    assertMalformed(Buffer.alloc(0), /empty/);
  });

  it('does not accept bytes after the end', () => {
    assertMalformed(bytes("'I' 00004000 'N' 0000 00"), /'I' .* byte 8: bytes after the end/);
    assertMalformed(bytes("'T' 00000000 00 00"), /'T' .* byte 6: bytes after the end/);
  });

  it('does not make room for what cannot be there', () => {
    assertMalformed(bytes("'I' 00004000 'N' ffff"), /truncated/);
    assertMalformed(bytes("'T' 7fffffff 00 00000001"), /truncated/);
    assertMalformed(bytes("'T' ffffffff 00 00000001"), /truncated/);
    assertMalformed(bytes("'R' 00000001 00 'x' 00 'd' ffff"), /truncated/);
    assertMalformed(bytes("'M' 00 0000000000000020 'a' 00 ffffffff"), /negative/);
    assertMalformed(bytes("'I' 00004000 'N' 0001 't' ffffffff 'a'"), /truncated/);
  });
});

describe('reuse', () => {
  it('returns the same row objects, grown when needed', () => {
    const decoder = new PgoutputDecoder();
    const narrow = encode({ kind: 'insert', relationOid: 1, newRow: ['a', null, undefined] });
    const wideRow = Array.from({ length: 1600 }, (_, i) => `c${i}`);
    const wide = encode({ kind: 'insert', relationOid: 2, newRow: wideRow });
    const first = decoder.decode(narrow, 0, narrow.length);
    assert.ok(first.kind === 'insert');
    assert.deepEqual(toRow(first.newTuple), ['a', null, undefined]);
    const second = decoder.decode(wide, 0, wide.length);
    assert.equal(second, first);
    assert.deepEqual(toRow(first.newTuple), wideRow);
    decoder.decode(narrow, 0, narrow.length);
    assert.deepEqual(toRow(first.newTuple), ['a', null, undefined]);
    assert.throws(() => tupleText(first.newTuple, 3), RangeError);
  });
});

/** Plain objects, as the decoder makes them. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true });
}

const lsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((value) => value as Lsn);
const timeUs = fc.bigInt({ min: -(2n ** 61n), max: 2n ** 61n });
const oid = fc.integer({ min: 0, max: 0xffffffff });
const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .filter((text) => !text.includes('\0'));
const text = fc.string({ unit: 'grapheme', maxLength: 30 });
const column: fc.Arbitrary<Column> = fc.oneof(text, fc.constant(null), fc.constant(undefined));
const row = fc.array(column, { maxLength: 40 });
const relationColumn: fc.Arbitrary<RelationColumn> = record({
  name,
  typeOid: oid,
  typeModifier: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
  isIdentity: fc.boolean(),
});
const oldKind = fc.constantFrom<OldTupleKind>('key', 'full');
const identity = fc.constantFrom<ReplicaIdentity>('default', 'nothing', 'full', 'index');

const anyMessage: fc.Arbitrary<PlainMessage> = fc.oneof(
  record({
    kind: fc.constant('begin' as const),
    finalLsn: lsn,
    commitTimeUs: timeUs,
    xid: oid,
  }),
  record({
    kind: fc.constant('commit' as const),
    commitLsn: lsn,
    endLsn: lsn,
    commitTimeUs: timeUs,
  }),
  record({ kind: fc.constant('abort' as const), xid: oid, subtransactionXid: oid }),
  record({ kind: fc.constant('origin' as const), originLsn: lsn, name }),
  record({ kind: fc.constant('type' as const), oid, schema: name, name }),
  record({
    kind: fc.constant('relation' as const),
    relation: record({
      oid,
      schema: name,
      name,
      replicaIdentity: identity,
      columns: fc.array(relationColumn, { maxLength: 20 }),
    }),
  }),
  record({ kind: fc.constant('insert' as const), relationOid: oid, newRow: row }),
  record({
    kind: fc.constant('update' as const),
    relationOid: oid,
    oldKind: fc.constant('none' as const),
    oldRow: fc.constant([]),
    newRow: row,
  }),
  record({
    kind: fc.constant('update' as const),
    relationOid: oid,
    oldKind,
    oldRow: row,
    newRow: row,
  }),
  record({ kind: fc.constant('delete' as const), relationOid: oid, oldKind, oldRow: row }),
  record({
    kind: fc.constant('truncate' as const),
    relationOids: fc.array(oid, { maxLength: 10 }),
    cascade: fc.boolean(),
    restartIdentity: fc.boolean(),
  }),
  record({
    kind: fc.constant('message' as const),
    transactional: fc.boolean(),
    lsn,
    prefix: name,
    content: fc.uint8Array({ maxLength: 50 }).map((content) => Buffer.from(content)),
  }),
);

describe('properties', () => {
  it('decodes what was encoded, wherever it lies in the buffer', () => {
    const decoder = new PgoutputDecoder();
    fc.assert(
      fc.property(anyMessage, fc.nat(50), fc.nat(50), (message, before, after) => {
        const encoded = encode(message);
        const buffer = Buffer.concat([
          Buffer.alloc(before, 0x74),
          encoded,
          Buffer.alloc(after, 0x74),
        ]);
        const decoded = decoder.decode(buffer, before, before + encoded.length);
        assert.deepEqual(toPlain(decoded), message);
      }),
      { numRuns: 2000 },
    );
  });

  it('refuses every prefix of a message', () => {
    const decoder = new PgoutputDecoder();
    fc.assert(
      fc.property(anyMessage, fc.nat(), (message, cut) => {
        const encoded = encode(message);
        // The rest of the message still follows in the buffer: it must not be read.
        assert.throws(
          () => decoder.decode(encoded, 0, cut % encoded.length),
          (error) => error instanceof AcedError && error.code === 'STREAM_PROTOCOL',
        );
      }),
      { numRuns: 2000 },
    );
  });

  it('either decodes or refuses, whatever the bytes, and stays within them', () => {
    const decoder = new PgoutputDecoder();
    const letters = fc.constantFrom(...Buffer.from('BCORYIUDTM'));
    const random = fc
      .tuple(letters, fc.uint8Array({ maxLength: 200 }))
      .map(([type, rest]) => Buffer.from([type, ...rest]));
    const mutated = fc
      .tuple(anyMessage, fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }))
      .map(([message, changes]) => {
        const encoded = encode(message);
        for (const [at, value] of changes) encoded[at % encoded.length] = value;
        return encoded;
      });
    fc.assert(
      fc.property(fc.oneof(random, mutated), fc.uint8Array({ maxLength: 20 }), (bytes_, after) => {
        const buffer = Buffer.concat([bytes_, after]);
        const outcome = (input: Buffer): unknown => {
          try {
            return toPlain(decoder.decode(input, 0, bytes_.length));
          } catch (error) {
            if (error instanceof AcedError && error.code === 'STREAM_PROTOCOL')
              return error.message;
            throw error;
          }
        };
        // What lies after the end makes no difference.
        assert.deepEqual(outcome(buffer), outcome(bytes_));
      }),
      { numRuns: 20_000 },
    );
  });
});
