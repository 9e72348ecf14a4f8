import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BlockLayout } from '../../src/merkle/layout.js';
import { highHalf, joinHalves, LeafSet, lowHalf } from '../../src/merkle/leaves.js';

const MODULUS = 1n << 64n;
/** Values around the carries, and any other. */
const digest = fc.oneof(
  fc.constantFrom(0n, 1n, 0xffffffffn, 0x100000000n, MODULUS - 1n, 1n << 63n, 0x80000000n),
  fc.bigInt({ min: 0n, max: MODULUS - 1n }),
);
const size = 5;
const position = fc.nat({ max: size - 1 });

const step = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), position, rows: fc.integer(), digest }),
  fc.record({
    kind: fc.constant('set' as const),
    position,
    rows: fc.nat(),
    digest,
    isDirty: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('dirty' as const), position }),
  fc.record({ kind: fc.constant('take' as const) }),
);

describe('LeafSet', () => {
  it('joins and splits 64-bit sums', () => {
    fc.assert(
      fc.property(digest, (value) => {
        assert.equal(joinHalves(lowHalf(value), highHalf(value)), value);
      }),
    );
  });

  it('starts unknown: all leaves are empty and dirty, and nothing is worth saving', () => {
    const leaves = new LeafSet(3);
    assert.deepEqual(leaves.dirtyPositions(), [0, 1, 2]);
    assert.equal(leaves.dirtyCount, 3);
    assert.equal(leaves.hasChanged, false);
  });

  it('adds modulo 2^64 and counts dirty and changed leaves as the model does', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const leaves = new LeafSet(size);
        const model = Array.from({ length: size }, () => ({ rows: 0, sum: 0n, isDirty: true }));
        let changed = new Set<number>();
        for (const one of steps) {
          if (one.kind === 'take') {
            assert.deepEqual(
              leaves.takeChanged().sort((a, b) => a - b),
              [...changed].sort((a, b) => a - b),
            );
            changed = new Set();
            continue;
          }
          const leaf = model[one.position];
          assert.ok(leaf !== undefined);
          if (one.kind === 'add') {
            leaves.add(one.position, one.rows, lowHalf(one.digest), highHalf(one.digest));
            leaf.rows += one.rows;
            leaf.sum = (leaf.sum + one.digest) % MODULUS;
            changed.add(one.position);
          } else if (one.kind === 'set') {
            const value = { rows: one.rows, sum: one.digest };
            leaves.set(one.position, value, one.isDirty, 7);
            Object.assign(leaf, value, { isDirty: one.isDirty });
            changed.add(one.position);
          } else {
            if (!leaf.isDirty) changed.add(one.position);
            leaves.markDirty(one.position);
            leaf.isDirty = true;
          }
          assert.equal(leaves.hasChanged, changed.size > 0);
        }
        model.forEach((leaf, at) => {
          assert.deepEqual(leaves.value(at), { rows: leaf.rows, sum: leaf.sum });
          assert.equal(leaves.isDirty(at), leaf.isDirty);
        });
        const dirty = model.flatMap((leaf, at) => (leaf.isDirty ? [at] : []));
        assert.deepEqual(leaves.dirtyPositions(), dirty);
        assert.equal(leaves.dirtyCount, dirty.length);
        assert.equal(
          leaves.totalRows,
          model.reduce((total, leaf) => total + leaf.rows, 0),
        );
      }),
    );
  });

  it('keeps leaves of unchanged blocks over a new layout and knows nothing of the others', () => {
    let layout = BlockLayout.single();
    layout = layout.split(0, [['10'], ['20'], ['30'], ['40']]).layout;
    const leaves = new LeafSet(layout.size);
    for (let at = 0; at < layout.size; at++) {
      leaves.set(at, { rows: at + 1, sum: BigInt(at + 1) << 33n }, at === 4, at + 50);
      leaves.touchedAtMs[at] = at + 1000;
    }
    leaves.takeChanged();
    leaves.add(4, 1, 0, 0);

    const split = layout.split(1, [['15']]);
    leaves.relayout(split);
    assert.deepEqual([...leaves.rows], [1, 0, 0, 3, 4, 6]);
    assert.deepEqual(leaves.dirtyPositions(), [1, 2, 5]);
    assert.deepEqual([...leaves.filters], [50, 0, 0, 52, 53, 54]);
    assert.deepEqual([...leaves.touchedAtMs], [1000, 0, 0, 1002, 1003, 1004]);
    assert.equal(leaves.value(3).sum, 3n << 33n);

    const merge = split.layout.merge([[3, 4]]);
    leaves.relayout(merge);
    assert.deepEqual([...leaves.rows], [1, 0, 0, 0, 6]);
    assert.deepEqual(leaves.dirtyPositions(), [1, 2, 3, 4]);
    assert.equal(leaves.dirtyCount, 4);
    assert.deepEqual([...leaves.filters], [50, 0, 0, 0, 54]);
    // To be stored is what changed before, as far as its block is still there.
    assert.deepEqual(leaves.takeChanged(), [4]);
  });

  it('is equal to another set leaf by leaf', () => {
    const one = new LeafSet(2);
    const two = new LeafSet(2);
    one.set(0, { rows: 1, sum: 1n << 40n }, false, 0);
    two.set(0, { rows: 1, sum: 1n << 40n }, true, 3);
    assert.equal(one.isEqual(two, 0), true);
    two.set(1, { rows: 0, sum: 1n << 63n }, false, 0);
    assert.equal(one.isEqual(two, 1), false);
    two.set(1, { rows: 0, sum: 1n }, false, 0);
    assert.equal(one.isEqual(two, 1), false);
    two.set(1, { rows: 1, sum: 0n }, false, 0);
    assert.equal(one.isEqual(two, 1), false);
  });
});
