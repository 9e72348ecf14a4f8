import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { OpenRows, OpenRowsBudget } from '../../src/ingest/open-rows.js';

const NODES = 3;
const MEBIBYTE = 1024 ** 2;

interface Shown {
  readonly node: number;
  readonly key: number;
  /** null: deleted; 0: unknown. */
  readonly value: number | null;
}

const words = (value: number): Int32Array => Int32Array.of(value * 0x9e3779b1, value);
const blockOf = (key: number): number => key % 7;

function show(rows: OpenRows, { node, key, value }: Shown, atMs: number): void {
  rows.show(
    {
      node,
      block: blockOf(key),
      keyDigest: words(key),
      digest: value === null ? null : words(value),
      isUnknown: value === 0,
      removal: 0,
    },
    atMs,
  );
}

function rowsWith(maxBytes = MEBIBYTE, nodes = NODES): OpenRows {
  return new OpenRows(nodes, new OpenRowsBudget(maxBytes), 0);
}

/** The same rule over plain objects. */
class Model {
  readonly open = new Map<number, { states: Map<number, number | null>; atMs: number }>();

  show({ node, key, value }: Shown, atMs: number): void {
    const row = this.open.get(key) ?? { states: new Map<number, number | null>(), atMs };
    row.states.set(node, value);
    row.atMs = atMs;
    const [first] = row.states.values();
    const isAlike =
      row.states.size === NODES &&
      first !== 0 &&
      [...row.states.values()].every((state) => state === first);
    if (isAlike) this.open.delete(key);
    else this.open.set(key, row);
  }

  blocksQuietSince(atMs: number): Set<number> {
    return new Set(
      Array.from(this.open).flatMap(([key, row]) => (row.atMs <= atMs ? [blockOf(key)] : [])),
    );
  }
}

