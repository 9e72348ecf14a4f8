import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import {
  DiffFileWriter,
  type DiffFileOptions,
  type DiffRow,
  type SummaryFields,
} from '../../src/diff-file/diff-writer.js';
import { fixtureColumns, fixtureRows, fixtureText, type Fixture } from './fixtures.js';

let directory = '';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'aced-report-'));
});

after(async () => {
  await rm(directory, { recursive: true });
});

const SUMMARY: SummaryFields = {
  blockSize: 100_000,
  compareUnitSize: 10_000,
  concurrencyFactor: 0.5,
  totalRowsChecked: 0,
  initialRangesCount: 0,
  mismatchedRangesCount: 0,
  timeTakenMs: 12.5,
  positions: { n1: '0/1' },
  verdict: 'drift',
  excludedColumns: [],
  warnings: ['a < b'],
};

function options(overrides: Partial<DiffFileOptions> = {}): DiffFileOptions {
  return {
    directory,
    schema: 'public',
    table: 't',
    suffix: 'diffs',
    startedAt: new Date('2026-01-02T03:04:05Z'),
    nodes: ['n1', 'n2', 'n3'],
    columns: [
      { name: 'id', baseTypeOid: 20 },
      { name: 'note', baseTypeOid: 25 },
    ],
    primaryKey: ['id'],
    maxDiffRows: 1_000_000,
    seedId: 'seed',
    servers: {},
    ...overrides,
  };
}

/** One text per node; null: no such row. */
function row(id: string, notes: Readonly<Record<string, string | null>>): DiffRow {
  return {
    images: new Map(
      Object.entries(notes).map(([node, note]) => [
        node,
        note === null
          ? null
          : {
              digest: Buffer.from(note).toString('hex').padStart(16, '0').slice(0, 16),
              values: [id, note],
              commitTs: null,
              origin: null,
            },
      ]),
    ),
  };
}

/** What the two programs cannot have in common. */
function withoutOurs(text: string): string {
  return text
    .replace(/,\n *"digest": "[0-9a-f]{16}"/g, '')
    .replace(/,\n {4}"aced": \{[\s\S]*?\n {4}\}/, '')
    .replace(/"(start_time|end_time|time_taken)": ".*"/g, '"$1": "-"')
    .replace(/"(total_rows_checked|initial_ranges_count)": \d+/g, '"$1": 0')
    .replace(/"(block_size|compare_unit_size|concurrency_factor)": [\d.]+/g, '"$1": 0')
    .trimEnd();
}

