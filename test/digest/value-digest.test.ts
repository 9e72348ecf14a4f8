import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { nativeUnavailableReason } from '../../src/base/native.js';
import type { DigestColumn, DigestSeed, ValueForm } from '../../src/digest/digest-column.js';
import { PROOF_QUERY, unprovedForms } from '../../src/digest/digest-proof.js';
import { digestExpression } from '../../src/digest/digest-sql.js';
import { createRowHasher, digestToBigInt, hashTexts } from '../../src/digest/row-hasher.js';
import { SESSION_SETTINGS } from '../../src/postgres/session-settings.js';
import { startServer, type QueryFunction } from '../support/postgres.js';
import { tupleOf } from './tuples.js';

const SEED: DigestSeed = { seed: 0x0102_0304_0506_0708n, nullToken: '0'.repeat(32) };
const SAMPLES = 400;

const TYPES: Readonly<Record<ValueForm, string>> = {
  int4: 'int4',
  int8: 'int8',
  bool: 'bool',
  decimal: 'numeric',
  date: 'date',
  timestamp: 'timestamp',
  timestamptz: 'timestamptz',
  uuid: 'uuid',
};
const FORMS = Object.keys(TYPES) as ValueForm[];

const int64 = fc.oneof(
  fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
  // Values whose halves fold to the same, and those near powers of two.
  fc
    .tuple(fc.integer({ min: 0, max: 62 }), fc.integer({ min: -2, max: 2 }), fc.boolean())
    .map(([bits, off, isNegative]) => (1n << BigInt(bits)) * (isNegative ? -1n : 1n) + BigInt(off)),
);

const digits = (max: number): fc.Arbitrary<string> =>
  fc.stringMatching(/^[0-9]*$/).map((text) => text.slice(0, max));
const decimal = fc.oneof(
  fc
    .tuple(fc.constantFrom('', '-'), digits(40), digits(40))
    .map(([sign, whole, fraction]) => `${sign}${whole}0.${fraction}0`),
  // Zeros at either end, in every phase of groups of four digits.
  fc
    .tuple(fc.constantFrom('', '-'), digits(3), fc.nat(30), fc.nat(30))
    .map(
      ([sign, middle, before, after]) =>
        `${sign}0.${'0'.repeat(before)}${middle}1${'0'.repeat(after)}`,
    ),
  fc
    .tuple(fc.constantFrom('', '-'), digits(3), fc.nat(30), fc.nat(9))
    .map(
      ([sign, middle, zeros, scale]) =>
        `${sign}1${middle}${'0'.repeat(zeros)}.${'0'.repeat(scale)}0`,
    ),
  fc.constantFrom('0', '0.000', 'NaN', `9${'9'.repeat(1000)}.5`, `0.${'0'.repeat(1000)}1`),
);

/** Microseconds since 2000 in the range of a timestamp. */
const instant = fc
  .oneof(
    fc.bigInt({ min: -211_813_488_000_000_000n, max: 9_223_371_331_199_999_999n }),
    fc.bigInt({ min: -211_813_488_000_000_000n, max: -211_813_480_000_000_000n }),
    fc.bigInt({ min: -10_000_000_000n, max: 10_000_000_000n }),
    // Starts and ends of bins of 2^32 microseconds.
    fc
      .tuple(fc.integer({ min: -49_316_670, max: 2_000_000_000 }), fc.integer({ min: -2, max: 2 }))
      .map(([bin, off]) => BigInt(bin) * (1n << 32n) + BigInt(off)),
  )
  .map((micros) => {
    const day =
      (micros - (((micros % 86_400_000_000n) + 86_400_000_000n) % 86_400_000_000n)) /
      86_400_000_000n;
    return { day, micros: micros - day * 86_400_000_000n };
  });
