import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { TransactionChanges } from '../../src/ingest/transaction-changes.js';
import {
  BlockRows,
  ROW_DELETED,
  ROW_INSERTED,
  ROW_UPDATED,
  RowDigestCache,
  TableRowDigests,
} from '../../src/merkle/row-digests.js';
import {
  applyLeafChange,
  type LeafChange,
  type TableLeaves,
} from '../../src/ingest/leaf-change.js';
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
      {
        ...{ xid: 2, position: 0, isReset: false, isUnknown: false },
        ...{ rows: 2, sumLow: 7, sumHigh: 8, operations: null },
      },
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
    operations: null,
  };
  const leafOf = (isDirty: boolean): LeafSet => {
    const leaves = new LeafSet(1);
    leaves.set(0, { rows: 5, sum: 50n }, isDirty, 9);
    return leaves;
  };

  const withRows = (leaves: LeafSet): TableLeaves => ({
    leaves,
    rowDigests: new TableRowDigests(new RowDigestCache(1e6)),
  });

  it('adds, and leaves a dirty leaf dirty', () => {
    for (const isDirty of [false, true]) {
      const leaves = leafOf(isDirty);
      applyLeafChange(withRows(leaves), { ...change, rows: -1, sumLow: -7, sumHigh: -1 }, 123);
      assert.deepEqual(leaves.value(0), { rows: 4, sum: 43n });
      assert.equal(leaves.isDirty(0), isDirty);
      assert.equal(leaves.touchedAtMs[0], 123);
      assert.equal(leaves.filters[0], 9);
    }
  });

  it('knows an emptied block exactly, whatever it was', () => {
    const leaves = leafOf(true);
    applyLeafChange(withRows(leaves), { ...change, isReset: true, rows: 2, sumLow: 3 }, 1);
    assert.deepEqual(leaves.value(0), { rows: 2, sum: 3n });
    assert.equal(leaves.isDirty(0), false);
    assert.equal(leaves.filters[0], 9);
  });

  it('marks unknown changes, after an emptying too', () => {
    const leaves = leafOf(false);
    applyLeafChange(withRows(leaves), { ...change, isUnknown: true }, 1);
    assert.equal(leaves.isDirty(0), true);
    const emptied = leafOf(false);
    applyLeafChange(withRows(emptied), { ...change, isReset: true, isUnknown: true }, 1);
    assert.equal(emptied.isDirty(0), true);
  });

  /** A clean leaf whose rows are kept: keys 1 and 2 with digests 10 and 20. */
  const kept = (): TableLeaves => {
    const table = withRows(new LeafSet(1));
    const packed = Buffer.alloc(32);
    [1, 10, 2, 20].forEach((value, i) => packed.writeBigInt64BE(BigInt(value), i * 8));
    const rows = BlockRows.unpack(packed);
    table.rowDigests.set(0, rows);
    table.leaves.set(0, { rows: rows.count, sum: rows.sum() }, false, 0);
    return table;
  };
  const operation = (kind: number, key: number, digest = 0): number[] => [kind, key, 0, digest, 0];
  const operate = (...operations: number[][]): LeafChange => ({
    ...change,
    operations: Int32Array.from(operations.flat()),
  });

  it('is exact where the rows are kept', () => {
    const table = kept();
    applyLeafChange(
      table,
      operate(
        operation(ROW_UPDATED, 1, 11),
        operation(ROW_INSERTED, 3, 30),
        operation(ROW_DELETED, 2),
        operation(ROW_UPDATED, 3, 31),
      ),
      1,
    );
    assert.deepEqual(table.leaves.value(0), { rows: 2, sum: 42n });
    assert.equal(table.leaves.isDirty(0), false);
    assert.equal(table.rowDigests.get(0)?.sum(), 42n);
  });

  it('reads the block again rather than believe a contradiction', () => {
    for (const one of [
      operation(ROW_UPDATED, 9, 1),
      operation(ROW_DELETED, 9),
      operation(ROW_INSERTED, 1, 1),
    ]) {
      const table = kept();
      applyLeafChange(table, operate(operation(ROW_UPDATED, 1, 11), one), 1);
      assert.equal(table.leaves.isDirty(0), true);
      assert.equal(table.rowDigests.has(0), false);
    }
  });

  it('reads the block again when its rows were given up meanwhile', () => {
    const table = kept();
    table.rowDigests.delete(0);
    applyLeafChange(table, operate(operation(ROW_UPDATED, 1, 11)), 1);
    assert.equal(table.leaves.isDirty(0), true);
  });

  it('gives the rows up when some came before they were kept', () => {
    const inserted = { ...change, rows: 1, sumLow: 7 };
    const table = kept();
    applyLeafChange(table, inserted, 1);
    assert.deepEqual(table.leaves.value(0), { rows: 3, sum: 37n });
    assert.equal(table.leaves.isDirty(0), false);
    assert.equal(table.rowDigests.has(0), false);
    const mixed = kept();
    const { operations } = operate(operation(ROW_UPDATED, 1, 11));
    applyLeafChange(mixed, { ...inserted, operations }, 1);
    assert.equal(mixed.leaves.isDirty(0), true);
  });

  it('knows that an emptied block has no rows but those that came after', () => {
    const table = kept();
    const { operations } = operate(operation(ROW_INSERTED, 2, 5));
    applyLeafChange(table, { ...change, isReset: true, operations }, 1);
    assert.deepEqual(table.leaves.value(0), { rows: 1, sum: 5n });
    assert.equal(table.leaves.isDirty(0), false);
    assert.equal(table.rowDigests.get(0)?.count, 1);
  });
});
