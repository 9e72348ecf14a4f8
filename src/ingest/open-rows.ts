import type { PositionMap } from '../merkle/layout.js';
import { Removals, type Removal } from './removals.js';

/** What a node's stream has shown of a row, two bits a node; 0: nothing since the row opened. */
const STATE_ROW = 1;
const STATE_ABSENT = 2;
/** It has changed, but a value was not in the stream (unchanged TOAST). */
const STATE_UNKNOWN = 3;
const STATE_MASK = 3;
const STATES_PER_WORD = 16;

/** Words of an entry before its states and digests: digest of the key (low, high), block, last change, who took it away. */
const KEY_LOW = 0;
const KEY_HIGH = 1;
const BLOCK = 2;
const CHANGED_AT = 3;
/** Number among the table's removals; 0: nobody, or not known. */
const REMOVAL = 4;
const STATES = 5;

const FIRST_SLOTS = 64;
const MAX_LOAD = 0.85;
/** Tables with more slots grow by little: memory counts there, not the copying. */
const LARGE_SLOTS = 65_536;
/** A time may be 2^31 ms, 24 days, after the first one, and as long before it. */
const MAX_CHANGED_AT_MS = 2 ** 30;

const FULL_REPEAT_MS = 300_000;

/** A change of a row as one node's stream shows it. */
export interface ShownRow {
  /** Index of the node in the cluster's order. */
  readonly node: number;
  readonly block: number;
  /** Two halves. */
  readonly keyDigest: Int32Array;
  /** Two halves; null: the row is gone. */
  readonly digest: Int32Array | null;
  /** The digest could not be made from what the stream holds. */
  readonly isUnknown: boolean;
  /** Of a row that is gone: number of the transaction that took it away; 0: not known. */
  readonly removal: number;
}

/** Bounds the memory of the open rows of all tables together. */
export class OpenRowsBudget {
  readonly maxBytes: number;
  readonly #onFull: () => void;
  #bytes = 0;
  #toldAtMs = -Infinity;

  /** @param onFull called when there is no room, at most every 5 minutes */
  constructor(maxBytes: number, onFull: () => void = () => undefined) {
    this.maxBytes = maxBytes;
    this.#onFull = onFull;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False, and nothing is taken, when there is not enough left. */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > this.maxBytes) {
      this.#tell();
      return false;
    }
    this.#bytes += bytes;
    return true;
  }

  #tell(): void {
    const nowMs = performance.now();
    if (nowMs - this.#toldAtMs < FULL_REPEAT_MS) return;
    this.#toldAtMs = nowMs;
    this.#onFull();
  }

  giveBack(bytes: number): void {
    this.#bytes -= bytes;
  }
}

/**
 * Rows of one table that some node's stream has shown changed and that not all streams have shown
 * alike yet. All rows that are not here are as equal as they were when they were last compared: no
 * stream has touched them, or every stream has ended with the same state.
 *
 * A row closes, at no cost to any database, when all nodes' streams have shown the same digest. What
 * stays open after replication has passed must be read. Where there is no room for a row, its whole
 * block is open, and only reading it closes it. Open addressing over one array: a million rows of
 * three nodes take less than 64 MB.
 */
export class OpenRows {
  readonly removals = new Removals();
  /** Indexes of the nodes that have to show a row alike. */
  #expected: readonly number[];
  readonly #stateWords: number;
  readonly #entryWords: number;
  readonly #budget: OpenRowsBudget;
  /** Times are kept as 31-bit milliseconds since this one, which moves on with them. */
  #startedAtMs: number;
  readonly #openBlocks = new Map<number, number>();
  #watched: ReadonlySet<number> = new Set();
  /** Blocks that are being read, and those of them in which rows have closed since. */
  #observed: ReadonlySet<number> = new Set();
  readonly #closedMeanwhile = new Set<number>();
  #words = new Int32Array(0);
  #slots = 0;
  #size = 0;
  #wholeTableAtMs: number | null = null;

  constructor(nodes: number, budget: OpenRowsBudget, nowMs: number) {
    this.#expected = Array.from({ length: nodes }, (_, node) => node);
    this.#stateWords = Math.ceil(nodes / STATES_PER_WORD);
    this.#entryWords = STATES + this.#stateWords + 2 * nodes;
    this.#budget = budget;
    this.#startedAtMs = nowMs;
  }

  get size(): number {
    return this.#size;
  }

  /** Blocks that are open as a whole. */
  get openBlocks(): number {
    return this.#openBlocks.size;
  }

  get isWholeTableOpen(): boolean {
    return this.#wholeTableAtMs !== null;
  }

