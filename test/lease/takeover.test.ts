import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { waitFor } from '../support/wait.js';
import { assertNoContradiction, toldBy } from './aced-pair.js';
import { startLeaseCluster, type LeaseCluster } from './lease-cluster.js';

/** Two daemons and the database in which they agree on the active one; the tests go on from each other. */
describe('active and standby', () => {
  let cluster: LeaseCluster;

  before(async () => {
    cluster = await startLeaseCluster();
  });

  after(() => cluster.stop());

  it('a standby answers, says who is active and refuses the rest', async () => {
    const { a, b } = cluster;
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
    const { a, b, drift, mend } = cluster;
    await drift('t', 1);
    await waitFor(() => a.told('drift_opened', 't').length === 1, {
      what: 'drift of t',
    });
    const [incident] = a.told('drift_opened', 't');
    await a.kill();
    await drift('u', 2);
    await b.active();
    await waitFor(() => b.told('drift_opened', 'u').length === 1, {
      what: 'drift of u',
    });
    assert.deepEqual(b.told('drift_reminder', 't'), [incident]);
    await mend('t', 1);
    await mend('u', 2);
    for (const table of ['t', 'u']) {
      await waitFor(() => b.told('drift_resolved', table).length === 1, {
        what: `${table} equal`,
      });
    }
    assert.deepEqual(b.told('drift_resolved', 't'), [incident]);
    assert.deepEqual(b.told('drift_opened', 't'), []);
  });

  it('one that was stopped for longer than its term says nothing more when it goes on', async () => {
    const { a, b, drift, mend } = cluster;
    await a.start();
    b.signal('SIGSTOP');
    const before = b.lines.length;
    await drift('t', 3);
    await a.active(2);
    await waitFor(() => a.told('drift_opened', 't').length === 2, {
      what: 'drift of t',
    });
    b.signal('SIGCONT');
    const { exitCode } = await b.ended();
    assert.equal(exitCode, 1);
    const last = b.lines.slice(before).map(({ event }) => event);
    assert.equal(last.at(-1), 'lease_lost');
    assert.deepEqual(
      last.filter((event) => event.startsWith('drift_') || event.startsWith('diff')),
      [],
    );
    await mend('t', 3);
    await waitFor(() => a.told('drift_resolved', 't').length === 1, {
      what: 't to be equal',
    });
  });

  it('a clock that is set, of the active or of a standby, changes nothing', async () => {
    const { a, b, leases, root } = cluster;
    const jump = join(root, 'jump.mjs');
    const code = (ms: number): string => `const real = Date.now; Date.now = () => real() + ${ms};`;
    await writeFile(jump, code(3_600_000));
    await b.start({ NODE_OPTIONS: `--import ${jump}` });
    const read = async (): Promise<string[]> => {
      const sql = 'SELECT holder, epoch, extract(epoch FROM expires_at) FROM aced.lease';
      const [row = []] = await leases.query('postgres', sql);
      return row.map(String);
    };
    const [holder, epoch, expires] = await read();
    await waitFor(async () => Number((await read())[2]) > Number(expires) + 16, {
      what: 'more than a term to pass',
    });
    assert.deepEqual((await read()).slice(0, 2), [holder, epoch]);
    a.signal('SIGTERM');
    assert.equal((await a.ended()).exitCode, 0);
    await b.active(2);
    await writeFile(jump, code(-3_600_000));
    await a.start({ NODE_OPTIONS: `--import ${jump}` });
  });

  it('one that cannot reach the lease has ended before another takes over', async () => {
    const { a, b, way, drift, mend } = cluster;
    b.signal('SIGTERM');
    await b.ended();
    await a.active(3);
    await b.start();
    way.stopForwarding();
    await drift('u', 4);
    assert.equal((await a.ended()).exitCode, 1);
    await b.active(3);
    const [lost, taken] = ['lease_lost', 'lease_taken'].map((event) =>
      toldBy(a, b).findLastIndex((line) => line.event === event),
    );
    assert.ok((lost ?? 0) < (taken ?? 0), 'it ended first');
    await waitFor(
      () =>
        toldBy(a, b).some(
          ({ event, epoch, table }) =>
            event.startsWith('drift_') && table === 'public.u' && epoch === 6,
        ),
      {
        what: 'the drift of u to be told by the next one',
      },
    );
    await mend('u', 4);
    await waitFor(() => b.told('drift_resolved', 'u').length === 2, {
      what: 'u to be equal',
    });
    assertNoContradiction(a, b);
  });
});