const timestamp = (type: string): fc.Arbitrary<string> =>
  fc.oneof(
    instant.map(
      ({ day, micros }) =>
        `(timestamp '2000-01-01' + '${day} days'::interval + '${micros} us'::interval)` +
        (type === 'timestamptz' ? ` AT TIME ZONE 'UTC'` : ''),
    ),
    fc.constantFrom("'infinity'", "'-infinity'"),
  );

/** SQL expressions of values. */
const VALUES: Readonly<Record<ValueForm, fc.Arbitrary<string>>> = {
  int4: fc.integer().map((value) => `'${value}'`),
  int8: int64.filter((value) => value === BigInt.asIntN(64, value)).map((value) => `'${value}'`),
  bool: fc.constantFrom('true', 'false'),
  decimal: decimal.map((text) => `'${text}'`),
  date: fc.oneof(
    fc.integer({ min: -2_451_545, max: 2_145_031_948 }).map((day) => `date '2000-01-01' + ${day}`),
    fc.integer({ min: -800_000, max: 800_000 }).map((day) => `date '2000-01-01' + ${day}`),
    fc.constantFrom("'infinity'", "'-infinity'"),
  ),
  timestamp: timestamp('timestamp'),
  timestamptz: timestamp('timestamptz'),
  uuid: fc.uuid().map((text) => `'${text}'`),
};

/** Texts that some hash of the server's cannot tell apart, or that are near each other otherwise. */
const NEIGHBOURS: Readonly<Partial<Record<ValueForm, readonly string[]>>> = {
  // 2^32 folds to 1, and -2^32 - 2 to what 1 is under the complement.
  int8: ['1', '4294967296', '0', '-1', '-4294967298', '4294967297', '12884901890', '-2'],
  decimal: ['0', 'NaN', '1', '-1', '10000', '-10000', '0.0001', '-0.0001', '1.5', '15', '0.15'],
  date: ['2000-01-01', 'infinity', '-infinity', '5874897-12-31', '4714-11-24 BC'],
  timestamp: [
    '2000-01-01 00:00:00.000005',
    // The same upper half turned over, and the same fold with another upper half.
    '1999-12-31 22:48:25.032709',
    '2000-01-01 01:11:34.967300',
    '2000-01-01 01:11:34.967301',
    'infinity',
    '-infinity',
    '4714-11-24 00:00:00 BC',
    // What folds to what infinities fold to.
    '4714-11-24 00:34:58.457793 BC',
    '4714-11-24 00:36:36.711998 BC',
  ],
};

function columnOf(form: ValueForm, name = 'v'): DigestColumn {
  return { name, textForm: 'plain', valueForm: form };
}

async function pin(query: QueryFunction): Promise<void> {
  for (const [name, value] of Object.entries(SESSION_SETTINGS)) {
    await query('SELECT set_config($1, $2, false)', [name, value]);
  }
}

/** Of the values of SQL expressions: their texts as the stream has them, and their digests. */
async function digestsOf(
  query: QueryFunction,
  form: ValueForm,
  values: readonly string[],
): Promise<{ text: string | null; digest: string }[]> {
  const list = values.map((value, n) => `(${n}, (${value})::${TYPES[form]})`).join(', ');
  const text = form === 'bool' ? 'boolout(v)' : 'v::text';
  const rows = await query(
    `SELECT ${text}, ${digestExpression([columnOf(form)], SEED, 't')}::text
       FROM (VALUES ${list}) t(n, v) ORDER BY n`,
  );
  return rows.map(([value, digest]) => ({ text: value ?? null, digest: digest ?? '' }));
}

function streamDigests(forms: readonly ValueForm[], texts: readonly (string | null)[]): string[] {
  const columns = forms.map((form, tupleIndex) => ({ form, tupleIndex }));
  const out = new Int32Array(2);
  const native = nativeUnavailableReason() === null ? (['native'] as const) : [];
  const digests = [...native, 'javascript' as const].map((implementation) => {
    const hasher = createRowHasher(SEED, columns, implementation);
    assert.ok(hasher.hash(tupleOf(texts), out), `${implementation}: ${JSON.stringify(texts)}`);
    return digestToBigInt(out[0] ?? 0, out[1] ?? 0);
  });
  return [...digests, hashTexts(SEED, forms, texts)].map((one) => String(BigInt.asIntN(64, one)));
}