  get isEmpty(): boolean {
    return this.#size === 0 && this.#openBlocks.size === 0 && this.#wholeTableAtMs === null;
  }

  /** When the row or block that has been quiet for longest changed last; null: nothing is open. */
  get oldestChangeMs(): number | null {
    let oldest = this.#wholeTableAtMs ?? Infinity;
    for (const atMs of this.#openBlocks.values()) oldest = Math.min(oldest, atMs);
    this.#forEach((at) => {
      oldest = Math.min(oldest, this.#changedAtMs(at));
    });
    return oldest === Infinity ? null : oldest;
  }

  show(row: ShownRow, nowMs: number): void {
    if (this.#expected.length < 2) return;
    if (nowMs - this.#startedAtMs > MAX_CHANGED_AT_MS) this.#startAt(nowMs);
    const { keyDigest, digest, block } = row;
    const low = keyDigest[0] ?? 0;
    const high = keyDigest[1] ?? 0;
    if (this.#slots === 0 && !this.#grow()) {
      this.openBlock(block, nowMs);
      return;
    }
    let slot = this.#find(low, high);
    let at = slot * this.#entryWords;
    if (!this.#isUsed(at)) {
      if (this.#size + 1 > this.#slots * MAX_LOAD) {
        if (!this.#grow()) {
          this.openBlock(block, nowMs);
          return;
        }
        slot = this.#find(low, high);
        at = slot * this.#entryWords;
      }
      this.#size++;
      this.#words[at + KEY_LOW] = low;
      this.#words[at + KEY_HIGH] = high;
    }
    this.#words[at + BLOCK] = block;
    this.#words[at + CHANGED_AT] = nowMs - this.#startedAtMs;
    this.#setState(at, row.node, stateOf(row));
    if (row.removal !== 0) this.#words[at + REMOVAL] = row.removal;
    const digestAt = at + STATES + this.#stateWords + 2 * row.node;
    this.#words[digestAt] = digest?.[0] ?? 0;
    this.#words[digestAt + 1] = digest?.[1] ?? 0;
    if (!this.#isAlike(at, this.#expected)) return;
    this.#remove(slot);
    if (this.#watched.has(block)) this.openBlock(block, nowMs);
    if (this.#observed.has(block)) this.#closedMeanwhile.add(block);
  }

  /**
   * Rows close when these nodes have shown them alike; others are not meant to have the same. When
   * they become others the whole table is open: nobody knows what a node has that did not count, nor
   * whether what is known to differ still counts. Of fewer than two nodes nothing is ever open.
   */
  expect(nodes: readonly number[], nowMs: number): void {
    const before = this.#expected;
    if (before.length === nodes.length && nodes.every((node) => before.includes(node))) return;
    this.#expected = nodes;
    if (nodes.length < 2) {
      this.clear();
      return;
    }
    this.openWholeTable(nowMs);
    const isKept = (at: number): boolean => !this.#isAlike(at, nodes);
    if (this.#some((at) => !isKept(at))) this.#rebuild(this.#slots, isKept);
  }

  /**
   * Blocks that hold rows which differ: when a row there closes it may have been one of them, so that
   * the block must be read.
   */
  watchBlocks(blocks: ReadonlySet<number>): void {
    this.#watched = blocks;
  }

  /**
   * These blocks are about to be read. A row that is found to differ, and becomes equal everywhere before
   * anybody has heard of it, closes as any other: see closedMeanwhile().
   */
  observe(blocks: Iterable<number>): void {
    this.#observed = new Set(blocks);
    this.#closedMeanwhile.clear();
  }

  /** Those blocks in which rows have closed since observe(). */
  get closedMeanwhile(): ReadonlySet<number> {
    return this.#closedMeanwhile;
  }

  /** All rows of a block are open, until they are read. */
  openBlock(block: number, nowMs: number): void {
    this.#openBlocks.set(block, Math.max(nowMs, this.#openBlocks.get(block) ?? 0));
  }

  /** Rows of all blocks are open: TRUNCATE, a gap in a stream, a change that names no row. */
  openWholeTable(nowMs: number): void {
    this.#wholeTableAtMs = Math.max(nowMs, this.#wholeTableAtMs ?? 0);
  }

  /** The last transaction that took an open row away, where the node still lacks it. */
  removalOf(keyDigest: Int32Array): Removal | null {
    if (this.#size === 0) return null;
    const at = this.#find(keyDigest[0] ?? 0, keyDigest[1] ?? 0) * this.#entryWords;
    if (!this.#isUsed(at)) return null;
    const removal = this.removals.get(this.#words[at + REMOVAL] ?? 0);
    return removal !== null && this.#state(at, removal.node) === STATE_ABSENT ? removal : null;
  }

  /**
   * Blocks with something open that has not changed since; null: the whole table. `among`: rows that
   * these nodes have shown alike do not count, whatever the others have shown; in a block that is
   * watched they do, as in show().
   */
  blocksQuietSince(
    atMs: number,
    among: readonly number[] = this.#expected,
  ): ReadonlySet<number> | null {
    if (this.#wholeTableAtMs !== null && this.#wholeTableAtMs <= atMs) return null;
    const isPart = among.length < this.#expected.length;
    const blocks = new Set<number>();
    for (const [block, changedAtMs] of this.#openBlocks) if (changedAtMs <= atMs) blocks.add(block);
    this.#forEach((at) => {
      if (this.#changedAtMs(at) > atMs) return;
      const block = this.#words[at + BLOCK] ?? 0;
      if (isPart && !this.#watched.has(block) && this.#isAlike(at, among)) return;
      blocks.add(block);
    });
    return blocks;
  }

  /**
   * These blocks have been read on all nodes, after replication and our streams had passed all that
   * was committed before `atMs`: what has not changed since is no longer open. Null: the whole table.
   */
  close(blocks: ReadonlySet<number> | null, atMs: number): void {
    const isRead = (block: number): boolean => blocks?.has(block) !== false;
    if (blocks === null && this.#wholeTableAtMs !== null && this.#wholeTableAtMs <= atMs) {
      this.#wholeTableAtMs = null;
    }
    for (const [block, changedAtMs] of this.#openBlocks) {
      if (changedAtMs <= atMs && isRead(block)) this.#openBlocks.delete(block);
    }
    const kept = this.#words;
    const isClosed = (at: number): boolean =>
      (kept[at + CHANGED_AT] ?? 0) + this.#startedAtMs <= atMs && isRead(kept[at + BLOCK] ?? 0);
    // It copies everything: not for nothing.
    if (this.#some(isClosed)) this.#rebuild(this.#slots, (at) => !isClosed(at));
  }

  /** Follows a split or merge. Which part of a block that was split a row is in is not known. */
  relayout(map: PositionMap, nowMs: number): void {
    for (const [block, atMs] of [...this.#openBlocks]) {
      this.#openBlocks.delete(block);
      const [first, last] = map(block);
      for (let part = first; part <= last; part++) this.openBlock(part, atMs);
    }
    const watched = new Set<number>();
    for (const block of this.#watched) {
      const [first, last] = map(block);
      for (let part = first; part <= last; part++) watched.add(part);
    }
    this.#watched = watched;
    this.#forEach((at) => {
      const [first, last] = map(this.#words[at + BLOCK] ?? 0);
      this.#words[at + BLOCK] = first;
      for (let part = first; part <= last && first !== last; part++) this.openBlock(part, nowMs);
    });
  }

  /** Forgets everything and gives the memory back. */
  clear(): void {
    this.#budget.giveBack(this.#words.byteLength);
    this.#words = new Int32Array(0);
    this.#slots = 0;
    this.#size = 0;
    this.#openBlocks.clear();
    this.#wholeTableAtMs = null;
  }

  /** The entry's slot, or the empty one where it belongs. */
  #find(low: number, high: number): number {
    const words = this.#words;
    for (let slot = this.#home(low); ; slot = this.#next(slot)) {
      const at = slot * this.#entryWords;
      if (words[at + KEY_LOW] === low && words[at + KEY_HIGH] === high) return slot;
      if (!this.#isUsed(at)) return slot;
    }
  }

  /** Digests are spread evenly: as a fraction of all values one chooses its slot, whatever their number is. */
  #home(low: number): number {
    return Math.floor(((low >>> 0) / 2 ** 32) * this.#slots);
  }

  #next(slot: number): number {
    return slot + 1 === this.#slots ? 0 : slot + 1;
  }

  /** An entry has at least one state. */
  #isUsed(at: number): boolean {
    for (let word = 0; word < this.#stateWords; word++) {
      if (this.#words[at + STATES + word] !== 0) return true;
    }
    return false;
  }

  #setState(at: number, node: number, state: number): void {
    const word = at + STATES + Math.floor(node / STATES_PER_WORD);
    const shift = 2 * (node % STATES_PER_WORD);
    this.#words[word] = ((this.#words[word] ?? 0) & ~(STATE_MASK << shift)) | (state << shift);
  }

  #state(at: number, node: number): number {
    const word = this.#words[at + STATES + Math.floor(node / STATES_PER_WORD)] ?? 0;
    return (word >>> (2 * (node % STATES_PER_WORD))) & STATE_MASK;
  }

  #isAlike(at: number, among: readonly number[]): boolean {
    const firstNode = among[0] ?? 0;
    const first = this.#state(at, firstNode);
    if (first !== STATE_ROW && first !== STATE_ABSENT) return false;
    const digests = at + STATES + this.#stateWords;
    const firstAt = digests + 2 * firstNode;
    const words = this.#words;
    for (let i = 1; i < among.length; i++) {
      const node = among[i] ?? 0;
      if (this.#state(at, node) !== first) return false;
      const digestAt = digests + 2 * node;
      if (words[digestAt] !== words[firstAt] || words[digestAt + 1] !== words[firstAt + 1])
        return false;
    }
    return true;
  }

  /**
   * After 24 days a time would no longer fit: it would read as long ago, and a row that changed while
   * its block was read would count as read. Rows that have been quiet for 12 days are as good as those
   * that have been for longer.
   */
  #startAt(nowMs: number): void {
    const movedByMs = nowMs - this.#startedAtMs;
    this.#forEach((at) => {
      const changedAt = (this.#words[at + CHANGED_AT] ?? 0) - movedByMs;
      this.#words[at + CHANGED_AT] = Math.max(changedAt, -MAX_CHANGED_AT_MS);
    });
    this.#startedAtMs = nowMs;
  }

  #changedAtMs(at: number): number {
    return (this.#words[at + CHANGED_AT] ?? 0) + this.#startedAtMs;
  }

  #forEach(visit: (at: number) => void): void {
    if (this.#size === 0) return;
    for (let at = 0; at < this.#words.length; at += this.#entryWords) {
      if (this.#isUsed(at)) visit(at);
    }
  }

  #some(test: (at: number) => boolean): boolean {
    if (this.#size === 0) return false;
    for (let at = 0; at < this.#words.length; at += this.#entryWords) {
      if (this.#isUsed(at) && test(at)) return true;
    }
    return false;
  }

  /** Moves the entries behind it up, so that no search ends too early. */
  #remove(slot: number): void {
    const words = this.#words;
    const distance = (from: number, to: number): number =>
      to >= from ? to - from : to - from + this.#slots;
    let hole = slot;
    for (let next = this.#next(hole); ; next = this.#next(next)) {
      const at = next * this.#entryWords;
      if (!this.#isUsed(at)) break;
      // Whether the hole lies between the entry's home and where it is now.
      if (distance(this.#home(words[at + KEY_LOW] ?? 0), next) < distance(hole, next)) continue;
      words.copyWithin(hole * this.#entryWords, at, at + this.#entryWords);
      hole = next;
    }
    words.fill(0, hole * this.#entryWords, (hole + 1) * this.#entryWords);
    this.#size--;
    if (this.#size === 0 && this.#slots > FIRST_SLOTS) this.#release();
  }

  /** What a burst took is given back. */
  #release(): void {
    this.#budget.giveBack(this.#words.byteLength);
    this.#words = new Int32Array(0);
    this.#slots = 0;
  }

  #grow(): boolean {
    const factor = this.#slots < LARGE_SLOTS ? 2 : 1.2;
    const slots = this.#slots === 0 ? FIRST_SLOTS : Math.ceil(this.#slots * factor);
    const bytes = (slots - this.#slots) * this.#entryWords * Int32Array.BYTES_PER_ELEMENT;
    if (!this.#budget.take(bytes)) return false;
    this.#rebuild(slots, () => true);
    return true;
  }

  #rebuild(slots: number, isKept: (at: number) => boolean): void {
    const old = this.#words;
    const entryWords = this.#entryWords;
    const entries: number[] = [];
    this.#forEach((at) => {
      if (isKept(at)) entries.push(at);
    });
    this.#words = new Int32Array(slots * entryWords);
    this.#slots = slots;
    this.#size = entries.length;
    for (const at of entries) {
      const slot = this.#find(old[at + KEY_LOW] ?? 0, old[at + KEY_HIGH] ?? 0);
      this.#words.set(old.subarray(at, at + entryWords), slot * entryWords);
    }
    if (this.#size === 0 && this.#slots > FIRST_SLOTS) this.#release();
  }
}

function stateOf({ digest, isUnknown }: ShownRow): number {
  if (isUnknown) return STATE_UNKNOWN;
  return digest === null ? STATE_ABSENT : STATE_ROW;
}
