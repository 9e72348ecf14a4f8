import { runAll } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { blocksPerStatement, type BlockQuery } from '../merkle/block-sql.js';
import type { ReadingOrder } from '../merkle/reading-order.js';
import type { BlockRange } from '../merkle/layout.js';
import type { LeafValue } from '../merkle/leaves.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { KeyText } from '../table/table-spec.js';
import { findBoundaries } from '../ingest/partition.js';
import { chooseReadingOrder } from '../ingest/reading-facts.js';
import type { DiffResult } from '../protocol/commands.js';
import { onEveryNode } from '../postgres/every-node.js';
import { readPositions } from './node-positions.js';
import { Comparison, type ComparisonOptions } from './comparison.js';
import { DiffProgress, readServerStarts, type ProgressOptions } from './diff-progress.js';

export interface TableDiffOptions extends ComparisonOptions {
  /** As the user asked, for the summary. */
  readonly blockSize: number;
  readonly compareUnitSize: number;
  readonly concurrencyFactor: number;
  /** Statements at once per node. */
  readonly concurrency: number;
  readonly tableFilter?: string;
  /** Only so many percent of the ranges, chosen at random, are looked at. */
  readonly samplePercent?: number;
  /** Where it is kept what was proved, should the diff be interrupted. */
  readonly progress: ProgressOptions;
  /** Go on from there. */
  readonly resume?: boolean;
  /** How a node is read, and why. */
  readonly onReadingOrder?: (node: string, order: ReadingOrder) => void;
}

/** A block that is so many times too large on some node is cut up before its rows are fetched. */
const OVERSIZE = 8;

/**
 * Compares a table without a tree: one pass of block hashes over every node, then only the blocks
 * that differ.
 */
export async function tableDiff(options: TableDiffOptions): Promise<DiffResult> {
  const comparison = new Comparison(options);
  let progress: DiffProgress | null = null;
  try {
    progress = await begin(options, comparison);
    const all = rangesBetween({ lower: null, upper: null }, progress.boundaries);
    const open = progress.open.map((number) => ({ ...rangeOf(all, number), number }));
    const ranges = sampleOf(open, options.samplePercent);
    const isWhole = ranges.length === all.length;
    const hashes = await hashOnEveryNode(ranges, options, {
      boundaries: isWhole ? progress.boundaries : null,
      progress,
    });
    const differing = await cutOversize(
      ranges.filter((_, i) => !isEqualOnAll(hashes, i)),
      hashes,
      ranges,
      options,
    );
    await comparison.examine(differing);
    let openRows = 0;
    for (const values of hashes.values()) {
      openRows = Math.max(
        openRows,
        values.reduce((sum, value) => sum + value.rows, 0),
      );
    }
    const { parts } = progress;
    const result = await comparison.finish({
      positions: parts[0]?.positions ?? {},
      ...(progress.isResumed ? { parts } : {}),
      totalRows: progress.provedRows + openRows,
      ranges: ranges.length,
      mismatchedRanges: differing.length,
      blockSize: options.blockSize,
      compareUnitSize: options.compareUnitSize,
      concurrencyFactor: options.concurrencyFactor,
      ...(options.tableFilter === undefined ? {} : { tableFilter: options.tableFilter }),
      ...(options.samplePercent === undefined
        ? {}
        : {
            unlookedAt: `A sample was compared: ${ranges.length} of ${all.length} ranges of the key`,
          }),
    });
    await progress.forget();
    return result;
  } catch (error) {
    // The failure of the diff is what a person must know.
    await progress?.save(options.table.pools.size).catch(() => undefined);
    await comparison.abort();
    throw error;
  }
}

/** Smaller tables are read anew in no time: nothing is asked or kept for their sake. */
const MIN_KEPT_RANGES = 100;