for (const major of [15, 16, 17, 18] as const) {
  describe(`digest by value on PostgreSQL ${major}`, () => {
    it('is what the stream gives, of any value of any form; equal for equal texts only', async (t) => {
      const server = await startServer({ major, settings: { timezone: 'Asia/Tokyo' } });
      t.after(() => server.stop());
      await server.session('postgres', async (query) => {
        await pin(query);
        for (const form of FORMS) {
          const values = [
            ...(NEIGHBOURS[form] ?? []).map((text) => `'${text}'`),
            ...fc.sample(VALUES[form], SAMPLES),
            'NULL',
          ];
          const found = await digestsOf(query, form, values);
          const byDigest = new Map<string, string | null>();
          for (const { text, digest } of found) {
            for (const streamed of streamDigests([form], [text])) {
              assert.equal(streamed, digest, `${form} ${text ?? 'NULL'}`);
            }
            // What a numeric is does not depend on how many zeros it is shown with.
            const value = form === 'decimal' ? canonical(text) : text;
            if (byDigest.has(digest)) assert.equal(byDigest.get(digest), value, form);
            byDigest.set(digest, value);
          }
          assert.equal(byDigest.size, new Set(found.map(({ text }) => canonical(text))).size, form);
        }
        assert.deepEqual([...unprovedForms(await query(PROOF_QUERY))], []);
      });
    });

    it('is what the stream gives of rows of many columns', async (t) => {
      const server = await startServer({ major });
      t.after(() => server.stop());
      const forms = ['decimal', 'bool', 'decimal', 'decimal', 'int4', 'decimal'] as const;
      const values = [
        [null, '7', 'NaN'],
        [null, 't'],
        ['0', 'NaN'],
        ['-1', 'NaN'],
        [null, '5'],
        [null, 'NaN', '0.5'],
      ];
      const names = forms.map((_, i) => `c${i}`);
      const columns = forms.map((form, i) => columnOf(form, `c${i}`));
      await server.session('postgres', async (query) => {
        await pin(query);
        const sets = values.map((texts, i) => {
          const list = texts.map((text) => (text === null ? 'NULL' : `'${text}'`)).join(', ');
          return `unnest(ARRAY[${list}]::text[]) t${i}(x${i})`;
        });
        const texts = names.map((_, i) => `x${i}`);
        const typed = forms.map((form, i) => `x${i}::${TYPES[form]} AS c${i}`);
        const rows = await query(
          `SELECT ${texts.join(', ')}, ${digestExpression(columns, SEED, 't')}::text
             FROM (SELECT ${texts.join(', ')}, ${typed.join(', ')} FROM ${sets.join(', ')}) t`,
        );
        for (const row of rows) {
          for (const found of streamDigests(forms, row.slice(0, -1)))
            assert.equal(found, row.at(-1));
        }
        assert.equal(new Set(rows.map((row) => row.at(-1))).size, 3 * 2 * 2 * 2 * 2 * 3);
      });
    });
  });
}

describe('what a node must prove', () => {
  it('is refused for the form alone whose answer is another', async (t) => {
    const server = await startServer();
    t.after(() => server.stop());
    await server.session('postgres', async (query) => {
      await pin(query);
      const answer = (await query(PROOF_QUERY)).map((row) => [...row]);
      assert.deepEqual([...unprovedForms(answer)], []);
      assert.equal(unprovedForms([]).size, FORMS.length + 1);
      const other = answer.map(([form, n, digest]) => [form, n, form === '6' ? '1' : digest]);
      assert.deepEqual(
        [...unprovedForms(other.map((row) => row.map((v) => v ?? null)))],
        ['timestamp'],
      );
    });
  });
});

