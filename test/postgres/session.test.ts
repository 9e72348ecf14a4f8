import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { SessionPool } from '../../src/postgres/session-pool.js';
import { Session } from '../../src/postgres/session.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';

const DATABASE = 'sessions';
const OPTIONS = { applicationName: 'aced session test' };

let server: TestServer;

before(async () => {
  server = await startServer();
  await server.createDatabase(DATABASE);
});

after(async () => {
  await server.stop();
});

async function withSession<T>(work: (session: Session) => Promise<T>): Promise<T> {
  const session = await Session.connect(server.nodeConfig(DATABASE, 'n1'), OPTIONS);
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}

function isError(code: string): (error: unknown) => boolean {
  return (error) => error instanceof AcedError && error.code === code;
}

const runningQuery = (text: string): string =>
  `SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE '${text}%'`;

describe('Session', () => {
  it('gives raw text, also for what a driver would convert', async () => {
    await withSession(async (session) => {
      const rows = await session.query(
        "SELECT 12345678901234567890::numeric, true, '2024-01-02 03:04:05.123456+09'::timestamptz, 0.1::float8 + 0.2, " +
          "'\\xdead'::bytea, NULL, '{1,2}'::int[], '1 day 2 hours'::interval",
      );
      assert.deepEqual(rows, [
        [
          '12345678901234567890',
          't',
          '2024-01-01 18:04:05.123456+00',
          '0.30000000000000004',
          '\\xdead',
          null,
          '{1,2}',
          '1 day 02:00:00',
        ],
      ]);
      assert.equal(session.serverVersion >= 180_000, true);
    });
  });

  it('passes text, null and arrays as parameters', async () => {
    await withSession(async (session) => {
      const texts = ['a"b', 'c\\d', '{x,y}', 'null', null, ''];
      const rows = await session.query('SELECT $1::text, $2::int, array_to_json($3::text[])', [
        "it's",
        null,
        texts,
      ]);
      assert.deepEqual(rows[0]?.slice(0, 2), ["it's", null]);
      assert.deepEqual(JSON.parse(rows[0][2] ?? ''), texts);
    });
  });

  it('gives the rows of several statements one after another', async () => {
    await withSession(async (session) => {
      assert.deepEqual(await session.query('BEGIN; SELECT 1; SELECT 2; COMMIT'), [['1'], ['2']]);
    });
  });

  it('stops a running query when its signal aborts, and can be used on', async () => {
    await withSession(async (session) => {
      const abort = new AbortController();
      const query = session.query('SELECT /* long */ pg_sleep(60)', [], abort.signal);
      query.catch(() => undefined);
      const isRunning = async (): Promise<boolean> =>
        (await server.query(DATABASE, runningQuery('SELECT /* long'))).length > 0;
      await waitFor(isRunning, { what: 'the query to run' });
      abort.abort();
      await assert.rejects(query, isError('CANCELLED'));
      assert.equal(await isRunning(), false);
      assert.deepEqual(await session.query('SELECT 1'), [['1']]);
      assert.equal(session.isBroken, false);
    });
  });

  it('does not start a query whose signal has aborted', async () => {
    await withSession(async (session) => {
      await assert.rejects(
        session.query('CREATE TABLE never (id int)', [], AbortSignal.abort()),
        isError('CANCELLED'),
      );
      assert.deepEqual(await session.query("SELECT to_regclass('never')"), [[null]]);
    });
  });

  it('survives a lost connection, idle or busy', async () => {
    await withSession(async (idle) => {
      await withSession(async (busy) => {
        const query = busy.query('SELECT pg_sleep(60)');
        query.catch(() => undefined);
        await server.query(
          DATABASE,
          `SELECT pg_terminate_backend(pid) FROM unnest(ARRAY[${idle.backendPid}, ${busy.backendPid}]) AS pid`,
        );
        await assert.rejects(query, AcedError);
        await waitFor(() => idle.isBroken && busy.isBroken, { what: 'both sessions to notice' });
        await assert.rejects(idle.query('SELECT 1'), isError('NODE_UNREACHABLE'));
      });
    });
  });

  it('says which query error it was by its SQLSTATE', async () => {
    await withSession(async (session) => {
      await assert.rejects(session.query('SELECT 1/0'), isError('QUERY_FAILED'));
      await assert.rejects(
        session.query("SELECT 'of a row'::int"),
        (error) =>
          error instanceof AcedError &&
          /of a row.*22P02/.test(error.message) &&
          /: the server refused it \(SQLSTATE 22P02\)$/.test(error.logMessage),
      );
      assert.deepEqual(await session.query('SELECT 1'), [['1']]);
    });
  });
});

