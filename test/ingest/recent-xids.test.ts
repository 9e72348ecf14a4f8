import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RecentXids } from '../../src/ingest/recent-xids.js';
import { SnapshotFilters } from '../../src/ingest/snapshot-filters.js';
import type { Lsn } from '../../src/base/lsn.js';
import { parseSnapshot } from '../../src/postgres/snapshot.js';

/** A reading that starts now and whose snapshot is this one. */
function isMissing(recent: RecentXids, snapshot: string): boolean {
  const reading = recent.startReading();
  const answer = reading.isMissing(parseSnapshot(snapshot));
  reading.end();
  return answer;
}

describe('RecentXids', () => {
  it('misses what was applied before and is not in the snapshot', () => {
    const recent = new RecentXids();
    recent.add(100);
    recent.add(101);
    assert.equal(isMissing(recent, '100:102:100'), true);
    assert.equal(recent.size, 1, '101 is visible for good');
    assert.equal(isMissing(recent, '101:102:'), false);
    assert.equal(recent.size, 0);
  });

  it('does not miss what was applied after the reading began', () => {
    const recent = new RecentXids();
    recent.add(100);
    const reading = recent.startReading();
    recent.add(101);
    assert.equal(reading.isMissing(parseSnapshot('101:102:101')), false);
    reading.end();
    assert.equal(isMissing(recent, '101:102:101'), true);
  });

  it('takes a snapshot that ends before the transaction for one that lacks it', () => {
    const recent = new RecentXids();
    recent.add(105);
    assert.equal(isMissing(recent, '100:103:'), true);
  });

  it('judges a reading by what was applied before it, however late its snapshot arrives', () => {
    const recent = new RecentXids();
    recent.add(100);
    const slow = recent.startReading();
    const quick = recent.startReading();
    recent.add(101);
    // The later snapshot arrives first.
    assert.equal(quick.isMissing(parseSnapshot('101:102:101')), false);
    quick.end();
    assert.equal(slow.isMissing(parseSnapshot('100:102:100,101')), true);
    slow.end();
    assert.equal(recent.size, 1, '100 was shown, 101 was not');
    const next = recent.startReading();
    assert.equal(next.isMissing(parseSnapshot('101:102:101')), true);
    assert.equal(next.isMissing(parseSnapshot('102:102:')), false);
    assert.equal(recent.size, 1, 'remembered while somebody reads');
    next.end();
    assert.equal(recent.size, 0);
  });

  it('forgets nothing that a reading under way may lack when another one ends', () => {
    const recent = new RecentXids();
    recent.add(100);
    const reading = recent.startReading();
    assert.equal(isMissing(recent, '101:101:'), false);
    assert.equal(reading.isMissing(parseSnapshot('100:101:100')), true);
    reading.end();
    assert.equal(recent.size, 0);
  });

  it('follows ids over the end of 32 bits', () => {
    const recent = new RecentXids();
    recent.add(0xfffffffe);
    recent.add(3);
    const epoch = 5n << 32n;
    assert.equal(isMissing(recent, `${epoch + 3n}:${epoch + 4n}:${epoch + 3n}`), true);
    assert.equal(recent.size, 1, 'the id from before the wrap is visible');
    assert.equal(isMissing(recent, `${epoch + 4n}:${epoch + 4n}:`), false);
    assert.equal(recent.size, 0);
    recent.add(2);
    assert.equal(isMissing(recent, `${epoch - 10n}:${epoch - 5n}:`), true, 'after the wrap');
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
