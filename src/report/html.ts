import { mkdtemp, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { readDiffFile, type DiffFileHead } from '../diff-file/diff-reader.js';
import { OutputFile, writing } from '../diff-file/output-file.js';
import { publishFile } from '../diff-file/publish-file.js';
import { PAGE_SCRIPT } from './page-script.js';
import { PAGE_STYLE } from './page-style.js';
import { nodesOfPair, pairRows, type PairedRow } from './paired-rows.js';

/** Keys of a pair that a page shows, unless more are asked for; ACE 3.0 has the same limit. */
export const DEFAULT_HTML_ROWS = 10_000;
/** Rows of one script element. */
const CHUNK_ROWS = 200;

/** What a verdict means for who is sent the page alone. */
const VERDICTS: Readonly<Record<string, string>> = {
  drift: 'These rows differ, and replication has passed them.',
  starved:
    'Not proved: a subscription or a node was not keeping up. Some of these rows may be changes that were not delivered yet; a repair would undo them.',
  in_flight: 'Not proved: some of these rows were still being replicated.',
};

/**
 * Makes a page that a browser shows without any other file from a diff file, beside it. Returns the
 * page's name. Memory does not follow the number of rows, but for `maxRows` keys of each pair; the page
 * says where it was cut. Errors: BAD_DIFF_FILE, REPORT_WRITE.
 */
export async function writeHtmlReport(
  jsonPath: string,
  maxRows = DEFAULT_HTML_ROWS,
): Promise<string> {
  const head = await readDiffFile(jsonPath);
  const directory = dirname(jsonPath);
  const stem = basename(jsonPath).replace(/\.json$/, '');
  const hidden = await writing(directory, () => mkdtemp(join(directory, '.aced-html-')));
  const pairs: PagePair[] = [];
  try {
    // How many rows there are stands before them.
    for (const [number, { name }] of head.pairs.entries()) {
      const rows = await OutputFile.create(join(hidden, `rows-${number}`));
      const sides = {
        ...{ path: jsonPath, pair: name, nodes: nodesOfPair(head, name), maxRows },
        primaryKey: head.primaryKey,
      };
      try {
        pairs.push(await writeRows(rows, number, { head, sides }));
      } catch (error) {
        await rows.close();
        throw error;
      }
    }
    const output = await OutputFile.create(join(hidden, 'page.html'));
    try {
      await writePage(output, { head, pairs, file: basename(jsonPath), stem });
      await output.finish();
    } finally {
      await output.close();
    }
    return await publishFile(output.path, directory, (attempt) =>
      attempt === 0 ? `${stem}.html` : `${stem}-${attempt}.html`,
    );
  } finally {
    for (const { file } of pairs) await file.close();
    await rm(hidden, { recursive: true, force: true });
  }
}

interface PagePair {
  readonly name: string;
  readonly nodes: readonly [string, string];
  readonly columns: readonly string[];
  /** Places of the key's columns among the columns. */
  readonly key: readonly number[];
  readonly rows: number;
  /** The diff file has more. */
  readonly isCut: boolean;
  readonly file: OutputFile;
}

async function writeRows(
  output: OutputFile,
  number: number,
  { head, sides }: { head: DiffFileHead; sides: Parameters<typeof pairRows>[0] },
): Promise<PagePair> {
  let columns: readonly string[] = [];
  let rows = 0;
  for await (const paired of pairRows(sides)) {
    if (rows === 0) columns = (paired.first ?? paired.second)?.columns ?? [];
    const isChunkStart = rows % CHUNK_ROWS === 0;
    if (isChunkStart) {
      const end = rows === 0 ? '' : ']</script>\n';
      const id = `c${number}-${rows / CHUNK_ROWS}`;
      output.append(`${end}<script type="application/json" id="${id}">[`);
    }
    output.append(`${isChunkStart ? '' : ','}\n${pairedJson(paired, columns)}`);
    rows += 1;
    if (output.isFull) await output.flush();
  }
  if (rows > 0) output.append(']</script>\n');
  const counted = head.pairs.find(({ name }) => name === sides.pair);
  const most = Math.max(0, ...Object.values(counted?.rows ?? {}), head.counts[sides.pair] ?? 0);
  return {
    ...{ name: sides.pair, nodes: sides.nodes, columns, rows, file: output },
    key: head.primaryKey.map((name) => columns.indexOf(name)).filter((place) => place >= 0),
    isCut: most > rows,
  };
}

function pairedJson({ first, second }: PairedRow, columns: readonly string[]): string {
  const side = (row: PairedRow['first']): string =>
    row === null
      ? 'null'
      : `[${columns
          .map((name, i) => {
            const place = row.columns[i] === name ? i : row.columns.indexOf(name);
            return pageValue(row.values[place] ?? 'null');
          })
          .join(',')}]`;
  return `[${side(first)},${side(second)}]`;
}

/** As the script reads it: what it cannot take exactly as JSON stands as a text in brackets. */
function pageValue(raw: string): string {
  const text = inScript(raw);
  if (raw.startsWith('"') || raw === 'null' || raw === 'true' || raw === 'false') return text;
  return String(Number(raw)) === raw ? raw : `[${inScript(JSON.stringify(raw))}]`;
}

/** JSON as it may stand in a script element: nothing in it ends the element, or a line. */
function inScript(json: string): string {
  return json.replace(
    /[<\u0085\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

interface Page {
  readonly head: DiffFileHead;
  readonly pairs: readonly PagePair[];
  readonly file: string;
  readonly stem: string;
}

async function writePage(output: OutputFile, page: Page): Promise<void> {
  const { head, pairs, file } = page;
  const title = `${head.schema}.${head.table}`;
  output.append(
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
      `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">` +
      `<title>Differences in ${escapeHtml(title)}</title>\n<style>${PAGE_STYLE}</style></head><body>\n` +
      `<h1>Differences in ${escapeHtml(title)}</h1>\n<p>From ${escapeHtml(file)}.</p>\n${headHtml(head)}`,
  );
  output.append(
    `${CONTROLS}<script type="application/json" id="head">${headJson(page)}</script>\n`,
  );
  // Before the rows: it shows the first of them while the others are still being read.
  output.append(`<script>\n${PAGE_SCRIPT}</script>\n`);
  for (const pair of pairs) await output.appendFile(pair.file);
  output.append('</body></html>\n');
  await output.flush();
}

function headJson({ head, pairs, file, stem }: Page): string {
  return inScript(
    JSON.stringify({
      table: `${head.schema}.${head.table}`,
      file,
      planFile: `${stem}-plan.json`,
      chunkRows: CHUNK_ROWS,
      pairs: pairs.map(({ name, nodes, columns, key, rows, isCut }) => ({
        ...{ name, nodes, columns, key, rows, isCut },
      })),
    }),
  );
}

const CONTROLS = `<div class="bar" role="toolbar" aria-label="rows">
<select id="pair" aria-label="pair of nodes"></select><select id="kind" aria-label="kind of difference"></select>
<select id="column" aria-label="column that differs"></select><input id="search" type="search" placeholder="search (/)" aria-label="search in all values">
<label><input id="all" type="checkbox"> equal columns too (a)</label>
<button id="before" title="page before (p)">‹</button><button id="after" title="next page (n)">›</button><span id="status" role="status"></span>
<select id="bulk" aria-label="plan for all rows shown"></select><button id="make">Repair plan…</button><button id="theme" title="light or dark">◐</button>
</div>
<p class="dim">Keys: j, k next and previous row; n, p pages; r what a repair does with the row; / search.</p>
<p id="cut" class="v u" hidden>This page does not have all differing rows of the pair: the rest is in the diff file, or was not stored (--max-html-rows, --max-diff-rows). A plan made here leaves those rows alone.</p>
<main id="rows"></main>
<dialog id="dialog"><p id="use"></p><textarea id="plan" readonly aria-label="repair plan"></textarea><button id="save">Save</button> <button id="close">Close</button></dialog>
`;

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