/** From the beginning, or where an interrupted diff ended. */
async function begin(options: TableDiffOptions, comparison: Comparison): Promise<DiffProgress> {
  const { table, context, resume = false } = options;
  const { signal } = context;
  const startedAt = new Date().toISOString();
  const positions = await readPositions(table.pools, signal);
  if (resume) {
    const servers = await readServerStarts(table.pools, signal);
    const resumed = await DiffProgress.resume(options.progress, { startedAt, positions, servers });
    if (resumed instanceof DiffProgress) {
      tellProved(resumed, comparison);
      return resumed;
    }
    const message = `Nothing to resume, the diff starts again from the beginning: ${resumed}`;
    context.emit({ type: 'log', level: 'info', message });
  }
  const boundaries = await findBoundaries({
    sql: table.sql,
    pool: poolOf(options, largestNode(options)),
    range: { lower: null, upper: null },
    blockRows: options.blockRows,
    signal,
  });
  const isKept = boundaries.length >= MIN_KEPT_RANGES;
  const servers = isKept ? await readServerStarts(table.pools, signal) : null;
  return DiffProgress.start(options.progress, boundaries, { startedAt, positions, servers });
}

function tellProved(progress: DiffProgress, comparison: Comparison): void {
  for (const { startedAt, ranges } of progress.parts.slice(0, -1)) {
    comparison.warn(
      `${ranges} of ${progress.boundaries.length + 1} ranges are not read again: they were equal in the diff ` +
        `that began at ${startedAt}. What has changed in them since is not in this result`,
    );
  }
}

function rangeOf(ranges: readonly BlockRange[], number: number): BlockRange {
  return ranges[number] ?? { lower: null, upper: null };
}

/** In key order; at least one. */
function sampleOf<Range>(ranges: readonly Range[], percent: number | undefined): Range[] {
  if (percent === undefined) return [...ranges];
  const wanted = Math.max(1, Math.ceil((ranges.length * percent) / 100));
  const places = ranges.map((_, place) => ({ place, order: Math.random() }));
  const chosen = places.sort((a, b) => a.order - b.order).slice(0, wanted);
  const isChosen = new Set(chosen.map(({ place }) => place));
  return ranges.filter((_, place) => isChosen.has(place));
}

function largestNode(options: TableDiffOptions): string {
  let largest = '';
  let rows = -Infinity;
  for (const [node, info] of options.table.infos) {
    if (info.estimatedRows > rows) {
      rows = info.estimatedRows;
      largest = node;
    }
  }
  return largest;
}

function poolOf(options: TableDiffOptions, node: string): SessionPool {
  const pool = options.table.pools.get(node);
  if (pool === undefined) throw new AcedError('UNKNOWN_NODE', `no connections to node ${node}`);
  return pool;
}

/** The pieces of a range between ascending boundaries. */
export function rangesBetween(range: BlockRange, boundaries: readonly KeyText[]): BlockRange[] {
  const lowers = [range.lower, ...boundaries];
  return lowers.map((lower, i) => ({ lower, upper: boundaries[i] ?? range.upper }));
}

/**
 * Per node the value of each range, by index. Fails as a whole when one statement fails.
 *
 * @param boundaries what cuts the whole table into these ranges; null: they are not all of it
 * @param progress what keeps the sums of ranges that have a number
 */
