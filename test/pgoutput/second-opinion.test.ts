import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { PgoutputPlugin, type Pgoutput } from 'pg-logical-replication';
import { parseLsn } from '../../src/base/lsn.js';
import { PgoutputDecoder } from '../../src/pgoutput/decoder.js';
import type { Relation } from '../../src/pgoutput/message.js';
import { startServer, type TestServer } from '../support/postgres.js';
import type { Column, PlainMessage } from './encoder.js';
import { toPlain } from './plain.js';

const DATABASE = 'second_opinion';
const LONG_TEXT = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 400) i)";

/** Text columns only, because the other parser turns everything else into JavaScript values. */
const SCHEMA = `
  CREATE TYPE mood AS ENUM ('good', 'bad');
  CREATE TABLE by_key (id text PRIMARY KEY, name text, long text);
  CREATE TABLE by_index (id text, alias text NOT NULL, name text, feeling mood);
  CREATE UNIQUE INDEX by_index_alias ON by_index (alias);
  ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_alias;
  CREATE TABLE whole (id text PRIMARY KEY, name text, long text);
  ALTER TABLE whole REPLICA IDENTITY FULL;
  ALTER TABLE whole ALTER COLUMN long SET STORAGE EXTERNAL;
  ALTER TABLE by_key ALTER COLUMN long SET STORAGE EXTERNAL;
  CREATE TABLE insert_only (name text);
  ALTER TABLE insert_only REPLICA IDENTITY NOTHING;
  CREATE PUBLICATION p FOR TABLE by_key, by_index, whole;
  CREATE PUBLICATION inserts FOR TABLE insert_only WITH (publish = 'insert');
`;

const WORK = [
  `INSERT INTO by_key VALUES ('a', 'x|y', ${LONG_TEXT}), ('b', NULL, ''), ('ü', '\u{1F600}', NULL)`,
  "UPDATE by_key SET name = 'z' WHERE id = 'a'",
  "UPDATE by_key SET id = 'c' WHERE id = 'b'",
  "DELETE FROM by_key WHERE id = 'c'",
  `INSERT INTO by_index VALUES ('1', 'one', 'n', 'good')`,
  "UPDATE by_index SET name = 'm', feeling = 'bad'",
  "UPDATE by_index SET alias = 'uno'",
  'DELETE FROM by_index',
  `INSERT INTO whole VALUES ('a', NULL, ${LONG_TEXT}), ('b', 'x', NULL)`,
  "UPDATE whole SET name = 'z'",
  "UPDATE whole SET id = 'c' WHERE id = 'b'",
  'DELETE FROM whole',
  "INSERT INTO insert_only VALUES ('only')",
  "SELECT pg_logical_emit_message(true, 'prefix', 'inside')",
  "SELECT pg_logical_emit_message(false, 'prefix', 'outside')",
  'ALTER TABLE by_key ADD COLUMN more text',
  "UPDATE by_key SET more = 'm'",
  'TRUNCATE by_key, whole RESTART IDENTITY CASCADE',
  `SELECT pg_replication_origin_create('elsewhere');
   SELECT pg_replication_origin_session_setup('elsewhere');
   BEGIN;
   SELECT pg_replication_origin_xact_setup('0/ABCDEF', '2024-01-02 03:04:05+00');
   INSERT INTO by_key VALUES ('from elsewhere');
   COMMIT;
   SELECT pg_replication_origin_session_reset()`,
];

