import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { AcedError } from '../../src/base/errors.js';
import { readDiffFile, readDiffRows } from '../../src/diff-file/diff-reader.js';
import { fixturePath, fixtureText, type Fixture } from './fixtures.js';

let directory = '';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'aced-reader-'));
});

after(async () => {
  await rm(directory, { recursive: true });
});

async function fileOf(text: string | Buffer): Promise<string> {
  const path = join(directory, `${Math.random()}.json`);
  await writeFile(path, text);
  return path;
}

type PlainRows = Record<string, Record<string, Record<string, string>[]>>;

async function readAll(path: string, options = {}): Promise<PlainRows> {
  const result: PlainRows = {};
  for await (const { pair, node, rows } of readDiffRows(path, options)) {
    const list = ((result[pair] ??= {})[node] ??= []);
    for (const { columns, values } of rows) {
      list.push(Object.fromEntries(columns.map((column, i) => [column, values[i] ?? ''])));
    }
  }
  return result;
}

describe('diff file reader', () => {
  for (const name of [
    'orders',
    'orders_mtree',
    'orders_filtered',
    'lines_composite_key',
    'kinds_all_types',
    'orders_rerun',
  ]) {
    it(`reads ACE's file: ${name}`, async () => {
      const path = fixturePath(`${name}_diffs.json`);
      const fixture = JSON.parse(fixtureText(`${name}_diffs.json`)) as Fixture;
      const head = await readDiffFile(path);
      assert.equal(head.schema, 'public');
      assert.equal(head.table, fixture.summary.table);
      assert.deepEqual(head.nodes, ['n1', 'n2', 'n3']);
      assert.deepEqual(head.primaryKey, fixture.summary.primary_key);
      assert.equal(head.seedId, null);
      assert.deepEqual(
        head.pairs.map((pair) => pair.name),
        Object.keys(fixture.diffs),
      );
      const rows = await readAll(path);
      for (const [pair, { rows: sides }] of Object.entries(fixture.diffs)) {
        for (const [node, list] of Object.entries(sides)) {
          const expected = list.map((row) =>
            Object.fromEntries(
              Object.entries(row)
                .filter(([column]) => column !== '_spock_metadata_')
                .map(([column, value]) => [column, value]),
            ),
          );
          const found = (rows[pair]?.[node] ?? []).map((row) =>
            Object.fromEntries(
              Object.entries(row).map(([column, text]) => [column, JSON.parse(text) as unknown]),
            ),
          );
          assert.deepEqual(found, expected);
          assert.equal(head.pairs.find(({ name: one }) => one === pair)?.rows[node], list.length);
        }
      }
    });
  }

  it('keeps every digit of a number', async () => {
    const rows = await readAll(fixturePath('orders_rerun_diffs.json'));
    assert.equal(rows['n1/n2']?.['n1']?.[0]?.['amount'], '48.40');
    const path = await fileOf(
      '{"diffs":{"a/b":{"rows":{"a":[{"id":9223372036854775807,"n":-1.50e+30}],"b":[]}}},"summary":{"schema":"s","table":"t"}}',
    );
    assert.deepEqual((await readAll(path))['a/b']?.['a'], [
      { id: '9223372036854775807', n: '-1.50e+30' },
    ]);
  });

  it('reads only the pairs and columns that are asked for', async () => {
    const path = fixturePath('orders_diffs.json');
    const rows = await readAll(path, { pairs: ['n1/n3'], columns: ['note', 'id'] });
    assert.deepEqual(rows, {
      'n1/n3': { n1: [{ id: '7', note: 'null' }], n3: [{ id: '7', note: 'null' }] },
    });
  });

  it('reads values longer than its window, and characters cut by it', async () => {
    const long = 'é😀"\\x'.repeat(700_000);
    const row = { id: 1, text: long, 'a"b': 'c' };
    const path = await fileOf(
      `\ufeff${JSON.stringify({
        summary: { schema: 's', table: 't', aced: { seed_id: 'x' } },
        extra: [1, { a: [long] }],
        diffs: { 'a/b': { rows: { a: [row, row], b: null }, more: {} } },
      })}`,
    );
    const { seedId, rowBytes } = await readDiffFile(path);
    assert.equal(seedId, 'x');
    assert.equal(rowBytes, (await stat(path)).size / 2);
    const rows = await readAll(path);
    const found = rows['a/b']?.['a'] ?? [];
    assert.equal(found.length, 2);
    assert.equal(JSON.parse(found[1]?.['text'] ?? ''), long);
  });

  const whole =
    '{"diffs":{"a/b":{"rows":{"a":[{"id":1}],"b":[]}}},"summary":{"schema":"s","table":"t"}}';
  const bad: [what: string, text: string | Buffer, message: RegExp][] = [
    ['empty', '', /cut off/],
    ['no JSON', 'id,email\n1,a', /\{ is expected/],
    ['an array', '[]', /\{ is expected/],
    ['other JSON', '{"name":"x","version":1}', /no diffs/],
    ['no summary', '{"diffs":{}}', /no summary$/],
    ['no table', '{"diffs":{},"summary":{"schema":"s"}}', /no summary\.table/],
    ['no schema', '{"diffs":{},"summary":{"table":"s"}}', /no summary\.schema/],
    [
      'no rows',
      '{"diffs":{"a/b":{}},"summary":{"schema":"s","table":"t"}}',
      /no diffs\["a\/b"\]\.rows/,
    ],
    ['more after it', `${whole}{}`, /something follows/],
    ['binary', Buffer.from([0xff, 0xfe, 0, 1]), /\{ is expected/],
    ['a bad value', whole.replace('1}', 'x1}'), /a value is expected/],
    ['a bad escape', whole.replace('"id"', '"\\x"'), /not JSON/],
  ];
  for (const [what, text, message] of bad) {
    it(`refuses a file: ${what}`, async () => {
      const path = await fileOf(text);
      const check = (error: unknown): boolean => {
        assert.ok(error instanceof AcedError, String(error));
        assert.equal(error.code, 'BAD_DIFF_FILE');
        assert.match(error.message, message);
        assert.ok(error.message.includes(path));
        assert.ok((error.hint ?? '').length > 0);
        return true;
      };
      if (what.startsWith('a bad ')) await assert.rejects(readAll(path), check);
      else await assert.rejects(readDiffFile(path), check);
    });
  }

  it('refuses a file that is cut off anywhere', async () => {
    for (let length = 1; length < whole.length; length += 1) {
      const path = await fileOf(whole.slice(0, length));
      await assert.rejects(readDiffFile(path), { code: 'BAD_DIFF_FILE' }, `at ${length}`);
      await assert.rejects(readAll(path), { code: 'BAD_DIFF_FILE' }, `at ${length}`);
    }
    assert.equal((await readDiffFile(await fileOf(whole))).table, 't');
  });

  it('does not read what comes behind the pairs that are asked for', async () => {
    const path = await fileOf(whole.replace('}},"summary', '},"c/d":x'));
    const rows = await readAll(path, { pairs: ['a/b'] });
    assert.deepEqual(rows, { 'a/b': { a: [{ id: '1' }] } });
    await assert.rejects(readAll(path), { code: 'BAD_DIFF_FILE' });
  });

  it('names a file that is not there', async () => {
    await assert.rejects(readDiffFile(join(directory, 'none.json')), { code: 'BAD_DIFF_FILE' });
  });
});

it('writing and reading 100,000 rows takes little memory', async () => {
  const child = join(dirname(fileURLToPath(import.meta.url)), 'memory-child.js');
  const args = ['--max-old-space-size=32', child, directory, '34000'];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  const { rows, maxRssKb } = JSON.parse(stdout) as { rows: number; maxRssKb: number };
  assert.equal(rows, 136_000);
  assert.ok(maxRssKb < 200_000, `${maxRssKb} kB`);
});
