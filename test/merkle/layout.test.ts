import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BlockLayout, type LayoutChange } from '../../src/merkle/layout.js';

/** Keys 0..199 and, per block of the naive model, an array of them. */
const KEYS = Array.from({ length: 200 }, (_, i) => i);

function naivePosition(layout: BlockLayout, key: number): number {
  const holders = layout.ids.flatMap((_, position) => {
    const { lower, upper } = layout.range(position);
    const isIn =
      (lower === null || Number(lower[0]) <= key) && (upper === null || key < Number(upper[0]));
    return isIn ? [position] : [];
  });
  assert.equal(holders.length, 1, `key ${key} is in exactly one block`);
  return holders[0] ?? -1;
}

type Operation =
  | { readonly kind: 'split'; readonly at: number; readonly cuts: readonly number[] }
  | { readonly kind: 'merge'; readonly marks: readonly boolean[] };

const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({
    kind: fc.constant('split' as const),
    at: fc.nat(),
    cuts: fc.array(fc.integer({ min: 1, max: 199 }), { maxLength: 6 }),
  }),
  fc.record({
    kind: fc.constant('merge' as const),
    marks: fc.array(fc.boolean(), { maxLength: 40 }),
  }),
);

/** Runs of marked neighbours; a run of one block is no merge, and runs may stand side by side. */
function runsOf(marks: readonly boolean[], size: number): [number, number][] {
  const runs: [number, number][] = [];
  for (let first = 0; first < size - 1; first++) {
    let last = first;
    while (last + 1 < size && marks[last] === true) last++;
    if (last > first) runs.push([first, last]);
    first = last;
  }
  return runs;
}

function apply(layout: BlockLayout, step: Operation): LayoutChange | null {
  if (step.kind === 'merge') return layout.merge(runsOf(step.marks, layout.size));
  const position = step.at % layout.size;
  const { lower, upper } = layout.range(position);
  const cuts = [...new Set(step.cuts)]
    .filter((cut) => cut > Number(lower?.[0] ?? 0) && cut < Number(upper?.[0] ?? 200))
    .sort((a, b) => a - b);
  return cuts.length === 0
    ? null
    : layout.split(
        position,
        cuts.map((cut) => [String(cut)]),
      );
}

describe('BlockLayout', () => {
  it('starts with one block that is open on both sides', () => {
    const layout = BlockLayout.single();
    assert.equal(layout.size, 1);
    assert.deepEqual(layout.range(0), { lower: null, upper: null });
  });

  it('keeps every key in one block, maps positions right and never uses an id twice', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 25 }), (steps) => {
        let layout = BlockLayout.single();
        /** Every id there ever was -> the keys of its block. */
        const history = new Map<number, string>();
        const remember = (): void => {
          const members = new Map<number, number[]>(layout.ids.map((id) => [id, []]));
          for (const key of KEYS) {
            members.get(layout.ids[naivePosition(layout, key)] ?? -1)?.push(key);
          }
          assert.equal(members.size, layout.size, 'ids are unique');
          for (const [id, keys] of members) {
            const text = keys.join();
            assert.equal(history.get(id) ?? text, text, `id ${id} means one block for ever`);
            history.set(id, text);
          }
        };
        remember();
        for (const step of steps) {
          const before = layout;
          const change = apply(before, step);
          if (change === null) continue;
          layout = change.layout;
          assert.equal(layout.version, before.version + 1);
          remember();
          for (const key of KEYS) {
            const [first, last] = change.map(naivePosition(before, key));
            const now = naivePosition(layout, key);
            assert.ok(first <= now && now <= last, `key ${key}: ${now} in [${first}, ${last}]`);
          }
          // A block keeps its id if and only if it kept its keys.
          before.ids.forEach((id, position) => {
            const [first, last] = change.map(position);
            const others = before.ids.filter((_, other) => change.map(other)[0] === first).length;
            assert.equal(layout.ids.includes(id), first === last && others === 1);
            if (first === last && others === 1) assert.equal(layout.ids[first], id);
          });
          // The change says just what is new.
          const isNew = (id: number): boolean => !before.ids.includes(id);
          assert.deepEqual(
            change.addedPositions,
            layout.ids.flatMap((id, position) => (isNew(id) ? [position] : [])),
          );
          assert.deepEqual(
            change.removedIds,
            before.ids.filter((id) => !layout.ids.includes(id)),
          );
          layout.ranks.forEach((rank, position) => {
            assert.ok(Number.isSafeInteger(rank));
            assert.ok(position === 0 || rank > (layout.ranks[position - 1] ?? NaN));
            if (isNew(layout.ids[position] ?? -1) || change.isRenumbered) return;
            assert.equal(rank, before.ranks[before.ids.indexOf(layout.ids[position] ?? -1)]);
          });
          const restored = BlockLayout.restore(
            layout.ids.map((id, position) => ({
              id,
              rank: layout.ranks[position] ?? NaN,
              lower: layout.lowers[position] ?? null,
            })),
            layout.version,
          );
          assert.deepEqual(restored, layout);
        }
      }),
      { numRuns: 200 },
    );
  });
});
