import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { nativeUnavailableReason } from '../../src/base/native.js';
import type { DiffFileRow } from '../../src/diff-file/file-row.js';
import { COUNT_ONLY, rowScan, withDigest, type RowScan } from '../../src/diff-file/row-scan.js';

type Outcome = readonly (DiffFileRow | string)[];

/** Reads the rows of an array's inside, as the reader of a file does; ends with what stopped it. */
function readAll(scan: RowScan, bytes: Buffer): Outcome {
  const found: DiffFileRow[] = [];
  let position = 0;
  try {
    while (position < bytes.length) {
      const end = scan(bytes, position, found);
      if (end < 0) return [...found, `incomplete at ${position}`];
      assert.ok(end > position && end <= bytes.length);
      position = end;
      if (bytes[position] !== 0x2c) break;
      position += 1;
      while (bytes[position] === 0x0a || bytes[position] === 0x20) position += 1;
    }
  } catch (error) {
    assert.ok(error instanceof Error);
    return [...found, `${error.name}: ${error.message}`];
  }
  return [...found, `end at ${position}`];
}

/** Both ways to read must see the same. Returns it. */
function check(bytes: Buffer, wanted: ReadonlySet<string> | null): Outcome {
  const outcome = readAll(rowScan(wanted), bytes);
  assert.deepEqual(outcome, readAll(rowScan(wanted, 'javascript'), bytes), bytes.toString());
  return outcome;
}

const WANTED: readonly (ReadonlySet<string> | null)[] = [
  null,
  COUNT_ONLY,
  withDigest(['id']),
  withDigest(['b', 'näme']),
  new Set(['b']),
];

const digest = fc.stringMatching(/^[0-9a-f]{16}$/);

const value = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom(...['', '"', '\\', '\\"', '{"a":[', ']}', 'null', 'é😀']),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.boolean(),
  fc.constant(null),
  fc.constant({ digest: '0123456789abcdef', list: [1, { x: ['}', ']'] }] }),
  fc.constant([]),
);

const metadata = fc.oneof(
  fc.record({ commit_ts: fc.constantFrom(null, 'x'), node_origin: value, digest }),
  fc.record({ digest: value }),
  fc.constant({}),
  fc.constant(null),
);

/** Rows of a table, mostly of one layout. */
const rows = fc
  .tuple(fc.subarray(['id', 'b', 'näme', 'quo"te', 'digest'] as const), fc.boolean())
  .chain(([names, hasMetadata]) => {
    const members: Record<string, fc.Arbitrary<unknown>> = {};
    for (const name of names) members[name] = value;
    if (hasMetadata) members['_spock_metadata_'] = metadata;
    const regular = fc.record(members);
    const odd = fc.dictionary(fc.constantFrom('id', 'b', 'c', '_spock_metadata_'), value);
    return fc.array(fc.oneof({ weight: 8, arbitrary: regular }, { weight: 1, arbitrary: odd }), {
      maxLength: 12,
    });
  });

const layout = fc.constantFrom<[indent: number, separator: string]>(
  [0, ','],
  [2, ',\n   '],
  [0, ', '],
);

function bytesOf(list: readonly unknown[], [indent, separator]: [number, string]): Buffer {
  return Buffer.from(list.map((row) => JSON.stringify(row, null, indent)).join(separator));
}

describe('rows that repeat their layout', () => {
  it('are read by the addon here, unless it is off', () => {
    const isOff = process.env['ACED_NATIVE'] === 'off';
    assert.equal(nativeUnavailableReason(), isOff ? 'ACED_NATIVE=off' : null);
  });

  it('are found as reading them member by member finds them', () => {
    fc.assert(
      fc.property(rows, layout, fc.constantFrom(...WANTED), (list, form, wanted) => {
        const outcome = check(bytesOf(list, form), wanted);
        assert.equal(outcome.length, list.length + 1);
      }),
      { numRuns: 2_000 },
    );
  });

  it('may be cut off anywhere', () => {
    fc.assert(
      fc.property(rows, layout, fc.constantFrom(...WANTED), (list, form, wanted) => {
        const bytes = bytesOf(list.slice(0, 4), form);
        for (let length = 0; length < bytes.length; length += 1) {
          check(bytes.subarray(0, length), wanted);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('may be damaged anywhere', () => {
    const damage = fc.tuple(
      fc.nat(),
      fc.constantFrom(...Buffer.from('{}[]",:\\ \n0-.eEtfnx\u0001')),
    );
    fc.assert(
      fc.property(
        rows,
        layout,
        fc.constantFrom(...WANTED),
        fc.array(damage, { minLength: 1, maxLength: 3 }),
        (list, form, wanted, damages) => {
          const bytes = bytesOf(list, form);
          for (const [at, byte] of damages) if (bytes.length > 0) bytes[at % bytes.length] = byte;
          check(bytes, wanted);
        },
      ),
      { numRuns: 5_000 },
    );
  });

  it('have their numbers judged alike', () => {
    const numbers = '0 -0 1 01 -1 1.5 1. .5 1e5 1E+5 1e -1.50e-30 - +1 NaN 1x 00 0x1 1_0 truex nul';
    for (const number of numbers.split(' ')) {
      for (const end of ['}', ' }', ',"b":1}', ']', '"']) {
        check(Buffer.from(`{"id":1}, {"id":${number}${end}`), null);
        check(Buffer.from(`{"id":1,"b":2}, {"id":${number}${end}`), null);
      }
    }
  });

  it('may be more than one call of the addon takes', () => {
    const list = Array.from({ length: 5_000 }, (_, id) => ({ id, b: `x${id}` }));
    const outcome = check(bytesOf(list, [2, ',\n']), withDigest(['b']));
    assert.deepEqual(outcome[4_999], { columns: ['b'], values: ['"x4999"'], digest: null });
  });

  it('keep a digest apart from a column of that name', () => {
    const other = { digest: 'x', _spock_metadata_: { digest: '0123456789abcdef' } };
    const [first, second] = check(bytesOf([other, other], [0, ',']), null);
    const expected = { columns: ['digest'], values: ['"x"'], digest: '0123456789abcdef' };
    assert.deepEqual([first, second], [expected, expected]);
  });
});
