import type { LayoutChange } from './layout.js';

/** What happened to a row. */
export const ROW_INSERTED = 1;
export const ROW_UPDATED = 2;
export const ROW_DELETED = 3;
export type RowOperationKind = typeof ROW_INSERTED | typeof ROW_UPDATED | typeof ROW_DELETED;

/** Words of an operation: kind, digest of the key (low, high), new digest of the row (low, high). */
export const OPERATION_WORDS = 5;
/** Words of a row: digest of the key (low, high), digest of the row (low, high). */
const ROW_WORDS = 4;
/** A row as the server packs it: the two digests as big-endian 64-bit integers. */
const PACKED_BYTES = 16;
/** What an entry costs beside its rows: objects, map and queue. */
const ENTRY_OVERHEAD_BYTES = 250;
const SPARE_ROWS = 8;

/** The digests of all rows of one block, by the digest of their key. */
export class BlockRows {
  #words: Int32Array;
  #count: number;

  private constructor(words: Int32Array, count: number) {
    this.#words = words;
    this.#count = count;
  }

  /** @param packed 16 bytes a row, see PACKED_BYTES */
  static unpack(packed: Buffer): BlockRows {
    const count = packed.length / PACKED_BYTES;
    if (!Number.isInteger(count)) throw new RangeError(`rows packed in ${packed.length} bytes`);
    const words = new Int32Array((count + SPARE_ROWS) * ROW_WORDS);
    for (let row = 0; row < count; row++) {
      const from = row * PACKED_BYTES;
      const to = row * ROW_WORDS;
      words[to] = packed.readInt32BE(from + 4);
      words[to + 1] = packed.readInt32BE(from);
      words[to + 2] = packed.readInt32BE(from + 12);
      words[to + 3] = packed.readInt32BE(from + 8);
    }
    return new BlockRows(words, count);
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#words.byteLength + ENTRY_OVERHEAD_BYTES;
  }

