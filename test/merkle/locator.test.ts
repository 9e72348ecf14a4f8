import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { BlockLayout } from '../../src/merkle/layout.js';
import { createLocator } from '../../src/merkle/locator.js';
import { compareSortables, sortableKey } from '../../src/merkle/sortable-key.js';
import { COLUMN_TEXT, type Tuple } from '../../src/pgoutput/message.js';
import { createTuple, growTuple } from '../../src/pgoutput/tuple.js';
import type { KeyColumnSpec, KeyOrderKind, KeyText } from '../../src/table/table-spec.js';
import { bytesText, int8Text, uuidText } from './key-samples.js';
import { BUILT_IN_KEY } from '../support/key-column.js';

type LocalKind = Exclude<KeyOrderKind, 'server'>;

const TEXTS = {
  integer: int8Text,
  smallInteger: fc.integer({ min: -1000, max: 1000 }).map(String),
  uuid: uuidText,
  bytes: bytesText,
  numeric: fc.double({ min: -50, max: 50, noNaN: true }).map((value) => value.toFixed(2)),
  boolean: fc.constantFrom('t', 'f'),
  timestamp: fc
    .date({ min: new Date('1900-01-01'), max: new Date('2100-01-01'), noInvalidDate: true })
    .map((date) => date.toISOString().replace('T', ' ').replace('Z', '')),
};

function keySpec(kinds: readonly KeyOrderKind[]): KeyColumnSpec[] {
  return kinds.map((orderKind, i) => ({
    name: `k${i}`,
    typeName: 'text',
    textForm: 'plain',
    orderKind,
    collate: null,
    ...BUILT_IN_KEY,
  }));
}

/** Other columns and other bytes around the key, as in a stream's buffer. */
function tupleOf(key: KeyText): { tuple: Tuple; keyColumns: Int32Array } {
  const tuple = createTuple();
  const columns = ['before', ...key.toReversed(), 'after'];
  growTuple(tuple, columns.length);
  const parts = columns.map((column) => Buffer.from(column, 'utf8'));
  tuple.buffer = Buffer.concat([Buffer.from('12345'), ...parts, Buffer.from('67890')]);
  tuple.columnCount = columns.length;
  let at = 5;
  parts.forEach((part, i) => {
    tuple.kinds[i] = COLUMN_TEXT;
    tuple.starts[i] = at;
    at += part.length;
    tuple.ends[i] = at;
  });
  return { tuple, keyColumns: Int32Array.from(key, (_, i) => key.length - i) };
}

function assertLocates(
  kinds: readonly LocalKind[],
  bounds: readonly KeyText[],
  keys: readonly KeyText[],
): void {
  const sortable = (key: KeyText) => kinds.map((kind, i) => sortableKey(kind, key[i] ?? ''));
  const ascending = bounds
    .toSorted((a, b) => compareSortables(sortable(a), sortable(b)))
    .filter((key, i, all) => {
      const last = all[i - 1];
      return last === undefined || compareSortables(sortable(last), sortable(key)) !== 0;
    });
  const layout = BlockLayout.single().split(0, ascending).layout;
  const locator = createLocator(keySpec(kinds), layout);
  assert.ok(locator !== null);
  for (const key of [...keys, ...ascending]) {
    const naive = ascending.filter(
      (bound) => compareSortables(sortable(bound), sortable(key)) <= 0,
    ).length;
    const { tuple, keyColumns } = tupleOf(key);
    assert.equal(locator.locate(key), naive, `locate ${JSON.stringify(key)}`);
    assert.equal(locator.locateTuple(tuple, keyColumns), naive, `tuple ${JSON.stringify(key)}`);
  }
}

/** Keys of these columns: bounds and keys to look up. */
function cases(texts: readonly fc.Arbitrary<string>[]): fc.Arbitrary<KeyText[]> {
  return fc.array(fc.tuple(...texts), { minLength: 1, maxLength: 40 });
}

