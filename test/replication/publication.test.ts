import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import {
  addTableToPublication,
  dropPublication,
  ensurePublication,
  publicationTables,
  removeTableFromPublication,
} from '../../src/replication/publication.js';
import { Session } from '../../src/postgres/session.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';

const DATABASE = 'publications';
const OTHER_DATABASE = 'elsewhere';
const PUBLICATION = 'aced "test"';

let server: TestServer;
let session: Session;

const connect = (database = DATABASE, user = 'postgres'): Promise<Session> =>
  Session.connect({ ...server.nodeConfig(database, 'n1'), user }, { applicationName: 'writer' });

before(async () => {
  server = await startServer({ settings: { max_prepared_transactions: '5' } });
  await server.createDatabase(DATABASE);
  await server.createDatabase(OTHER_DATABASE);
  await server.query(
    DATABASE,
    `CREATE TABLE plain (id int PRIMARY KEY, v text);
     CREATE TABLE late (id int PRIMARY KEY, v text);
     CREATE TABLE "Odd" (id int PRIMARY KEY);
     CREATE TABLE keyless (id int);
     CREATE TABLE fully (id int); ALTER TABLE fully REPLICA IDENTITY FULL;
     CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
     CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE);
     CREATE TABLE indexed (id int NOT NULL UNIQUE);
     ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_id_key;
     ALTER TABLE indexed DROP CONSTRAINT indexed_id_key;
     CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
     CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY LIST (id);
     CREATE TABLE parts_1 PARTITION OF parts DEFAULT;
     CREATE TABLE bad_parts (id int PRIMARY KEY) PARTITION BY LIST (id);
     CREATE TABLE bad_parts_1 PARTITION OF bad_parts DEFAULT;
     ALTER TABLE bad_parts_1 REPLICA IDENTITY NOTHING;
     CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert');
     CREATE ROLE stranger LOGIN`,
  );
  session = await connect();
});

after(async () => {
  await session.close();
  await server.stop();
});

function isError(code: string, hint = /^/): (error: unknown) => boolean {
  return (error) =>
    error instanceof AcedError && error.code === code && hint.test(error.hint ?? '');
}

describe('publication', () => {
  it('is made once, with its options in line', async () => {
    assert.equal(await ensurePublication(session, PUBLICATION), 'created');
    assert.equal(await ensurePublication(session, PUBLICATION), 'already_exists');
    await server.query(
      DATABASE,
      `ALTER PUBLICATION "aced ""test""" SET (publish_via_partition_root = false, publish = 'insert')`,
    );
    assert.equal(await ensurePublication(session, PUBLICATION), 'already_exists');
    assert.deepEqual(
      await session.query(
        'SELECT pubviaroot, pubinsert, pubupdate, pubdelete, pubtruncate, puballtables FROM pg_publication WHERE pubname = $1',
        [PUBLICATION],
      ),
      [['t', 't', 't', 't', 't', 'f']],
    );
    await assert.rejects(ensurePublication(session, 'everything'), isError('UNSUPPORTED'));
  });

  it('takes and gives back tables', async () => {
    const add = (table: string): Promise<string> =>
      addTableToPublication(session, PUBLICATION, 'public', table, { timeoutMs: 5_000 });
    assert.equal(await add('plain'), 'added');
    assert.equal(await add('plain'), 'already_published');
    assert.equal(await add('Odd'), 'added');
    assert.equal(await add('fully'), 'added');
    assert.equal(await add('parts'), 'added');
    assert.deepEqual(
      (await publicationTables(session, PUBLICATION)).map(({ name }) => name),
      ['Odd', 'fully', 'parts', 'plain'],
    );
    const remove = (): Promise<string> =>
      removeTableFromPublication(session, PUBLICATION, 'public', 'Odd');
    assert.equal(await remove(), 'removed');
    assert.equal(await remove(), 'not_published');
  });

  it('never publishes a table whose updates would then fail', async () => {
    for (const table of ['keyless', 'nothing', 'deferred', 'indexed', 'bad_parts', 'unlogged']) {
      await assert.rejects(
        addTableToPublication(session, PUBLICATION, 'public', table, { timeoutMs: 1_000 }),
        isError('UNSUPPORTED'),
        table,
      );
    }
    await assert.rejects(
      addTableToPublication(session, PUBLICATION, 'public', 'absent', { timeoutMs: 1_000 }),
      isError('NO_SUCH_TABLE'),
    );
  });

  it('waits for transactions that wrote before, names them, and ignores other databases', async () => {
    const writer = await connect();
    const foreigner = await connect(OTHER_DATABASE);
    const adder = await connect();
    try {
      await foreigner.query('BEGIN; SELECT pg_current_xact_id()');
      await writer.query("BEGIN READ WRITE; INSERT INTO public.late VALUES (1, 'before')");
      const waits: string[] = [];
      let isDone = false;
      const adding = addTableToPublication(adder, PUBLICATION, 'public', 'late', {
        timeoutMs: 20_000,
        onWait: (description) => waits.push(description),
      }).then((outcome) => {
        isDone = true;
        return outcome;
      });
      await waitFor(() => waits.length > 0, { what: 'the wait to be told' });
      // The publication has it already, but what the writer wrote will not be streamed.
      const published = await publicationTables(session, PUBLICATION);
      assert.equal(
        published.some(({ name }) => name === 'late'),
        true,
      );
      assert.equal(isDone, false);
      assert.match(waits[0] ?? '', new RegExp(`^process ${writer.backendPid} \\(writer, user`));
      await writer.query('COMMIT');
      assert.equal(await adding, 'added');
      assert.equal(waits.length, 1);
    } finally {
      await Promise.all([writer.close(), foreigner.close(), adder.close()]);
    }
  });

  it('gives up with the names of those who hold it up, prepared transactions too', async () => {
    await server.query(
      DATABASE,
      "BEGIN; INSERT INTO plain VALUES (5, 'x'); PREPARE TRANSACTION 'left over'",
    );
    try {
      await assert.rejects(
        addTableToPublication(session, PUBLICATION, 'public', 'plain', { timeoutMs: 50 }),
        (error) => isError('TIMEOUT')(error) && /left over/.test(String(error)),
      );
    } finally {
      await server.query(DATABASE, "ROLLBACK PREPARED 'left over'");
    }
  });

  it('can be cancelled while it waits', async () => {
    const writer = await connect();
    try {
      await writer.query("BEGIN READ WRITE; INSERT INTO public.plain VALUES (6, 'x')");
      const abort = new AbortController();
      await assert.rejects(
        addTableToPublication(session, PUBLICATION, 'public', 'plain', {
          timeoutMs: 20_000,
          signal: abort.signal,
          onWait: () => abort.abort(),
        }),
        isError('CANCELLED'),
      );
      assert.equal(session.isIdle, true);
    } finally {
      await writer.close();
    }
  });

  it('tells a role what it lacks', async () => {
    const stranger = await connect(DATABASE, 'stranger');
    try {
      await assert.rejects(
        ensurePublication(stranger, 'mine'),
        isError('MISSING_PRIVILEGE', /GRANT|Grant/),
      );
      await assert.rejects(
        addTableToPublication(stranger, PUBLICATION, 'public', 'Odd', { timeoutMs: 1_000 }),
        isError('MISSING_PRIVILEGE', /owner/),
      );
    } finally {
      await stranger.close();
    }
  });

  it('is dropped once', async () => {
    assert.equal(await dropPublication(session, PUBLICATION), 'dropped');
    assert.equal(await dropPublication(session, PUBLICATION), 'absent');
  });
});
