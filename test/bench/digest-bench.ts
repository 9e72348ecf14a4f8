// CPU time of the row digest per row, for each implementation.
// Run: node <compiled>/test/bench/digest-bench.js
import { createRowHasher, type HashColumn } from '../../src/digest/row-hasher.js';
import { nativeUnavailableReason } from '../../src/base/native.js';
import type { DigestSeed, ValueForm } from '../../src/digest/digest-column.js';
import { COLUMN_NULL, COLUMN_TEXT, type Tuple } from '../../src/pgoutput/message.js';

const SEED: DigestSeed = { seed: 0x1234_5678_9abc_def0n, nullToken: '0123456789abcdef'.repeat(2) };
const ROUNDS = 5;
const ROWS_PER_ROUND = 1_000_000;
/** As many messages as fit a read buffer: each has a Buffer object of its own, as in the stream. */
const DISTINCT_ROWS = 256;

interface Shape {
  readonly row: (row: number) => (string | null)[];
  /** By column; the others are hashed by their text. */
  readonly forms: Readonly<Record<number, ValueForm>>;
}

const SHAPES: Readonly<Record<string, Shape>> = {
  'narrow, 3 columns': {
    row: (row) => [String(row), 't', String(row * 7)],
    forms: { 0: 'int8', 1: 'bool', 2: 'int4' },
  },
  'orders, 12 columns': {
    row: (row) => [
      '2020-01-01 00:00:37.25+00',
      String(row % 5000),
      '1990-01-02',
      String(row * 1_000_003),
      row % 2 === 0 ? 't' : 'f',
      `${row}.01`,
      row % 10 === 0 ? null : String(row % 17),
      'c4ca4238-a0b9-2382-0dcc-509a6f75849b',
      '2021-01-01 00:00:11',
      String(row % 5),
      `0.${row}`,
      `${row * 131}.5000`,
    ],
    forms: {
      ...{ 0: 'timestamptz', 1: 'int4', 2: 'date', 3: 'int8', 4: 'bool', 5: 'decimal', 6: 'int4' },
      ...{ 7: 'uuid', 8: 'timestamp', 9: 'int4', 10: 'decimal', 11: 'decimal' },
    },
  },
  'customers, 14 columns': {
    row: (row) => [
      String(row),
      `First${row}`,
      `Last${row}`,
      `user${row}@example.com`,
      '+1-555-0001',
      `City${row % 100}`,
      'US',
      `${row}.01`,
      String(row % 1000),
      row % 2 === 0 ? 't' : 'f',
      '2020-01-01 00:00:37+00',
      '2021-01-01 00:00:11',
      '1950-01-02',
      row % 10 === 0 ? null : 'note c4ca4238a0b923820dcc509a6f75849b',
    ],
    forms: {
      ...{ 0: 'int8', 7: 'decimal', 8: 'int4', 9: 'bool', 10: 'timestamptz', 11: 'timestamp' },
      12: 'date',
    },
  },
  'wide, 5 columns of 1 kB': {
    row: () => Array.from({ length: 5 }, () => 'x'.repeat(1024)),
    forms: {},
  },
};

function tupleOf(values: readonly (string | null)[], memory: Buffer, at: number): Tuple {
  const tuple: Tuple = {
    buffer: memory,
    columnCount: values.length,
    kinds: new Uint8Array(values.length),
    starts: new Int32Array(values.length),
    ends: new Int32Array(values.length),
  };
  let end = 0;
  values.forEach((value, i) => {
    tuple.kinds[i] = value === null ? COLUMN_NULL : COLUMN_TEXT;
    tuple.starts[i] = end;
    if (value !== null) end += memory.write(value, at + end, 'latin1');
    tuple.ends[i] = end;
  });
  tuple.buffer = memory.subarray(at, at + end);
  return tuple;
}

function measureNsPerRow(
  implementation: 'native' | 'javascript',
  columns: readonly HashColumn[],
  tuples: readonly Tuple[],
): number {
  const hasher = createRowHasher(SEED, columns, implementation);
  const out = new Int32Array(2);
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const started = process.hrtime.bigint();
    for (let done = 0; done < ROWS_PER_ROUND; done += tuples.length) {
      for (const tuple of tuples) hasher.hash(tuple, out);
    }
    rounds.push(Number(process.hrtime.bigint() - started) / ROWS_PER_ROUND);
  }
  return Math.min(...rounds);
}

const reason = nativeUnavailableReason();
if (reason !== null) console.log(`native: ${reason}`);
for (const [name, { row, forms }] of Object.entries(SHAPES)) {
  const memory = Buffer.alloc(8 * 1024 * DISTINCT_ROWS);
  const tuples = Array.from({ length: DISTINCT_ROWS }, (_, i) =>
    tupleOf(row(i + 1), memory, i * 8 * 1024),
  );
  const columns = (isByValue: boolean): HashColumn[] =>
    row(1).map((_, tupleIndex) => ({
      tupleIndex,
      form: (isByValue ? forms[tupleIndex] : undefined) ?? 'plain',
    }));
  const implementations =
    reason === null ? (['native', 'javascript'] as const) : (['javascript'] as const);
  for (const implementation of implementations) {
    const [byValue, byText] = [true, false].map((isByValue) =>
      measureNsPerRow(implementation, columns(isByValue), tuples).toFixed(0),
    );
    console.log(`${name}, ${implementation}: ${byValue ?? ''} ns/row, as text ${byText ?? ''}`);
  }
}
