import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { hashBytesExtended } from '../../src/digest/hash.js';
import { nativeUnavailableReason } from '../../src/base/native.js';
import { trimNumericText } from '../../src/digest/numeric-text.js';
import {
  createRowHasher,
  digestToBigInt,
  hashTexts,
  type HashColumn,
} from '../../src/digest/row-hasher.js';
import type { DigestSeed, HashForm, TextForm } from '../../src/digest/digest-column.js';
import { readGoldenFile } from './golden-file.js';
import { tupleOf } from './tuples.js';

const SEED: DigestSeed = { seed: -77n, nullToken: '00112233445566778899aabbccddeeff' };

// A checkout without the addon is legal, so its absence is shown as skipped tests.
const needsNative = { skip: nativeUnavailableReason() ?? false };

const implementations = ['native', 'javascript'] as const;

function columnsOf(forms: readonly HashForm[]): HashColumn[] {
  return forms.map((form, tupleIndex) => ({ tupleIndex, form }));
}

function digestOf(
  implementation: 'native' | 'javascript',
  seed: DigestSeed,
  forms: readonly HashForm[],
  values: readonly (string | Buffer | null)[],
): bigint {
  const out = new Int32Array(2);
  const hasher = createRowHasher(seed, columnsOf(forms), implementation);
  assert.equal(hasher.implementation, implementation);
  assert.equal(hasher.hash(tupleOf(values), out), true);
  return digestToBigInt(out[0] ?? 0, out[1] ?? 0);
}

describe('hashBytesExtended', () => {
  it('gives what the server gives, at any place in a buffer', () => {
    const { vectors } = readGoldenFile();
    assert.ok(vectors.length > 1000);
    const out = new Int32Array(2);
    vectors.forEach(([hex, seed, expected], i) => {
      const margin = i % 5;
      const bytes = Buffer.concat([
        Buffer.alloc(margin, 7),
        Buffer.from(hex, 'hex'),
        Buffer.alloc(9, 7),
      ]);
      const low = Number(BigInt.asIntN(32, BigInt(seed)));
      const high = Number(BigInt.asIntN(32, BigInt(seed) >> 32n));
      hashBytesExtended(bytes, margin, margin + hex.length / 2, low, high, out);
      const digest = BigInt.asIntN(64, digestToBigInt(out[0] ?? 0, out[1] ?? 0));
      assert.equal(String(digest), expected, `${hex} under ${seed}`);
    });
  });
});