describe('diff file', () => {
  for (const name of [
    'orders',
    'orders_mtree',
    'orders_filtered',
    'lines_composite_key',
    'kinds_all_types',
  ]) {
    it(`is ACE's byte for byte: ${name}`, async () => {
      const expected = fixtureText(`${name}_diffs.json`);
      const fixture = JSON.parse(expected) as Fixture;
      const columns = fixtureColumns(fixture);
      const filter = fixture.summary.table_filter;
      const writer = await DiffFileWriter.create(
        options({
          table: fixture.summary.table,
          columns,
          primaryKey: fixture.summary.primary_key,
          startedAt: new Date(),
        }),
      );
      await writer.add(fixtureRows(fixture, columns));
      const file = await writer.finish({
        ...SUMMARY,
        ...(filter === undefined ? {} : { tableFilter: filter }),
      });
      assert.ok(file !== null);
      const text = await readFile(join(directory, file), 'utf8');
      assert.equal(withoutOurs(text), withoutOurs(expected));
      assert.match(text, /"digest": "[0-9a-f]{16}"/);
    });
  }

  it('has our additions after what ACE writes', async () => {
    const writer = await DiffFileWriter.create(options({ table: 'additions' }));
    await writer.add([row('1', { n1: 'a', n2: 'b', n3: 'b' })]);
    const file = await writer.finish(SUMMARY);
    assert.equal(file, 'public_additions_diffs-20260102030405.json');
    const { summary, diffs } = JSON.parse(await readFile(join(directory, file), 'utf8')) as {
      summary: Record<string, unknown>;
      diffs: Record<string, unknown>;
    };
    assert.equal(Object.keys(summary).at(-1), 'aced');
    assert.deepEqual(summary['aced'], {
      version: 1,
      seed_id: 'seed',
      servers: {},
      positions: { n1: '0/1' },
      verdict: 'drift',
      excluded_columns: [],
      warnings: ['a < b'],
    });
    assert.deepEqual(Object.keys(diffs), ['n1/n2', 'n1/n3']);
  });

  it('writes an empty array for a node without any of the rows', async () => {
    const writer = await DiffFileWriter.create(options({ table: 'empty', nodes: ['b', 'a'] }));
    await writer.add([row('1', { a: 'x', b: null }), row('2', { a: 'y', b: null })]);
    const file = await writer.finish(SUMMARY);
    const text = await readFile(join(directory, file ?? ''), 'utf8');
    assert.match(text, /\n {8}"b": \[\]\n {6}\}\n/);
    assert.deepEqual(writer.counts, { 'a/b': 2 });
  });

  it('writes no file when nothing differs', async () => {
    const own = join(directory, 'nothing');
    await mkdir(own);
    const writer = await DiffFileWriter.create(options({ directory: own }));
    await writer.add([row('1', { n1: 'a', n2: 'a', n3: 'a' })]);
    assert.equal(await writer.finish(SUMMARY), null);
    assert.deepEqual(await readdir(own), []);
  });

  it('stores no more rows than asked, but counts them', async () => {
    const writer = await DiffFileWriter.create(options({ table: 'limit', maxDiffRows: 2 }));
    const rows = ['1', '2'].map((id) => row(id, { n1: 'a', n2: 'b', n3: 'b' }));
    await writer.add(rows);
    assert.equal(writer.limitReached, false);
    await writer.add([row('3', { n1: 'a', n2: 'b', n3: 'b' })]);
    assert.equal(writer.limitReached, true);
    assert.deepEqual(writer.counts, { 'n1/n2': 3, 'n1/n3': 3 });
    const file = await writer.finish(SUMMARY);
    const text = await readFile(join(directory, file ?? ''), 'utf8');
    assert.equal(text.match(/"id": /g)?.length, 8);
    assert.match(text, /"diff_row_limit_reached": true/);
  });

  it('never writes over a file', async () => {
    const names: (string | null)[] = [];
    for (const note of ['first', 'second']) {
      const writer = await DiffFileWriter.create(options({ table: 'twice' }));
      await writer.add([row('1', { n1: note, n2: 'b', n3: 'b' })]);
      names.push(await writer.finish(SUMMARY));
    }
    assert.deepEqual(names, [
      'public_twice_diffs-20260102030405.json',
      'public_twice_diffs-20260102030406.json',
    ]);
    assert.match(await readFile(join(directory, names[0] ?? ''), 'utf8'), /"first"/);
  });

  it('keeps digits, quotes and awkward names', async () => {
    const writer = await DiffFileWriter.create(
      options({
        table: 'Odd/"name"',
        columns: [
          { name: 'id', baseTypeOid: 20 },
          { name: 'a"b<c>', baseTypeOid: 25 },
        ],
        nodes: ['n1', 'n2'],
      }),
    );
    await writer.add([row('9223372036854775807', { n1: 'q"\\\u2028\u0001&\n', n2: null })]);
    const file = await writer.finish(SUMMARY);
    assert.equal(file, 'public_Odd_"name"_diffs-20260102030405.json');
    const text = await readFile(join(directory, file), 'utf8');
    assert.ok(text.includes('"id": 9223372036854775807,'));
    assert.ok(text.includes('"a\\"b\\u003cc\\u003e": "q\\"\\\\\\u2028\\u0001\\u0026\\n",'));
  });

  it('leaves nothing behind when it is aborted', async () => {
    const own = join(directory, 'aborted');
    await mkdir(own);
    const writer = await DiffFileWriter.create(options({ directory: own }));
    await writer.add([row('1', { n1: 'a', n2: 'b', n3: 'b' })]);
    assert.equal((await readdir(own)).length, 1);
    await writer.abort();
    await writer.abort();
    assert.deepEqual(await readdir(own), []);
  });

  it('names the directory that cannot be written to', async () => {
    const missing = join(directory, 'missing');
    await assert.rejects(DiffFileWriter.create(options({ directory: missing })), (error) => {
      assert.ok(error instanceof AcedError);
      assert.equal(error.code, 'REPORT_WRITE');
      assert.ok(error.message.includes(missing));
      return true;
    });
  });
});

describe('diff file on a full disk', () => {
  let small = '';
  let isMounted = false;

  before(async () => {
    small = await mkdtemp(join(tmpdir(), 'aced-small-'));
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small], { stdio: 'ignore' });
      isMounted = true;
    } catch {
      // Needs root; the test is skipped below.
    }
  });

  after(async () => {
    if (isMounted) execFileSync('umount', [small]);
    await rm(small, { recursive: true });
  });

  /** As much as fits once, but not twice: the failure comes while the file is put together. */
  for (const [when, megabytes] of [
    ['rows are added', 4],
    ['the file is put together', 0.7],
  ] as const) {
    it(`removes everything when it fills up while ${when}`, async (test) => {
      if (!isMounted) {
        test.skip('cannot mount a small file system');
        return;
      }
      const writer = await DiffFileWriter.create(options({ directory: small }));
      const note = 'x'.repeat(1_000);
      const write = async (): Promise<void> => {
        for (let i = 0; i < megabytes * 500; i += 1) {
          await writer.add([row(String(i), { n1: `1${note}`, n2: `2${note}`, n3: `2${note}` })]);
          if (writer.counts['n1/n2'] !== i + 1) throw new Error('not counted');
          if (i > megabytes * 250) break;
        }
        await writer.finish(SUMMARY);
      };
      await assert.rejects(write(), (error) => {
        assert.ok(error instanceof AcedError);
        assert.equal(error.code, 'REPORT_WRITE');
        assert.ok(error.message.includes(small));
        assert.match(error.hint ?? '', /space/);
        return true;
      });
      assert.deepEqual(await readdir(small), []);
    });
  }
});
