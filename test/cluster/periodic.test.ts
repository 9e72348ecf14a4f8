import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { sleep } from '../../src/base/abort.js';
import { Periodic } from '../../src/cluster/periodic.js';
import { waitFor } from '../support/wait.js';

const LONG_MS = 3_600_000;

describe('Periodic', () => {
  it('goes on after a failed round and rests as it is told', async () => {
    let rounds = 0;
    const periodic = new Periodic({
      log: silentLogger(),
      failureEvent: 'failed',
      restAfterFailureMs: 0,
      round: () => {
        rounds++;
        if (rounds === 1) throw new Error('thrown');
        if (rounds === 2) return Promise.reject(new Error('rejected'));
        return Promise.resolve(rounds < 5 ? 0 : LONG_MS);
      },
    });
    await waitFor(() => rounds === 5, { what: 'five rounds' });
    await periodic.stop();
    assert.equal(rounds, 5);
  });

  it('rests after a failure before it tries again', async () => {
    let rounds = 0;
    const periodic = new Periodic({
      log: silentLogger(),
      failureEvent: 'failed',
      restAfterFailureMs: LONG_MS,
      round: () => {
        rounds++;
        return Promise.reject(new Error('rejected'));
      },
    });
    await new Promise(setImmediate);
    assert.equal(rounds, 1);
    await periodic.stop();
    assert.equal(rounds, 1);
  });

  it('ends the round that runs, waits for it, and starts no other', async () => {
    const events: string[] = [];
    const periodic = new Periodic({
      log: silentLogger(),
      failureEvent: 'failed',
      restAfterFailureMs: 0,
      round: async (signal) => {
        events.push('round');
        try {
          await sleep(LONG_MS, signal);
        } finally {
          await new Promise(setImmediate);
          events.push('cleaned up');
        }
        return 0;
      },
    });
    await periodic.stop();
    events.push('stopped');
    assert.deepEqual(events, ['round', 'cleaned up', 'stopped']);
    await periodic.stop();
  });
});
