import type { Tuple } from '../pgoutput/message.js';
import type { KeyColumnSpec, KeyOrderKind, KeyText } from '../table/table-spec.js';
import type { BlockLayout, LayoutChange } from './layout.js';
import { compareSortables, sortableKey, type Sortable } from './sortable-key.js';

type LocalKind = Exclude<KeyOrderKind, 'server'>;

/** Finds the block of a key without asking the server. */
export interface Locator {
  /** `keyColumns[i]` is the tuple index of the i-th key column. */
  locateTuple(tuple: Tuple, keyColumns: Int32Array): number;
  locate(key: KeyText): number;
  /** The locator of the new layout; only the boundaries that were added are looked at. */
  follow(change: LayoutChange): Locator;
}

/** A locator for the layout, or null when only the server knows the key's order. */
export function createLocator(key: readonly KeyColumnSpec[], layout: BlockLayout): Locator | null {
  const kinds: LocalKind[] = [];
  for (const column of key) {
    if (column.orderKind === 'server') return null;
    kinds.push(column.orderKind);
  }
  const bounds = layout.lowers.slice(1).map((lower) => boundOf(kinds, lower));
  if (kinds.length === 1 && kinds[0] === 'integer') return new IntegerLocator(bounds);
  return new GeneralLocator(kinds, bounds);
}

function boundOf(kinds: readonly LocalKind[], lower: KeyText | null): readonly Sortable[] {
  if (lower === null) throw new RangeError('only the first block is open below');
  return sortables(kinds, lower);
}

/** Bounds of all blocks but the first, under a new layout. */
function followBounds(
  kinds: readonly LocalKind[],
  old: readonly (readonly Sortable[])[],
  { layout, map }: LayoutChange,
): (readonly Sortable[])[] {
  const known = new Array<readonly Sortable[] | undefined>(layout.size - 1).fill(undefined);
  old.forEach((bound, i) => {
    // Of blocks that were joined, the first one's lower end is the joined one's.
    const [position] = map(i + 1);
    if (position > 0 && (i === 0 || map(i)[1] < position)) known[position - 1] = bound;
  });
  return known.map((bound, i) => bound ?? boundOf(kinds, layout.lowers[i + 1] ?? null));
}

function sortables(kinds: readonly LocalKind[], key: KeyText): Sortable[] {
  return kinds.map((kind, i) => {
    const text = key[i];
    if (text === undefined) throw new RangeError('key of another shape');
    return sortableKey(kind, text);
  });
}

class GeneralLocator implements Locator {
  readonly #kinds: readonly LocalKind[];
  readonly #bounds: readonly (readonly Sortable[])[];

  constructor(kinds: readonly LocalKind[], bounds: readonly (readonly Sortable[])[]) {
    this.#kinds = kinds;
    this.#bounds = bounds;
  }

  follow(change: LayoutChange): Locator {
    return new GeneralLocator(this.#kinds, followBounds(this.#kinds, this.#bounds, change));
  }

  locateTuple(tuple: Tuple, keyColumns: Int32Array): number {
    return this.locate(
      Array.from(keyColumns, (index) =>
        tuple.buffer.toString('utf8', tuple.starts[index], tuple.ends[index]),
      ),
    );
  }

  locate(key: KeyText): number {
    const wanted = sortables(this.#kinds, key);
    let low = 0;
    let high = this.#bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const bound = this.#bounds[middle];
      if (bound !== undefined && compareSortables(bound, wanted) <= 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Up to 15 digits fit a double exactly: the common case needs no string and no bigint. */
const MAX_EXACT_DIGITS = 15;

class IntegerLocator implements Locator {
  /** Bounds as doubles: exact ones, or rounded where the bigint path decides. */
  readonly #bounds: Float64Array;
  readonly #exactBounds: readonly Sortable[];
  readonly #isExact: boolean;

  constructor(bounds: readonly (readonly Sortable[])[]) {
    this.#exactBounds = bounds.map((bound) => bound[0] ?? 0);
    this.#isExact = this.#exactBounds.every((bound) => typeof bound === 'number');
    this.#bounds = Float64Array.from(this.#exactBounds, Number);
  }

  follow(change: LayoutChange): Locator {
    const bounds = this.#exactBounds.map((bound) => [bound]);
    return new IntegerLocator(followBounds(['integer'], bounds, change));
  }

  locateTuple(tuple: Tuple, keyColumns: Int32Array): number {
    const column = keyColumns[0] ?? 0;
    const start = tuple.starts[column] ?? 0;
    const end = tuple.ends[column] ?? 0;
    const { buffer } = tuple;
    let at = start;
    const isNegative = buffer[at] === 0x2d;
    if (isNegative) at++;
    if (!this.#isExact || end - at > MAX_EXACT_DIGITS) {
      return this.locate([buffer.toString('latin1', start, end)]);
    }
    let value = 0;
    for (; at < end; at++) value = value * 10 + ((buffer[at] ?? 0) - 0x30);
    return this.#search(isNegative ? -value : value, this.#bounds);
  }

  locate(key: KeyText): number {
    const value = sortableKey('integer', key[0] ?? '');
    return typeof value === 'number' && this.#isExact
      ? this.#search(value, this.#bounds)
      : this.#search(value, this.#exactBounds);
  }

  #search(value: Sortable, bounds: ArrayLike<Sortable>): number {
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((bounds[middle] ?? 0) <= value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
