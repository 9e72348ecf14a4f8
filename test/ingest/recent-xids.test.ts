import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RecentXids } from '../../src/ingest/recent-xids.js';
import { SnapshotFilters } from '../../src/ingest/snapshot-filters.js';
import type { Lsn } from '../../src/base/lsn.js';
import { parseSnapshot } from '../../src/postgres/snapshot.js';

describe('RecentXids', () => {
  it('misses what was applied before and is not in the snapshot', () => {
    const recent = new RecentXids();
    recent.add(100);
    recent.add(101);
    assert.equal(recent.sequence, 2);
    assert.equal(recent.isMissing(parseSnapshot('100:102:100'), recent.sequence), true);
    assert.equal(recent.size, 1, '101 is visible for good');
    assert.equal(recent.isMissing(parseSnapshot('101:102:'), recent.sequence), false);
    assert.equal(recent.size, 0);
  });

  it('does not miss what was applied after the reading began', () => {
    const recent = new RecentXids();
    recent.add(100);
    const before = recent.sequence;
    recent.add(101);
    assert.equal(recent.isMissing(parseSnapshot('101:102:101'), before), false);
    assert.equal(recent.isMissing(parseSnapshot('101:102:101'), recent.sequence), true);
  });

  it('takes a snapshot that ends before the transaction for one that lacks it', () => {
    const recent = new RecentXids();
    recent.add(105);
    assert.equal(recent.isMissing(parseSnapshot('100:103:'), recent.sequence), true);
  });

  it('follows ids over the end of 32 bits', () => {
    const recent = new RecentXids();
    recent.add(0xfffffffe);
    recent.add(3);
    const epoch = 5n << 32n;
    const running = parseSnapshot(`${epoch + 3n}:${epoch + 4n}:${epoch + 3n}`);
    assert.equal(recent.isMissing(running, recent.sequence), true);
    assert.equal(recent.size, 1, 'the id from before the wrap is visible');
    assert.equal(recent.isMissing(parseSnapshot(`${epoch + 4n}:${epoch + 4n}:`), 2), false);
    assert.equal(recent.size, 0);
    recent.add(2);
    const before = parseSnapshot(`${epoch - 10n}:${epoch - 5n}:`);
    assert.equal(recent.isMissing(before, recent.sequence), true, 'an id after the wrap');
  });
});

describe('SnapshotFilters', () => {
  const at = (position: number): Lsn => BigInt(position) as Lsn;

  it('shows what the snapshot shows, until the stream has passed the fence', () => {
    const filters = new SnapshotFilters();
    const first = filters.add(parseSnapshot('10:20:15'), at(100));
    const second = filters.add(parseSnapshot('30:30:'), at(200));
    assert.deepEqual(
      [9, 14, 15, 16, 20].map((xid) => filters.shows(first, xid)),
      [true, true, false, true, false],
    );
    filters.pass(at(99));
    assert.equal(filters.shows(first, 14), true);
    filters.pass(at(100));
    assert.equal(filters.shows(first, 14), false);
    assert.equal(filters.shows(second, 29), true);
    assert.equal(filters.shows(0, 1), false);
  });

  it('is restored as it was, and never gives out an id that a leaf may carry', () => {
    const filters = new SnapshotFilters();
    filters.add(parseSnapshot('1:1:'), at(10));
    const kept = filters.add(parseSnapshot('4294967290:4294967310:4294967300'), at(1 << 30));
    filters.pass(at(10));
    const restored = SnapshotFilters.restore(filters.toStored(), 7);
    assert.deepEqual(restored.toStored(), filters.toStored());
    assert.equal(restored.shows(kept, 0xfffffffa), true);
    assert.equal(restored.shows(kept, 4), false);
    assert.equal(restored.add(parseSnapshot('1:1:'), at(1)), 8);
    assert.ok(
      SnapshotFilters.restore(filters.toStored(), 0).add(parseSnapshot('1:1:'), at(1)) > kept,
    );
  });
});
