import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Expectations, type Expectation } from '../../src/repair/expectation.js';

/** Rows of one side by their keys; the digest tells which row it is. */
interface Part {
  readonly isSource: boolean;
  readonly keys: readonly number[];
}

const hex = (value: number): string => value.toString(16).padStart(16, '0');

function collect(parts: readonly Part[], keyColumns: readonly string[]): Expectation[] {
  const expectations = new Expectations({ path: 'file', keyColumns, values: null });
  for (const { isSource, keys } of parts) {
    const rows = keys.map((key) => ({
      columns: keyColumns,
      values: keyColumns.map((_, i) => String(key + i)),
      digest: hex(key),
    }));
    expectations.add(rows, isSource);
  }
  expectations.seal();
  return [...expectations.entries()];
}

const keys = fc.uniqueArray(fc.nat(20), { maxLength: 12 });

describe('Expectations', () => {
  it('match the rows of both sides by key, whatever their order', () => {
    fc.assert(
      fc.property(keys, keys, fc.boolean(), fc.nat(12), (source, target, isSourceFirst, cut) => {
        const sides: Part[] = [
          { isSource: true, keys: source.slice(0, cut) },
          { isSource: true, keys: source.slice(cut) },
          { isSource: false, keys: target },
        ];
        const [start, end, other] = sides as [Part, Part, Part];
        const parts = isSourceFirst ? sides : [other, start, end];
        const first = isSourceFirst ? source : target;
        const rest = (isSourceFirst ? target : source).filter((key) => !first.includes(key));
        for (const keyColumns of [['id'], ['id', 'other']]) {
          const found = collect(parts, keyColumns);
          const ids = found.map(({ key }) => Number(key[0]));
          assert.deepEqual(ids.slice(0, first.length), first);
          assert.deepEqual(ids.slice(first.length), rest);
          for (const [i, expectation] of found.entries()) {
            const id = ids[i] ?? -1;
            assert.deepEqual(
              expectation.key,
              keyColumns.map((_, place) => String(id + place)),
            );
            assert.equal(expectation.source, source.includes(id) ? String(id) : null);
            assert.equal(expectation.target, target.includes(id) ? String(id) : null);
          }
        }
      }),
    );
  });

  it('match rows of sides that take turns', () => {
    const found = collect(
      [
        { isSource: true, keys: [1, 2] },
        { isSource: false, keys: [1, 2] },
        { isSource: true, keys: [3, 4] },
        { isSource: false, keys: [4, 5, 3] },
        { isSource: true, keys: [5] },
      ],
      ['id'],
    );
    const expected = [1, 2, 3, 4, 5].map((id, place) => ({
      place,
      key: [String(id)],
      target: String(id),
      source: String(id),
    }));
    assert.deepEqual(found, expected);
  });
});
