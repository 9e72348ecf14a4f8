import type { PositionMap } from '../merkle/layout.js';
import { OPERATION_WORDS, type RowOperationKind } from '../merkle/row-digests.js';
import type { LeafChange } from './leaf-change.js';

const TOUCHED = 1;
const UNKNOWN = 2;

/** An operation's words, after the position of its block. */
const STORED_WORDS = 1 + OPERATION_WORDS;
const FIRST_OPERATIONS = 16;
/** A buffer that one transaction made larger than this is given back. */
const KEPT_WORDS = 64 * 1024;
/** Of one transaction, on one table; beyond it, reading the blocks again is the cheaper way. */
const MAX_OPERATIONS = 500_000;

/**
 * What the open transaction has done to a table's blocks so far. Applied to the leaves at commit,
 * so that leaves never show half a transaction. Memory follows the number of blocks, not the size
 * of the transaction; only operations on rows are kept one by one, up to a limit.
 */
export class TransactionChanges {
  #rows: Int32Array;
  #low: Int32Array;
  #high: Int32Array;
  #flags: Uint8Array;
  #touched: number[] = [];
  #isReset = false;
  #operations = new Int32Array(FIRST_OPERATIONS * STORED_WORDS);
  #operationCount = 0;

  constructor(blocks: number) {
    this.#rows = new Int32Array(blocks);
    this.#low = new Int32Array(blocks);
    this.#high = new Int32Array(blocks);
    this.#flags = new Uint8Array(blocks);
  }

  get isEmpty(): boolean {
    return this.#touched.length === 0 && !this.#isReset;
  }

  add(position: number, rows: number, low: number, high: number): void {
    this.#touch(position, TOUCHED);
    this.#rows[position] = (this.#rows[position] ?? 0) + rows;
    const sum = ((this.#low[position] ?? 0) + low) | 0;
    const carry = sum >>> 0 < low >>> 0 ? 1 : 0;
    this.#low[position] = sum;
    this.#high[position] = ((this.#high[position] ?? 0) + high + carry) | 0;
  }

  subtract(position: number, rows: number, low: number, high: number): void {
    // Two's complement: -x = ~x + 1, over both halves.
    const negativeLow = -low | 0;
    const negativeHigh = (~high + (negativeLow === 0 ? 1 : 0)) | 0;
    this.add(position, -rows, negativeLow, negativeHigh);
  }

  markUnknown(position: number): void {
    this.#touch(position, TOUCHED | UNKNOWN);
  }

  /** A change of a row in a block whose rows are kept. */
  operate(
    position: number,
    kind: RowOperationKind,
    keyDigest: Int32Array,
    rowDigest: Int32Array,
  ): void {
    if (this.#operationCount >= MAX_OPERATIONS) {
      this.markUnknown(position);
      return;
    }
    this.#touch(position, TOUCHED);
    const at = this.#operationCount * STORED_WORDS;
    if (at === this.#operations.length) {
      const larger = new Int32Array(at * 2);
      larger.set(this.#operations);
      this.#operations = larger;
    }
    const words = this.#operations;
    words[at] = position;
    words[at + 1] = kind;
    words[at + 2] = keyDigest[0] ?? 0;
    words[at + 3] = keyDigest[1] ?? 0;
    words[at + 4] = rowDigest[0] ?? 0;
    words[at + 5] = rowDigest[1] ?? 0;
    this.#operationCount++;
  }

  markAllUnknown(): void {
    for (let position = 0; position < this.#flags.length; position++) this.markUnknown(position);
  }

  /** TRUNCATE: forgets what the transaction did before. */
  reset(): void {
    this.#clearTouched();
    this.#isReset = true;
  }

  /** The transaction's changes in block order of first touch; leaves the object empty. */
  take(xid: number): LeafChange[] {
    const changes: LeafChange[] = [];
    if (this.#isReset) {
      for (let position = 0; position < this.#flags.length; position++) {
        this.#touch(position, TOUCHED);
      }
    }
    const operations = this.#operationsByPosition();
    for (const position of this.#touched) {
      changes.push({
        xid,
        position,
        isReset: this.#isReset,
        isUnknown: ((this.#flags[position] ?? 0) & UNKNOWN) !== 0,
        rows: this.#rows[position] ?? 0,
        sumLow: this.#low[position] ?? 0,
        sumHigh: this.#high[position] ?? 0,
        operations: operations?.get(position) ?? null,
      });
    }
    this.discard();
    return changes;
  }

  #operationsByPosition(): Map<number, Int32Array> | null {
    const words = this.#operations;
    const end = this.#operationCount * STORED_WORDS;
    if (end === 0) return null;
    if (end === STORED_WORDS) return new Map([[words[0] ?? 0, words.slice(1, STORED_WORDS)]]);
    const counts = new Map<number, number>();
    for (let at = 0; at < end; at += STORED_WORDS) {
      const position = words[at] ?? 0;
      counts.set(position, (counts.get(position) ?? 0) + 1);
    }
    const byPosition = new Map<number, Int32Array>();
    const filled = new Map<number, number>();
    for (const [position, count] of counts) {
      byPosition.set(position, new Int32Array(count * OPERATION_WORDS));
    }
    for (let at = 0; at < end; at += STORED_WORDS) {
      const position = words[at] ?? 0;
      const to = filled.get(position) ?? 0;
      byPosition.get(position)?.set(words.subarray(at + 1, at + STORED_WORDS), to);
      filled.set(position, to + OPERATION_WORDS);
    }
    return byPosition;
  }

  /** The connection was lost inside the transaction: it will be sent again from its start. */
  discard(): void {
    this.#clearTouched();
    this.#isReset = false;
  }

  /** Follows a split or merge in the middle of the transaction. */
  relayout(blocks: number, map: PositionMap): void {
    // Their rows are kept no longer where the block is another one; where it is the same, a few
    // operations less are known than could be.
    for (let i = 0; i < this.#operationCount; i++) {
      this.markUnknown(this.#operations[i * STORED_WORDS] ?? 0);
    }
    this.#operationCount = 0;
    const old = this.#touched.map((position) => ({
      target: map(position),
      rows: this.#rows[position] ?? 0,
      low: this.#low[position] ?? 0,
      high: this.#high[position] ?? 0,
      isUnknown: ((this.#flags[position] ?? 0) & UNKNOWN) !== 0,
    }));
    this.#rows = new Int32Array(blocks);
    this.#low = new Int32Array(blocks);
    this.#high = new Int32Array(blocks);
    this.#flags = new Uint8Array(blocks);
    this.#touched = [];
    for (const { target, rows, low, high, isUnknown } of old) {
      const [first, last] = target;
      if (first === last) {
        this.add(first, rows, low, high);
        if (isUnknown) this.markUnknown(first);
      } else {
        // Which part of the split block the rows were in is no longer known.
        for (let position = first; position <= last; position++) this.markUnknown(position);
      }
    }
  }

  #touch(position: number, flags: number): void {
    const before = this.#flags[position] ?? 0;
    if (before === 0) this.#touched.push(position);
    this.#flags[position] = before | flags;
  }

  #clearTouched(): void {
    for (const position of this.#touched) {
      this.#rows[position] = 0;
      this.#low[position] = 0;
      this.#high[position] = 0;
      this.#flags[position] = 0;
    }
    this.#touched = [];
    this.#operationCount = 0;
    if (this.#operations.length > KEPT_WORDS) {
      this.#operations = new Int32Array(FIRST_OPERATIONS * STORED_WORDS);
    }
  }
}