describe('strength of a digest by value', () => {
  const digest = (forms: readonly ValueForm[], texts: readonly (string | null)[]): bigint =>
    hashTexts(SEED, forms, texts);

  it('tells rows apart whose columns have swapped what a hash cannot tell', () => {
    const cases: readonly (readonly [
      readonly ValueForm[],
      readonly (readonly (string | null)[])[],
    ])[] = [
      // NaN leaves the digest as it is, and 0 takes one from it, in whichever column.
      [
        ['decimal', 'decimal'],
        [
          ['0', 'NaN'],
          ['NaN', '0'],
          ['0', '0'],
          ['NaN', 'NaN'],
          [null, '0'],
          ['0', null],
          [null, 'NaN'],
        ],
      ],
      [
        ['bool', 'bool'],
        [
          ['t', 'f'],
          ['f', 't'],
          [null, 't'],
          ['t', null],
          [null, null],
          ['f', 'f'],
          ['t', 't'],
        ],
      ],
      [
        ['int4', 'int4'],
        [
          ['0', null],
          [null, '0'],
          [null, null],
          ['0', '0'],
          ['1', '0'],
          ['0', '1'],
        ],
      ],
      [
        ['int8', 'uuid'],
        [
          [null, null],
          ['0', null],
          ['0', '00000000-0000-0000-0000-000000000000'],
          [null, '00000000-0000-0000-0000-000000000000'],
        ],
      ],
      [
        ['timestamp', 'date'],
        [
          [null, '-infinity'],
          ['-infinity', null],
          ['-infinity', '-infinity'],
          [null, null],
        ],
      ],
    ];
    for (const [forms, rows] of cases) {
      const digests = new Set(rows.map((row) => digest(forms, row)));
      assert.equal(digests.size, rows.length, forms.join());
    }
  });

  it('has no collision among rows of three columns, whatever their hashes leave as it was', () => {
    const decimals = [null, '0', 'NaN', '1', '-1', '10000', '0.0001'];
    for (const between of ['bool', 'decimal', 'int4'] as const) {
      const digests = new Set<string>();
      const middle = { bool: [null, 't', 'f'], decimal: decimals, int4: [null, '0', '1'] }[between];
      for (const a of decimals) {
        for (const b of middle) {
          for (const c of decimals) {
            const [found = '', ...others] = streamDigests(
              ['decimal', between, 'decimal'],
              [a, b, c],
            );
            for (const other of others) assert.equal(other, found);
            digests.add(found);
          }
        }
      }
      assert.equal(digests.size, decimals.length ** 2 * middle.length, between);
    }
  });

  it('is not linear: what rows exchange between them changes their sum', () => {
    // The sums of leaves, by rows (column of each kind).
    const pairs: readonly (readonly [ValueForm, string, string])[] = [
      ['decimal', '1', '10000'],
      ['decimal', '0', 'NaN'],
      ['decimal', '5', '-5'],
      ['bool', 't', 'f'],
      ['int4', '0', '1'],
      ['int8', '1', '4294967296'],
      ['date', '2000-01-01', '2000-01-02'],
      ['timestamptz', '2000-01-01 00:00:00+00', '2000-01-01 00:00:00.000001+00'],
    ];
    for (const [form, one, other] of pairs) {
      const sum = (rows: readonly (readonly string[])[]): bigint =>
        BigInt.asUintN(
          64,
          rows.reduce((all, row) => all + digest(['int4', form], row), 0n),
        );
      for (let id = 0; id < 200; id++) {
        const [a, b] = [String(id), String(id + 1)];
        assert.notEqual(
          sum([
            [a, one],
            [b, other],
          ]),
          sum([
            [a, other],
            [b, one],
          ]),
          form,
        );
      }
    }
  });

  it('changes half of its bits with each bit of a value', () => {
    for (const form of ['int4', 'int8'] as const) {
      const bits = form === 'int4' ? 31 : 63;
      const flips = new Array<number>(64).fill(0);
      let count = 0;
      for (let value = 0; value < 300; value++) {
        const base = BigInt(value) * 7_919n;
        const before = digest([form], [String(base)]);
        for (let bit = 0; bit < bits; bit++) {
          const changed = before ^ digest([form], [String(base ^ (1n << BigInt(bit)))]);
          for (let i = 0; i < 64; i++) {
            if ((changed >> BigInt(i)) & 1n) flips[i] = (flips[i] ?? 0) + 1;
          }
          count++;
        }
      }
      // 9,300 or 18,900 coins: five standard deviations are 0.026 and 0.018.
      for (const flipped of flips)
        assert.ok(Math.abs(flipped / count - 0.5) < 0.027, String(flipped / count));
    }
  });

  it('has no collision among 300,000 small rows', () => {
    const seen = new Set<bigint>();
    const out = new Int32Array(2);
    const hasher = createRowHasher(SEED, [
      { tupleIndex: 0, form: 'int4' },
      { tupleIndex: 1, form: 'bool' },
      { tupleIndex: 2, form: 'decimal' },
    ]);
    for (let i = 0; i < 500; i++) {
      for (const flag of ['t', 'f', null]) {
        for (let cents = -100; cents < 100; cents++) {
          assert.ok(hasher.hash(tupleOf([String(i), flag, `${cents}.00`]), out));
          seen.add(digestToBigInt(out[0] ?? 0, out[1] ?? 0));
        }
      }
    }
    assert.equal(seen.size, 500 * 3 * 200);
  });
});

