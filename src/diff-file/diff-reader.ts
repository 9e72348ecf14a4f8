import { AcedError } from '../base/errors.js';
import { isServerAddress, type ServerAddress, type Servers } from '../protocol/servers.js';
import type { DiffFileRow } from './file-row.js';
import { BAD_FILE_HINT, JsonStream } from './json-stream.js';
import { COUNT_ONLY, rowScan, withDigest, type RowScan } from './row-scan.js';

/** What a diff file, ours or ACE's, says of itself. */
export interface DiffFileHead {
  readonly schema: string;
  readonly table: string;
  /** Empty when the file does not say; ACE requires them for a rerun only. */
  readonly nodes: readonly string[];
  readonly primaryKey: readonly string[];
  readonly pairs: readonly DiffFilePair[];
  /** What the diff concluded; null: a file that is not ours does not say. */
  readonly verdict: string | null;
  /** What the diff warned of, a sentence each. */
  readonly warnings: readonly string[];
  /** Columns that were not compared, hence are in no digest of the file's. */
  readonly excludedColumns: readonly string[];
  /** Node -> the server that was compared; a file that is not ours does not say. */
  readonly servers: Servers;
  /** Node -> the write-ahead log position that the verdict holds at. */
  readonly positions: Readonly<Record<string, string>>;
  /** Pair -> differing rows, as the diff counted them. */
  readonly counts: Readonly<Record<string, number>>;
  /** RFC 3339; null when the file does not say. */
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  /** Whose digests the rows carry; null: an ACE file, without digests. */
  readonly seedId: string | null;
  readonly isLimitReached: boolean;
  readonly tableFilter: string | null;
  /** The diff was made with --against-origin: its repair needs recovery mode. */
  readonly againstOrigin: string | null;
  /** What a row takes in the file, on average, with all that is not rows. */
  readonly rowBytes: number;
}

export interface DiffFilePair {
  readonly name: string;
  /** Node -> its rows in this pair. */
  readonly rows: Readonly<Record<string, number>>;
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
  let rowCount = 0;
  let bytes = 0;
  const columns = withDigest(taker?.columns ?? []);
  const isWanted = (pair: string): boolean => taker?.wants(pair) === true;
  const scanOf = (pair: string): RowScan => rowScan(isWanted(pair) ? columns : COUNT_ONLY);
  for await (const event of scanDiffFile(path, scanOf)) {
    if (event.kind === 'summary') {
      summary = event.text;
    } else if (event.kind === 'pair') {
      pairs.set(event.pair, {});
    } else if (event.kind === 'end') {
      bytes = event.bytes;
    } else {
      const { pair, node, rows } = event;
      rowCount += rows.length;
      const counts = pairs.get(pair) ?? {};
      counts[node] = (counts[node] ?? 0) + rows.length;
      pairs.set(pair, counts);
      if (isWanted(pair)) taker?.take(event);
    }
  }
  if (summary === undefined) throw missing(path, 'summary');
  return { ...toHead(path, summary, pairs), rowBytes: bytes / Math.max(1, rowCount) };
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
  const columns = options.columns === undefined ? null : withDigest(options.columns);
  const isWanted = (pair: string): boolean => pairs === null || pairs.has(pair);
  const scanOf = (pair: string): RowScan => rowScan(isWanted(pair) ? columns : COUNT_ONLY);
  const awaited = new Set(pairs);
  for await (const event of scanDiffFile(path, scanOf)) {
    if (event.kind === 'pair') {
      if (!isWanted(event.pair) && awaited.size === 0) return;
      awaited.delete(event.pair);
    }
    if (event.kind === 'rows' && event.rows.length > 0 && isWanted(event.pair)) yield event;
  }
}

type ScanEvent =
  | { readonly kind: 'summary'; readonly text: string }
  | { readonly kind: 'pair'; readonly pair: string }
  | { readonly kind: 'end'; readonly bytes: number }
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
    yield { kind: 'end', bytes: stream.bytesRead };
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

function missing(path: string, what: string): AcedError {
  return new AcedError('BAD_DIFF_FILE', `${path} is not a diff file: it has no ${what}`, {
    hint: BAD_FILE_HINT,
  });
}

function toHead(
  path: string,
  summaryText: string,
  pairs: ReadonlyMap<string, Record<string, number>>,
): Omit<DiffFileHead, 'rowBytes'> {
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
    verdict: textOrNull(ours['verdict']),
    warnings: strings(ours['warnings']),
    excludedColumns: namesOf(ours['excluded_columns']),
    servers: serversIn(ours['servers']),
    positions: texts(ours['positions']),
    counts: numbers(summary['diff_rows_count']),
    startedAt: textOrNull(summary['start_time']),
    endedAt: textOrNull(summary['end_time']),
    seedId: textOrNull(ours['seed_id']),
    isLimitReached: summary['diff_row_limit_reached'] === true,
    tableFilter: textOrNull(summary['table_filter']),
    againstOrigin: textOrNull(summary['against_origin']),
  };
}

function serversIn(value: unknown): Servers {
  if (!isObject(value)) return {};
  const servers: Record<string, ServerAddress> = {};
  for (const [node, server] of Object.entries(value)) {
    if (isServerAddress(server)) servers[node] = server;
  }
  return servers;
}

function namesOf(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return strings(value.map((item: unknown) => (isObject(item) ? item['name'] : undefined)));
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
  throw new AcedError('BAD_DIFF_FILE', `${path} is not a diff file: its ${what} is not an object`, {
    hint: BAD_FILE_HINT,
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function texts(value: unknown): Record<string, string> {
  if (!isObject(value)) return {};
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, text]) =>
      typeof text === 'string' ? [[name, text]] : [],
    ),
  );
}

function numbers(value: unknown): Record<string, number> {
  if (!isObject(value)) return {};
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, count]) =>
      typeof count === 'number' ? [[name, count]] : [],
    ),
  );
}

function textOrNull(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}
