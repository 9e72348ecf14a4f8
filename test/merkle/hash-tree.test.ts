import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { HashTree } from '../../src/merkle/hash-tree.js';
import { LeafSet } from '../../src/merkle/leaves.js';

/** Around the fan-out of 64 and its square. */
const SIZES = [1, 2, 63, 64, 65, 127, 4095, 4096, 4097];

function leavesOf(size: number): LeafSet {
  const leaves = new LeafSet(size);
  for (let at = 0; at < size; at++) {
    leaves.set(at, { rows: at, sum: BigInt(at) * 0x9e3779b97f4a7c15n }, false, 0);
  }
  return leaves;
}

describe('HashTree', () => {
  for (const size of SIZES) {
    it(`finds what differs among ${size} leaves`, () => {
      const base = leavesOf(size);
      const tree = HashTree.build(base);
      assert.match(tree.root, /^[0-9a-f]{32}$/);
      assert.equal(HashTree.build(leavesOf(size)).root, tree.root);
      assert.deepEqual(tree.differences(HashTree.build(leavesOf(size))), []);
      const positions = fc.uniqueArray(fc.nat({ max: size - 1 }), { minLength: 1, maxLength: 70 });
      const change = fc.constantFrom<[number, number, number]>(
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [0, 0, -0x80000000],
      );
      fc.assert(
        fc.property(positions, change, (changed, [rows, low, high]) => {
          const other = leavesOf(size);
          for (const at of changed) other.add(at, rows, low, high);
          const otherTree = HashTree.build(other);
          assert.notEqual(otherTree.root, tree.root);
          const naive = Array.from({ length: size }, (_, at) => at).filter(
            (at) => !base.isEqual(other, at),
          );
          assert.deepEqual(tree.differences(otherTree), naive);
          assert.deepEqual(otherTree.differences(tree), naive);
        }),
        { numRuns: size > 1000 ? 10 : 50 },
      );
    });
  }

  it('does not let two leaves trade places or cancel out', () => {
    const one = leavesOf(100);
    const two = leavesOf(100);
    two.set(10, one.value(20), false, 0);
    two.set(20, one.value(10), false, 0);
    assert.notEqual(HashTree.build(one).root, HashTree.build(two).root);
    assert.deepEqual(HashTree.build(one).differences(HashTree.build(two)), [10, 20]);
  });

  it('does not take dirty marks and snapshots for content', () => {
    const one = leavesOf(70);
    const two = leavesOf(70);
    two.markDirty(3);
    two.filters[4] = 9;
    assert.equal(HashTree.build(one).root, HashTree.build(two).root);
  });

  it('refuses to compare trees of different layouts', () => {
    for (const [mine, theirs] of [
      [63, 64],
      [64, 65],
      [65, 4097],
      [1, 4097],
    ] as const) {
      const one = HashTree.build(leavesOf(mine));
      const two = HashTree.build(leavesOf(theirs));
      assert.throws(() => one.differences(two), RangeError);
      assert.throws(() => two.differences(one), RangeError);
    }
  });
});
