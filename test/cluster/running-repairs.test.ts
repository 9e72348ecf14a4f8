import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RunningRepairs } from '../../src/cluster/running-repairs.js';

const TABLE = { schema: 'public', name: 'orders' };
const OTHER = { schema: 'public', name: 'customers' };

describe('tables that a repair writes to', () => {
  it('are left to it for a while, then looked at once, then left again', async () => {
    const repairs = new RunningRepairs();
    const startedAtMs = Date.now();
    await repairs.during(TABLE, async () => {
      assert.equal(repairs.leaves(TABLE, 0, startedAtMs + 4_000), true);
      assert.equal(repairs.leaves(OTHER, 0, startedAtMs + 4_000), false);
      const lookAtMs = startedAtMs + 60_000;
      assert.equal(repairs.leaves(TABLE, 0, lookAtMs), false);
      assert.equal(repairs.leaves(TABLE, lookAtMs, lookAtMs + 4_999), true);
      assert.equal(repairs.leaves(TABLE, lookAtMs, lookAtMs + 5_000), false);
      return Promise.resolve();
    });
    assert.equal(repairs.leaves(TABLE, 0, startedAtMs), false);
  });

  it('are looked at again when the last of several repairs has ended, or failed', async () => {
    const repairs = new RunningRepairs();
    const isLeft = (): boolean => repairs.leaves(TABLE, 0, Date.now());
    let fail: (error: Error) => void = () => undefined;
    const failing = repairs.during(TABLE, () => new Promise((_, reject) => (fail = reject)));
    await repairs.during(TABLE, () => Promise.resolve());
    assert.equal(isLeft(), true);
    fail(new Error('refused'));
    await assert.rejects(failing, /refused/);
    assert.equal(isLeft(), false);
  });
});
