import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { writeHtmlReport } from '../../src/report/html.js';
import { fixturePath } from '../diff-file/fixtures.js';

it('makes a page that marks differing cells and escapes everything', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'aced-html-'));
  try {
    const name = 'public_orders_diffs-20260101000000';
    await copyFile(fixturePath('orders_diffs.json'), join(directory, `${name}.json`));
    assert.equal(await writeHtmlReport(join(directory, `${name}.json`)), `${name}.html`);
    const page = await readFile(join(directory, `${name}.html`), 'utf8');
    assert.ok(page.includes('<td>&lt;b&gt;&amp;</td>'));
    assert.ok(!page.includes('<b>'));
    assert.ok(page.includes('<td class="d">3.31</td>'));
    assert.ok(page.includes('<td class="d n">NULL</td>'));
    assert.ok(page.includes('no such row'));
    assert.ok(!/(src|href)=/.test(page));
    assert.deepEqual((await readdir(directory)).length, 2);
  } finally {
    await rm(directory, { recursive: true });
  }
});

it('says what the rows are worth: verdict, warnings, nodes, positions, time and counts', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'aced-html-'));
  try {
    const file = JSON.parse(await readFile(fixturePath('orders_diffs.json'), 'utf8')) as {
      summary: Record<string, unknown>;
    };
    const pageOf = async (aced: object | undefined): Promise<string> => {
      const path = join(directory, 'one.json');
      await writeFile(path, JSON.stringify({ ...file, summary: { ...file.summary, aced } }));
      return readFile(join(directory, await writeHtmlReport(path)), 'utf8');
    };
    const starved = await pageOf({
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
    const drift = await pageOf({ verdict: 'drift', warnings: [], positions: {} });
    assert.match(drift, /<div class="v"><p><strong>Verdict: drift\./);
    // ACE's own files do not say.
    assert.match(await pageOf(undefined), /<div class="v u"><p><strong>Verdict: unknown\./);
  } finally {
    await rm(directory, { recursive: true });
  }
});