  /** Sum of the rows' digests modulo 2^64. */
  sum(): bigint {
    let sum = 0n;
    for (let row = 0; row < this.#count; row++) {
      const at = row * ROW_WORDS;
      const low = BigInt((this.#words[at + 2] ?? 0) >>> 0);
      sum += low + (BigInt((this.#words[at + 3] ?? 0) >>> 0) << 32n);
    }
    return BigInt.asUintN(64, sum);
  }

  clear(): void {
    this.#count = 0;
  }

  /**
   * Applies the operation at `at` and adds what it changes to `delta`: rows, sum (low, high). False:
   * it contradicts what is known (a row that should be there is not, or the other way round).
   */
  apply(operations: Int32Array, at: number, delta: Int32Array): boolean {
    const kind = operations[at];
    const keyLow = operations[at + 1] ?? 0;
    const keyHigh = operations[at + 2] ?? 0;
    const row = this.#find(keyLow, keyHigh);
    if (row < 0 !== (kind === ROW_INSERTED)) return false;
    const words = this.#words;
    if (kind !== ROW_INSERTED) subtract(delta, words[row + 2] ?? 0, words[row + 3] ?? 0);
    if (kind === ROW_DELETED) {
      delta[0] = (delta[0] ?? 0) - 1;
      this.#remove(row);
      return true;
    }
    const low = operations[at + 3] ?? 0;
    const high = operations[at + 4] ?? 0;
    add(delta, low, high);
    if (kind === ROW_INSERTED) {
      delta[0] = (delta[0] ?? 0) + 1;
      this.#insert(keyLow, keyHigh, low, high);
    } else {
      words[row + 2] = low;
      words[row + 3] = high;
    }
    return true;
  }

  /** Index of the row's first word, or -1. */
  #find(keyLow: number, keyHigh: number): number {
    const words = this.#words;
    const end = this.#count * ROW_WORDS;
    for (let at = 0; at < end; at += ROW_WORDS) {
      if (words[at] === keyLow && words[at + 1] === keyHigh) return at;
    }
    return -1;
  }

  #insert(keyLow: number, keyHigh: number, low: number, high: number): void {
    const at = this.#count * ROW_WORDS;
    if (at === this.#words.length) {
      const larger = new Int32Array(at + Math.max(SPARE_ROWS * ROW_WORDS, at >>> 1));
      larger.set(this.#words);
      this.#words = larger;
    }
    this.#words[at] = keyLow;
    this.#words[at + 1] = keyHigh;
    this.#words[at + 2] = low;
    this.#words[at + 3] = high;
    this.#count++;
  }

  #remove(at: number): void {
    this.#count--;
    const last = this.#count * ROW_WORDS;
    this.#words.copyWithin(at, last, last + ROW_WORDS);
  }
}

function add(delta: Int32Array, low: number, high: number): void {
  const sum = ((delta[1] ?? 0) + low) | 0;
  const carry = sum >>> 0 < low >>> 0 ? 1 : 0;
  delta[1] = sum;
  delta[2] = ((delta[2] ?? 0) + high + carry) | 0;
}

function subtract(delta: Int32Array, low: number, high: number): void {
  // Two's complement: -x = ~x + 1, over both halves.
  const negativeLow = -low | 0;
  add(delta, negativeLow, (~high + (negativeLow === 0 ? 1 : 0)) | 0);
}

interface Entry {
  readonly owner: TableRowDigests;
  position: number;
  readonly rows: BlockRows;
  /** What the cache has counted for it. */
  bytes: number;
  /** Since the cache last looked for something to give up. */
  isUsed: boolean;
  isGone: boolean;
}

/**
 * Bounds the memory of all TableRowDigests together. Gives up blocks that have not been used for
 * longest, roughly: by the second-chance rule, so that a use costs one flag.
 */
export class RowDigestCache {
  readonly maxBytes: number;
  #bytes = 0;
  #queue: Entry[] = [];
  #next = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(entry: Entry): void {
    this.#queue.push(entry);
    this.resize(entry);
  }

  /** The entry's rows may have grown. */
  resize(entry: Entry): void {
    const { bytes } = entry.rows;
    this.#bytes += bytes - entry.bytes;
    entry.bytes = bytes;
    if (this.#bytes > this.maxBytes) this.#makeRoom();
  }

  forget(entry: Entry): void {
    entry.isGone = true;
    this.#bytes -= entry.bytes;
  }

  #makeRoom(): void {
    while (this.#bytes > this.maxBytes && this.#next < this.#queue.length) {
      const entry = this.#queue[this.#next++];
      if (entry === undefined || entry.isGone) continue;
      if (entry.isUsed) {
        entry.isUsed = false;
        this.#queue.push(entry);
      } else {
        entry.owner.delete(entry.position);
      }
    }
    // The part that was walked is given back now and then, not each time.
    if (this.#next > 1000 && this.#next > this.#queue.length / 2) {
      this.#queue = this.#queue.slice(this.#next).filter(({ isGone }) => !isGone);
      this.#next = 0;
    }
  }
}

/**
 * Rows of some blocks of one table on one node, by block position: those that change again and
 * again. With them an update or delete whose old row the stream does not have is
 * an exact change of its leaf, which would otherwise have to be read again.
 */
export class TableRowDigests {
  readonly #cache: RowDigestCache;
  #entries = new Map<number, Entry>();
  /** By block: 1 once it has been read because it had changed. */
  #wasRead = new Uint8Array(0);

  constructor(cache: RowDigestCache) {
    this.#cache = cache;
  }

  has(position: number): boolean {
    return this.#entries.has(position);
  }

  get(position: number): BlockRows | undefined {
    const entry = this.#entries.get(position);
    if (entry === undefined) return undefined;
    entry.isUsed = true;
    return entry.rows;
  }

  set(position: number, rows: BlockRows): void {
    this.delete(position);
    const entry = { owner: this, position, rows, bytes: 0, isUsed: true, isGone: false };
    this.#entries.set(position, entry);
    this.#cache.add(entry);
  }

  /**
   * Of blocks that are about to be read because they have changed, those that were read for that
   * before. Only their rows are worth keeping: a block that a bulk load passes changes once.
   */
  recurring(positions: readonly number[]): Set<number> {
    const found = new Set<number>();
    for (const position of positions) {
      if (this.#wasRead[position] === 1) found.add(position);
      else this.#markRead(position);
    }
    return found;
  }

  #markRead(position: number): void {
    if (position >= this.#wasRead.length) {
      const larger = new Uint8Array(2 * (position + 1));
      larger.set(this.#wasRead);
      this.#wasRead = larger;
    }
    this.#wasRead[position] = 1;
  }

  /** After operations on the block's rows: they may need more memory now. */
  resized(position: number): void {
    const entry = this.#entries.get(position);
    if (entry !== undefined) this.#cache.resize(entry);
  }

  delete(position: number): void {
    const entry = this.#entries.get(position);
    if (entry === undefined) return;
    this.#entries.delete(position);
    this.#cache.forget(entry);
  }

  clear(): void {
    for (const entry of this.#entries.values()) this.#cache.forget(entry);
    this.#entries.clear();
    this.#wasRead.fill(0);
  }

  /** Follows a split or merge: of blocks that are new nothing is known. */
  relayout({ layout, map, addedPositions }: LayoutChange): void {
    const added = new Set(addedPositions);
    const wasRead = this.#wasRead;
    this.#wasRead = new Uint8Array(layout.size);
    for (let position = 0; position < wasRead.length; position++) {
      if (wasRead[position] === 1) this.#wasRead[map(position)[0]] = 1;
    }
    const old = this.#entries;
    this.#entries = new Map();
    for (const [position, entry] of old) {
      const [to] = map(position);
      if (added.has(to)) {
        this.#cache.forget(entry);
        continue;
      }
      entry.position = to;
      this.#entries.set(to, entry);
    }
  }
}
