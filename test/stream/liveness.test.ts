import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { judgeInbound, statusIntervalMs } from '../../src/stream/liveness.js';

describe('statusIntervalMs', () => {
  for (const [timeoutMs, expected] of [
    [0, null],
    [1_000, 750],
    [2_000, 1_500],
    [13_000, 9_750],
    [60_000, 10_000],
    [86_400_000, 10_000],
  ] as const) {
    it(`${timeoutMs} ms: ${expected ?? 'none'}`, () => {
      assert.equal(statusIntervalMs(timeoutMs), expected);
    });
  }
});

describe('judgeInbound', () => {
  const timeoutMs = 1000;
  for (const [silentMs, unansweredMs, isPaused, expected] of [
    [0, null, false, 'alive'],
    [499, null, false, 'alive'],
    [500, null, false, 'probe'],
    [5000, null, false, 'probe'],
    [600, 0, false, 'alive'],
    [1499, 999, false, 'alive'],
    [1500, 1000, false, 'lost'],
    // A question of our own right at the start counts as one.
    [1000, 1000, false, 'lost'],
    [5000, null, true, 'alive'],
    [5000, 5000, true, 'alive'],
  ] as const) {
    const question = unansweredMs === null ? 'not asked' : `unanswered for ${unansweredMs} ms`;
    const paused = isPaused ? ', paused' : '';
    it(`silent for ${silentMs} ms, ${question}${paused}: ${expected}`, () => {
      assert.equal(judgeInbound({ silentMs, unansweredMs, timeoutMs, isPaused }), expected);
    });
  }
});
