import { allOrCause, runAll } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { LeafValue } from '../merkle/leaves.js';
import { boundaryBatches, findBoundaries, type PartitionOptions } from '../ingest/partition.js';
import { chooseReadingOrder, type OrderQuestion } from '../ingest/reading-facts.js';
import { rehash } from '../ingest/rehash.js';
import type { ReadingOrder } from '../merkle/reading-order.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { Cluster } from './cluster.js';
import { noticingStale } from './stale.js';

export interface TreeWorkOptions {
  readonly nodes: readonly string[];
  readonly concurrency: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
  /** Absent: as the statistics of each node say, for the blocks that are asked for. */
  readonly order?: ReadingOrder;
}

export interface CutOptions extends Omit<PartitionOptions, 'signal'> {
  /** By the estimated number of rows. */
  readonly expectedBlocks: number;
}

/** Share of the cache of row digests that one reading may fill on one node. */
const CACHE_SHARE = 0.125;
/** What a row takes there. */
const ROW_DIGEST_BYTES = 16;

/** A block this many times as large as planned is split. */
const SPLIT_FACTOR = 2;
/** Neighbours that are together this small, relative to the plan, are merged. */
const MERGE_FACTOR = 0.5;

/** Reads the blocks that are dirty, on each node; node -> what was read, by position. */
export async function refreshDirty(
  cluster: Cluster,
  table: TrackedTable,
  options: TreeWorkOptions,
): Promise<Map<string, Map<number, LeafValue>>> {
  const dirty = new Map(
    options.nodes.map((node) => [node, table.leaves(node).dirtyPositions()] as const),
  );
  const values = await noticingStale(table, () => rehashOnNodes(cluster, table, dirty, options));
  const isWhole = table.nodes.every((node) => options.nodes.includes(node));
  if (table.state === 'stale' && isWhole) table.setState('live', null);
  return values;
}

/**
 * As refreshDirty, and then no block is larger than it should be. Cutting a block takes every node:
 * where one is left out, since it may be down, blocks stay as they are.
 */
export async function refreshAndSplit(
  cluster: Cluster,
  table: TrackedTable,
  options: TreeWorkOptions,
): Promise<Map<string, Map<number, LeafValue>>> {
  const refreshed = await refreshDirty(cluster, table, options);
  const hasAll = options.nodes.length === cluster.config.nodes.length;
  if (!hasAll || (await splitOversize(cluster, table, options)) === 0) return refreshed;
  // Positions have moved: what was read before no longer names the same blocks.
  return refreshDirty(cluster, table, options);
}

/**
 * Partitions the last block, a batch of boundaries at a time, and reads the pieces on each node while the
 * next batch is looked for: a node never waits for another one. Blocks are final once they are cut. A node
 * that is better read in one pass is read when all of them are.
 */
export async function cutAndRead(
  cluster: Cluster,
  table: TrackedTable,
  partition: CutOptions,
  options: TreeWorkOptions,
): Promise<void> {
  const { expectedBlocks } = partition;
  const orders = await runAll(options.nodes, options.signal, async (node, signal) => {
    const blocks = { blocks: expectedBlocks, allBlocks: expectedBlocks };
    return [node, await orderOn(cluster, table, node, { ...blocks, signal })] as const;
  });
  const failure = new AbortController();
  const signal = AbortSignal.any([options.signal, failure.signal]);
  let done = 0;
  const read = async (
    node: string,
    positions: readonly number[],
    order: ReadingOrder,
  ): Promise<void> => {
    let before = 0;
    await rehashOnNodes(cluster, table, new Map([[node, positions]]), {
      ...options,
      signal,
      order,
      onProgress: (blocks) => {
        done += blocks - before;
        before = blocks;
        options.onProgress?.(done, table.layout.size * options.nodes.length);
      },
    });
  };
  const chains = new Map(options.nodes.map((node) => [node, Promise.resolve()]));
  const readNext = (by: ReadingOrder['by'], positions: readonly number[]): void => {
    for (const [node, order] of orders) {
      if (order.by !== by) continue;
      const next = (chains.get(node) ?? Promise.resolve()).then(() => read(node, positions, order));
      next.catch(() => failure.abort());
      chains.set(node, next);
    }
  };
  const cut = async (): Promise<void> => {
    for await (const batch of boundaryBatches({ ...partition, signal })) {
      if (batch.length === 0) continue;
      const last = table.layout.size - 1;
      table.changeLayout(table.layout.split(last, batch));
      readNext(
        'key',
        batch.map((_, i) => last + i),
      );
    }
    readNext('key', [table.layout.size - 1]);
    readNext('table', [...table.layout.ids.keys()]);
  };
  const cutting = cut();
  cutting.catch(() => failure.abort());
  // Only then all chains have their last link.
  await Promise.allSettled([cutting]);
  await allOrCause([cutting, ...chains.values()]);
}

export async function rehashOnNodes(
  cluster: Cluster,
  table: TrackedTable,
  positions: ReadonlyMap<string, readonly number[]>,
  options: TreeWorkOptions,
): Promise<Map<string, Map<number, LeafValue>>> {
  let total = 0;
  for (const list of positions.values()) total += list.length;
  let done = 0;
  const values = await runAll(positions, options.signal, async ([node, list], signal) => {
    const kept = blocksToKeep(cluster, table, node, list);
    const others = list.filter((position) => !kept.has(position));
    const read = new Map<number, LeafValue>();
    const blocks = { blocks: others.length, allBlocks: table.layout.size };
    const order = options.order ?? (await orderOn(cluster, table, node, { ...blocks, signal }));
    for (const part of [
      { positions: others, keepsRows: false, isOnePass: order.by === 'table' && others.length > 0 },
      { positions: [...kept], keepsRows: true },
    ]) {
      const values = await rehash({
        ...part,
        table,
        pipeline: cluster.pipeline(node),
        server: cluster.pipeline(node).server,
        concurrency: options.concurrency,
        signal,
        onProgress: (blocks) => {
          done += blocks;
          options.onProgress?.(done, total);
        },
      });
      for (const [position, value] of values) read.set(position, value);
    }
    return [node, read] as const;
  });
  return new Map(values);
}