describe('SessionPool', () => {
  const newPool = (max: number, idleMs?: number): SessionPool =>
    new SessionPool(server.nodeConfig(DATABASE, 'n1'), {
      max,
      applicationName: 'aced pool test',
      ...(idleMs === undefined ? {} : { idleMs }),
    });
  const connections = async (): Promise<number> =>
    (
      await server.query(
        DATABASE,
        "SELECT FROM pg_stat_activity WHERE application_name = 'aced pool test'",
      )
    ).length;

  it('serves in order of arrival with at most max sessions', async () => {
    const pool = newPool(2);
    const order: number[] = [];
    let running = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        pool.use(async (session) => {
          order.push(index);
          running += 1;
          most = Math.max(most, running);
          await session.query('SELECT pg_sleep(0.01)');
          running -= 1;
        }),
      ),
    );
    assert.equal(most, 2);
    // The first two connect at the same time.
    assert.deepEqual(
      [...order.slice(0, 2).toSorted(), ...order.slice(2)],
      [0, 1, 2, 3, 4, 5, 6, 7],
    );
    assert.equal(await connections(), 2);
    await pool.close();
    await waitFor(async () => (await connections()) === 0, { what: 'closed connections' });
  });

  it('drops sessions that are broken or left inside a transaction', async () => {
    const pool = newPool(1);
    const first = await pool.use(async (session) => {
      await session.query('BEGIN');
      return session.backendPid;
    });
    const second = await pool.use(async (session) => {
      await session.query('SELECT pg_terminate_backend(pg_backend_pid())').catch(() => undefined);
      return session.backendPid;
    });
    const third = await pool.use((session) => Promise.resolve(session.backendPid));
    const fourth = await pool.use((session) => Promise.resolve(session.backendPid));
    assert.equal(new Set([first, second, third]).size, 3);
    assert.equal(fourth, third);
    await pool.close();
  });

  it('closes what has been idle for long', async () => {
    const pool = newPool(1, 20);
    await pool.use((session) => session.query('SELECT 1'));
    await waitFor(async () => (await connections()) === 0, { what: 'the idle session to close' });
    assert.deepEqual(await pool.use((session) => session.query('SELECT 2')), [['2']]);
    await pool.close();
  });

  it('lets a waiter go when its signal aborts, and closes behind running work', async () => {
    const pool = newPool(1);
    const abort = new AbortController();
    let finish: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const holder = pool.use(() => held);
    const waiter = pool.use(() => Promise.resolve(), abort.signal);
    const other = pool.use(() => Promise.resolve());
    abort.abort();
    await assert.rejects(waiter, isError('CANCELLED'));
    const closing = pool.close();
    await assert.rejects(other, isError('CANCELLED'));
    finish();
    await holder;
    await closing;
    await assert.rejects(
      pool.use(() => Promise.resolve()),
      isError('CANCELLED'),
    );
  });

  it('hands a connection error to the one who asked, and goes on', async () => {
    const pool = new SessionPool(
      { ...server.nodeConfig('does_not_exist', 'n1') },
      { max: 1, applicationName: 'aced pool test' },
    );
    for (let i = 0; i < 2; i++) {
      await assert.rejects(
        pool.use(() => Promise.resolve()),
        AcedError,
      );
    }
    await pool.close();
  });
});
