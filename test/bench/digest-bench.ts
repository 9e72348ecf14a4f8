// CPU time of the row digest per row, for each implementation.
// Run: node <compiled>/test/bench/digest-bench.js
import { createRowHasher, type HashColumn } from '../../src/digest/row-hasher.js';
import { nativeUnavailableReason } from '../../src/base/native.js';
import type { DigestSeed } from '../../src/digest/digest-column.js';
import { COLUMN_NULL, COLUMN_TEXT, type Tuple } from '../../src/pgoutput/message.js';

const SEED: DigestSeed = { seed: 0x1234_5678_9abc_def0n, nullToken: '0123456789abcdef'.repeat(2) };
const ROUNDS = 5;
const ROWS_PER_ROUND = 1_000_000;
/** As many messages as fit a read buffer: each has a Buffer object of its own, as in the stream. */
const DISTINCT_ROWS = 256;

const SHAPES: Record<string, (row: number) => (string | null)[]> = {
  'narrow, 3 columns': (row) => [String(row), 't', String(row * 7)],
  'customers, 14 columns': (row) => [
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
  'wide, 5 columns of 1 kB': () => Array.from({ length: 5 }, () => 'x'.repeat(1024)),
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
for (const [name, shape] of Object.entries(SHAPES)) {
  const memory = Buffer.alloc(8 * 1024 * DISTINCT_ROWS);
  const tuples = Array.from({ length: DISTINCT_ROWS }, (_, i) =>
    tupleOf(shape(i + 1), memory, i * 8 * 1024),
  );
  const columns: HashColumn[] = shape(1).map((_, tupleIndex) => ({
    tupleIndex,
    textForm: name.startsWith('customers') && tupleIndex === 7 ? 'numeric' : 'plain',
  }));
  const implementations =
    reason === null ? (['native', 'javascript'] as const) : (['javascript'] as const);
  for (const implementation of implementations) {
    const nsPerRow = measureNsPerRow(implementation, columns, tuples);
    console.log(`${name}, ${implementation}: ${nsPerRow.toFixed(0)} ns/row`);
  }
}
