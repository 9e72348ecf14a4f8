import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { findDifferences, keyId, type KeyedRow } from '../../src/diff/row-difference.js';
import { settleRow, type RowState } from '../../src/diff/settle-rule.js';
import type { KeyText } from '../../src/table/table-spec.js';

function rowsOf(
  rows: readonly (readonly [key: KeyText, digest: string, version: string])[],
): Map<string, KeyedRow> {
  return new Map(
    rows.map(([key, digest, version]) => [keyId(key), { key, range: 0, digest, version }]),
  );
}

describe('keyId', () => {
  it('is one to one', () => {
    const part = fc.oneof(fc.string(), fc.constantFrom('', ',', '"', '","', '["', '\\', '\0'));
    const keys = fc.array(fc.tuple(part, part), { minLength: 2, maxLength: 2 });
    fc.assert(
      fc.property(keys, ([a, b]) => {
        assert.ok(a !== undefined && b !== undefined);
        assert.equal(keyId(a) === keyId(b), a[0] === b[0] && a[1] === b[1]);
      }),
    );
    assert.equal(keyId(['a']) === keyId(['b']), false);
  });
});

describe('findDifferences', () => {
  it('lists each key that is not equal on all nodes once', () => {
    const key = fc.tuple(fc.constantFrom('a', 'b', 'c', 'd', ''), fc.constantFrom('1', '2'));
    const node = fc.uniqueArray(
      fc.tuple(key, fc.constantFrom('x', 'y'), fc.constantFrom('7', '8')),
      {
        selector: ([name]) => keyId(name),
      },
    );
    fc.assert(
      fc.property(fc.array(node, { minLength: 2, maxLength: 4 }), (nodes) => {
        const maps = nodes.map(rowsOf);
        const ids = new Set(maps.flatMap((rows) => [...rows.keys()]));
        const different = [...ids].filter(
          (id) => new Set(maps.map((rows) => rows.get(id)?.digest)).size > 1,
        );
        const found = findDifferences(maps);
        assert.deepEqual(found.map((one) => keyId(one.key)).sort(), different.sort());
        for (const { key: name, states } of found) {
          assert.deepEqual(
            states,
            maps.map((rows) => rows.get(keyId(name)) ?? null),
          );
        }
      }),
    );
  });
});

/** `digest/version`, or nothing for a row that is not there. */
function stateOf(text: string | null): RowState {
  if (text === null) return null;
  const [digest = '', version = ''] = text.split('/');
  return { digest, version };
}

describe('settleRow', () => {
  type Reads = readonly (string | null)[];
  const cases: readonly (readonly [verdict: string, before: Reads, after: Reads])[] = [
    ['equal', ['a/1', 'b/1'], ['b/2', 'b/1']],
    ['equal', ['a/1', null], [null, null]],
    ['equal', [null, 'a/1'], ['a/9', 'a/1']],
    ['equal', ['a/1', 'b/1', 'c/1'], ['d/2', 'd/2', 'd/2']],
    ['drift', ['a/1', 'b/1'], ['a/1', 'b/1']],
    ['drift', ['a/1', null], ['a/1', null]],
    ['drift', ['a/1', 'a/1', 'b/1'], ['a/1', 'a/1', 'b/1']],
    ['moving', ['a/1', 'b/1'], ['a/1', 'c/2']],
    ['moving', ['a/1', 'b/1'], ['b/2', 'a/2']],
    ['moving', ['a/1', null], [null, 'a/1']],
    ['moving', ['a/1', 'b/1'], ['a/1', null]],
    ['moving', ['a/1', 'b/1', 'c/1'], ['a/1', 'c/2', 'c/1']],
    ['moving', [null, 'b/1'], ['c/1', 'b/1']],
    // A value that was changed and changed back.
    ['moving', ['a/1', 'b/1'], ['a/3', 'b/1']],
  ];
  for (const [verdict, before, after] of cases) {
    it(`${JSON.stringify(before)}, then ${JSON.stringify(after)}: ${verdict}`, () => {
      assert.equal(settleRow(before.map(stateOf), after.map(stateOf)), verdict);
    });
  }
});
