import type { PositionMap } from '../merkle/layout.js';
import type { LeafChange } from './leaf-change.js';

const TOUCHED = 1;
const UNKNOWN = 2;

/**
 * What the open transaction has done to a table's blocks so far. Applied to the leaves at commit,
 * so that leaves never show half a transaction. Memory follows the number of blocks, not the size
 * of the transaction.
 */
export class TransactionChanges {
  #rows: Int32Array;
  #low: Int32Array;
  #high: Int32Array;
  #flags: Uint8Array;
  #touched: number[] = [];
  #isReset = false;

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
    for (const position of this.#touched) {
      changes.push({
        xid,
        position,
        isReset: this.#isReset,
        isUnknown: ((this.#flags[position] ?? 0) & UNKNOWN) !== 0,
        rows: this.#rows[position] ?? 0,
        sumLow: this.#low[position] ?? 0,
        sumHigh: this.#high[position] ?? 0,
      });
    }
    this.discard();
    return changes;
  }

  /** The connection was lost inside the transaction: it will be sent again from its start. */
  discard(): void {
    this.#clearTouched();
    this.#isReset = false;
  }

  /** Follows a split or merge in the middle of the transaction. */
  relayout(blocks: number, map: PositionMap): void {
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
  }
}