describe('texts that are none of their type', () => {
  const bad: readonly (readonly [ValueForm, readonly string[]])[] = [
    ['int4', ['', '-', '1.0', '2147483648', '-2147483649', '0x1', ' 1', '1 ']],
    ['int8', ['', '9223372036854775808', '-9223372036854775809', '99999999999999999999', '1e3']],
    ['bool', ['', 'true', 'T']],
    ['decimal', ['', '-', '.', '.5', 'Infinity', '1e5', '1,5']],
    ['date', ['', '2000-1-1', '01.01.2000', 'now', '2000-01-01 00:00:00']],
    [
      'timestamp',
      ['', '2000-01-01', '2000-01-01T00:00:00', '2000-01-01 00:00', '2000-01-01 00:00:00.1234567'],
    ],
    [
      'timestamptz',
      ['2000-01-01 00:00:00+09', '2000-01-01 00:00:00 PST', '2000-01-01 00:00:00+00:30'],
    ],
    [
      'uuid',
      [
        '',
        '{00112233-4455-6677-8899-aabbccddeeff}',
        '00112233445566778899aabbccddeeff',
        '00112233-4455-6677-8899-aabbccddeefg',
      ],
    ],
  ];

  it('have no digest in any implementation, rather than a wrong one', () => {
    const out = new Int32Array(2);
    for (const [form, texts] of bad) {
      for (const text of texts) {
        for (const implementation of ['native', 'javascript'] as const) {
          if (implementation === 'native' && nativeUnavailableReason() !== null) continue;
          const hasher = createRowHasher(SEED, [{ tupleIndex: 0, form }], implementation);
          assert.equal(
            hasher.hash(tupleOf([text]), out),
            false,
            `${implementation} ${form} "${text}"`,
          );
        }
        assert.throws(() => hashTexts(SEED, [form], [text]), RangeError);
      }
    }
  });
});

function canonical(text: string | null): string | null {
  if (text?.includes('.') !== true || /[: ]/.test(text)) return text;
  const trimmed = text.replace(/\.?0+$/, '');
  return trimmed === '-0' ? '0' : trimmed;
}
