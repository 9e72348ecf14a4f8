import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { PgoutputDecoder } from '../../src/pgoutput/decoder.js';
import { startServer, type TestServer } from '../support/postgres.js';

const DATABASE = 'postgres';
const MEMORY_KIB = 64;

/** Rolled back, larger than the memory for decoding, with a part that was released before. */
const ROLLED_BACK = `BEGIN;
  SAVEPOINT part; INSERT INTO t VALUES (1, 'small'); RELEASE part;
  INSERT INTO t SELECT i, (SELECT string_agg(md5(s::text || i), '') FROM generate_series(1, 300) s)
    FROM generate_series(2, 100) i;
  ROLLBACK`;

describe('a transaction that is rolled back and larger than logical_decoding_work_mem', () => {
  let server: TestServer;

  before(async () => {
    server = await startServer({
      major: 18,
      settings: { logical_decoding_work_mem: `${MEMORY_KIB}kB` },
    });
    await server.query(
      DATABASE,
      'CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t',
    );
    await server.query(DATABASE, "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
  });

  after(() => server.stop('immediate'));

  it('leaves messages that all can be read, of which only those of a commit mean anything', async () => {
    await server.query(DATABASE, ROLLED_BACK);
    await server.query(DATABASE, "INSERT INTO t VALUES (1000, 'kept')");
    const rows = await server.query(
      DATABASE,
      `SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes(
         's', NULL, NULL, 'proto_version', '1', 'publication_names', 'p')`,
    );
    const decoder = new PgoutputDecoder();
    const kinds = rows.map(([hex]) => {
      const data = Buffer.from(hex ?? '', 'hex');
      return decoder.decode(data, 0, data.length).kind;
    });
    assert.deepEqual(
      kinds.filter((kind) => kind !== 'abort'),
      ['begin', 'relation', 'insert', 'commit'],
    );
  });
});
