import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { readPlan } from '../../src/repair/plan-file.js';
import { writeHtmlReport } from '../../src/report/html.js';
import { bigDiffFile, diffFileText } from './pages.js';
import { waitFor } from '../support/wait.js';
import { startBrowser } from './browser.js';

const ROWS = 100_000;

/** A row each: differs, differs by NULL and 'NULL', lacks on n2, lacks on n1; keys that are hard to keep. */
const SMALL = diffFileText({
  n1: [
    '{"id": 9007199254740993, "v": "the quick brown fox", "w": 1}',
    '{"id": "007", "v": null, "w": 1}',
    '{"id": "q\\"uo\\\\te\\u2028\\u0085", "v": "<b>x</b>", "w": 0.10}',
  ],
  n2: [
    '{"id": 9007199254740993, "v": "the quick red fox", "w": 1}',
    '{"id": "007", "v": "NULL", "w": 1}',
    '{"id": 12, "v": "", "w": 1}',
  ],
});

describe('the page in a browser', () => {
  let directory: string;
  let browser: Browser;
  let page: Page;
  const failures: string[] = [];

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'aced-browser-'));
    browser = await startBrowser(directory);
    page = await browser.newPage();
    page.on('pageerror', (error) => failures.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') failures.push(message.text());
    });
    page.on('request', (request) => {
      if (!/^(file|blob):/.test(request.url())) failures.push(`asks for ${request.url()}`);
    });
  });

  after(async () => {
    await browser.close();
    await rm(directory, { recursive: true });
  });

  async function open(name: string, text: string, maxRows?: number): Promise<void> {
    const path = join(directory, `${name}.json`);
    await writeFile(path, text);
    const file = await writeHtmlReport(path, maxRows);
    await page.goto(pathToFileURL(join(directory, file)).href);
  }

  const status = (): Promise<string | null> => page.textContent('#status');
  const keys = (): Promise<string[]> => page.locator('.row > header code').allTextContents();

  /** The filter has been applied to all rows. */
  async function shown(rows: number): Promise<void> {
    await waitFor(async () => (await page.locator('.row').count()) === rows, {
      what: `${rows} rows to be shown`,
    });
  }

  it('shows what differs inside a value, and NULL apart from a text of that name', async () => {
    await open('small', SMALL);
    assert.deepEqual(await keys(), ['9007199254740993', '007', 'q"uo\\te\u2028\u0085', '12']);
    const first = page.locator('.row').first();
    assert.deepEqual(await first.locator('mark').allTextContents(), ['brown', 'red']);
    assert.deepEqual(await first.locator('tr.d th').allTextContents(), ['v']);
    const second = page.locator('.row').nth(1).locator('tr.d td');
    assert.equal(await second.nth(0).locator('.null').textContent(), 'NULL');
    assert.equal(await second.nth(1).textContent(), "'NULL'");
    assert.equal(await second.nth(1).locator('.null').count(), 0);
    assert.match(
      (await page.locator('.row').nth(2).textContent()) ?? '',
      /<b>x<\/b>.*no such row.*0\.10/,
    );
    assert.match((await page.locator('.row').nth(3).textContent()) ?? '', /empty text/);
    assert.equal(await page.locator('.row').nth(3).locator('b').count(), 0);
  });

  it('filters, searches, and is used by keyboard alone', async () => {
    await open('small', SMALL);
    await page.selectOption('#kind', 'second');
    await shown(1);
    assert.match((await status()) ?? '', /^1 of 4 rows/);
    await page.selectOption('#kind', '');
    await page.keyboard.press('Escape');
    await page.keyboard.press('/');
    await page.keyboard.type('RED FOX');
    await shown(1);
    assert.deepEqual(await keys(), ['9007199254740993']);
    await page.fill('#search', '');
    await shown(4);
    await page.keyboard.press('Escape');
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    assert.equal(await page.locator('.row.at').getAttribute('data-place'), '2');
    await page.keyboard.press('a');
    assert.equal(await page.locator('.row').first().locator('tr').count(), 4);
    await page.keyboard.press('r');
    await page.keyboard.press('ArrowDown');
    assert.match((await status()) ?? '', /1 in the plan/);
    await page.selectOption('#column', '0');
    await shown(0);
  });

  it('makes a plan whose keys stand as in the diff file', async () => {
    await open('small', SMALL);
    const choose = (row: number, action: string): Promise<unknown> =>
      page.locator('.row').nth(row).locator('select').selectOption(action);
    await choose(0, 'keep_n2');
    await choose(1, 'keep_n1');
    await choose(2, 'apply_n1');
    await choose(3, 'delete');
    await page.click('#make');
    const text = await page.inputValue('#plan');
    assert.ok(text.includes('{"id": 9007199254740993}'), text);
    assert.ok(text.includes('{"id": "q\\"uo\\\\te\\u2028\\u0085"}'), text);
    assert.deepEqual(JSON.parse(text.replace('9007199254740993', '"big"')), {
      version: 1,
      default_action: { type: 'skip' },
      tables: {
        'public.things': {
          default_action: { type: 'skip' },
          row_overrides: [
            { pk: { id: 'big' }, action: { type: 'keep_n2' } },
            { pk: { id: '007' }, action: { type: 'keep_n1' } },
            {
              pk: { id: 'q"uo\\te\u2028\u0085' },
              action: { type: 'apply_from', from: 'n1', mode: 'insert' },
            },
            { pk: { id: 12 }, action: { type: 'delete' } },
          ],
        },
      },
    });
    assert.equal(readPlan(text, 'public.things').overrides.length, 4);
    assert.match((await page.textContent('#use')) ?? '', /--diff-file small\.json --nodes n1,n2/);
    const saved = page.waitForEvent('download');
    await page.click('#save');
    assert.match((await saved).suggestedFilename(), /^small.*plan\.json$/);
    await page.click('#close');
    await page.selectOption('#bulk', 'n1');
    await page.click('#make');
    const all = await page.inputValue('#plan');
    assert.equal((all.match(/keep_n1/g) ?? []).length, 2);
    assert.equal((all.match(/"delete"/g) ?? []).length, 1);
    assert.equal((all.match(/apply_from/g) ?? []).length, 1);
  });

  it('is light or dark as the system is, or as one likes, and prints without its controls', async () => {
    const background = (): Promise<string> =>
      page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
    await page.emulateMedia({ colorScheme: 'light' });
    await open('small', SMALL);
    const light = await background();
    await page.emulateMedia({ colorScheme: 'dark' });
    const dark = await background();
    assert.notEqual(dark, light);
    await page.click('#theme');
    assert.equal(await background(), light);
    await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
    assert.equal(await background(), 'rgb(255, 255, 255)');
    assert.equal(await page.isVisible('.bar'), false);
    assert.equal(await page.isVisible('.row'), true);
    await page.emulateMedia({ media: 'screen', colorScheme: 'light' });
  });

  it(`paints ${ROWS} differences within a second, and finds the last of them`, async (t) => {
    await open('big', bigDiffFile(ROWS), ROWS);
    const paintMs = await page.evaluate<number>(
      'performance.getEntriesByName("first-contentful-paint")[0].startTime',
    );
    t.diagnostic(`first paint after ${Math.round(paintMs)} ms`);
    assert.ok(paintMs < 1_000, `first paint after ${paintMs} ms`);
    assert.equal(await status(), `${ROWS} rows, page 1 of ${ROWS / 100}`);
    assert.equal(await page.locator('.row').count(), 100);
    await page.fill('#search', `user${ROWS - 1}@`);
    await shown(1);
    assert.deepEqual(await keys(), [String(ROWS - 1)]);
  });

  it('ran without an error, and asked nobody for anything', () => {
    assert.deepEqual(failures, []);
  });
});
