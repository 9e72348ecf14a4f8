import { AcedError } from '../base/errors.js';
import { scanObject, skipValue } from './json-scan.js';
import { BAD_FILE_HINT, JsonStream } from './json-stream.js';
import { METADATA_KEY } from './row-text.js';

/** What a diff file, ours or ACE's, says of itself. */
export interface DiffFileHead {
  readonly schema: string;
  readonly table: string;
  /** Empty when the file does not say; ACE requires them for a rerun only. */
  readonly nodes: readonly string[];
  readonly primaryKey: readonly string[];
  readonly pairs: readonly DiffFilePair[];
  /** Whose digests the rows carry; null: an ACE file, without digests. */
  readonly seedId: string | null;
  readonly isLimitReached: boolean;
  readonly tableFilter: string | null;
  /** The diff was made with --against-origin: its repair needs recovery mode. */
  readonly againstOrigin: string | null;
}

export interface DiffFilePair {
  readonly name: string;
  /** Node -> its rows in this pair. */
  readonly rows: Readonly<Record<string, number>>;
}

export interface DiffFileRow {
  /** The same array for rows with the same columns. */
  readonly columns: readonly string[];
  /** JSON text of each column as it stands in the file, so that numbers keep their digits. */
  readonly values: readonly string[];
  /** 16 hex digits; null in an ACE file. */
  readonly digest: string | null;
}

export interface DiffFileRows {
  readonly pair: string;
  readonly node: string;
  readonly rows: readonly DiffFileRow[];
}

export interface ReadRowsOptions {
  /** Only rows of these pairs. */
  readonly pairs?: readonly string[];
  /** Only these columns are read; absent: all. */
  readonly columns?: readonly string[];
}

/** Who wants rows while the whole file is read. */
export interface RowTaker {
  readonly columns: readonly string[];
  wants(pair: string): boolean;
  take(batch: DiffFileRows): void;
}

/** Reads the whole file once, keeping nothing of the rows. Errors: BAD_DIFF_FILE. */
export async function readDiffFile(path: string, taker?: RowTaker): Promise<DiffFileHead> {
  const pairs = new Map<string, Record<string, number>>();
  let summary: string | undefined;
  const columns = new Set(taker?.columns);
  const isWanted = (pair: string): boolean => taker?.wants(pair) === true;
  const scanOf = (pair: string): RowScan => (isWanted(pair) ? rowScan(columns) : countRow);
  for await (const event of scanDiffFile(path, scanOf)) {
    if (event.kind === 'summary') {
      summary = event.text;
    } else if (event.kind === 'pair') {
      pairs.set(event.pair, {});
    } else {
      const { pair, node, rows } = event;
      const counts = pairs.get(pair) ?? {};
      counts[node] = (counts[node] ?? 0) + rows.length;
      pairs.set(pair, counts);
      if (isWanted(pair)) taker?.take(event);
    }
  }
  if (summary === undefined) throw missing(path, 'summary');
  return toHead(path, summary, pairs);
}

/**
 * The rows in the file's order, a batch of one pair and node at a time. What comes behind the pairs
 * that are asked for is not read: whether the whole file is good is for readDiffFile to say.
 * Errors: BAD_DIFF_FILE.
 */
export async function* readDiffRows(
  path: string,
  options: ReadRowsOptions = {},
): AsyncGenerator<DiffFileRows> {
  const pairs = options.pairs === undefined ? null : new Set(options.pairs);
  const columns = options.columns === undefined ? null : new Set(options.columns);
  const parse = (pair: string): RowScan =>
    pairs === null || pairs.has(pair) ? rowScan(columns) : skipValue;
  const awaited = new Set(pairs);
  for await (const event of scanDiffFile(path, parse)) {
    if (event.kind === 'pair') {
      const isWanted = pairs === null || pairs.has(event.pair);
      if (!isWanted && awaited.size === 0) return;
      awaited.delete(event.pair);
    }
    if (event.kind === 'rows' && event.rows.length > 0) yield event;
  }
}

const OPEN_BRACE = 0x7b;
const QUOTE = 0x22;

/** Returns the end of the row, or INCOMPLETE, and pushes what it found. */
type RowScan = (bytes: Buffer, start: number, found: DiffFileRow[]) => number;

type ScanEvent =
  | { readonly kind: 'summary'; readonly text: string }
  | { readonly kind: 'pair'; readonly pair: string }
  | (DiffFileRows & { readonly kind: 'rows' });

async function* scanDiffFile(
  path: string,
  rowScanOf: (pair: string) => RowScan,
): AsyncGenerator<ScanEvent> {
  const stream = await JsonStream.open(path);
  try {
    let hasDiffs = false;
    for await (const name of members(stream)) {
      if (name === 'summary') {
        yield { kind: 'summary', text: await stream.value() };
      } else if (name === 'diffs') {
        hasDiffs = true;
        yield* scanDiffs(stream, rowScanOf);
      } else {
        await stream.skip();
      }
    }
    if ((await stream.peek()) !== '') throw stream.failure('something follows the JSON object');
    if (!hasDiffs) throw missing(path, 'diffs');
  } finally {
    await stream.close();
  }
}

