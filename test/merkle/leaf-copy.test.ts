import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BlockLayout, type LayoutChange } from '../../src/merkle/layout.js';
import { LeafCopy, type LeafRecord } from '../../src/merkle/leaf-copy.js';
import { LeafSet } from '../../src/merkle/leaves.js';

type Step =
  | { readonly kind: 'add'; readonly at: number }
  | { readonly kind: 'dirty'; readonly at: number }
  | { readonly kind: 'split'; readonly at: number }
  | { readonly kind: 'split-deep'; readonly at: number }
  | { readonly kind: 'merge'; readonly at: number }
  | { readonly kind: 'send' }
  | { readonly kind: 'lose' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('add', 'dirty', 'split', 'split-deep', 'merge'),
    at: fc.nat(),
  }) as fc.Arbitrary<Step>,
  fc.record({ kind: fc.constantFrom('send', 'lose') }) as fc.Arbitrary<Step>,
);

/** What a node does with changes: removals first, then records by id. */
class FarSide {
  readonly byId = new Map<number, LeafRecord>();

  take(removedIds: readonly number[], records: Iterable<LeafRecord>): void {
    for (const id of removedIds) assert.ok(this.byId.delete(id), `${id} was there`);
    for (const record of records) this.byId.set(record.id, record);
  }
}

/** Halves a block by key until its pieces leave no room for another rank. */
function splits(layout: BlockLayout, position: number, times: number): LayoutChange[] {
  const changes: LayoutChange[] = [];
  for (let i = 0; i < times; i += 1) {
    const { lower, upper } = (changes.at(-1)?.layout ?? layout).range(position);
    const low = Number(lower?.[0] ?? 0);
    const high = Number(upper?.[0] ?? low + 2);
    changes.push((changes.at(-1)?.layout ?? layout).split(position, [[String((low + high) / 2)]]));
  }
  return changes;
}

describe('LeafCopy', () => {
  it('brings the far side to the leaves of the moment of capture, whatever happens between', () => {
    let renumberings = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let layout = BlockLayout.single();
        const leaves = new LeafSet(1);
        const copy = new LeafCopy();
        const far = new FarSide();
        const relayout = (change: LayoutChange): void => {
          if (change.isRenumbered) renumberings += 1;
          layout = change.layout;
          leaves.relayout(change);
        };
        for (const one of steps) {
          if (one.kind === 'send' || one.kind === 'lose') {
            const changes = copy.changes(layout, leaves);
            const expected = layout.ids.map((id, position) => ({
              id,
              rank: layout.ranks[position],
              lower: layout.lowers[position],
              ...leaves.value(position),
              isDirty: leaves.isDirty(position),
            }));
            // The leaves move on while the changes are on their way.
            leaves.add(0, 1, 5, 6);
            if (one.kind === 'lose') continue;
            far.take(changes.removedIds, changes.records());
            copy.follow(changes);
            assert.deepEqual(
              [...far.byId.values()].sort((a, b) => a.rank - b.rank),
              expected,
            );
            continue;
          }
          const position = one.at % layout.size;
          if (one.kind === 'add') leaves.add(position, 1, one.at | 0, -1);
          else if (one.kind === 'dirty') leaves.markDirty(position);
          else if (one.kind === 'merge') {
            if (position + 1 < layout.size) relayout(layout.merge([[position, position + 1]]));
          } else {
            const times = one.kind === 'split' ? 1 : 40;
            for (const change of splits(layout, position, times)) relayout(change);
          }
        }
      }),
      { numRuns: 200 },
    );
    assert.ok(renumberings > 0, 'ranks were given anew in some run');
  });

  it('costs what has changed', () => {
    const bounds = Array.from({ length: 999 }, (_, i) => [String(i + 1)]);
    const { layout } = BlockLayout.single().split(0, bounds);
    const leaves = new LeafSet(1000);
    const copy = new LeafCopy();
    copy.follow(copy.changes(layout, leaves));
    assert.ok(copy.changes(layout, leaves).isEmpty);
    leaves.add(7, 1, 2, 3);
    leaves.add(700, 0, 0, 1);
    assert.deepEqual([...copy.changes(layout, leaves).positions], [7, 700]);
    const { layout: next, ...change } = layout.split(500, [['500.5']]);
    leaves.relayout({ layout: next, ...change });
    const changes = copy.changes(next, leaves);
    assert.deepEqual([...changes.positions], [7, 500, 501, 701]);
    assert.deepEqual(changes.removedIds, [layout.ids[500]]);
  });
});
