import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { before, describe, it } from 'node:test';
import { COMMANDS } from '../../src/cli/commands.js';
import { OPTIONS } from '../../src/config/options.js';
import { METRICS, type MetricSpec } from '../../src/observe/metric-names.js';

/** Tests run from the root of the checkout. */
const DOCS = 'docs';

async function filesBelow(directory: string, extension: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(extension))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

async function readAll(paths: readonly string[]): Promise<Map<string, string>> {
  const contents = await Promise.all(
    paths.map(async (path) => [path, await readFile(path, 'utf8')] as const),
  );
  return new Map(contents);
}

/** Group 1 of every match, without doubles, sorted. */
function matches(text: string, pattern: RegExp): string[] {
  return [...new Set(Array.from(text.matchAll(pattern), (match) => match[1] ?? ''))].sort();
}

/** The part of a page from a marker comment to the end of the table that follows it. */
function tableAfter(text: string, marker: string): string {
  const start = text.indexOf(`<!-- ${marker}:`);
  assert.notEqual(start, -1, `no marker "${marker}"`);
  const [, table] = text.slice(start).split(/\n\n(?=\|)/);
  assert.ok(table, `no table after marker "${marker}"`);
  return table.split('\n\n')[0] ?? '';
}

/** The first cell of each row of a table, where it is one `code`. */
function firstCells(table: string): string[] {
  return matches(table, /^\| `([^`]+)` +\|/gm);
}

/** The anchor that GitHub gives to a heading. */
function anchorOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replace(/\s/g, '-');
}

/** Text without code blocks: what looks like a link in there is none. */
function prose(text: string): string {
  return text.replace(/^```.*?^```/gms, '');
}

describe('documentation', () => {
  let pages: Map<string, string>;
  let sources: string;

  const page = (name: string): string => {
    const text = pages.get(join(DOCS, name));
    assert.ok(text, `no page ${name}`);
    return text;
  };

  before(async () => {
    pages = await readAll(['README.md', ...(await filesBelow(DOCS, '.md'))]);
    sources = [...(await readAll(await filesBelow('src', '.ts'))).values()].join('\n');
  });

  it('has no relative link to nothing', () => {
    const broken: string[] = [];
    for (const [path, text] of pages) {
      for (const target of matches(prose(text), /\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        const [file = '', anchor] = target.split('#');
        const linked = file === '' ? path : join(dirname(path), file);
        if (!existsSync(resolve(linked))) broken.push(`${path}: ${target}`);
        else if (anchor !== undefined && linked.endsWith('.md')) {
          const headings = matches(prose(pages.get(linked) ?? ''), /^#+ (.*)$/gm);
          if (!headings.map(anchorOf).includes(anchor)) broken.push(`${path}: ${target}`);
        }
      }
    }
    assert.deepEqual(broken, []);
  });

  it('links every page from the README', () => {
    const linked = matches(pages.get('README.md') ?? '', /\]\((docs\/[^)#]+\.md)[^)]*\)/g);
    assert.deepEqual(
      linked,
      [...pages.keys()].filter((path) => path !== 'README.md'),
    );
  });

  it('lists exactly the log events of the code', () => {
    const logged = matches(
      sources,
      /(?:\bevent: |tellsFailures\([\w.]+, |#log\('[a-z]+', |#log\(\s*'[a-z]+',\s*)'([a-z_]+)'/g,
    );
    assert.ok(logged.length > 10, 'the events of the code were not found');
    assert.deepEqual(firstCells(tableAfter(page('12-operations.md'), 'events')), logged);
  });

  it('lists exactly the error codes of the code', () => {
    const declared = matches(sources, /^ {2}([A-Z_]+): '(?:retry|person|never)',$/gm);
    assert.ok(declared.length > 10, 'the codes were not found');
    assert.deepEqual(firstCells(tableAfter(page('12-operations.md'), 'codes')), declared);
  });

  it('says for which codes it helps to try again', () => {
    for (const [prospect, word] of [
      ['retry', 'yes'],
      ['person', 'once mended'],
      ['never', 'no'],
    ] as const) {
      const declared = matches(sources, new RegExp(`^ {2}([A-Z_]+): '${prospect}',$`, 'gm'));
      const table = tableAfter(page('12-operations.md'), 'codes');
      const shown = table.split('\n').filter((line) => line.split('|')[2]?.trim() === word);
      assert.deepEqual(firstCells(shown.join('\n')), declared, word);
    }
  });

  it('lists exactly the metrics, with their labels', () => {
    const table = tableAfter(page('12-operations.md'), 'metrics');
    const specs: readonly MetricSpec[] = Object.values(METRICS);
    assert.deepEqual(firstCells(table), specs.map(({ name }) => name).sort());
    for (const { name, labels } of specs) {
      const row = table.split('\n').find((line) => line.startsWith(`| \`${name}\` `)) ?? '';
      const [, , , shown = ''] = row.split('|').map((cell) => cell.trim());
      assert.equal(shown, labels.map((label) => `\`${label}\``).join(' '), name);
    }
  });

  it('lists exactly the options, with their variables and defaults', () => {
    const table = tableAfter(page('02-configuration.md'), 'options');
    const specs: readonly {
      key: string;
      env: string;
      defaultValue?: string | number | boolean | readonly string[];
    }[] = Object.values(OPTIONS);
    assert.deepEqual(firstCells(table), specs.map(({ key }) => key).sort());
    for (const { key, env, defaultValue } of specs) {
      const row = table.split('\n').find((line) => line.startsWith(`| \`${key}\` `)) ?? '';
      const [, , variable = '', shown = ''] = row.split('|').map((cell) => cell.trim());
      assert.equal(variable, `\`${env}\``, key);
      if (defaultValue === undefined) continue;
      assert.equal(bytesOf(shown.replaceAll('`', '')), String(defaultValue), key);
    }
  });

  it('lists exactly the commands, and what is refused', () => {
    const table = tableAfter(page('compatibility.md'), 'commands');
    assert.deepEqual(firstCells(table), COMMANDS.map(({ words }) => words.join(' ')).sort());
    for (const { words, flags } of COMMANDS) {
      const row = table.split('\n').find((line) => line.startsWith(`| \`${words.join(' ')}\` `));
      const [, , here = '', refusedFlags = ''] = (row ?? '').split('|');
      assert.ok(!here.includes('refused'), words.join(' '));
      const expected = flags.filter(({ refused }) => refused !== undefined);
      assert.deepEqual(
        matches(refusedFlags, /`--([a-z-]+)`/g),
        expected.map(({ name }) => name).sort(),
        words.join(' '),
      );
    }
  });

  it('the journeys name files that are there, and what is in them', async () => {
    const page = await readFile(join(DOCS, '01-overview.md'), 'utf8');
    const [, section = ''] = page.split('\n## Four journeys\n');
    const [text = ''] = section.split('\n## ');
    const steps = [...text.matchAll(/`([\w-]+\/[\w-]+\.ts)`(?:\s+`(\w+)`)?/g)];
    assert.ok(steps.length > 40, `${steps.length} steps`);
    for (const [, path = '', name] of steps) {
      const source = await readFile(join('src', path), 'utf8').catch(() => null);
      assert.ok(source !== null, `there is no src/${path}`);
      const pattern = new RegExp(`\\b${name ?? ''}\\b`);
      assert.match(source, pattern, `${path} has no ${name ?? ''}`);
    }
  });

  it('names tests that are there', async () => {
    const rows = tableAfter(page('compatibility.md'), 'proofs').trimEnd().split('\n').slice(2);
    const missing: string[] = [];
    for (const row of rows) {
      const [, , , file = '', name = ''] = row.split('|').map((cell) => cell.trim());
      const source = await readFile(file.replaceAll('`', ''), 'utf8').catch(() => '');
      const titles = matches(source, /\b(?:it|describe)\(\s*['"`](.*)/g);
      if (!titles.some((title) => title.startsWith(name))) missing.push(row);
    }
    assert.ok(rows.length > 40, 'the table was not found');
    assert.deepEqual(missing, []);
  });

  it('shows no acectl command that does not exist', () => {
    const unknown: string[] = [];
    for (const [path, text] of pages) {
      for (const line of matches(text, /(?:^|[`\s])acectl ([a-z][^`\n]*)/gm)) {
        const words = line.split(' ');
        const command = COMMANDS.find((known) => known.words.every((word, i) => word === words[i]));
        const isProse = !/[`$]\s*acectl/.test(
          text.slice(0, text.indexOf(`acectl ${line}`) + 7).slice(-10),
        );
        if (command === undefined && !isProse && words[0] !== 'help')
          unknown.push(`${path}: ${line}`);
      }
    }
    assert.deepEqual(unknown, []);
  });

  it('lists exactly the session settings', async () => {
    const { SESSION_SETTINGS } = await import('../../src/postgres/session-settings.js');
    const rows = Array.from(
      page('03-nodes.md').matchAll(/^\| `([a-z_]+)` +\| `([^`]+)` +\|$/gm),
      ([, name, value]) => [name, value],
    );
    assert.deepEqual(Object.fromEntries(rows), SESSION_SETTINGS);
  });
});

/** `64 GiB` as a number of bytes; other texts as they are. */
function bytesOf(text: string): string {
  const gibibytes = /^(\d+) GiB$/.exec(text)?.[1];
  return gibibytes === undefined ? text : String(Number(gibibytes) * 1024 ** 3);
}