async function* scanDiffs(
  stream: JsonStream,
  rowScanOf: (pair: string) => RowScan,
): AsyncGenerator<ScanEvent> {
  for await (const pair of members(stream)) {
    yield { kind: 'pair', pair };
    const scan = rowScanOf(pair);
    let hasRows = false;
    for await (const name of members(stream)) {
      if (name !== 'rows') {
        await stream.skip();
        continue;
      }
      hasRows = true;
      for await (const node of members(stream)) {
        // Go writes null for a list that was never made.
        if ((await stream.peek()) === 'n') {
          await stream.value();
          yield { kind: 'rows', pair, node, rows: [] };
          continue;
        }
        await stream.expect('[');
        let isFirst = true;
        let hasMore = true;
        while (hasMore) {
          const rows: DiffFileRow[] = [];
          hasMore = await stream.scanElements(isFirst, (bytes, start) => scan(bytes, start, rows));
          isFirst = false;
          yield { kind: 'rows', pair, node, rows };
        }
      }
    }
    if (!hasRows) throw missing(stream.path, `diffs[${JSON.stringify(pair)}].rows`);
  }
}

/** The names of an object's members; the caller consumes each value before asking for the next. */
async function* members(stream: JsonStream): AsyncGenerator<string> {
  await stream.expect('{');
  if (await stream.accept('}')) return;
  do {
    const name = await stream.string();
    await stream.expect(':');
    yield name;
  } while (await stream.accept(','));
  await stream.expect('}');
}

/** Stands for each row that nobody wants, so that rows can be counted. */
const UNREAD_ROW: DiffFileRow = { columns: [], values: [], digest: null };

function countRow(bytes: Buffer, start: number, found: DiffFileRow[]): number {
  const end = skipValue(bytes, start);
  if (end >= 0) found.push(UNREAD_ROW);
  return end;
}

/** What the previous row had at this place. */
interface Member {
  /** The name as it stands in the file, with its quotes. */
  readonly raw: Buffer;
  readonly name: string;
  readonly isWanted: boolean;
}

/** Rows of one table repeat their columns: names are decoded once and then recognised. */
function rowScan(wanted: ReadonlySet<string> | null): RowScan {
  const members: Member[] = [];
  let columns: string[] = [];
  return (bytes, start, found) => {
    const values: string[] = [];
    const row = { columns, digest: null as string | null };
    let index = 0;
    const end = scanObject(bytes, start, (nameStart, nameEnd, valueStart, valueEnd) => {
      let member = members[index];
      if (member === undefined || !isAt(bytes, nameStart, member.raw)) {
        const name = JSON.parse(bytes.toString('utf8', nameStart, nameEnd)) as string;
        const isWanted = wanted === null || wanted.has(name) || name === METADATA_KEY;
        member = { raw: Buffer.from(bytes.subarray(nameStart, nameEnd)), name, isWanted };
        members[index] = member;
      }
      index += 1;
      if (!member.isWanted) return;
      if (member.name === METADATA_KEY) {
        row.digest = digestOf(bytes, valueStart);
        return;
      }
      const place = values.length;
      if (row.columns[place] !== member.name) {
        row.columns = [...row.columns.slice(0, place), member.name];
      }
      values.push(bytes.toString('utf8', valueStart, valueEnd));
    });
    if (end < 0) return end;
    if (row.columns.length > values.length) row.columns = row.columns.slice(0, values.length);
    columns = row.columns;
    found.push({ columns, values, digest: row.digest });
    return end;
  };
}

function isAt(bytes: Buffer, start: number, expected: Buffer): boolean {
  for (let i = 0; i < expected.length; i += 1) {
    if (bytes[start + i] !== expected[i]) return false;
  }
  return true;
}

const DIGEST_NAME = Buffer.from('"digest"');
const DIGEST = /^[0-9a-f]{16}$/;

/** The digest among what the file knows of a row beside its values. */
function digestOf(bytes: Buffer, start: number): string | null {
  let digest: string | null = null;
  if (bytes[start] !== OPEN_BRACE) return digest;
  scanObject(bytes, start, (nameStart, _nameEnd, valueStart, valueEnd) => {
    if (!isAt(bytes, nameStart, DIGEST_NAME) || bytes[valueStart] !== QUOTE) return;
    const text = bytes.toString('utf8', valueStart + 1, valueEnd - 1);
    digest = DIGEST.test(text) ? text : null;
  });
  return digest;
}

function missing(path: string, what: string): AcedError {
  return new AcedError('BAD_DIFF_FILE', `${path} is not a diff file: it has no ${what}`, {
    hint: BAD_FILE_HINT,
  });
}

function toHead(
  path: string,
  summaryText: string,
  pairs: ReadonlyMap<string, Record<string, number>>,
): DiffFileHead {
  const summary = parseObject(path, 'summary', summaryText);
  const schema = summary['schema'];
  const table = summary['table'];
  if (typeof schema !== 'string' || schema === '') throw missing(path, 'summary.schema');
  if (typeof table !== 'string' || table === '') throw missing(path, 'summary.table');
  const ours = isObject(summary['aced']) ? summary['aced'] : {};
  return {
    schema,
    table,
    nodes: strings(summary['nodes']),
    primaryKey: strings(summary['primary_key']),
    pairs: [...pairs].map(([name, rows]) => ({ name, rows })),
    seedId: textOrNull(ours['seed_id']),
    isLimitReached: summary['diff_row_limit_reached'] === true,
    tableFilter: textOrNull(summary['table_filter']),
    againstOrigin: textOrNull(summary['against_origin']),
  };
}

function parseObject(path: string, what: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new AcedError('BAD_DIFF_FILE', `${path} is not a diff file: its ${what} is not JSON`, {
      hint: BAD_FILE_HINT,
    });
  }
  if (isObject(value)) return value;
  throw new AcedError('BAD_DIFF_FILE', `${path} is not a diff file: its ${what} is no object`, {
    hint: BAD_FILE_HINT,
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function textOrNull(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}