const COMPOSITES: readonly (readonly [readonly LocalKind[], readonly (keyof typeof TEXTS)[]])[] = [
  [['integer'], ['integer']],
  [['integer'], ['smallInteger']],
  [['uuid'], ['uuid']],
  [['bytes'], ['bytes']],
  [['numeric'], ['numeric']],
  [['timestamp'], ['timestamp']],
  [
    ['boolean', 'integer'],
    ['boolean', 'smallInteger'],
  ],
  [
    ['integer', 'integer'],
    ['smallInteger', 'integer'],
  ],
  [
    ['bytes', 'uuid', 'integer'],
    ['bytes', 'uuid', 'integer'],
  ],
];

describe('Locator', () => {
  for (const [kinds, names] of COMPOSITES) {
    it(`finds the block of a key of (${names.join(', ')}) like a naive search`, () => {
      const keys = cases(names.map((name) => TEXTS[name]));
      fc.assert(
        fc.property(keys, keys, (bounds, wanted) => assertLocates(kinds, bounds, wanted)),
        { numRuns: 150 },
      );
    });
  }

  it('mixes bounds that are exact as doubles with such that are not', () => {
    const small = cases([TEXTS.smallInteger]);
    const large = cases([TEXTS.integer]);
    fc.assert(
      fc.property(small, large, (some, others) => {
        assertLocates(['integer'], some, others);
        assertLocates(['integer'], others, some);
        assertLocates(['integer'], [...some, ...others], [...some, ...others]);
      }),
      { numRuns: 150 },
    );
  });

  it('puts every key in the one block of a new layout', () => {
    const locator = createLocator(keySpec(['integer']), BlockLayout.single());
    assert.ok(locator !== null);
    assert.equal(locator.locate(['-9223372036854775808']), 0);
    assert.equal(locator.locate(['9223372036854775807']), 0);
  });

  it('follows splits and merges to the locator that the new layout would get', () => {
    const cut = fc.record({ at: fc.nat(), keys: fc.uniqueArray(fc.nat(999), { maxLength: 3 }) });
    const steps = fc.array(fc.oneof(cut, fc.record({ first: fc.nat(), last: fc.nat() })), {
      maxLength: 12,
    });
    for (const kind of ['integer', 'bytes'] as const) {
      const textOf = (key: number): string => (kind === 'bytes' ? `k${key}` : String(key));
      const order = (a: number, b: number): number =>
        kind === 'bytes' ? (textOf(a) < textOf(b) ? -1 : 1) : a - b;
      fc.assert(
        fc.property(steps, (list) => {
          let layout = BlockLayout.single();
          let locator = createLocator(keySpec([kind]), layout) ?? assert.fail();
          for (const step of list) {
            let change;
            if ('keys' in step) {
              const position = step.at % layout.size;
              const inside = step.keys
                .filter((key) => locator.locate([textOf(key)]) === position)
                .filter((key) => layout.lowers[position]?.[0] !== textOf(key))
                .sort(order);
              if (inside.length === 0) continue;
              change = layout.split(
                position,
                inside.map((key) => [textOf(key)]),
              );
            } else {
              const first = step.first % layout.size;
              const last = Math.min(layout.size - 1, first + (step.last % 3));
              change = layout.merge(last > first ? [[first, last]] : []);
            }
            layout = change.layout;
            locator = locator.follow(change);
            const fresh = createLocator(keySpec([kind]), layout) ?? assert.fail();
            for (let key = 0; key < 1000; key += 7) {
              const text = [textOf(key)];
              assert.equal(locator.locate(text), fresh.locate(text));
            }
          }
        }),
        { numRuns: 60 },
      );
    }
  });

  it('leaves keys whose order only the server knows to the server', () => {
    assert.equal(createLocator(keySpec(['server']), BlockLayout.single()), null);
    assert.equal(createLocator(keySpec(['integer', 'server']), BlockLayout.single()), null);
  });
});
