import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlockLayout } from '../../src/merkle/layout.js';
import { BlockRows, RowDigestCache, TableRowDigests } from '../../src/merkle/row-digests.js';

/** A block of 100 rows, and what it takes in memory. */
const rows = (): BlockRows => BlockRows.unpack(Buffer.alloc(1600));
const ROWS_BYTES = rows().bytes;

describe('blocks whose rows are worth keeping', () => {
  const digests = (): TableRowDigests => new TableRowDigests(new RowDigestCache(1e6));
  const recurring = (table: TableRowDigests, positions: number[]): number[] => [
    ...table.recurring(positions),
  ];

  it('are those that are read for the second time', () => {
    const table = digests();
    assert.deepEqual(recurring(table, [3, 900]), []);
    assert.deepEqual(recurring(table, [2, 3]), [3]);
    assert.deepEqual(recurring(table, [2, 3, 899, 900]), [2, 3, 900]);
  });

  it('are the same blocks after others were split and merged', () => {
    const table = digests();
    const split = BlockLayout.single().split(0, [['10'], ['20'], ['30']]);
    table.relayout(split);
    table.recurring([2]);
    const splitBefore = split.layout.split(0, [['5']]);
    table.relayout(splitBefore);
    assert.deepEqual(recurring(table, [3]), [3]);
    table.relayout(splitBefore.layout.merge([[0, 2]]));
    assert.deepEqual(recurring(table, [0, 1]), [1]);
  });

  it('are none in a table that was truncated', () => {
    const table = digests();
    table.recurring([1]);
    table.clear();
    assert.deepEqual(recurring(table, [1]), []);
  });
});

describe('rows that are kept', () => {
  it('make room for others where they were not used for longest', () => {
    const cache = new RowDigestCache(3 * ROWS_BYTES);
    const first = new TableRowDigests(cache);
    const second = new TableRowDigests(cache);
    for (const position of [0, 1, 2]) first.set(position, rows());
    // Each has been used since it came; the walk for room takes that from all, and the oldest goes.
    second.set(7, rows());
    assert.deepEqual(
      [0, 1, 2].filter((position) => first.has(position)),
      [1, 2],
    );
    first.get(1);
    second.set(8, rows());
    assert.deepEqual(
      [1, 2].filter((position) => first.has(position)),
      [1],
    );
    assert.equal(second.has(7) && second.has(8), true);
    assert.equal(cache.bytes, 3 * ROWS_BYTES);
  });

  it('follow their block, and go with it where it is split', () => {
    const cache = new RowDigestCache(1e6);
    const table = new TableRowDigests(cache);
    const split = BlockLayout.single().split(0, [['10'], ['20']]);
    table.relayout(split);
    table.set(0, rows());
    table.set(2, rows());
    table.relayout(split.layout.split(0, [['5']]));
    assert.deepEqual(
      [0, 1, 2, 3].filter((position) => table.has(position)),
      [3],
    );
    assert.equal(cache.bytes, ROWS_BYTES);
  });
});