async function hashOnEveryNode(
  ranges: readonly (BlockRange & { readonly number?: number })[],
  options: TableDiffOptions,
  {
    boundaries = null,
    progress = null,
  }: {
    readonly boundaries?: readonly KeyText[] | null;
    readonly progress?: DiffProgress | null;
  } = {},
): Promise<Map<string, LeafValue[]>> {
  const { context, blockRows, concurrency } = options;
  const { spec, sql, pools } = options.table;
  const perStatement = blocksPerStatement(blockRows);
  let done = 0;
  const total = ranges.length * pools.size;
  const hashNode = async (
    node: string,
    pool: SessionPool,
    nodeSignal: AbortSignal,
  ): Promise<LeafValue[]> => {
    const values = new Array<LeafValue | undefined>(ranges.length);
    const known: (LeafValue | undefined)[] = [];
    progress?.follow(node, known);
    let next = 0;
    const work = async (signal: AbortSignal): Promise<void> => {
      while (next < ranges.length) {
        const first = next;
        next += perStatement;
        const chunk = ranges
          .slice(first, first + perStatement)
          .map((range, i) => ({ ...range, number: first + i }));
        const query = sql.hashBlocks(chunk);
        const rows = await pool.use(
          (session) => session.query(query.text, query.params, signal),
          signal,
        );
        for (const [number, count, sum] of rows) {
          const value = { rows: Number(count), sum: BigInt.asUintN(64, BigInt(sum ?? '0')) };
          values[Number(number)] = value;
          const place = ranges[Number(number)]?.number;
          if (place !== undefined) known[place] = value;
        }
        done += chunk.length;
        await progress?.note(pools.size);
        context.emit({ type: 'progress', phase: 'Hashing initial ranges', done, total });
      }
    };
    await runAll(Array.from({ length: concurrency }), nodeSignal, (_, signal) => work(signal));
    return values.map((value) => {
      if (value === undefined) throw new AcedError('INTERNAL', 'a range was not hashed');
      return value;
    });
  };
  return onEveryNode(pools, context.signal, async (node, pool, signal) => {
    if (boundaries === null) return hashNode(node, pool, signal);
    const blocks = { blocks: ranges.length, allBlocks: ranges.length };
    const order = await chooseReadingOrder({ spec, sql, pool, ...blocks, signal });
    options.onReadingOrder?.(node, order);
    if (order.by === 'key') return hashNode(node, pool, signal);
    const values = await hashWhole(pool, sql.hashTable(boundaries), ranges.length, signal);
    progress?.follow(node, values);
    done += ranges.length;
    context.emit({ type: 'progress', phase: 'Hashing initial ranges', done, total });
    return values;
  });
}

/** By one pass over the table; ranges without rows are not in the answer. */
async function hashWhole(
  pool: SessionPool,
  query: BlockQuery,
  count: number,
  signal: AbortSignal,
): Promise<LeafValue[]> {
  const values = new Array<LeafValue>(count).fill({ rows: 0, sum: 0n });
  const answer = await pool.use(
    (session) => session.query(query.text, query.params, signal),
    signal,
  );
  for (const [number, rows, sum] of answer) {
    if (number === '-1') continue;
    values[Number(number)] = { rows: Number(rows), sum: BigInt.asUintN(64, BigInt(sum ?? '0')) };
  }
  return values;
}

function isEqualOnAll(hashes: ReadonlyMap<string, readonly LeafValue[]>, index: number): boolean {
  const [first, ...others] = Array.from(hashes.values(), (values) => values[index]);
  return others.every(
    (value) => value !== undefined && value.rows === first?.rows && value.sum === first.sum,
  );
}

/**
 * A node may hold many rows where the reference has none. Such a range is cut up by that node's
 * own keys, and only the pieces that differ go on.
 */
async function cutOversize(
  differing: readonly BlockRange[],
  hashes: ReadonlyMap<string, readonly LeafValue[]>,
  ranges: readonly BlockRange[],
  options: TableDiffOptions,
): Promise<BlockRange[]> {
  const indexes = new Map(ranges.map((range, index) => [range, index]));
  const result: BlockRange[] = [];
  for (const range of differing) {
    const index = indexes.get(range) ?? 0;
    let largest = '';
    let rows = 0;
    for (const [node, values] of hashes) {
      const count = values[index]?.rows ?? 0;
      if (count > rows) {
        rows = count;
        largest = node;
      }
    }
    if (rows <= options.blockRows * OVERSIZE) {
      result.push(range);
      continue;
    }
    const boundaries = await findBoundaries({
      sql: options.table.sql,
      pool: poolOf(options, largest),
      range,
      blockRows: options.blockRows,
      signal: options.context.signal,
    });
    const pieces = rangesBetween(range, boundaries);
    const pieceHashes = await hashOnEveryNode(pieces, options);
    result.push(...pieces.filter((_, i) => !isEqualOnAll(pieceHashes, i)));
  }
  return result;
}