describe('open rows', () => {
  it('say who took a row away while the node lacks it, not longer', () => {
    const rows = rowsWith();
    const transaction = { xid: 700, commitTimeUs: 5n, origin: '' };
    const removal = rows.removals.add({ ...transaction, node: 1 });
    const shown = { node: 1, block: 0, keyDigest: words(9), isUnknown: false };
    rows.show({ ...shown, digest: null, removal }, 1);
    assert.equal(rows.removalOf(words(9))?.xid, 700);
    assert.equal(rows.removalOf(words(8)), null);
    show(rows, { node: 2, key: 9, value: 3 }, 2);
    assert.equal(rows.removalOf(words(9))?.node, 1);
    show(rows, { node: 1, key: 9, value: 4 }, 3);
    assert.equal(rows.removalOf(words(9)), null);
  });

  it('forget who took a row away after very many others did', () => {
    const rows = rowsWith();
    const transaction = { xid: 700, commitTimeUs: 5n, origin: '', node: 0 };
    const first = rows.removals.add(transaction);
    for (let i = 0; i < 2000; i++) rows.removals.add({ ...transaction, xid: 701 + i });
    assert.equal(rows.removals.get(first), null);
    assert.equal(rows.removals.get(first + 2000)?.xid, 2700);
  });

  it('close when every stream has shown the same, and not before', () => {
    const rows = rowsWith();
    show(rows, { node: 0, key: 1, value: 5 }, 1);
    show(rows, { node: 1, key: 1, value: 5 }, 2);
    assert.equal(rows.size, 1);
    show(rows, { node: 2, key: 1, value: 6 }, 3);
    assert.equal(rows.size, 1);
    show(rows, { node: 2, key: 1, value: 5 }, 4);
    assert.equal(rows.size, 0);
  });

  it('a row that is gone everywhere is closed, one that is unknown never is', () => {
    const rows = rowsWith();
    for (let node = 0; node < NODES; node++) show(rows, { node, key: 1, value: null }, node);
    assert.equal(rows.size, 0);
    for (let node = 0; node < NODES; node++) show(rows, { node, key: 1, value: 0 }, node);
    assert.equal(rows.size, 1);
  });

  it('follow the plain rule whatever happens, through growth and removal', () => {
    const step = fc.record({
      node: fc.integer({ min: 0, max: NODES - 1 }),
      key: fc.integer({ min: 1, max: 200 }),
      value: fc.option(fc.integer({ min: 0, max: 2 })),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 600 }), fc.nat(600), (steps, quietAt) => {
        const rows = rowsWith();
        const model = new Model();
        steps.forEach((one, atMs) => {
          show(rows, one, atMs);
          model.show(one, atMs);
        });
        assert.equal(rows.size, model.open.size);
        assert.deepEqual(rows.blocksQuietSince(quietAt), model.blocksQuietSince(quietAt));
        const oldest = Math.min(...Array.from(model.open.values(), ({ atMs }) => atMs));
        assert.equal(rows.oldestChangeMs, oldest === Infinity ? null : oldest);
        const read = new Set([1, 3]);
        rows.close(read, quietAt);
        for (const [key, row] of [...model.open]) {
          if (row.atMs <= quietAt && read.has(blockOf(key))) model.open.delete(key);
        }
        assert.equal(rows.size, model.open.size);
        assert.deepEqual(rows.blocksQuietSince(Infinity), model.blocksQuietSince(Infinity));
      }),
    );
  });

  it('what has changed after the reading stays open', () => {
    const rows = rowsWith();
    show(rows, { node: 0, key: 1, value: 5 }, 10);
    show(rows, { node: 0, key: 8, value: 5 }, 10);
    show(rows, { node: 1, key: 8, value: 5 }, 20);
    rows.close(new Set([blockOf(1)]), 15);
    assert.equal(rows.size, 1);
    show(rows, { node: 2, key: 8, value: 5 }, 30);
    assert.equal(rows.size, 0, 'what its nodes had shown before is still known');
  });

  it('what has changed after the reading stays open in a daemon that has run for weeks, too', () => {
    const DAY_MS = 86_400_000;
    for (const days of [13, 25, 40, 60, 400]) {
      const rows = rowsWith();
      const nowMs = days * DAY_MS;
      show(rows, { node: 0, key: 1, value: 5 }, 10);
      show(rows, { node: 0, key: 2, value: 5 }, nowMs);
      assert.deepEqual(rows.blocksQuietSince(nowMs - 1), new Set([blockOf(1)]), `${days} days`);
      rows.close(new Set([blockOf(1), blockOf(2)]), nowMs - 1);
      assert.equal(rows.size, 1, `${days} days`);
      show(rows, { node: 1, key: 3, value: 5 }, 2 * nowMs);
      assert.deepEqual(rows.blocksQuietSince(2 * nowMs - 1), new Set([blockOf(2)]));
      rows.close(new Set([blockOf(2), blockOf(3)]), 2 * nowMs);
      assert.ok(rows.isEmpty);
    }
  });

  it('beyond the bound whole blocks are open, and only reading closes them', () => {
    let told = 0;
    const rows = new OpenRows(NODES, new OpenRowsBudget(4096, () => told++), 0);
    for (let key = 1; key <= 1000; key++) show(rows, { node: 0, key, value: 1 }, 5);
    assert.ok(rows.size < 1000);
    assert.equal(rows.openBlocks, 7);
    assert.equal(told, 1, 'said once');
    for (let node = 1; node < NODES; node++) {
      for (let key = 1; key <= 1000; key++) show(rows, { node, key, value: 1 }, 6);
    }
    assert.equal(rows.blocksQuietSince(6)?.size, 7);
    rows.close(new Set([0, 1, 2, 3, 4, 5, 6]), 6);
    assert.ok(rows.isEmpty);
  });

  it('a table that is open as a whole is closed by reading all of it only', () => {
    const rows = rowsWith();
    rows.openWholeTable(5);
    assert.equal(rows.blocksQuietSince(5), null);
    assert.deepEqual(rows.blocksQuietSince(4), new Set());
    rows.close(new Set([0, 1, 2]), 9);
    assert.equal(rows.isWholeTableOpen, true);
    rows.close(null, 4);
    assert.equal(rows.isWholeTableOpen, true);
    rows.close(null, 5);
    assert.ok(rows.isEmpty);
  });

  it('follow splits: rows of a block that was cut may be in any part of it', () => {
    const rows = rowsWith();
    show(rows, { node: 0, key: 2, value: 1 }, 1);
    show(rows, { node: 0, key: 5, value: 1 }, 1);
    rows.relayout(
      (block) => (block < 2 ? [block, block] : block === 2 ? [2, 4] : [block + 2, block + 2]),
      7,
    );
    assert.deepEqual(rows.blocksQuietSince(1), new Set([2, 7]));
    assert.deepEqual(rows.blocksQuietSince(7), new Set([2, 3, 4, 7]));
  });

  it('a million rows of three nodes take less than 64 MB, and give it back', () => {
    const budget = new OpenRowsBudget(128 * MEBIBYTE);
    const rows = new OpenRows(NODES, budget, 0);
    const key = new Int32Array(2);
    const digest = new Int32Array(2);
    let state = 1;
    const next = (): number => (state = Math.imul(state, 1664525) + 1013904223);
    const showAll = (node: number): void => {
      state = 1;
      for (let row = 0; row < 1_000_000; row++) {
        key[0] = next();
        key[1] = row;
        digest[0] = row;
        rows.show(
          { node, block: row >>> 8, keyDigest: key, digest, isUnknown: false, removal: 0 },
          node,
        );
      }
    };
    showAll(0);
    assert.equal(rows.size, 1_000_000);
    assert.equal(rows.openBlocks, 0);
    assert.ok(budget.bytes <= 64 * MEBIBYTE, `${budget.bytes} bytes`);
    showAll(1);
    showAll(2);
    assert.ok(rows.isEmpty);
    assert.ok(budget.bytes < MEBIBYTE, `${budget.bytes} bytes are left`);
  });

  it('a row that closes in a block with rows that differ opens the block', () => {
    const rows = rowsWith();
    rows.watchBlocks(new Set([blockOf(1)]));
    for (let node = 0; node < NODES; node++) {
      show(rows, { node, key: 1, value: 5 }, 3);
      show(rows, { node, key: 2, value: 5 }, 3);
    }
    assert.deepEqual(rows.blocksQuietSince(3), new Set([blockOf(1)]));
  });

  it('tell in which of the blocks that are being read rows have closed meanwhile', () => {
    const rows = rowsWith();
    rows.observe([blockOf(1), blockOf(2)]);
    for (let node = 0; node < NODES; node++) {
      show(rows, { node, key: 1, value: 5 }, 3);
      show(rows, { node, key: 3, value: 5 }, 3);
    }
    show(rows, { node: 0, key: 2, value: 5 }, 3);
    assert.deepEqual(rows.closedMeanwhile, new Set([blockOf(1)]));
    rows.observe([]);
    assert.deepEqual(rows.closedMeanwhile, new Set());
  });

  it('more nodes than one word of states holds', () => {
    const rows = rowsWith(MEBIBYTE, 40);
    for (let node = 0; node < 40; node++) {
      assert.equal(rows.size, node === 0 ? 0 : 1);
      show(rows, { node, key: 9, value: 1 }, node);
    }
    assert.ok(rows.isEmpty);
  });
});
