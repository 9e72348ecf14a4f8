import type { BlockSql, NumberedRange } from '../merkle/block-sql.js';
import type { BlockRange } from '../merkle/layout.js';
import type { LeafValue } from '../merkle/leaves.js';
import type { Session } from '../postgres/session.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import { inSnapshot } from '../postgres/transaction.js';

/** A block whose sums and rows contradict each other: nothing is proved of it. */
export interface Contradiction {
  readonly range: BlockRange;
  readonly node: string;
  /** What the node's sum is. */
  readonly sum: LeafValue;
  /** What it should be by the rows. */
  readonly rows: LeafValue;
  /** A sentence's end, for a person. */
  readonly reason: string;
}

export interface BlockCheck {
  readonly contradictions: readonly Contradiction[];
  /**
   * Blocks in which rows differ now, with the states of these rows: the same ones later mean that no
   * node has written the row in between.
   */
  readonly differing: ReadonlyMap<BlockRange, ReadonlySet<string>>;
}

export interface BlockCheckOptions {
  readonly pools: NodePools;
  readonly sql: BlockSql;
  /** Columns of the key. */
  readonly keyColumns: number;
  readonly signal: AbortSignal;
}

/** One node's block in one snapshot, by two statements. */
interface BlockReading {
  sum: LeafValue;
  /** By the key as JSON. */
  readonly rows: Map<string, { readonly digest: string; readonly version: string }>;
}

/**
 * Why blocks differ in which no row was found to. Sums and rows are read in one snapshot per node, so
 * nothing that is in flight can come between them: sums differ exactly where rows do, or something
 * is wrong that waiting does not mend.
 */
export async function checkBlocks(
  ranges: readonly BlockRange[],
  options: BlockCheckOptions,
): Promise<BlockCheck> {
  const numbered = ranges.map((range, number) => ({ ...range, number }));
  const open = await unequalSums(numbered, options);
  if (open.length === 0) return { contradictions: [], differing: new Map() };
  const readings = await onEveryNode(options.pools, options.signal, (_, pool, signal) =>
    pool.use(
      (session) => inSnapshot(session, () => readBoth(session, open, { ...options, signal })),
      signal,
    ),
  );
  const contradictions: Contradiction[] = [];
  const differing = new Map<BlockRange, ReadonlySet<string>>();
  for (const { number } of open) {
    const range = ranges[number];
    if (range === undefined) continue;
    const found = contradictionIn(number, readings);
    const rows = differingRows(number, readings);
    if (found !== null) contradictions.push({ ...found, range });
    else if (rows.size > 0) differing.set(range, rows);
  }
  return { contradictions, differing };
}

/** Mostly what was in flight has arrived by now. */
async function unequalSums(
  ranges: readonly NumberedRange[],
  { pools, sql, signal }: BlockCheckOptions,
): Promise<NumberedRange[]> {
  const query = sql.hashBlocks(ranges);
  const sums = await onEveryNode(pools, signal, async (_, pool, either) => {
    const rows = await pool.use(
      (session) => session.query(query.text, query.params, either),
      either,
    );
    return new Map(rows.map(([number, count, sum]) => [number, `${count ?? ''} ${sum ?? ''}`]));
  });
  return ranges.filter(({ number }) => {
    const values = Array.from(sums.values(), (node) => node.get(String(number)));
    return new Set(values).size > 1;
  });
}

async function readBoth(
  session: Session,
  ranges: readonly NumberedRange[],
  { sql, keyColumns, signal }: BlockCheckOptions,
): Promise<ReadonlyMap<number, BlockReading>> {
  const blocks = new Map<number, BlockReading>();
  const hash = sql.hashBlocks(ranges);
  for (const [number, count, sum] of await session.query(hash.text, hash.params, signal)) {
    const value = { rows: Number(count), sum: BigInt.asUintN(64, BigInt(sum ?? '0')) };
    blocks.set(Number(number), { sum: value, rows: new Map() });
  }
  const query = sql.rowDigests(ranges);
  for (const row of await session.query(query.text, query.params, signal)) {
    const key = JSON.stringify(row.slice(2, 2 + keyColumns));
    const state = { digest: row[1] ?? '', version: row[2 + keyColumns] ?? '' };
    blocks.get(Number(row[0]))?.rows.set(key, state);
  }
  return blocks;
}

function contradictionIn(
  number: number,
  readings: ReadonlyMap<string, ReadonlyMap<number, BlockReading>>,
): Omit<Contradiction, 'range'> | null {
  let first: { readonly node: string; readonly sum: LeafValue } | null = null;
  for (const [node, blocks] of readings) {
    const block = blocks.get(number);
    if (block === undefined) continue;
    const rows = sumOf(block.rows);
    const { sum } = block;
    if (!isSame(sum, rows)) {
      return { node, sum, rows, reason: `on ${node} its sum is not that of its rows` };
    }
    first ??= { node, sum };
    if (!isSame(sum, first.sum) && differingRows(number, readings).size === 0) {
      const reason = `${first.node} and ${node} have equal rows in it and unequal sums`;
      return { node, sum, rows: first.sum, reason };
    }
    const other = nodeWithStrayRow(number, blocks, readings);
    if (other !== null) {
      const reason = `${node} and ${other} do not have the same keys in it: they order keys differently`;
      return { node, sum, rows: first.sum, reason };
    }
  }
  return null;
}

/** Keys that are not the same everywhere, each with its state on every node. */
function differingRows(
  number: number,
  readings: ReadonlyMap<string, ReadonlyMap<number, BlockReading>>,
): Set<string> {
  const nodes = Array.from(readings.values(), (blocks) => blocks.get(number)?.rows);
  const keys = new Set(nodes.flatMap((rows) => [...(rows?.keys() ?? [])]));
  const differing = new Set<string>();
  for (const key of keys) {
    const states = nodes.map((rows) => rows?.get(key) ?? null);
    if (states.some((state) => state?.digest !== states[0]?.digest)) {
      differing.add(JSON.stringify([key, states]));
    }
  }
  return differing;
}

/** A node that has a row of the given node's block in another block. */
function nodeWithStrayRow(
  number: number,
  blocks: ReadonlyMap<number, BlockReading>,
  readings: ReadonlyMap<string, ReadonlyMap<number, BlockReading>>,
): string | null {
  for (const key of blocks.get(number)?.rows.keys() ?? []) {
    for (const [other, otherBlocks] of readings) {
      if (otherBlocks.get(number)?.rows.has(key) === true) continue;
      for (const { rows } of otherBlocks.values()) if (rows.has(key)) return other;
    }
  }
  return null;
}

function sumOf(rows: BlockReading['rows']): LeafValue {
  let sum = 0n;
  for (const { digest } of rows.values()) sum += BigInt(digest);
  return { rows: rows.size, sum: BigInt.asUintN(64, sum) };
}

function isSame(one: LeafValue, other: LeafValue): boolean {
  return one.rows === other.rows && one.sum === other.sum;
}
