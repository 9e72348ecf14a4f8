import { mkdtemp, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { DiffFileRow } from '../diff-file/file-row.js';
import { readDiffFile, readDiffRows, type DiffFileHead } from '../diff-file/diff-reader.js';
import { OutputFile, writing } from '../diff-file/output-file.js';
import { publishFile } from '../diff-file/publish-file.js';

/** Rows of one side that are held to be set beside the other side's. */
const MAX_PAIRED_ROWS = 20_000;

const STYLE = `body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#1b1f24}
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}
table{border-collapse:collapse}th,td{border:1px solid #d5dae0;padding:2px 8px;text-align:left;vertical-align:top;white-space:pre-wrap}
th{background:#f2f4f7;position:sticky;top:0}td.d{background:#ffe8a3}td.n{color:#8a939e;font-style:italic}
tr.m td{background:#ffe1df}tr.f td{border-top:2px solid #8a939e}
.v{padding:.5em 1em;border:1px solid #d5dae0;background:#f2f4f7}.u{border:2px solid #b42318;background:#ffe1df}`;

/** What a verdict means for who is sent the page alone. */
const VERDICTS: Readonly<Record<string, string>> = {
  drift: 'These rows differ, and replication has passed them.',
  starved:
    'Not proved: a subscription or a node was not keeping up. Some of these rows may be changes that were not delivered yet; a repair would undo them.',
  in_flight: 'Not proved: some of these rows were still being replicated.',
};

/**
 * Makes a page that a browser shows without any other file from a diff file, beside it: each key
 * with its row on both nodes, differing cells marked. Returns the page's name. Memory is bounded:
 * in a pair with more rows than MAX_PAIRED_ROWS the rest is left to the JSON file, and the page
 * says so. Errors: BAD_DIFF_FILE, REPORT_WRITE.
 */
export async function writeHtmlReport(jsonPath: string): Promise<string> {
  const head = await readDiffFile(jsonPath);
  const directory = dirname(jsonPath);
  const stem = basename(jsonPath).replace(/\.json$/, '');
  const hidden = await writing(directory, () => mkdtemp(join(directory, '.aced-html-')));
  try {
    const output = await OutputFile.create(join(hidden, 'page.html'));
    try {
      await writePage(output, jsonPath, head);
      await output.finish();
    } finally {
      await output.close();
    }
    return await publishFile(output.path, directory, (attempt) =>
      attempt === 0 ? `${stem}.html` : `${stem}-${attempt}.html`,
    );
  } finally {
    await rm(hidden, { recursive: true, force: true });
  }
}

async function writePage(output: OutputFile, path: string, head: DiffFileHead): Promise<void> {
  const title = `${head.schema}.${head.table}`;
  output.append(
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Differences in ${escapeHtml(title)}</title>\n<style>${STYLE}</style></head><body>\n<h1>Differences in ${escapeHtml(title)}</h1>\n<p>From ${escapeHtml(basename(path))}. Marked cells differ between the two nodes.</p>\n${headHtml(head)}`,
  );
  for (const pair of head.pairs) {
    await writePair(output, path, head, pair.name);
    await output.flush();
  }
  output.append('</body></html>\n');
  await output.flush();
}

/** What the rows below are worth: verdict, warnings, nodes and positions, time, counts. */
function headHtml(head: DiffFileHead): string {
  const { verdict, warnings, nodes, positions, counts, startedAt, endedAt } = head;
  const isProved = verdict === 'drift';
  const text = verdict === null ? 'The file has no verdict.' : (VERDICTS[verdict] ?? 'Not proved.');
  const facts: [string, string][] = [
    ...nodes.map((node): [string, string] => [
      `node ${node}`,
      positions[node] === undefined ? 'position unknown' : `as of ${positions[node]}`,
    ]),
    ...Object.entries(counts).map(([pair, rows]): [string, string] => [
      pair,
      `${rows} differing rows`,
    ]),
    ...(startedAt === null ? [] : [['begun', startedAt] as [string, string]]),
    ...(endedAt === null ? [] : [['ended', endedAt] as [string, string]]),
    ...(head.tableFilter === null ? [] : [['filter', head.tableFilter] as [string, string]]),
    ...(head.isLimitReached
      ? [['not all', 'the limit of differing rows was reached'] as [string, string]]
      : []),
  ];
  const rows = facts.map(
    ([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`,
  );
  const list = warnings.map((warning) => `<li>${escapeHtml(warning)}</li>`).join('');
  return (
    `<div class="${isProved ? 'v' : 'v u'}"><p><strong>Verdict: ${escapeHtml(verdict ?? 'unknown')}.</strong> ${text}</p>` +
    `${list === '' ? '' : `<ul>${list}</ul>`}</div>\n<table>${rows.join('')}</table>\n`
  );
}

async function writePair(
  output: OutputFile,
  path: string,
  head: DiffFileHead,
  pair: string,
): Promise<void> {
  const keys = new Map<string, Map<string, DiffFileRow>>();
  const nodes: string[] = [];
  const skipped = { rows: 0 };
  for await (const { node, rows } of readDiffRows(path, { pairs: [pair] })) {
    if (!nodes.includes(node)) nodes.push(node);
    for (const row of rows) {
      const key = head.primaryKey.map((name) => row.values[row.columns.indexOf(name)]).join(',');
      let sides = keys.get(key);
      if (sides === undefined) {
        if (keys.size >= MAX_PAIRED_ROWS) {
          skipped.rows += 1;
          continue;
        }
        keys.set(key, (sides = new Map<string, DiffFileRow>()));
      }
      sides.set(node, row);
    }
  }
  const both = pair.split('/').length === 2 ? pair.split('/') : nodes;
  const [first] = keys.values();
  const columns = first?.values().next().value?.columns ?? [];
  output.append(
    `<h2>${escapeHtml(pair)}</h2>\n<table><tr><th>node</th>${columns.map((name) => `<th>${escapeHtml(name)}</th>`).join('')}</tr>\n`,
  );
  for (const sides of keys.values()) {
    for (const [index, node] of both.entries()) {
      const other = sides.get(both[1 - index] ?? '');
      output.append(rowHtml(node, columns, sides.get(node), other, index === 0));
    }
    if (output.isFull) await output.flush();
  }
  output.append('</table>\n');
  if (skipped.rows > 0) {
    output.append(`<p>${skipped.rows} further rows are in the JSON file only.</p>\n`);
  }
}

function rowHtml(
  node: string,
  columns: readonly string[],
  row: DiffFileRow | undefined,
  other: DiffFileRow | undefined,
  isFirst: boolean,
): string {
  const name = `<td>${escapeHtml(node)}</td>`;
  if (row === undefined) {
    return `<tr class="m${isFirst ? ' f' : ''}">${name}<td colspan="${columns.length}">no such row</td></tr>\n`;
  }
  const cells = columns.map((_, i) => {
    const value = row.values[i] ?? 'null';
    const marks = [
      ...(other !== undefined && other.values[i] !== value ? ['d'] : []),
      ...(value === 'null' ? ['n'] : []),
    ];
    const mark = marks.length === 0 ? '' : ` class="${marks.join(' ')}"`;
    return `<td${mark}>${value === 'null' ? 'NULL' : escapeHtml(plainText(value))}</td>`;
  });
  return `<tr${isFirst ? ' class="f"' : ''}>${name}${cells.join('')}</tr>\n`;
}

/** Strings without their quotes; numbers and booleans as they stand in the file. */
function plainText(json: string): string {
  return json.startsWith('"') ? (JSON.parse(json) as string) : json;
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
