import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { waitFor } from '../support/wait.js';
import { assertNoContradiction } from './aced-pair.js';
import { startLeaseCluster, type LeaseCluster } from './lease-cluster.js';

const ROUNDS = 4;

/** Whichever aced is lost: nothing is told that contradicts, and nothing is missed. */
describe('losses of an active aced', () => {
  let cluster: LeaseCluster;

  before(async () => {
    cluster = await startLeaseCluster();
    const { a, b } = cluster;
    await a.start();
    await a.active();
    for (const args of [
      ['mtree', 'init'],
      ['mtree', 'build', 't'],
      ['mtree', 'build', 'u'],
    ]) {
      assert.equal((await a.acectl(...args)).exitCode, 0);
    }
    await b.start();
  });

  after(() => cluster.stop());

  it('one is killed after the other, while rows drift and are mended', async () => {
    const { drift, mend } = cluster;
    const { a, b } = cluster;
    let active = a;
    let isOpen = false;
    for (let round = 1; round <= ROUNDS; round += 1) {
      const from = active.lines.length;
      await (isOpen ? mend : drift)('t', 7);
      isOpen = !isOpen;
      const isTold = (): boolean => {
        const lines = active.lines.slice(from);
        return lines.some(({ event, table }) => event.startsWith('drift_') && table === 'public.t');
      };
      // Before it knows, or once it has told.
      if (round % 2 === 0) await waitFor(isTold, { what: 'a word on t' });
      await active.kill();
      await drift('u', round);
      const since = a.count('ready') + b.count('ready') + 1;
      const [fromA, fromB] = [a.lines.length, b.lines.length];
      // Whoever asks first: the one that was killed knows more, and need not read the tables anew.
      await active.start();
      await waitFor(() => a.count('ready') + b.count('ready') === since, { what: 'an active one' });
      active = a.lines.slice(fromA).some(({ event }) => event === 'ready') ? a : b;
      const before = active === a ? fromA : fromB;
      const told = (events: string[], table: string) => (): boolean =>
        active.lines
          .slice(before)
          .some((line) => events.includes(line.event) && line.table === `public.${table}`);
      await waitFor(told(['drift_opened', 'drift_reminder'], 'u'), {
        what: 'the drift of u',
      });
      await mend('u', round);
      await waitFor(told(['drift_resolved'], 'u'), { what: 'u to be equal' });
      await waitFor(
        async () => {
          const { tables } = await active.status();
          const verdict = tables.find(({ table }) => table === 'public.t')?.live?.verdict;
          return verdict === (isOpen ? 'drift' : 'match');
        },
        { what: 'the verdict on t' },
      );
    }
    assertNoContradiction(cluster.a, cluster.b);
  });
});
