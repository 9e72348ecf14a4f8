import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
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
