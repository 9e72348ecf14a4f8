import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Mutex } from '../../src/cluster/mutex.js';

function deferred<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (e: Error) => void;
} {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: Error) => void = () => undefined;
  const promise = new Promise<T>((accept, refuse) => {
    resolve = accept;
    reject = refuse;
  });
  return { promise, resolve, reject };
}

describe('Mutex', () => {
  it('runs one piece of work at a time, in the order of arrival', async () => {
    const mutex = new Mutex();
    const log: string[] = [];
    const gates = [deferred<number>(), deferred<number>(), deferred<number>()];
    const results = gates.map((gate, i) =>
      mutex.run(async () => {
        log.push(`start ${i}`);
        const value = await gate.promise;
        log.push(`end ${i}`);
        return value;
      }),
    );
    assert.equal(mutex.isBusy, true);
    // The later ones could end at once if they were started.
    gates[2]?.resolve(2);
    gates[1]?.resolve(1);
    gates[0]?.resolve(0);
    assert.deepEqual(await Promise.all(results), [0, 1, 2]);
    assert.deepEqual(log, ['start 0', 'end 0', 'start 1', 'end 1', 'start 2', 'end 2']);
    assert.equal(mutex.isBusy, false);
  });

  it('hands a failure to its own caller only', async () => {
    const mutex = new Mutex();
    const gate = deferred<number>();
    const first = mutex.run(() => gate.promise);
    const second = mutex.run(() => {
      throw new Error('thrown at once');
    });
    const third = mutex.run(() => Promise.resolve(3));
    gate.reject(new Error('rejected'));
    await assert.rejects(first, /rejected/);
    await assert.rejects(second, /thrown at once/);
    assert.equal(await third, 3);
    assert.equal(mutex.isBusy, false);
  });
});
