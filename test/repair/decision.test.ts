import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decide, decideUnseen, type CopyMode, type Wish } from '../../src/repair/decision.js';

const ALL: CopyMode = { inserts: true, updates: true, deletes: true };
const INSERTS: CopyMode = { inserts: true, updates: false, deletes: false };
const UPSERTS: CopyMode = { inserts: true, updates: true, deletes: false };

const copy = (mode: CopyMode, isBothWays = false): Wish => ({ kind: 'copy', mode, isBothWays });
const WISHES = {
  copy: copy(ALL),
  'insert only': copy(INSERTS),
  'upsert only': copy(UPSERTS),
  'both ways': copy(INSERTS, true),
  delete: { kind: 'delete' },
  leave: { kind: 'leave' },
  merge: { kind: 'merge', merge: () => null },
} as const satisfies Record<string, Wish>;

/** Rows by their digests; `-`: no such row. What the diff saw, what is there, and what comes of it. */
const CASES: readonly (readonly [
  wish: keyof typeof WISHES,
  seen: string,
  now: string,
  decision: string,
  ofStale?: string,
])[] = [
  // source/target
  ['copy', 'a/-', 'a/-', 'insert'],
  ['copy', 'a/b', 'a/b', 'update'],
  ['copy', '-/b', '-/b', 'delete'],
  // Equal meanwhile is equal, whatever was seen.
  ['copy', 'a/b', 'a/a', 'equal'],
  ['copy', 'a/b', '-/-', 'equal'],
  ['delete', 'a/b', 'c/c', 'equal'],
  // The target comes first: it is what would be written over.
  ['copy', 'a/b', 'a/c', 'target changed', 'update'],
  ['copy', 'a/b', 'c/b', 'source changed', 'update'],
  ['copy', 'a/b', 'c/d', 'target changed', 'update'],
  ['copy', 'a/-', 'a/c', 'target changed', 'update'],
  ['copy', '-/b', 'c/b', 'source changed', 'update'],
  ['copy', 'a/b', '-/b', 'source changed', 'delete'],
  ['leave', 'a/b', 'a/c', 'target changed', 'left'],
  ['delete', 'a/b', 'a/-', 'target changed', 'equal'],
  ['insert only', 'a/-', 'a/-', 'insert'],
  ['insert only', 'a/b', 'a/b', 'left'],
  ['insert only', '-/b', '-/b', 'left'],
  ['upsert only', 'a/b', 'a/b', 'update'],
  ['upsert only', '-/b', '-/b', 'left'],
  ['both ways', '-/b', '-/b', 'other way'],
  ['both ways', 'a/-', 'a/-', 'insert'],
  ['both ways', 'a/b', 'a/b', 'left'],
  ['delete', 'a/b', 'a/b', 'delete'],
  ['delete', 'a/-', 'a/-', 'equal'],
  ['leave', 'a/b', 'a/b', 'left'],
  ['merge', 'a/b', 'a/b', 'update'],
  ['merge', 'a/-', 'a/-', 'insert'],
];

function rowsOf(text: string): { readonly source: string | null; readonly target: string | null } {
  const [source = '', target = ''] = text.split('/');
  return { source: source === '-' ? null : source, target: target === '-' ? null : target };
}

describe('what becomes of a row', () => {
  for (const [name, seen, now, decision, ofStale = decision] of CASES) {
    it(`${name}: seen ${seen}, now ${now}: ${decision}`, () => {
      const wish = WISHES[name];
      const rows = rowsOf(now);
      const current = { ...rows, sourceProof: rows.source, targetProof: rows.target };
      const expected = rowsOf(seen);
      assert.equal(decide(expected, current, { wish, appliesToStale: false }), decision);
      assert.equal(decide(expected, current, { wish, appliesToStale: true }), ofStale);
      // What is said before the rows are looked at is what looking at them would say.
      const unseen = decideUnseen(expected, { wish, appliesToStale: false });
      if (unseen !== null && seen === now) assert.equal(unseen, decision);
      assert.equal(decideUnseen(expected, { wish, appliesToStale: true }), null);
    });
  }

  it('a proof that is no digest, as of files of ACE, is what is compared', () => {
    const current = { source: '1', target: '2', sourceProof: 'x', targetProof: 'y' };
    const ruling = { wish: WISHES.copy, appliesToStale: false };
    assert.equal(decide({ source: 'x', target: 'y' }, current, ruling), 'update');
    assert.equal(decide({ source: '1', target: '2' }, current, ruling), 'target changed');
  });
});
