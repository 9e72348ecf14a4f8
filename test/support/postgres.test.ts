import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { startServer, type PostgresMajor, type TestServer } from './postgres.js';
import { waitFor } from './wait.js';

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

for (const major of [15, 16, 17, 18] satisfies PostgresMajor[]) {
  describe(`test server ${major}`, () => {
    let server: TestServer;
    before(async () => {
      server = await startServer({ major, settings: { work_mem: '5MB' } });
    });
    after(() => server.stop());

    it('is the asked major, logical, with ICU collation and the given settings', async () => {
      const rows = await server.query(
        'postgres',
        `SELECT current_setting('server_version_num')::int / 10000, current_setting('wal_level'),
           current_setting('work_mem'), (SELECT datlocprovider FROM pg_database WHERE datname = 'postgres'),
           'a' < 'B'`,
      );
      assert.deepEqual(rows, [[String(major), 'logical', '5MB', 'i', 't']]);
    });

    it('keeps committed rows and its port over a crash', async () => {
      await server.createDatabase('Odd "name"');
      const { port } = server;
      await server.query('Odd "name"', 'CREATE TABLE t (id int); INSERT INTO t VALUES (7)');
      await server.kill();
      await server.start();
      assert.equal(server.port, port);
      assert.deepEqual(await server.query('Odd "name"', 'SELECT id FROM t'), [['7']]);
    });
  });
}

describe('test servers', () => {
  it('have system identifiers of their own', async () => {
    const servers = await Promise.all([startServer(), startServer()]);
    try {
      const ids = await Promise.all(
        servers.map((server) =>
          server.query('postgres', 'SELECT system_identifier FROM pg_control_system()'),
        ),
      );
      assert.notDeepEqual(ids[0], ids[1]);
    } finally {
      await Promise.all(servers.map((server) => server.stop()));
    }
  });

  it('leave neither processes nor files behind after stop', async () => {
    const server = await startServer();
    const { pid, dataDir } = server;
    assert.ok(pid !== undefined && isAlive(pid) && existsSync(dataDir));
    await server.stop();
    assert.equal(isAlive(pid), false);
    assert.equal(existsSync(dataDir), false);
    await server.stop();
  });
});

describe('waitFor', () => {
  it('names what it waited for in vain', async () => {
    await assert.rejects(
      waitFor(() => false, { what: 'the moon', timeoutMs: 30, intervalMs: 5 }),
      /30 ms in vain for the moon/,
    );
  });

  it('ends at once on an error', async () => {
    const failing = waitFor(() => Promise.reject(new Error('broken')), { what: 'nothing' });
    await assert.rejects(failing, /broken/);
  });
});
