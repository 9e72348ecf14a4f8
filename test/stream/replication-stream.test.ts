import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AcedError, type ErrorCode } from '../../src/base/errors.js';
import { parseLsn, type Lsn } from '../../src/base/lsn.js';
import { startReplicationSql } from '../../src/stream/replication-stream.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import {
  confirmedFlushLsn,
  openStream,
  prepareDatabase,
  Recorder,
  waitForFreeSlot,
} from './recorder.js';

function hasCode(code: ErrorCode): (error: unknown) => boolean {
  return (error) => error instanceof AcedError && error.code === code && error.hint !== undefined;
}

it('quotes names for the replication grammar', () => {
  const startLsn = parseLsn('16/B374D848');
  assert.equal(
    startReplicationSql({ slot: 'a_1', publication: `o'Hara "x\\`, startLsn }),
    `START_REPLICATION SLOT "a_1" LOGICAL 16/B374D848 ` +
      `(proto_version '1', publication_names '"o''Hara ""x\\"', messages 'true')`,
  );
});

describe('a stream from a real server', () => {
  let server: TestServer;

  before(async () => {
    server = await startServer();
  });

  after(() => server.stop());

  it('delivers changes with the pinned text of values, whatever the server prefers', async () => {
    await prepareDatabase(server, 'pinned');
    await server.query(
      'postgres',
      `ALTER DATABASE pinned SET timezone = 'Asia/Tokyo';
       ALTER DATABASE pinned SET datestyle = 'SQL, DMY';
       ALTER DATABASE pinned SET intervalstyle = 'iso_8601';
       ALTER DATABASE pinned SET extra_float_digits = '-5';
       ALTER DATABASE pinned SET bytea_output = 'escape'`,
    );
    await server.query(
      'pinned',
      `CREATE TABLE v (id int PRIMARY KEY, a timestamptz, b interval, c float8, d bytea);
       ALTER PUBLICATION aced_test ADD TABLE v`,
    );
    const handler = new Recorder();
    const stream = await openStream(server, 'pinned', { handler });
    await server.query(
      'pinned',
      `INSERT INTO v VALUES (1, '2024-01-02 03:04:05.123456+00', '1 day 2 hours', 0.1::float8 + 0.2, '\\xdead')`,
    );
    await waitFor(() => handler.inserted.length > 0, { what: 'the row' });
    await stream.close();
    assert.deepEqual(handler.messages.find((message) => message.kind === 'insert')?.newRow, [
      '1',
      '2024-01-02 03:04:05.123456+00',
      '1 day 02:00:00',
      '0.30000000000000004',
      '\\xdead',
    ]);
  });

  it('delivers a row of 50 MB whole', async () => {
    await prepareDatabase(server, 'large');
    const handler = new Recorder();
    const stream = await openStream(server, 'large', { handler });
    await server.query(
      'large',
      "INSERT INTO t SELECT 1, string_agg(i::text, ',') FROM generate_series(1, 6600000) i",
    );
    await server.query('large', "INSERT INTO t VALUES (2, 'small')");
    await handler.waitForCommits(2);
    await stream.close();
    const rows = handler.messages.filter((message) => message.kind === 'insert');
    const note = rows[0]?.newRow[1] ?? '';
    assert.ok(note.length > 50e6);
    const isWhole = note.split(',').every((part, i) => part === String(i + 1));
    assert.ok(isWhole && note.endsWith(',6600000'));
    assert.deepEqual(rows[1]?.newRow, ['2', 'small']);
    assert.ok(stream.stats.bytes > 50e6 && stream.stats.frames >= 7);
  });

  it('leaves the slot confirmed exactly at the confirmed end after a close', async () => {
    await prepareDatabase(server, 'exact');
    const handler = new Recorder();
    const stream = await openStream(server, 'exact', { handler });
    for (const id of [1, 2, 3]) {
      await server.query('exact', `INSERT INTO t VALUES (${id}, 'x')`);
    }
    await handler.waitForCommits(3);
    const end = handler.commits[1]?.endLsn;
    assert.ok(end !== undefined);
    stream.confirm(end);
    stream.confirm((end - 1n) as Lsn);
    await stream.close();
    assert.deepEqual(await stream.closed, { error: null });
    assert.equal(await confirmedFlushLsn(server, 'exact'), end);
    await waitForFreeSlot(server, 'exact');
    // What was not confirmed comes again, and nothing else.
    const again = new Recorder();
    const second = await openStream(server, 'exact', { handler: again, startLsn: end });
    await again.waitForCommits(1);
    await second.close();
    assert.deepEqual(again.inserted, ['3']);
    assert.equal(await confirmedFlushLsn(server, 'exact'), end);
  });

  it('does not lose a transaction whose commit record is adjacent to the confirmed one', async () => {
    await prepareDatabase(server, 'adjacent');
    const handler = new Recorder();
    const stream = await openStream(server, 'adjacent', { handler });
    let next = 0;
    let pair: (typeof handler.commits)[number][] = [];
    // The server's background writer may put a record of its own in between: try again then.
    await waitFor(
      async () => {
        await server.session('adjacent', (first) =>
          server.session('adjacent', async (second) => {
            await first(`BEGIN; INSERT INTO t VALUES (${++next}, 'first')`);
            await second(`BEGIN; INSERT INTO t VALUES (${++next}, 'second')`);
            await Promise.all([first('COMMIT'), second('COMMIT')]);
          }),
        );
        await handler.waitForCommits(next);
        pair = handler.commits.slice(-2);
        return pair[0]?.endLsn === pair[1]?.commitLsn;
      },
      { what: 'two adjacent commit records' },
    );
    const end = pair[0]?.endLsn;
    assert.ok(end !== undefined);
    stream.confirm(end);
    await stream.close();
    assert.equal(await confirmedFlushLsn(server, 'adjacent'), end);
    await waitForFreeSlot(server, 'adjacent');
    const again = new Recorder();
    const second = await openStream(server, 'adjacent', { handler: again, startLsn: end });
    await again.waitForCommits(1);
    await second.close();
    assert.deepEqual(again.commits, [pair[1]]);
    assert.equal(again.inserted.length, 1);
  });

  it('never confirms past what was received', async () => {
    await prepareDatabase(server, 'careful');
    const handler = new Recorder();
    const stream = await openStream(server, 'careful', { handler });
    await server.query('careful', "INSERT INTO t VALUES (1, 'x')");
    await handler.waitForCommits(1);
    const end = handler.commits[0]?.endLsn ?? (0n as Lsn);
    const before = await confirmedFlushLsn(server, 'careful');
    assert.throws(
      () => stream.confirm((end + (1n << 40n)) as Lsn),
      (error) => error instanceof AcedError && error.code === 'INTERNAL',
    );
    await stream.close();
    stream.confirm(end);
    assert.equal(await confirmedFlushLsn(server, 'careful'), before);
  });

  it('answers a keepalive request at once although nothing happens', async () => {
    await prepareDatabase(server, 'idle');
    const handler = new Recorder();
    const stream = await openStream(server, 'idle', { handler });
    const rows = await server.query('idle', 'SELECT pg_current_wal_lsn()');
    const target = parseLsn(rows[0]?.[0] ?? '');
    await waitFor(
      () => {
        stream.requestKeepalive();
        return handler.walEnd >= target;
      },
      { what: 'walEnd to reach the end of the log', timeoutMs: 3_000 },
    );
    stream.confirm(handler.walEnd);
    await stream.close();
    assert.equal(await confirmedFlushLsn(server, 'idle'), handler.walEnd);
  });

  it('stops reading while paused, and goes on where it stopped', async () => {
    await prepareDatabase(server, 'paused');
    const handler = new Recorder();
    const stream = await openStream(server, 'paused', { handler });
    stream.pause('test');
    stream.pause('test, again');
    await server.query(
      'paused',
      "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 30000) i",
    );
    await waitFor(
      async () => {
        const sql = `SELECT 1 FROM pg_stat_activity WHERE application_name = 'aced test'
          AND datname = 'paused' AND wait_event = 'WalSenderWriteData'`;
        return (await server.query('paused', sql)).length === 1;
      },
      { what: 'the server to wait for us' },
    );
    assert.ok(stream.stats.bytes < 1e6, `${stream.stats.bytes} bytes were read`);
    stream.resume();
    await handler.waitForCommits(1);
    await stream.close();
    assert.equal(handler.inserted.length, 30_000);
    assert.equal(handler.inserted.at(-1), '30000');
  });

  it('ends with the handler error, delivers nothing after it and confirms nothing', async () => {
    await prepareDatabase(server, 'thrower');
    const before = await confirmedFlushLsn(server, 'thrower');
    const mine = new AcedError('STORE', 'no space left');
    let calls = 0;
    const handler = {
      onData: () => {
        calls += 1;
        if (calls === 3) throw mine;
      },
      onKeepalive: () => undefined,
    };
    const stream = await openStream(server, 'thrower', { handler });
    await server.query('thrower', "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i");
    assert.deepEqual(await stream.closed, { error: mine });
    await stream.close();
    assert.equal(calls, 3);
    await waitForFreeSlot(server, 'thrower');
    assert.equal(await confirmedFlushLsn(server, 'thrower'), before);
    const again = new Recorder();
    const second = await openStream(server, 'thrower', { handler: again });
    await again.waitForCommits(1);
    await second.close();
    assert.equal(again.inserted.length, 100);
  });

  it('wraps any other error of the handler', async () => {
    await prepareDatabase(server, 'defect');
    const cause = new TypeError('x is not a function');
    const handler = {
      onData: () => {
        throw cause;
      },
      onKeepalive: () => undefined,
    };
    const stream = await openStream(server, 'defect', { handler });
    await server.query('defect', "INSERT INTO t VALUES (1, 'x')");
    const { error } = await stream.closed;
    assert.equal(error?.code, 'INTERNAL');
    assert.equal(error.cause, cause);
  });

  it('closes in the middle of a large transaction and calls no handler after that', async () => {
    await prepareDatabase(server, 'closing');
    await server.query('closing', "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 300000) i");
    let calls = 0;
    const handler = {
      onData: () => {
        calls += 1;
      },
      onKeepalive: () => undefined,
    };
    const stream = await openStream(server, 'closing', { handler });
    await waitFor(() => calls > 1000, { what: 'some rows' });
    const closing = stream.close();
    const callsAtClose = calls;
    await Promise.all([closing, stream.close()]);
    assert.deepEqual(await stream.closed, { error: null });
    assert.equal(calls, callsAtClose);
    assert.ok(calls < 300_000);
    await waitForFreeSlot(server, 'closing');
  });

  it('says what is wrong with the slot', async () => {
    await prepareDatabase(server, 'busy');
    const handler = new Recorder();
    const stream = await openStream(server, 'busy', { handler });
    await assert.rejects(openStream(server, 'busy', { handler }), hasCode('SLOT_BUSY'));
    await stream.close();
    await waitForFreeSlot(server, 'busy');
    const missing = openStream(server, 'busy', { handler, slot: 'no_such_slot' });
    await assert.rejects(missing, hasCode('SLOT_LOST'));
    await server.query('busy', "SELECT pg_create_physical_replication_slot('physical', true)");
    const physical = openStream(server, 'busy', { handler, slot: 'physical' });
    await assert.rejects(physical, hasCode('SLOT_LOST'));
  });

  it('is cancelled while it opens', async () => {
    await prepareDatabase(server, 'cancelled');
    const handler = new Recorder();
    const isCancelled = (error: unknown): boolean =>
      error instanceof AcedError && error.code === 'CANCELLED';
    const aborted = openStream(server, 'cancelled', { handler, signal: AbortSignal.abort() });
    await assert.rejects(aborted, isCancelled);
    const abort = new AbortController();
    const opening = openStream(server, 'cancelled', { handler, signal: abort.signal });
    setImmediate(() => abort.abort());
    await assert.rejects(opening, isCancelled);
    await waitForFreeSlot(server, 'cancelled');
    const stream = await openStream(server, 'cancelled', { handler });
    await stream.close();
  });
});
