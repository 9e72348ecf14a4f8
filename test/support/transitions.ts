import assert from 'node:assert/strict';
import type { Transitions } from '../../src/protocol/states.js';

/** What a log tells of one step. */
interface Step {
  readonly from?: unknown;
  readonly to?: unknown;
  readonly msg?: unknown;
}

/**
 * Every step of a log is one of those that there are, with a reason; returns those seen, as `from to`,
 * in order of the alphabet.
 */
export function assertTransitions<State extends string>(
  steps: readonly Step[],
  transitions: Transitions<State>,
): string[] {
  const known = allTransitions(transitions);
  const seen = new Set<string>();
  for (const { from, to, msg } of steps) {
    assert.ok(typeof msg === 'string' && msg !== '', 'a reason');
    if (from !== to) seen.add(`${String(from)} ${String(to)}`);
  }
  assert.deepEqual(
    [...seen].filter((step) => !known.includes(step)),
    [],
    'steps that there are not',
  );
  return [...seen].sort();
}

export function allTransitions<State extends string>(transitions: Transitions<State>): string[] {
  return Object.entries<readonly State[]>(transitions)
    .flatMap(([from, states]) => states.map((to) => `${from} ${to}`))
    .sort();
}
