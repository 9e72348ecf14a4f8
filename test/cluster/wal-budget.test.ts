import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { walOutlook, type WalReading } from '../../src/cluster/wal-budget.js';

const LIMIT = 1_000;

function reading(seconds: number, retainedBytes: number, rest: Partial<WalReading> = {}) {
  return { atMs: seconds * 1000, retainedBytes, walStatus: 'reserved', safeBytes: null, ...rest };
}

describe('walOutlook', () => {
  it('is fine while less than half is gone and nothing grows', () => {
    const outlook = walOutlook([reading(0, 400), reading(120, 400)], LIMIT);
    assert.deepEqual(outlook, { kind: 'fine', bytesLeft: 600, secondsLeft: null });
  });

  it('lags from half of the limit on, and is over above it', () => {
    assert.equal(walOutlook([reading(0, 500)], LIMIT).kind, 'fine');
    assert.equal(walOutlook([reading(0, 501)], LIMIT).kind, 'lags');
    assert.equal(walOutlook([reading(0, 1_000)], LIMIT).kind, 'lags');
    assert.equal(walOutlook([reading(0, 1_001)], LIMIT).kind, 'over');
  });

  it('forecasts from a minute of growth on, not from a burst', () => {
    const burst = walOutlook([reading(0, 0), reading(10, 400)], LIMIT);
    assert.deepEqual([burst.kind, burst.secondsLeft], ['fine', null]);
    const slow = walOutlook([reading(0, 0), reading(100, 10)], LIMIT);
    assert.deepEqual([slow.kind, slow.secondsLeft], ['fine', 9_900]);
    const fast = walOutlook([reading(0, 0), reading(50, 300), reading(100, 100)], LIMIT);
    assert.deepEqual([fast.kind, fast.secondsLeft], ['lags', 900]);
  });

  it("counts the server's own limit when it comes first", () => {
    const near = reading(100, 100, { safeBytes: 50 });
    const outlook = walOutlook([reading(0, 0), near], LIMIT);
    assert.deepEqual(outlook, { kind: 'lags', bytesLeft: 50, secondsLeft: 50 });
    const far = walOutlook([reading(0, 400, { safeBytes: 1e9 })], LIMIT);
    assert.deepEqual([far.kind, far.bytesLeft], ['fine', 600]);
    const past = reading(100, 400, { safeBytes: -10, walStatus: 'unreserved' });
    assert.deepEqual(walOutlook([reading(0, 0), past], LIMIT), {
      kind: 'lags',
      bytesLeft: -10,
      secondsLeft: 0,
    });
  });
});
