import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { allOrCause, runAll, sleep } from '../../src/base/abort.js';
import { AcedError } from '../../src/base/errors.js';

describe('allOrCause', () => {
  it('gives the values in the order of the work', async () => {
    const slow = sleep(5).then(() => 'slow');
    assert.deepEqual(await allOrCause([slow, Promise.resolve('quick')]), ['slow', 'quick']);
  });

  it('waits for all before it rejects', async () => {
    let hasEnded = false;
    const slow = sleep(5).then(() => {
      hasEnded = true;
    });
    await assert.rejects(allOrCause([Promise.reject(new Error('early')), slow]), /early/);
    assert.equal(hasEnded, true);
  });

  it('rejects with the cause, not with those whom it made give up', async () => {
    const abort = new AbortController();
    const fellow = sleep(60_000, abort.signal);
    const cause = new AcedError('NODE_UNREACHABLE', 'n2 is gone');
    const failing = sleep(1).then(() => {
      abort.abort();
      throw cause;
    });
    await assert.rejects(allOrCause([fellow, failing]), cause);
  });

  it('rejects with CANCELLED when all were cancelled', async () => {
    const abort = new AbortController();
    const work = [sleep(60_000, abort.signal), sleep(60_000, abort.signal)];
    abort.abort();
    await assert.rejects(allOrCause(work), { code: 'CANCELLED' });
  });
});

describe('runAll', () => {
  it('gives the results in the order of the items', async () => {
    const results = await runAll([5, 0], undefined, (ms) => sleep(ms).then(() => ms));
    assert.deepEqual(results, [5, 0]);
  });

  it('makes the others give up when one fails, and waits until they have', async () => {
    const ended: string[] = [];
    const work = async (name: string, signal: AbortSignal): Promise<void> => {
      if (name === 'fails') throw new Error('early');
      await sleep(60_000, signal).finally(() => ended.push(name));
    };
    await assert.rejects(runAll(['a', 'fails', 'b'], undefined, work), /early/);
    assert.deepEqual(ended, ['a', 'b']);
  });

  it('passes the abort of its caller on', async () => {
    const abort = new AbortController();
    const running = runAll([1], abort.signal, (_, signal) => sleep(60_000, signal));
    abort.abort();
    await assert.rejects(running, { code: 'CANCELLED' });
  });
});
