import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatSnapshot, isVisible, parseSnapshot, widenXid } from '../../src/postgres/snapshot.js';

describe('snapshots', () => {
  it('reads and writes what the server prints', () => {
    for (const text of ['5:5:', '10:20:10,14,15', '4294967290:4294967310:4294967300']) {
      assert.equal(formatSnapshot(parseSnapshot(text)), text);
    }
  });

  it('refuses what is not a snapshot', () => {
    for (const text of ['', '1:2', '1:2:3,', 'a:b:', '1:2:3:4']) {
      assert.throws(() => parseSnapshot(text), RangeError, text);
    }
  });

  it('sees what had ended and nothing else', () => {
    const snapshot = parseSnapshot('10:20:10,14');
    const visible = [3, 9, 11, 13, 15, 19].map((xid) => isVisible(snapshot, xid));
    const invisible = [10, 14, 20, 21, 1000].map((xid) => isVisible(snapshot, xid));
    assert.deepEqual([...new Set(visible)], [true]);
    assert.deepEqual([...new Set(invisible)], [false]);
  });

  it('widens the 32-bit ids of the stream over an epoch wrap', () => {
    // xmax is just past 2^32: ids near 2^32 - 1 are older, small ones are of the new epoch.
    const snapshot = parseSnapshot('4294967290:4294967306:4294967294,4294967301');
    assert.equal(isVisible(snapshot, 4294967289), true);
    assert.equal(isVisible(snapshot, 4294967294), false);
    assert.equal(isVisible(snapshot, 4294967295), true);
    assert.equal(isVisible(snapshot, 4), true);
    assert.equal(isVisible(snapshot, 5), false);
    assert.equal(isVisible(snapshot, 10), false);
    // And with xmax just before the wrap: small ids are in the future.
    assert.equal(isVisible(parseSnapshot('4294967290:4294967295:'), 3), false);
    assert.equal(widenXid(3, 4294967295n), 4294967299n);
    assert.equal(widenXid(4294967295, 3n * 4294967296n), 3n * 4294967296n - 1n);
  });
});
