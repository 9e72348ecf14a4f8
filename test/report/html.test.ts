import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { writeHtmlReport } from '../../src/report/html.js';
import { fixturePath } from '../diff-file/fixtures.js';
import { bigDiffFile, diffFileText, pageData } from './pages.js';

describe('the page beside a diff file', () => {
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'aced-html-'));
  });

  after(async () => {
    await rm(directory, { recursive: true });
  });

  async function pageOf(text: string, maxRows?: number): Promise<string> {
    const path = join(directory, 'one.json');
    await writeFile(path, text);
    return readFile(join(directory, await writeHtmlReport(path, maxRows)), 'utf8');
  }

  it('needs nothing else, and leaves nothing else behind', async () => {
    const own = await mkdtemp(join(directory, 'own-'));
    const name = 'public_orders_diffs-20260101000000';
    await copyFile(fixturePath('orders_diffs.json'), join(own, `${name}.json`));
    assert.equal(await writeHtmlReport(join(own, `${name}.json`)), `${name}.html`);
    assert.equal(await writeHtmlReport(join(own, `${name}.json`)), `${name}-1.html`);
    const page = await readFile(join(own, `${name}.html`), 'utf8');
    assert.ok(!/\s(src|href)=|@import|url\(|https?:/.test(page));
    assert.deepEqual((await readdir(own)).length, 3);
  });

  it('has the rows of both nodes side by side, in the order of the file', async () => {
    const page = await pageOf(await readFile(fixturePath('orders_diffs.json'), 'utf8'));
    const { head, rows } = pageData(page);
    assert.deepEqual(
      head.pairs.map(({ name, rows: count }) => [name, count]),
      [
        ['n1/n2', 7],
        ['n1/n3', 1],
        ['n2/n3', 6],
      ],
    );
    const ids = (pair: number): unknown[] =>
      (rows[pair] ?? []).map(([a, b]) => [a?.[0] ?? null, b?.[0] ?? null]);
    assert.deepEqual(ids(0), [
      [3, 3],
      [7, 7],
      [10, null],
      [11, null],
      [44, 44],
      [505, 505],
      [null, 2001],
    ]);
    assert.deepEqual(ids(2).slice(0, 3), [
      [3, 3],
      [null, 10],
      [null, 11],
    ]);
  });

  it('takes every value exactly, and none of them can end its element', async () => {
    const odd = ['</script><b>&', '<!--', '\u0085\u2028\u2029', '007', 'NULL', '"\\', '', '😀'];
    const cells = odd.map(
      (text, i) => `{"id": 9007199254740993.${i}0, "v": ${JSON.stringify(text)}}`,
    );
    const page = await pageOf(
      diffFileText({ n1: [...cells, '{"id": 123456789012345678901, "v": null}'], n2: [] }),
    );
    const [rows = []] = pageData(page).rows;
    assert.deepEqual(
      rows.map(([row]) => row),
      [
        ...odd.map((text, i) => [[`9007199254740993.${i}0`], text]),
        [['123456789012345678901'], null],
      ],
    );
    assert.ok(!page.includes('<b>'));
    assert.ok(!/[\u0085\u2028\u2029]/.test(page));
  });

  it('matches sides that somebody has sorted otherwise', async () => {
    const row = (id: number): string => `{"id": ${id}, "v": 1}`;
    const page = await pageOf(
      diffFileText({ n1: [row(1), row(2), row(3)], n2: [row(3), row(4), row(1)] }),
    );
    const [rows = []] = pageData(page).rows;
    assert.deepEqual(
      rows.map(([a, b]) => [a?.[0] ?? null, b?.[0] ?? null]),
      [
        [1, 1],
        [2, null],
        [3, 3],
        [null, 4],
      ],
    );
  });

  it('is cut at so many keys of each pair, and says so', async () => {
    const file = bigDiffFile(1_000);
    const { head, rows } = pageData(await pageOf(file, 450));
    assert.deepEqual(
      [head.pairs[0]?.rows, head.pairs[0]?.isCut, rows[0]?.length],
      [450, true, 450],
    );
    const whole = pageData(await pageOf(file));
    assert.deepEqual([whole.head.pairs[0]?.rows, whole.head.pairs[0]?.isCut], [1_000, false]);
    // Every tenth is missing on n1, every eleventh on n2: the cut falls among them.
    assert.deepEqual(rows[0], whole.rows[0]?.slice(0, 450));
  });

  it('says what the rows are worth: verdict, warnings, nodes, positions, time and counts', async () => {
    const file = JSON.parse(await readFile(fixturePath('orders_diffs.json'), 'utf8')) as {
      summary: Record<string, unknown>;
    };
    const withOurs = (aced: object | undefined): Promise<string> =>
      pageOf(JSON.stringify({ ...file, summary: { ...file.summary, aced } }));
    const starved = await withOurs({
      verdict: 'starved',
      warnings: ['subscription <s> is not running'],
      positions: { n1: '0/15D68D0' },
    });
    assert.match(starved, /Verdict: starved\.<\/strong> Not proved: .* a repair would undo them/);
    assert.ok(starved.includes('<li>subscription &lt;s&gt; is not running</li>'));
    assert.ok(starved.includes('<th>node n1</th><td>as of 0/15D68D0</td>'));
    assert.ok(starved.includes('<th>node n2</th><td>position unknown</td>'));
    assert.match(starved, /<th>n1\/n2<\/th><td>\d+ differing rows<\/td>/);
    assert.match(starved, /<th>begun<\/th><td>20\d\d-/);
    const drift = await withOurs({ verdict: 'drift', warnings: [], positions: {} });
    assert.match(drift, /<div class="v"><p><strong>Verdict: drift\./);
    // ACE's own files do not say.
    assert.match(await withOurs(undefined), /<div class="v u"><p><strong>Verdict: unknown\./);
  });
});
