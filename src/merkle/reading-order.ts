/**
 * How a pass finds the block of a row. `one`: its key is looked up among the boundaries. `ties`: the first of its two
 * columns is, and the second one where the first is that of a boundary. `chunks`: values have no fixed
 * width, so that looking one up passes all before it: among every n-th boundary, then among those that follow.
 */
export type Assignment = 'one' | 'ties' | 'chunks';

/** What a node says of a table, as far as it decides how blocks are read. */
export interface ReadingFacts {
  /** On disk, out-of-line values included. */
  readonly tableBytes: number;
  /** Of the first key column's order with that of the table: -1 to 1; null: never analysed. */
  readonly correlation: number | null;
  /** effective_cache_size. */
  readonly cacheBytes: number;
  /** What a hash aggregate may take before it writes to disk. */
  readonly hashBytes: number;
}

export interface ReadingQuestion {
  /** Blocks that are to be read, of so many in all. */
  readonly blocks: number;
  readonly allBlocks: number;
  /** An index has the order of the blocks: else each reading of some is a scan of the whole table. */
  readonly isIndexed: boolean;
  readonly assignment: Assignment;
}

export interface ReadingOrder {
  /** Block by block along the key's index, or the whole table once in its own order. */
  readonly by: 'key' | 'table';
  readonly reason: string;
}

/** Fewer are not worth a thought. */
export const MIN_BLOCKS_FOR_PASS = 16;
/** How much more a row costs that is fetched alone: measured, docs/measurements.md. */
const RANDOM_ROW_IN_CACHE = 4;
const RANDOM_ROW_ON_DISK = 40;
/** A pass must promise so much: what it costs a row to find its block, measured too. */
const MIN_GAIN: Readonly<Record<Assignment, number>> = { one: 1.5, ties: 2.5, chunks: 5 };
/** A pass holds one snapshot, and with it VACUUM, from its beginning to its end. */
const MAX_PASS_BYTES = 16 * 2 ** 30;
/** Of a hash table's entry for one block. */
const GROUP_BYTES = 256;

/** Decides how blocks are read. */
export function readingOrder(question: ReadingQuestion, facts: ReadingFacts): ReadingOrder {
  const { blocks, allBlocks, isIndexed, assignment } = question;
  const { tableBytes, correlation, cacheBytes, hashBytes } = facts;
  const share = blocks / Math.max(1, allBlocks);
  const asKey = (reason: string): ReadingOrder => ({ by: 'key', reason });
  if (blocks < MIN_BLOCKS_FOR_PASS) return asKey(`${blocks} blocks are few`);
  if (tableBytes > MAX_PASS_BYTES)
    return asKey('the table is so large that one pass would take long');
  if (allBlocks * GROUP_BYTES > hashBytes) {
    return asKey(`sums of ${allBlocks} blocks are more than work_mem takes`);
  }
  if (!isIndexed) return { by: 'table', reason: 'no index has the order of the blocks' };
  if (correlation === null) return asKey('the table was never analysed');
  const randomRow = tableBytes > cacheBytes ? RANDOM_ROW_ON_DISK : RANDOM_ROW_IN_CACHE;
  // As the planner does it: between the two ends by the square of the correlation.
  const gain = share * (1 + (randomRow - 1) * (1 - correlation ** 2));
  const place = tableBytes > cacheBytes ? 'is larger than' : 'fits into';
  const why =
    `correlation ${correlation.toFixed(2)}, ${Math.round(share * 100)} % of the blocks, ` +
    `the table (${mebibytes(tableBytes)}) ${place} effective_cache_size (${mebibytes(cacheBytes)})`;
  return { by: gain >= MIN_GAIN[assignment] ? 'table' : 'key', reason: why };
}

function mebibytes(bytes: number): string {
  return `${Math.ceil(bytes / 2 ** 20)} MiB`;
}
