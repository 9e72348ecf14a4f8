import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { turnTlsOn } from '../postgres/certificate.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { confirmedFlushLsn, openStream, prepareDatabase, Recorder } from './recorder.js';

describe('a stream over TLS', () => {
  let server: TestServer;
  let directory: string;
  let sslRootCert: string;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'aced-tls-'));
    server = await startServer();
    sslRootCert = await turnTlsOn(server, directory);
  });

  after(async () => {
    await server.stop();
    rmSync(directory, { recursive: true });
  });

  it('delivers, pauses, confirms and closes as without', async () => {
    await prepareDatabase(server, 'tls');
    const handler = new Recorder();
    const node = {
      ...server.nodeConfig('tls'),
      host: 'localhost',
      sslMode: 'verify-full' as const,
      sslRootCert,
    };
    const stream = await openStream(server, 'tls', { node, handler });
    const sql = `SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_replication r USING (pid)`;
    assert.deepEqual(await server.query('postgres', sql), [['t']]);
    stream.pause('test');
    await server.query(
      'tls',
      "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i",
    );
    stream.resume();
    await handler.waitForCommits(1);
    assert.equal(handler.inserted.length, 20_000);
    const end = handler.commits[0]?.endLsn;
    assert.ok(end !== undefined);
    stream.confirm(end);
    await stream.close();
    assert.equal(await confirmedFlushLsn(server, 'tls'), end);
  });
});
