import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { oneAhead } from '../../src/diff/one-ahead.js';

describe('oneAhead', () => {
  const { signal } = new AbortController();

  it('keeps the order, with one item under way beside the one that is dealt with', async () => {
    const started: number[] = [];
    const seen: number[] = [];
    const results = oneAhead([1, 2, 3, 4], signal, async (item) => {
      started.push(item);
      await turn();
      return item * 10;
    });
    for await (const result of results) {
      seen.push(result);
      await turn();
      assert.deepEqual(started, [1, 2, 3, 4].slice(0, seen.length + 1));
    }
    assert.deepEqual(seen, [10, 20, 30, 40]);
    const none = oneAhead([], signal, async () => turn());
    assert.equal((await none.next()).done, true);
  });

  it('fails at the item that failed, after those before it', async () => {
    const seen: number[] = [];
    const run = async (): Promise<void> => {
      const results = oneAhead([1, 2, 3, 4], signal, async (item) => {
        if (item >= 3) throw new Error(`item ${item}`);
        return turn(item);
      });
      for await (const result of results) {
        seen.push(result);
        await turn();
      }
    };
    await assert.rejects(run(), /item 3/);
    assert.deepEqual(seen, [1, 2]);
  });

  it('cancels what is under way when the caller stops, and waits for its end', async () => {
    let isEnded = false;
    const results = oneAhead([1, 2, 3], signal, async (item, stop) => {
      while (item > 1 && !stop.aborted) await turn();
      isEnded = item > 1;
      return item;
    });
    for await (const result of results) {
      assert.equal(result, 1);
      break;
    }
    assert.equal(isEnded, true);
  });

  it('passes an abort from outside on', async () => {
    const outer = new AbortController();
    const results = oneAhead([1], outer.signal, async (_, stop) => {
      outer.abort();
      return turn(stop.aborted);
    });
    for await (const isAborted of results) assert.equal(isAborted, true);
  });
});
