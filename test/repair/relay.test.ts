import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { SessionPool } from '../../src/postgres/session-pool.js';
import { CopyRelay } from '../../src/repair/relay.js';
import { startServer, type TestServer } from '../support/postgres.js';

const MUCH = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT";

let server: TestServer;
let pool: SessionPool;

before(async () => {
  server = await startServer();
  pool = new SessionPool(server.nodeConfig('postgres'), { max: 1, applicationName: 'aced test' });
});

after(async () => {
  await pool.close();
  await server.stop();
});

describe('CopyRelay', () => {
  it('survives the end of the source while nobody has asked for the rows yet', async () => {
    await pool.use(async (source) => {
      const relay = new CopyRelay(source, MUCH);
      source.destroy();
      // Without a listener the error of the buffer would end the process, and this test.
      await assert.rejects(relay.discard(), { code: 'NODE_UNREACHABLE' });
    });
  });
});