/** How so many blocks are read on a node; the log says why. */
async function orderOn(
  cluster: Cluster,
  table: TrackedTable,
  node: string,
  question: Pick<OrderQuestion, 'blocks' | 'allBlocks' | 'signal'>,
): Promise<ReadingOrder> {
  const { spec, sql } = table;
  const order = await chooseReadingOrder({ spec, sql, pool: cluster.pool(node), ...question });
  const { blocks, allBlocks } = question;
  cluster.log.debug(
    { event: 'reading_order', node, table: table.label, blocks, allBlocks, by: order.by },
    order.reason,
  );
  return order;
}

/** Blocks whose rows are worth keeping, unless there are so many that they would push out others. */
function blocksToKeep(
  { rowDigestCache }: Cluster,
  table: TrackedTable,
  node: string,
  positions: readonly number[],
): ReadonlySet<number> {
  if (table.state !== 'live' || !table.applier(node).wantsRowDigests) return new Set();
  const recurring = table.rowDigests(node).recurring(positions);
  const bytes = recurring.size * table.blockRows * ROW_DIGEST_BYTES;
  return bytes <= rowDigestCache.maxBytes * CACHE_SHARE ? recurring : new Set();
}

/**
 * Cuts blocks that are too large, by the keys of the node that has the most rows there, and reads
 * the pieces on every node; until none is left. Returns the number of blocks that were cut.
 */
export async function splitOversize(
  cluster: Cluster,
  table: TrackedTable,
  options: TreeWorkOptions,
): Promise<number> {
  let cut = 0;
  const indivisible = new Set<number>();
  for (;;) {
    const blockRows = plannedRows(cluster, table);
    const found = findOversize(table, blockRows, indivisible);
    if (found === null) return cut;
    const boundaries = await findBoundaries({
      sql: table.sql,
      pool: cluster.pool(found.node),
      range: table.layout.range(found.position),
      blockRows,
      signal: options.signal,
    });
    if (boundaries.length === 0) {
      // Its rows are gone meanwhile, or all sort as one.
      indivisible.add(table.layout.ids[found.position] ?? 0);
      continue;
    }
    table.changeLayout(table.layout.split(found.position, boundaries));
    cut++;
    if (cut % CUTS_BETWEEN_LOOKS === 0) requireOneOrder(table);
    const pieces = Array.from({ length: boundaries.length + 1 }, (_, i) => found.position + i);
    const all = new Map(cluster.config.nodes.map(({ name }) => [name, pieces] as const));
    await rehashOnNodes(cluster, table, all, options);
  }
}

/** What a block should have: more than when the tree was built, where the table has outgrown it. */
function plannedRows({ config }: Cluster, table: TrackedTable): number {
  const rows = Math.max(...table.nodes.map((node) => table.leaves(node).totalRows));
  return Math.max(table.blockRows, Math.ceil(rows / config.tree.maxBlocks));
}

const CUTS_BETWEEN_LOOKS = 500;

/**
 * Each boundary takes a block's worth of rows from some node. Far more boundaries than that come of
 * nodes that order keys differently: what one of them cuts small is large again on another, for ever.
 */
function requireOneOrder(table: TrackedTable): void {
  const rows = table.nodes.reduce((sum, node) => sum + table.leaves(node).totalRows, 0);
  if (table.layout.size < CUTS_BETWEEN_LOOKS + (2 * rows) / table.blockRows) return;
  throw new AcedError('SCHEMA_MISMATCH', `the nodes order the keys of ${table.label} differently`, {
    hint: 'Compare it with table-diff, block by block; see whether types, collations and locales agree.',
  });
}

function findOversize(
  table: TrackedTable,
  blockRows: number,
  indivisible: ReadonlySet<number>,
): { position: number; node: string } | null {
  for (let position = 0; position < table.layout.size; position++) {
    if (indivisible.has(table.layout.ids[position] ?? 0)) continue;
    const largest = largestNode(table, position);
    if (largest.rows > blockRows * SPLIT_FACTOR) return { position, node: largest.node };
  }
  return null;
}

function largestNode(table: TrackedTable, position: number): { node: string; rows: number } {
  let largest = { node: '', rows: -1 };
  for (const node of table.nodes) {
    const rows = table.leaves(node).rows[position] ?? 0;
    if (rows > largest.rows) largest = { node, rows };
  }
  return largest;
}

/** Joins runs of small neighbouring blocks and reads the joined ones; returns how many went away. */
export async function mergeSmall(
  cluster: Cluster,
  table: TrackedTable,
  options: TreeWorkOptions,
): Promise<number> {
  const runs: [number, number][] = [];
  let removed = 0;
  const mostRows = plannedRows(cluster, table) * MERGE_FACTOR;
  for (let first = 0; first < table.layout.size; first++) {
    let rows = largestNode(table, first).rows;
    let last = first;
    while (last + 1 < table.layout.size) {
      rows += largestNode(table, last + 1).rows;
      if (rows > mostRows) break;
      last++;
    }
    if (last === first) continue;
    runs.push([first, last]);
    removed += last - first;
    first = last;
  }
  if (runs.length > 0) table.changeLayout(table.layout.merge(runs));
  if (removed > 0) {
    await refreshDirty(cluster, table, {
      ...options,
      nodes: cluster.config.nodes.map(({ name }) => name),
    });
  }
  return removed;
}
