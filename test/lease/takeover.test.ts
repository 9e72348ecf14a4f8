import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startMesh, type Mesh } from '../support/mesh.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import { Aced, driftEvents } from './aced-pair.js';

/** Two daemons and the database in which they agree on the active one; the tests go on from each other. */
describe('active and standby', () => {
  let mesh: Mesh;
  let leases: TestServer;
  let root: string;
  let a: Aced;
  let b: Aced;

  before(async () => {
    [mesh, leases] = await Promise.all([
      startMesh({
        nodes: 2,
        tables: `CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text)`,
      }),
      startServer(),
    ]);
    for (const table of ['t', 'u']) {
      await mesh.query(
        'n1',
        `INSERT INTO ${table} SELECT i, 'v' || i FROM generate_series(1, 2000) i`,
      );
    }
    await mesh.waitForReplication();
    root = await mkdtemp(join(tmpdir(), 'aced-lease-'));
    [a, b] = [new Aced({ root, name: 'a' }), new Aced({ root, name: 'b' })];
    for (const one of [a, b]) {
      await one.configure(mesh, { host: '127.0.0.1', port: leases.port, user: leases.superuser });
    }
  });

  after(async () => {
    for (const one of [a, b]) {
      one.signal('SIGCONT');
      await one.kill();
    }
    await mesh.stop();
    await leases.stop();
    await rm(root, { recursive: true });
  });

  const drift = (table: string, id: number): Promise<void> =>
    mesh.driftSql('n2', `UPDATE ${table} SET v = 'drifted' WHERE id = ${id}`);
  const mend = (table: string, id: number): Promise<void> =>
    mesh.driftSql('n2', `UPDATE ${table} SET v = 'v${id}' WHERE id = ${id}`);
  const told = (one: Aced, event: string, table: string): string[] =>
    driftEvents(...one.lines)
      .filter((line) => line.event === event && line.table === `public.${table}`)
      .map(({ incident }) => incident ?? '');

  it('a standby answers, says who is active and refuses the rest', async () => {
    await a.start();
    await a.active();
    for (const args of [
      ['mtree', 'init'],
      ['mtree', 'build', 't'],
      ['mtree', 'build', 'u'],
    ]) {
      const { exitCode, stderr } = await a.acectl(...args);
      assert.equal(exitCode, 0, stderr);
    }
    await b.start();
    const { lease } = await a.status();
    assert.deepEqual([lease?.role, lease?.epoch], ['active', 1]);
    await waitFor(async () => (await b.status()).lease?.holder === lease?.holder, {
      what: 'b to know the active one',
    });
    const standby = await b.acectl('status');
    assert.equal(standby.exitCode, 0, standby.stdout + standby.stderr);
    assert.match(standby.stdout, /standby; active in epoch 1: a\//);
    const refused = await b.acectl('table-diff', 't');
    assert.equal(refused.exitCode, 2);
    assert.match(refused.stderr, /this aced is a standby; the active one is a\//);
  });

  it('takes over from one that was killed: the incident goes on, and what drifted meanwhile is told', async () => {
    await drift('t', 1);
    await waitFor(() => told(a, 'drift_opened', 't').length === 1, { what: 'drift of t' });
    const [incident] = told(a, 'drift_opened', 't');
    await a.kill();
    await drift('u', 2);
    await b.active();
    await waitFor(() => told(b, 'drift_opened', 'u').length === 1, { what: 'drift of u' });
    assert.deepEqual(told(b, 'drift_reminder', 't'), [incident]);
    await mend('t', 1);
    await mend('u', 2);
    await waitFor(() => told(b, 'drift_resolved', 't').length === 1, { what: 't to be equal' });
    await waitFor(() => told(b, 'drift_resolved', 'u').length === 1, { what: 'u to be equal' });
    assert.deepEqual(told(b, 'drift_resolved', 't'), [incident]);
    assert.deepEqual(told(b, 'drift_opened', 't'), []);
    assert.ok(driftEvents(...b.lines).every(({ epoch }) => epoch === 2));
  });
});
