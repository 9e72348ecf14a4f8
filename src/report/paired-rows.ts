import type { DiffFileHead } from '../diff-file/diff-reader.js';
import { readDiffRows } from '../diff-file/diff-reader.js';
import { keyTextsOf, type DiffFileRow } from '../diff-file/file-row.js';

/** A key of one pair of nodes with its row on both; null: no such row. */
export interface PairedRow {
  readonly first: DiffFileRow | null;
  readonly second: DiffFileRow | null;
}

export interface PairSides {
  readonly path: string;
  readonly pair: string;
  /** The two nodes of the pair. */
  readonly nodes: readonly [string, string];
  readonly primaryKey: readonly string[];
  /** Keys that are wanted at most. */
  readonly maxRows: number;
}

/** The nodes of a pair: those of its name, or with rows in it where the name does not say. */
export function nodesOfPair({ pairs }: DiffFileHead, pair: string): readonly [string, string] {
  const names = pair.split('/');
  const withRows = Object.keys(pairs.find(({ name }) => name === pair)?.rows ?? {});
  const [first = '', second = ''] = names.length === 2 ? names : withRows;
  return [first, second];
}

/**
 * Sets the rows of a pair's nodes side by side, in the order of the file, `maxRows` keys at most. The
 * file has one node's rows after the other's, so it is read by two readers at once; of the rows
 * themselves a batch of each is in memory.
 */
export async function* pairRows(sides: PairSides): AsyncGenerator<PairedRow> {
  const inSecond = await placesOfSecond(sides);
  // A file that somebody has sorted otherwise: the second node's rows are looked up, so are held.
  const second = (await areInOneOrder(sides, inSecond))
    ? new InOrder(rowsOf(sides, 1))
    : await AtHand.read(rowsOf(sides, 1));
  try {
    yield* merged(sides, inSecond, second);
  } finally {
    await second.close();
  }
}

async function* merged(
  sides: PairSides,
  inSecond: ReadonlyMap<string, number>,
  second: InOrder | AtHand,
): AsyncGenerator<PairedRow> {
  let left = sides.maxRows;
  for await (const { key, row } of rowsOf(sides, 0)) {
    if (inSecond.has(key)) {
      for await (const alone of second.before(key)) {
        if (left-- <= 0) return;
        yield { first: null, second: alone };
      }
    }
    if (left-- <= 0) return;
    yield { first: row, second: inSecond.has(key) ? await second.take(key) : null };
  }
  for await (const alone of second.before(null)) {
    if (left-- <= 0) return;
    yield { first: null, second: alone };
  }
}

interface KeyedRow {
  readonly key: string;
  readonly row: DiffFileRow;
}

/** Key -> its place among the second node's rows. */
async function placesOfSecond(sides: PairSides): Promise<ReadonlyMap<string, number>> {
  const places = new Map<string, number>();
  for await (const { key } of rowsOf(sides, 1, sides.primaryKey)) places.set(key, places.size);
  return places;
}

async function areInOneOrder(
  sides: PairSides,
  inSecond: ReadonlyMap<string, number>,
): Promise<boolean> {
  let last = -1;
  for await (const { key } of rowsOf(sides, 0, sides.primaryKey)) {
    const place = inSecond.get(key);
    if (place === undefined) continue;
    if (place < last) return false;
    last = place;
  }
  return true;
}

/** The first so many: a key among the first so many of both nodes is among those of its own. */
async function* rowsOf(
  sides: PairSides,
  side: 0 | 1,
  columns: readonly string[] = [],
): AsyncGenerator<KeyedRow> {
  let left = sides.maxRows;
  const options = { pairs: [sides.pair], ...(columns.length === 0 ? {} : { columns }) };
  for await (const { node, rows } of readDiffRows(sides.path, options)) {
    if (node !== sides.nodes[side]) continue;
    for (const row of rows) {
      if (left-- <= 0) return;
      yield { key: keyOf(row, sides), row };
    }
  }
}

/** Rows of a file without a key are each a row of their own. */
function keyOf(row: DiffFileRow, { primaryKey, path }: PairSides): string {
  return JSON.stringify(primaryKey.length === 0 ? row.values : keyTextsOf(row, primaryKey, path));
}

/** The second node's rows where both nodes have their common keys in the same order. */
class InOrder {
  readonly #rows: AsyncGenerator<KeyedRow>;
  #next: KeyedRow | null = null;

  constructor(rows: AsyncGenerator<KeyedRow>) {
    this.#rows = rows;
  }

  /** Rows that come before the key's; null: all that are left. */
  async *before(key: string | null): AsyncGenerator<DiffFileRow> {
    for (;;) {
      const next = await this.#peek();
      if (next === null || next.key === key) return;
      this.#next = null;
      yield next.row;
    }
  }

  async take(key: string): Promise<DiffFileRow | null> {
    const next = await this.#peek();
    if (next?.key !== key) return null;
    this.#next = null;
    return next.row;
  }

  /** Lets go of the file. */
  async close(): Promise<void> {
    await this.#rows.return(undefined);
  }

  async #peek(): Promise<KeyedRow | null> {
    if (this.#next !== null) return this.#next;
    const next = await this.#rows.next();
    return next.done === true ? null : (this.#next = next.value);
  }
}

/** The second node's rows in whatever order, all in memory. */
class AtHand {
  readonly #rows: Map<string, DiffFileRow>;

  private constructor(rows: Map<string, DiffFileRow>) {
    this.#rows = rows;
  }

  static async read(rows: AsyncGenerator<KeyedRow>): Promise<AtHand> {
    const held = new Map<string, DiffFileRow>();
    for await (const { key, row } of rows) held.set(key, row);
    return new AtHand(held);
  }

  *before(key: string | null): Generator<DiffFileRow> {
    if (key === null) yield* this.#rows.values();
  }

  take(key: string): Promise<DiffFileRow | null> {
    const row = this.#rows.get(key) ?? null;
    this.#rows.delete(key);
    return Promise.resolve(row);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