describe('native row hasher', needsNative, () => {
  it('gives what the server gives', () => {
    for (const [hex, seed, expected] of readGoldenFile().vectors) {
      const digest = digestOf(
        'native',
        { ...SEED, seed: BigInt(seed) },
        ['plain'],
        [Buffer.from(hex, 'hex')],
      );
      assert.equal(String(BigInt.asIntN(64, digest)), expected, `${hex} under ${seed}`);
    }
  });

  it('equals JavaScript on any row', () => {
    const numeric = fc
      .tuple(fc.bigInt(), fc.stringMatching(/^(\.[0-9]*0*)?$/))
      .map(([whole, fraction]) => `${whole}${fraction}`);
    const column = fc.oneof(
      fc.tuple(
        fc.constant<TextForm>('numeric'),
        fc.option(fc.oneof(numeric, fc.constantFrom('NaN', '', '0', '.', '000', 'Infinity'))),
      ),
      fc.tuple(
        fc.constantFrom<TextForm>('plain', 'output', 'boolean', 'bpchar'),
        fc.option(fc.string({ unit: 'binary', maxLength: 60 })),
      ),
    );
    fc.assert(
      fc.property(
        fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
        fc.string({ maxLength: 40 }),
        fc.array(column, { maxLength: 20 }),
        (seed, nullToken, columns) => {
          const digestSeed = { seed, nullToken };
          const forms = columns.map(([form]) => form);
          const values = columns.map(([, value]) => value);
          const expected = hashTexts(digestSeed, forms, values);
          for (const implementation of implementations) {
            assert.equal(digestOf(implementation, digestSeed, forms, values), expected);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('keeps its hashers apart, and working while others are collected', () => {
    const first = createRowHasher(SEED, columnsOf(['plain']), 'native');
    const tuple = tupleOf(['value']);
    const [expected, out] = [new Int32Array(2), new Int32Array(2)];
    first.hash(tuple, expected);
    for (let i = 0; i < 20_000; i++) {
      const seed = { ...SEED, seed: BigInt(i) };
      createRowHasher(seed, columnsOf(['plain', 'plain']), 'native').hash(tupleOf(['a', 'b']), out);
    }
    first.hash(tuple, out);
    assert.deepEqual(out, expected);
  });
});

for (const implementation of implementations) {
  describe(`${implementation} row hasher`, implementation === 'native' ? needsNative : {}, () => {
    it('takes the columns in the order asked for', () => {
      const out = new Int32Array(2);
      const columns: HashColumn[] = [
        { tupleIndex: 2, form: 'plain' },
        { tupleIndex: 0, form: 'numeric' },
      ];
      assert.equal(
        createRowHasher(SEED, columns, implementation).hash(tupleOf(['1.50', null, 'c']), out),
        true,
      );
      assert.equal(
        digestToBigInt(out[0] ?? 0, out[1] ?? 0),
        hashTexts(SEED, ['plain', 'plain'], ['c', '1.5']),
      );
    });

    it('has no digest for unchanged TOAST or a missing column, unless it is not asked for', () => {
      const out = new Int32Array(2);
      const hasher = createRowHasher(SEED, columnsOf(['plain', 'plain']), implementation);
      assert.equal(hasher.hash(tupleOf(['a', undefined]), out), false);
      assert.equal(hasher.hash(tupleOf(['a']), out), false);
      assert.equal(hasher.hash(tupleOf(['a', 'b', undefined]), out), true);
    });

    it('refuses a column outside the buffer', () => {
      const out = new Int32Array(2);
      for (const form of ['plain', 'numeric'] as const) {
        const hasher = createRowHasher(SEED, columnsOf([form]), implementation);
        const length = tupleOf(['abc']).buffer.length;
        for (const [start, end] of [
          [-1, 3],
          [-2, 3],
          [4, 3],
          [0, length + 1],
          [length + 1, length + 1],
          [-2147483648, 2147483647],
        ] as const) {
          const tuple = tupleOf(['abc']);
          tuple.starts[0] = start;
          tuple.ends[0] = end;
          assert.throws(() => hasher.hash(tuple, out), RangeError, `${start} to ${end}`);
        }
      }
    });

    it('is injective where joined text is not', () => {
      const rows: (string | null)[][] = [
        ['', ''],
        [null, ''],
        ['', null],
        [null, null],
        ['a|b', 'c'],
        ['a', 'b|c'],
        ['ab', ''],
        ['a', 'b'],
        ['b', 'a'],
      ];
      const digests = rows.map((row) => digestOf(implementation, SEED, ['plain', 'plain'], row));
      assert.equal(new Set(digests).size, rows.length);
    });

    it('refuses a column place that no tuple has', () => {
      assert.throws(
        () => createRowHasher(SEED, [{ tupleIndex: -1, form: 'plain' }], implementation),
        RangeError,
      );
    });
  });
}

describe('trimNumericText', () => {
  it('drops trailing zeros of the fraction only', () => {
    const cases = {
      '0': '0',
      '0.00': '0',
      '100': '100',
      '100.00': '100',
      '-10.50': '-10.5',
      '0.010': '0.01',
      '-0.5': '-0.5',
      NaN: 'NaN',
      '-Infinity': '-Infinity',
    };
    for (const [text, expected] of Object.entries(cases)) {
      assert.equal(trimNumericText(text), expected);
      assert.equal(
        hashTexts(SEED, ['numeric'], [text]),
        digestOf('javascript', SEED, ['plain'], [expected]),
      );
      assert.equal(
        digestOf('javascript', SEED, ['numeric'], [text]),
        digestOf('javascript', SEED, ['plain'], [expected]),
      );
    }
  });
});

describe('ACED_NATIVE=off', () => {
  it('leaves the work to JavaScript and says why', () => {
    const program = `
      const { createRowHasher } = await import(${JSON.stringify(import.meta.resolve('../../src/digest/row-hasher.js'))});
      const { nativeUnavailableReason } = await import(${JSON.stringify(import.meta.resolve('../../src/base/native.js'))});
      const seed = { seed: 1n, nullToken: 'x' };
      let refused = false;
      try { createRowHasher(seed, [], 'native'); } catch { refused = true; }
      console.log(JSON.stringify([createRowHasher(seed, []).implementation, refused, nativeUnavailableReason()]));`;
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', program], {
      env: { ...process.env, ACED_NATIVE: 'off' },
      encoding: 'utf8',
    });
    assert.deepEqual(JSON.parse(output), ['javascript', true, 'ACED_NATIVE=off']);
  });
});
