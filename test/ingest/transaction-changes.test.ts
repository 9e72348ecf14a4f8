import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { TransactionChanges } from '../../src/ingest/transaction-changes.js';
import { applyLeafChange } from '../../src/ingest/leaf-change.js';
import { highHalf, joinHalves, LeafSet, lowHalf } from '../../src/merkle/leaves.js';

const MASK = (1n << 64n) - 1n;
const BLOCKS = 6;

const digest = fc.oneof(
  fc.constantFrom(0n, 1n, 0xffffffffn, 0x100000000n, MASK, 1n << 63n, 0x80000000n, 1n << 32n),
  fc.bigInt({ min: 0n, max: MASK }),
);

const step = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constantFrom('add' as const, 'subtract' as const),
      at: fc.nat(),
      rows: fc.integer({ min: 0, max: 3 }),
      digest,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unknown' as const), at: fc.nat() }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'all-unknown' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reset' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'discard' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('split' as const), at: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('merge' as const), at: fc.nat() }) },
);

interface ModelBlock {
  rows: number;
  sum: bigint;
  isTouched: boolean;
  isUnknown: boolean;
}

const untouched = (): ModelBlock => ({ rows: 0, sum: 0n, isTouched: false, isUnknown: false });

describe('TransactionChanges', () => {
  it('sums up what a model of big integers sums up', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const changes = new TransactionChanges(BLOCKS);
        let model = Array.from({ length: BLOCKS }, untouched);
        let isReset = false;
        for (const one of steps) {
          const at = 'at' in one ? one.at % model.length : 0;
          const block = model[at] ?? assert.fail();
          switch (one.kind) {
            case 'add':
              changes.add(at, one.rows, lowHalf(one.digest), highHalf(one.digest));
              block.rows += one.rows;
              block.sum = (block.sum + one.digest) & MASK;
              block.isTouched = true;
              break;
            case 'subtract':
              changes.subtract(at, one.rows, lowHalf(one.digest), highHalf(one.digest));
              block.rows -= one.rows;
              block.sum = (block.sum - one.digest) & MASK;
              block.isTouched = true;
              break;
            case 'unknown':
              changes.markUnknown(at);
              block.isTouched = block.isUnknown = true;
              break;
            case 'all-unknown':
              changes.markAllUnknown();
              for (const other of model) other.isTouched = other.isUnknown = true;
              break;
            case 'reset':
              changes.reset();
              model = model.map(untouched);
              isReset = true;
              break;
            case 'discard':
              changes.discard();
              model = model.map(untouched);
              isReset = false;
              break;
            case 'split': {
              changes.relayout(model.length + 1, (old) =>
                old < at ? [old, old] : old === at ? [at, at + 1] : [old + 1, old + 1],
              );
              const part = {
                ...untouched(),
                isTouched: block.isTouched,
                isUnknown: block.isTouched,
              };
              model.splice(at, 1, part, { ...part });
              break;
            }
            case 'merge': {
              if (at + 1 >= model.length) break;
              changes.relayout(model.length - 1, (old) => {
                const now = old <= at ? old : old - 1;
                return [now, now];
              });
              const next = model[at + 1] ?? assert.fail();
              model.splice(at, 2, {
                rows: block.rows + next.rows,
                sum: (block.sum + next.sum) & MASK,
                isTouched: block.isTouched || next.isTouched,
                isUnknown: block.isUnknown || next.isUnknown,
              });
              break;
            }
          }
        }
        assert.equal(changes.isEmpty, !isReset && model.every((block) => !block.isTouched));
        const taken = changes.take(77);
        assert.equal(new Set(taken.map(({ position }) => position)).size, taken.length);
        const expected = model.flatMap((block, position) =>
          block.isTouched || isReset ? [{ position, ...block }] : [],
        );
        assert.deepEqual(
          taken
            .toSorted((a, b) => a.position - b.position)
            .map(({ position, rows, sumLow, sumHigh, isUnknown, xid, isReset: reset }) => {
              assert.equal(xid, 77);
              assert.equal(reset, isReset);
              return { position, rows, sum: joinHalves(sumLow, sumHigh), isUnknown };
            }),
          // The figures of a block that is unknown mean nothing, but for the ones that were summed.
          expected.map(({ position, rows, sum, isUnknown }) => ({
            position,
            rows,
            sum,
            isUnknown,
          })),
        );
        assert.equal(changes.isEmpty, true);
        assert.deepEqual(changes.take(78), []);
      }),
      { numRuns: 500 },
    );
  });

  it('is taken for the next transaction with nothing of the last', () => {
    const changes = new TransactionChanges(2);
    changes.add(0, 1, 5, 6);
    changes.markUnknown(1);
    changes.reset();
    changes.take(1);
    changes.add(0, 2, 7, 8);
    assert.deepEqual(changes.take(2), [
      { xid: 2, position: 0, isReset: false, isUnknown: false, rows: 2, sumLow: 7, sumHigh: 8 },
    ]);
  });
});

describe('applyLeafChange', () => {
  const change = {
    xid: 1,
    position: 0,
    isReset: false,
    isUnknown: false,
    rows: 0,
    sumLow: 0,
    sumHigh: 0,
  };
  const leafOf = (isDirty: boolean): LeafSet => {
    const leaves = new LeafSet(1);
    leaves.set(0, { rows: 5, sum: 50n }, isDirty, 9);
    return leaves;
  };

  it('adds, and leaves a dirty leaf dirty', () => {
    for (const isDirty of [false, true]) {
      const leaves = leafOf(isDirty);
      applyLeafChange(leaves, { ...change, rows: -1, sumLow: -7, sumHigh: -1 }, 123);
      assert.deepEqual(leaves.value(0), { rows: 4, sum: 43n });
      assert.equal(leaves.isDirty(0), isDirty);
      assert.equal(leaves.touchedAtMs[0], 123);
      assert.equal(leaves.filters[0], 9);
    }
  });

  it('knows an emptied block exactly, whatever it was', () => {
    const leaves = leafOf(true);
    applyLeafChange(leaves, { ...change, isReset: true, rows: 2, sumLow: 3 }, 1);
    assert.deepEqual(leaves.value(0), { rows: 2, sum: 3n });
    assert.equal(leaves.isDirty(0), false);
    assert.equal(leaves.filters[0], 9);
  });

  it('marks unknown changes, after an emptying too', () => {
    const leaves = leafOf(false);
    applyLeafChange(leaves, { ...change, isUnknown: true }, 1);
    assert.equal(leaves.isDirty(0), true);
    const emptied = leafOf(false);
    applyLeafChange(emptied, { ...change, isReset: true, isUnknown: true }, 1);
    assert.equal(emptied.isDirty(0), true);
  });
});