describe('our decoder and another one read the same bytes alike', () => {
  let server: TestServer;
  let messages: Buffer[];

  before(async () => {
    server = await startServer();
    await server.createDatabase(DATABASE);
    await server.query(DATABASE, SCHEMA);
    await server.query(DATABASE, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    for (const sql of WORK) await server.query(DATABASE, sql);
    const rows = await server.query(
      DATABASE,
      `SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('s', NULL, NULL,
         'proto_version', '1', 'publication_names', 'p,inserts', 'messages', 'true')`,
    );
    messages = rows.map(([hex]) => Buffer.from(hex ?? '', 'hex'));
  });

  after(() => server.stop());

  it('message by message', () => {
    const decoder = new PgoutputDecoder();
    const other = new PgoutputPlugin({ protoVersion: 1, publicationNames: ['p'] });
    const relations = new Map<number, Relation>();
    const seen = new Map<string, number>();
    for (const bytes of messages) {
      const ours = toPlain(decoder.decode(bytes, 0, bytes.length));
      if (ours.kind === 'relation') relations.set(ours.relation.oid, ours.relation);
      assert.deepEqual(describeOurs(ours, relations), describeTheirs(other.parse(bytes)));
      const key = ours.kind === 'update' || ours.kind === 'delete' ? `/${ours.oldKind}` : '';
      seen.set(ours.kind + key, (seen.get(ours.kind + key) ?? 0) + 1);
    }
    // So that the comparison is known to have had something to compare.
    for (const [kind, least] of Object.entries({
      begin: 16,
      commit: 16,
      origin: 1,
      relation: 5,
      type: 1,
      insert: 8,
      'update/none': 2,
      'update/key': 2,
      'update/full': 3,
      'delete/key': 2,
      'delete/full': 2,
      truncate: 1,
      message: 2,
    })) {
      assert.ok((seen.get(kind) ?? 0) >= least, `${kind}: ${seen.get(kind) ?? 0} seen`);
    }
  });

  it('leaves unchanged TOAST undefined, and sends it whole under replica identity full', () => {
    const decoder = new PgoutputDecoder();
    const relations = new Map<number, string>();
    const unchanged = new Map<string, number>();
    for (const bytes of messages) {
      const message = toPlain(decoder.decode(bytes, 0, bytes.length));
      if (message.kind === 'relation') relations.set(message.relation.oid, message.relation.name);
      if (message.kind !== 'update') continue;
      const name = relations.get(message.relationOid) ?? '';
      const count = message.newRow.filter((value) => value === undefined).length;
      unchanged.set(name, (unchanged.get(name) ?? 0) + count);
      if (name === 'whole') {
        assert.ok(message.oldRow.every((value) => value !== undefined));
      }
    }
    assert.equal(unchanged.get('by_key'), 2);
    assert.equal(unchanged.get('by_index'), 0);
  });
});

type Row = Readonly<Record<string, Column>>;

function describeOurs(message: PlainMessage, relations: ReadonlyMap<number, Relation>): unknown {
  const named = (oid: number): Relation => {
    const relation = relations.get(oid);
    assert.ok(relation, `relation ${oid}`);
    return relation;
  };
  const asRow = (oid: number, row: readonly Column[], onlyKey = false): Row =>
    Object.fromEntries(
      named(oid)
        .columns.map((column, i) => [column, row[i]] as const)
        .filter(([column]) => !onlyKey || column.isIdentity)
        .map(([column, value]) => [column.name, value]),
    );
  switch (message.kind) {
    case 'begin':
      return { tag: 'begin', lsn: message.finalLsn, xid: message.xid };
    case 'commit':
      return { tag: 'commit', lsn: message.commitLsn, end: message.endLsn };
    case 'origin':
      return { tag: 'origin', lsn: message.originLsn, name: message.name };
    case 'type':
    case 'abort':
      return message;
    case 'relation':
      return message.relation;
    case 'insert':
      return {
        tag: 'insert',
        table: named(message.relationOid).name,
        new: asRow(message.relationOid, message.newRow),
      };
    case 'update':
    case 'delete': {
      const { relationOid, oldKind, oldRow } = message;
      const newRow = message.kind === 'update' ? message.newRow : null;
      return {
        tag: message.kind,
        table: named(relationOid).name,
        key: oldKind === 'key' ? asRow(relationOid, oldRow, true) : null,
        old: oldKind === 'full' ? asRow(relationOid, oldRow) : null,
        new: newRow === null ? null : filled(asRow(relationOid, newRow), oldKind, oldRow),
      };
    }
    case 'truncate':
      return {
        tag: 'truncate',
        tables: message.relationOids.map((oid) => named(oid).name),
        cascade: message.cascade,
        restartIdentity: message.restartIdentity,
      };
    case 'message':
      return {
        tag: 'message',
        transactional: message.transactional,
        lsn: message.lsn,
        prefix: message.prefix,
        content: message.content.toString(),
      };
  }
}

/** The other parser fills unchanged values in from the old row. */
function filled(row: Row, oldKind: string, oldRow: readonly Column[]): Row {
  if (oldKind !== 'full') return row;
  return Object.fromEntries(
    Object.entries(row).map(([name, value], i) => [name, value === undefined ? oldRow[i] : value]),
  );
}

function describeTheirs(message: Pgoutput.Message): unknown {
  switch (message.tag) {
    case 'begin':
      return { tag: 'begin', lsn: lsn(message.commitLsn), xid: message.xid };
    case 'commit':
      return { tag: 'commit', lsn: lsn(message.commitLsn), end: lsn(message.commitEndLsn) };
    case 'origin':
      return { tag: 'origin', lsn: lsn(message.originLsn), name: message.originName };
    case 'type':
      return {
        kind: 'type',
        oid: message.typeOid,
        schema: message.typeSchema,
        name: message.typeName,
      };
    case 'relation':
      return {
        oid: message.relationOid,
        schema: message.schema,
        name: message.name,
        replicaIdentity: message.replicaIdentity,
        columns: message.columns.map((column) => ({
          name: column.name,
          typeOid: column.typeOid,
          typeModifier: column.typeMod,
          isIdentity: (column.flags & 1) === 1,
        })),
      };
    case 'insert':
      return { tag: 'insert', table: message.relation.name, new: row(message.new) };
    case 'update':
      return {
        tag: 'update',
        table: message.relation.name,
        key: row(message.key),
        old: row(message.old),
        new: row(message.new),
      };
    case 'delete':
      return {
        tag: 'delete',
        table: message.relation.name,
        key: row(message.key),
        old: row(message.old),
        new: null,
      };
    case 'truncate':
      return {
        tag: 'truncate',
        tables: message.relations.map((relation) => relation.name),
        cascade: message.cascade,
        restartIdentity: message.restartIdentity,
      };
    case 'message':
      return {
        tag: 'message',
        transactional: message.transactional,
        lsn: lsn(message.messageLsn),
        prefix: message.prefix,
        content: Buffer.from(message.content).toString(),
      };
  }
}

function lsn(text: string | null): bigint {
  return parseLsn(text ?? '0/0');
}

/** Without their null prototype. */
function row(values: Record<string, unknown> | null): Record<string, unknown> | null {
  return values === null ? null : { ...values };
}
