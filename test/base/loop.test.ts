import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'node:test';
import { sleep } from '../../src/base/abort.js';
import { AcedError } from '../../src/base/errors.js';
import { createLogger } from '../../src/base/log.js';
import { Loop, tellsFailures, type LoopOptions } from '../../src/base/loop.js';
import { waitFor } from '../support/wait.js';

const LONG_MS = 3_600_000;
const AT_ONCE = { firstMs: 0, maxMs: 0 };

const running: Loop[] = [];

function start(options: Pick<LoopOptions, 'round'> & Partial<LoopOptions>): Loop {
  const loop = Loop.start({ backoff: AT_ONCE, onFailure: () => undefined, ...options });
  running.push(loop);
  return loop;
}

const nextTurn = (): Promise<void> => new Promise(setImmediate);

describe('Loop', () => {
  // A test that fails in between must not leave one that rests for an hour.
  afterEach(async () => {
    await Promise.all(running.splice(0).map((loop) => loop.stop()));
  });

  it('goes on after a failed round and rests as it is told', async () => {
    let rounds = 0;
    const loop = start({
      round: () => {
        rounds++;
        if (rounds === 1) throw new Error('thrown');
        if (rounds === 2) return Promise.reject(new Error('rejected'));
        return Promise.resolve(rounds < 5 ? 0 : LONG_MS);
      },
    });
    await waitFor(() => rounds === 5, { what: 'five rounds' });
    await loop.stop();
    assert.equal(rounds, 5);
  });

  it('rests after a failure before it tries again', async () => {
    let rounds = 0;
    const loop = start({
      backoff: { firstMs: LONG_MS, maxMs: LONG_MS },
      round: () => {
        rounds++;
        return Promise.reject(new Error('rejected'));
      },
    });
    await nextTurn();
    loop.wake();
    await nextTurn();
    assert.equal(rounds, 1, 'whoever wakes it does not know that it failed');
    await loop.stop();
    assert.equal(rounds, 1);
  });

  it('does not rest after a round that ends well although it was asked to stop', async () => {
    let end: () => void = () => undefined;
    const loop = start({
      round: async () => {
        await new Promise<void>((resolve) => (end = resolve));
        return Infinity;
      },
    });
    await nextTurn();
    const stopped = loop.stop();
    end();
    let isStopped = false;
    void stopped.then(() => (isStopped = true));
    await waitFor(() => isStopped, { what: 'the loop to end', timeoutMs: 10_000 });
  });

  it('ends the round that runs, waits for it, and starts no other', async () => {
    const events: string[] = [];
    const loop = start({
      round: async (signal) => {
        events.push('round');
        try {
          await sleep(LONG_MS, signal);
        } finally {
          await nextTurn();
          events.push('cleaned up');
        }
        return 0;
      },
    });
    await loop.stop();
    events.push('stopped');
    assert.deepEqual(events, ['round', 'cleaned up', 'stopped']);
    await loop.stop();
  });

  it('is woken from a rest, however long, and while its round ends', async () => {
    let rounds = 0;
    let release = (): void => undefined;
    const loop = start({
      round: async () => {
        rounds++;
        if (rounds === 2) {
          await new Promise<void>((resolve) => {
            release = resolve;
          });
        }
        return Infinity;
      },
    });
    await nextTurn();
    assert.equal(rounds, 1);
    loop.wake();
    await waitFor(() => rounds === 2, { what: 'the second round' });
    loop.wake();
    release();
    await waitFor(() => rounds === 3, { what: 'the round that was asked for meanwhile' });
    await nextTurn();
    assert.equal(rounds, 3);
    await loop.stop();
  });

  it('counts failures in a row, from the last good round or word of success on', async () => {
    const counts: number[] = [];
    let rounds = 0;
    const loop = start({
      round: () => {
        rounds++;
        if (rounds === 3) return Promise.resolve(0);
        if (rounds === 6) loop.succeeded();
        return rounds < 8 ? Promise.reject(new Error(`${rounds}`)) : Promise.resolve(LONG_MS);
      },
      onFailure: (_, before) => counts.push(before),
    });
    await waitFor(() => rounds === 8, { what: 'eight rounds' });
    await loop.stop();
    //                        1  2  4  5  6  7
    assert.deepEqual(counts, [0, 1, 0, 1, 0, 1]);
  });

  it('rests longest at once where trying again is in vain', async () => {
    for (const [code, expected] of [
      ['BAD_USAGE', 1],
      ['MISSING_PRIVILEGE', 3],
      ['SLOT_BUSY', 3],
    ] as const) {
      let rounds = 0;
      const loop = start({
        backoff: { firstMs: 0.001, maxMs: LONG_MS },
        round: () => {
          if (++rounds < 3) throw new AcedError(code, 'failed');
          return Promise.resolve(LONG_MS);
        },
      });
      await waitFor(() => rounds === expected, { what: `${code} to be tried ${expected} times` });
      for (let turn = 0; turn < 5; turn++) await nextTurn();
      assert.equal(rounds, expected, code);
      await loop.stop();
    }
  });

  it('tells a failure once, until it is another one or was over', async () => {
    const lines: { level: string; msg: string }[] = [];
    const log = createLogger('debug', {
      write: (line) => lines.push(JSON.parse(line) as (typeof lines)[number]),
    });
    const failures = ['a', 'a', 'b', null, 'b', 'b'];
    let rounds = 0;
    const loop = start({
      ...tellsFailures(log, 'refresh_failed'),
      round: () => {
        const failure = failures[rounds++];
        if (failure === undefined) return Promise.resolve(LONG_MS);
        return failure === null ? Promise.resolve(0) : Promise.reject(new Error(failure));
      },
    });
    await waitFor(() => rounds > failures.length, { what: 'all rounds' });
    await loop.stop();
    assert.deepEqual(
      lines.map(({ level, msg }) => `${msg}${level === 'warn' ? '!' : ''}`),
      ['a!', 'a', 'b!', 'b!', 'b'],
    );
  });
});
