import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { NodeConfig } from '../../src/config/config.js';
import { connectClient, type ConnectOptions } from '../../src/postgres/client-config.js';
import { SESSION_SETTINGS } from '../../src/postgres/session-settings.js';
import { setTls, turnTlsOn } from './certificate.js';
import { startServer, type TestServer } from '../support/postgres.js';

const OPTIONS: ConnectOptions = { applicationName: 'aced test' };

/** Containers may be without it. */
function hasIpv6(): boolean {
  return Object.values(networkInterfaces()).some((all) =>
    all?.some(({ address }) => address === '::1'),
  );
}

describe('connectClient', () => {
  let server: TestServer;
  let directory: string;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), 'aced-tls-'));
    server = await startServer({ settings: { listen_addresses: '127.0.0.1,::1' } });
    await server.query(
      'postgres',
      `CREATE ROLE scram LOGIN PASSWORD 'right';
       CREATE ROLE tls_only LOGIN; CREATE ROLE plain_only LOGIN; CREATE ROLE plain LOGIN`,
    );
    const hbaFile = join(server.dataDir, 'pg_hba.conf');
    writeFileSync(
      hbaFile,
      `host all scram all scram-sha-256
       hostssl all tls_only all trust
       hostnossl all tls_only all reject
       hostnossl all plain_only all trust
       hostssl all plain_only all reject
       ${readFileSync(hbaFile, 'utf8')}`,
    );
    // This also makes the server read pg_hba.conf again.
    await turnTlsOn(server, directory);
  });

  after(async () => {
    rmSync(directory, { recursive: true });
    await server.stop();
  });

  async function connect(change: Partial<NodeConfig>): Promise<'tls' | 'plain'> {
    const { client } = await connectClient(
      { ...server.nodeConfig('postgres'), ...change },
      OPTIONS,
    );
    const sql = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()';
    const { rows } = await client.query<{ ssl: string }>(sql);
    await client.end();
    return rows[0]?.ssl === 't' ? 'tls' : 'plain';
  }

  it('pins every setting', async () => {
    const { client } = await connectClient(server.nodeConfig('postgres'), OPTIONS);
    for (const [name, value] of Object.entries(SESSION_SETTINGS)) {
      const { rows } = await client.query<[string]>({
        text: `SELECT current_setting('${name}')`,
        rowMode: 'array',
      });
      assert.equal(rows[0]?.[0], value, name);
    }
    await client.end();
  });

  it('gives values as their raw text', async () => {
    const { client } = await connectClient(server.nodeConfig('postgres'), OPTIONS);
    const { rows } = await client.query<unknown[]>({
      text: "SELECT 9007199254740993::int8, true, '2024-01-02'::date, ARRAY[1, 2], 1.50::numeric, NULL",
      rowMode: 'array',
    });
    assert.deepEqual(rows[0], ['9007199254740993', 't', '2024-01-02', '{1,2}', '1.50', null]);
    await client.end();
  });

  it('authenticates with a password, given or from the password file', async () => {
    assert.equal(await connect({ user: 'scram', password: 'right' }), 'plain');
    await assert.rejects(connect({ user: 'scram', password: 'wrong' }), (error: Error) => {
      assert.ok('code' in error && error.code === 'AUTH_FAILED');
      assert.ok(!error.message.includes('wrong'));
      return true;
    });
    const file = join(directory, 'pgpass');
    const fromFile = { user: 'scram', passwordFiles: [{ path: file, isCredential: false }] };
    await assert.rejects(connect(fromFile), { code: 'AUTH_FAILED' });
    await assert.rejects(connect({ user: 'scram' }), { code: 'AUTH_FAILED' });
    await assert.rejects(connect({ user: 'scram', password: '' }), { code: 'AUTH_FAILED' });
    writeFileSync(file, `127.0.0.1:${server.port}:postgres:scram:right\n`, { mode: 0o600 });
    assert.equal(await connect(fromFile), 'plain');
    chmodSync(file, 0o644);
    await assert.rejects(connect(fromFile), { code: 'AUTH_FAILED' });
  });

  it('follows sslmode', async () => {
    const plain = { user: 'plain_only' };
    const tls = { user: 'tls_only' };
    assert.equal(await connect({ sslMode: 'disable' }), 'plain');
    assert.equal(await connect({ sslMode: 'allow' }), 'plain');
    assert.equal(await connect({ sslMode: 'allow', ...tls }), 'tls');
    assert.equal(await connect({ sslMode: 'prefer' }), 'tls');
    assert.equal(await connect({ sslMode: 'prefer', ...plain }), 'plain');
    assert.equal(await connect({ sslMode: 'require' }), 'tls');
    await assert.rejects(connect({ sslMode: 'require', ...plain }), { code: 'AUTH_FAILED' });
    await assert.rejects(connect({ sslMode: 'disable', ...tls }), { code: 'AUTH_FAILED' });
  });

  it('defect 6: reaches a server by IPv6', { skip: !hasIpv6() }, async () => {
    assert.equal(await connect({ host: '::1', sslMode: 'require' }), 'tls');
    assert.equal(await connect({ host: '::1', sslMode: 'disable' }), 'plain');
  });

  it('verifies certificates', async () => {
    const sslRootCert = join(directory, 'server.crt');
    const localhost = { host: 'localhost', sslRootCert };
    assert.equal(await connect({ sslMode: 'verify-full', ...localhost }), 'tls');
    assert.equal(await connect({ sslMode: 'verify-ca', sslRootCert }), 'tls');
    // The certificate is for localhost, not for 127.0.0.1.
    const otherName = connect({ sslMode: 'verify-full', sslRootCert });
    await assert.rejects(otherName, { code: 'AUTH_FAILED' });
    const untrusted = connect({ sslMode: 'verify-full', host: 'localhost', sslRootCert: 'system' });
    await assert.rejects(untrusted, { code: 'AUTH_FAILED' });
    const missing = connect({ sslMode: 'verify-ca', sslRootCert: join(directory, 'none') });
    await assert.rejects(missing, { code: 'BAD_CONFIG' });
  });

  it('falls back from prefer, but not from require, where the server has no TLS', async () => {
    await setTls(server, 'off');
    try {
      assert.equal(await connect({ sslMode: 'prefer' }), 'plain');
      await assert.rejects(connect({ sslMode: 'require' }), { code: 'BAD_CONFIG' });
    } finally {
      await setTls(server, 'on');
    }
  });

  it('takes a timeout of 0 for no limit', async () => {
    assert.equal(await connect({ connectTimeoutMs: 0 }), 'plain');
  });

  it('says what is wrong', async () => {
    await assert.rejects(connect({ database: 'nope' }), { code: 'BAD_CONFIG' });
    await assert.rejects(connect({ user: 'nobody_here' }), { code: 'AUTH_FAILED' });
    await assert.rejects(connect({ port: 1 }), { code: 'NODE_UNREACHABLE' });
    await assert.rejects(connect({ host: directory }), { code: 'NODE_UNREACHABLE' });
    const walsender = connectClient(
      { ...server.nodeConfig('postgres'), user: 'plain' },
      { ...OPTIONS, replication: 'database' },
    );
    await assert.rejects(walsender, { code: 'MISSING_PRIVILEGE' });
  });

  it('gives a silent server up, and stops when told to', async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => {
      silent.listen(0, '127.0.0.1', resolve);
    });
    try {
      const { port } = silent.address() as AddressInfo;
      for (const sslMode of ['disable', 'prefer'] as const) {
        const waiting = connect({ port, sslMode, connectTimeoutMs: 100 });
        await assert.rejects(waiting, { code: 'NODE_UNREACHABLE', message: /in 100 ms/ });
      }
      const abort = new AbortController();
      const node = { ...server.nodeConfig('postgres'), port, connectTimeoutMs: 0 };
      const connecting = connectClient(node, { ...OPTIONS, signal: abort.signal });
      abort.abort();
      await assert.rejects(connecting, { code: 'CANCELLED' });
    } finally {
      for (const socket of sockets) socket.destroy();
      silent.close();
    }
  });
});
