import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { ReplicationStream, StreamEnd } from '../../src/stream/replication-stream.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import { Proxy } from './proxy.js';
import {
  confirmedFlushLsn,
  openStream,
  prepareDatabase,
  Recorder,
  waitForFreeSlot,
} from './recorder.js';

const WAL_SENDER_TIMEOUT_MS = 1_000;

describe('a stream whose peer or whose reader is slow or gone', () => {
  let server: TestServer;

  before(async () => {
    server = await startServer({ settings: { wal_sender_timeout: `${WAL_SENDER_TIMEOUT_MS}ms` } });
  });

  after(() => server.stop());

  async function walSenderPid(database: string): Promise<string> {
    const sql = 'SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1';
    return (await server.query('postgres', sql, [database]))[0]?.[0] ?? '';
  }

  /** Until the server has heard from the same session for so long after now. */
  async function waitForReplies(database: string, forMs: number): Promise<void> {
    const pid = await walSenderPid(database);
    const now = (await server.query('postgres', 'SELECT clock_timestamp()'))[0]?.[0] ?? null;
    await waitFor(
      async () => {
        const rows = await server.query(
          'postgres',
          `SELECT reply_time > $2::timestamptz + $3::interval
             FROM pg_stat_replication WHERE pid = $1::int`,
          [pid, now, `${forMs} milliseconds`],
        );
        assert.equal(rows.length, 1, 'the server ended the session');
        return rows[0]?.[0] === 't';
      },
      { what: `replies for ${forMs} ms`, intervalMs: 100 },
    );
  }

  it('an idle stream lives on', async () => {
    await prepareDatabase(server, 'idle');
    const handler = new Recorder();
    const stream = await openStream(server, 'idle', { handler, minInboundTimeoutMs: 500 });
    await waitForReplies('idle', WAL_SENDER_TIMEOUT_MS * 3);
    await server.query('idle', "INSERT INTO t VALUES (1, 'x')");
    await handler.waitForCommits(1);
    await stream.close();
  });

  it('a paused stream lives on for longer than wal_sender_timeout', async () => {
    await prepareDatabase(server, 'paused');
    const handler = new Recorder();
    const stream = await openStream(server, 'paused', { handler, minInboundTimeoutMs: 500 });
    stream.pause('test');
    await server.query(
      'paused',
      "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 30000) i",
    );
    const pid = await walSenderPid('paused');
    await waitForReplies('paused', WAL_SENDER_TIMEOUT_MS * 3);
    stream.resume();
    await handler.waitForCommits(1);
    assert.equal(handler.inserted.length, 30_000);
    assert.equal(await walSenderPid('paused'), pid);
    await stream.close();
  });

  it('keeps the session alive while it works off a backlog without a pause', async () => {
    await prepareDatabase(server, 'backlog');
    // A busy machine may not let this process get to its timers for longer than the other tests' servers
    // wait: that replies are sent is seen by the replies.
    await server.query('backlog', "ALTER DATABASE backlog SET wal_sender_timeout = '60s'");
    await server.query(
      'backlog',
      "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 60000) i",
    );
    let rows = 0;
    let rowsAtTick = 0;
    let mostRows = 0;
    const ticks = setInterval(() => {
      mostRows = Math.max(mostRows, rows - rowsAtTick);
      rowsAtTick = rows;
    }, 1);
    const handler = {
      // 120 µs a row: more than seven seconds of work.
      onData: () => {
        rows += 1;
        const untilMs = performance.now() + 0.12;
        while (performance.now() < untilMs);
      },
      onKeepalive: () => undefined,
    };
    const stream = await openStream(server, 'backlog', {
      handler,
      walSenderTimeoutMs: WAL_SENDER_TIMEOUT_MS,
      minInboundTimeoutMs: 60_000,
    });
    let end: StreamEnd | null = null;
    void stream.closed.then((how) => {
      end = how;
    });
    const pid = await walSenderPid('backlog');
    const replies = new Set<string | null | undefined>();
    await waitFor(
      async () => {
        const sql = 'SELECT reply_time::text FROM pg_stat_replication WHERE pid = $1::int';
        const [row] = await server.query('postgres', sql, [pid]);
        if (rows < 60_002 && end === null) replies.add(row?.[0]);
        return rows >= 60_002 || end !== null;
      },
      { what: 'the backlog', timeoutMs: 60_000 },
    );
    clearInterval(ticks);
    assert.equal(end, null);
    // It replies every 750 ms when it gets to it.
    assert.ok(replies.size > 3, `${replies.size} replies`);
    // A chunk of the socket's has 64 KB.
    assert.ok(mostRows < 2_000, `timers waited for ${mostRows} rows`);
    assert.equal(await walSenderPid('backlog'), pid);
    await stream.close();
    assert.deepEqual(await stream.closed, { error: null });
  });

  it('does not take its own busy time for the silence of the peer', async () => {
    await prepareDatabase(server, 'busy');
    const handler = new Recorder();
    const stream = await openStream(server, 'busy', {
      handler,
      // So that the server does not end the session meanwhile.
      walSenderTimeoutMs: 400,
      minInboundTimeoutMs: 0,
    });
    stream.requestKeepalive();
    const untilMs = performance.now() + 700;
    while (performance.now() < untilMs);
    await server.query('busy', "INSERT INTO t VALUES (1, 'x')");
    await handler.waitForCommits(1);
    await stream.close();
    assert.deepEqual(await stream.closed, { error: null });
  });

  it('notices a peer that does not answer any more', async () => {
    await prepareDatabase(server, 'half_open');
    const proxy = await Proxy.start(server);
    try {
      const handler = new Recorder();
      const node = { ...server.nodeConfig('half_open'), port: proxy.port };
      const stream = await openStream(server, 'half_open', {
        node,
        handler,
        minInboundTimeoutMs: 500,
      });
      await server.query('half_open', "INSERT INTO t VALUES (1, 'x')");
      await handler.waitForCommits(1);
      proxy.stopForwarding();
      const stoppedMs = performance.now();
      const { error } = await stream.closed;
      assert.equal(error?.code, 'STREAM_LOST');
      assert.equal(error.prospect, 'retry');
      const tookMs = performance.now() - stoppedMs;
      assert.ok(tookMs > WAL_SENDER_TIMEOUT_MS * 0.9);
    } finally {
      await proxy.stop();
    }
  });

  it('does not judge a peer while paused, but soon after', async () => {
    await prepareDatabase(server, 'half_paused');
    const proxy = await Proxy.start(server);
    try {
      const node = { ...server.nodeConfig('half_paused'), port: proxy.port };
      const stream = await openStream(server, 'half_paused', {
        node,
        handler: new Recorder(),
        minInboundTimeoutMs: 500,
      });
      let hasEnded = false;
      void stream.closed.then(() => {
        hasEnded = true;
      });
      stream.pause('test');
      proxy.stopForwarding();
      const untilMs = performance.now() + WAL_SENDER_TIMEOUT_MS * 3;
      await waitFor(() => hasEnded || performance.now() > untilMs, { what: 'three timeouts' });
      assert.equal(hasEnded, false);
      stream.resume();
      assert.equal((await stream.closed).error?.code, 'STREAM_LOST');
    } finally {
      await proxy.stop();
    }
  });

  it('gives up a peer that does not answer the opening', async () => {
    const proxy = await Proxy.start(server);
    try {
      proxy.stopForwarding();
      const node = { ...server.nodeConfig('idle'), port: proxy.port, connectTimeoutMs: 300 };
      const opening = openStream(server, 'idle', { node, handler: new Recorder() });
      await assert.rejects(opening, { code: 'NODE_UNREACHABLE' });
    } finally {
      await proxy.stop();
    }
  });

  it('ends when its session is terminated', async () => {
    await prepareDatabase(server, 'terminated');
    const stream = await openStream(server, 'terminated', { handler: new Recorder() });
    await server.query(
      'postgres',
      `SELECT pg_terminate_backend(${await walSenderPid('terminated')})`,
    );
    assert.equal((await stream.closed).error?.code, 'STREAM_LOST');
    await stream.close();
  });

  it('lets a server shut down at once that has everything confirmed', async () => {
    await prepareDatabase(server, 'shutdown');
    const opened: ReplicationStream[] = [];
    const recorder = new Recorder();
    const handler = {
      onData: recorder.onData.bind(recorder),
      onKeepalive: (walEnd: Parameters<Recorder['onKeepalive']>[0]) => opened[0]?.confirm(walEnd),
    };
    const stream = await openStream(server, 'shutdown', { handler });
    opened.push(stream);
    await server.query('shutdown', "INSERT INTO t VALUES (1, 'x')");
    await recorder.waitForCommits(1);
    const startedMs = performance.now();
    await server.restart('fast');
    assert.ok(performance.now() - startedMs < 4_000);
    assert.equal((await stream.closed).error?.code, 'STREAM_LOST');
  });

  it('ends when the server is killed, and goes on from the confirmed position', async () => {
    await prepareDatabase(server, 'killed');
    const handler = new Recorder();
    const stream = await openStream(server, 'killed', { handler });
    for (const id of [1, 2, 3]) {
      await server.query('killed', `INSERT INTO t VALUES (${id}, 'x')`);
    }
    await handler.waitForCommits(3);
    const end = handler.commits[1]?.endLsn;
    assert.ok(end !== undefined);
    stream.confirm(end);
    await waitFor(async () => (await confirmedFlushLsn(server, 'killed')) === end, {
      what: 'the confirmation',
    });
    // Backends outlive a killed postmaster until they notice; ours is one of them.
    const pid = await walSenderPid('killed');
    await server.kill();
    process.kill(Number(pid), 'SIGKILL');
    assert.equal((await stream.closed).error?.code, 'STREAM_LOST');
    const node = server.nodeConfig('killed');
    await assert.rejects(openStream(server, 'killed', { handler, node }), {
      code: 'NODE_UNREACHABLE',
    });
    await server.start();
    await waitForFreeSlot(server, 'killed');
    const again = new Recorder();
    // The crash took the slot's confirmation with it; our own position still counts.
    const second = await openStream(server, 'killed', { handler: again, startLsn: end });
    await again.waitForCommits(1);
    await second.close();
    assert.deepEqual(again.inserted, ['3']);
  });
});
