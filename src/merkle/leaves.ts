import type { LayoutChange } from './layout.js';

/** Row count and sum of row digests modulo 2^64: additive and free of order. */
export interface LeafValue {
  readonly rows: number;
  /** Unsigned, below 2^64. */
  readonly sum: bigint;
}

/** Everything of a leaf that outlives the process; the sum as its two signed 32-bit halves. */
export interface LeafState {
  readonly rows: number;
  readonly sumLow: number;
  readonly sumHigh: number;
  readonly isDirty: boolean;
  /** See LeafSet.filters. */
  readonly filter: number;
  /** See LeafSet.provedAtMs. */
  readonly provedAtMs: number;
}

/**
 * The leaves of one table on one node, by block position. A leaf is dirty when a change with an
 * unknown old row has touched it since its value was read.
 */
export class LeafSet {
  rows: Float64Array;
  /** The sum as two 32-bit halves, so that the hot path needs no bigint. */
  sumLow: Int32Array;
  sumHigh: Int32Array;
  dirty: Uint8Array;
  /** Name of the snapshot that the leaf was read in while its stream has not passed it; 0: none. */
  filters: Int32Array;
  /** Time (ms) of the last change, to let hot blocks rest before they are read again. */
  touchedAtMs: Float64Array;
  /** Time (ms) at which the block was last read from its table and the leaf was that; 0: never. */
  provedAtMs: Float64Array;
  /** Leaves changed since the last flush to the store. */
  #changed = new Set<number>();
  #dirtyCount = 0;

  /** All leaves start empty and dirty: nothing is known yet, so nothing needs to be stored either. */
  constructor(size: number) {
    this.rows = new Float64Array(size);
    this.sumLow = new Int32Array(size);
    this.sumHigh = new Int32Array(size);
    this.dirty = new Uint8Array(size).fill(1);
    this.filters = new Int32Array(size);
    this.touchedAtMs = new Float64Array(size);
    this.provedAtMs = new Float64Array(size);
    this.#dirtyCount = size;
  }

  get size(): number {
    return this.rows.length;
  }

  get dirtyCount(): number {
    return this.#dirtyCount;
  }

  get totalRows(): number {
    let total = 0;
    for (const count of this.rows) total += count;
    return total;
  }

  /** The time (ms) of the block whose proof is the oldest; 0: some block was never read. */
  get oldestProofMs(): number {
    return this.provedAtMs.reduce((oldest, one) => Math.min(oldest, one), Infinity);
  }

  /** As oldestProofMs, of clean leaves alone; Infinity: there is none. */
  get oldestCleanProofMs(): number {
    let oldest = Infinity;
    for (let position = 0; position < this.size; position++) {
      if (this.dirty[position] === 1) continue;
      oldest = Math.min(oldest, this.provedAtMs[position] ?? 0);
    }
    return oldest;
  }

  value(position: number): LeafValue {
    return {
      rows: this.rows[position] ?? 0,
      sum: joinHalves(this.sumLow[position] ?? 0, this.sumHigh[position] ?? 0),
    };
  }

  isDirty(position: number): boolean {
    return this.dirty[position] === 1;
  }

  isEqual(other: LeafSet, position: number): boolean {
    return (
      this.rows[position] === other.rows[position] &&
      this.sumLow[position] === other.sumLow[position] &&
      this.sumHigh[position] === other.sumHigh[position]
    );
  }

  set(position: number, value: LeafValue, isDirty: boolean, filter: number): void {
    this.rows[position] = value.rows;
    this.sumLow[position] = lowHalf(value.sum);
    this.sumHigh[position] = highHalf(value.sum);
    this.filters[position] = filter;
    this.#setDirty(position, isDirty);
    this.#changed.add(position);
  }

  /** Takes over a leaf as it was stored. */
  restore(position: number, state: LeafState): void {
    this.rows[position] = state.rows;
    this.sumLow[position] = state.sumLow;
    this.sumHigh[position] = state.sumHigh;
    this.filters[position] = state.filter;
    this.provedAtMs[position] = state.provedAtMs;
    this.#setDirty(position, state.isDirty);
  }

  /** The block was read from its table at that time, and the leaf is what was read. */
  proved(position: number, atMs: number): void {
    this.provedAtMs[position] = atMs;
    this.#changed.add(position);
  }

  add(position: number, rows: number, low: number, high: number): void {
    this.rows[position] = (this.rows[position] ?? 0) + rows;
    const sumLow = ((this.sumLow[position] ?? 0) + low) | 0;
    const carry = sumLow >>> 0 < low >>> 0 ? 1 : 0;
    this.sumLow[position] = sumLow;
    this.sumHigh[position] = ((this.sumHigh[position] ?? 0) + high + carry) | 0;
    this.#changed.add(position);
  }

  markDirty(position: number): void {
    if (this.dirty[position] === 1) return;
    this.#setDirty(position, true);
    this.#changed.add(position);
  }

  markAllDirty(): void {
    for (let position = 0; position < this.size; position++) this.markDirty(position);
  }

  dirtyPositions(): number[] {
    const positions: number[] = [];
    for (let position = 0; position < this.size; position++) {
      if (this.dirty[position] === 1) positions.push(position);
    }
    return positions;
  }

  /** The leaf is to be among the next that takeChanged returns. */
  markChanged(position: number): void {
    this.#changed.add(position);
  }

  /** Leaves changed since the last call. */
  takeChanged(): number[] {
    const changed = [...this.#changed];
    this.#changed.clear();
    return changed;
  }

  get hasChanged(): boolean {
    return this.#changed.size > 0;
  }

  /** Follows a split or merge. Leaves of blocks that stayed keep their value, all others are dirty. */
  relayout({ layout, map, addedPositions }: LayoutChange): void {
    const old = { rows: this.rows, low: this.sumLow, high: this.sumHigh, dirty: this.dirty };
    const oldFilters = this.filters;
    const oldTouched = this.touchedAtMs;
    const oldProved = this.provedAtMs;
    const oldChanged = this.#changed;
    const { size } = layout;
    const isAdded = new Uint8Array(size);
    for (const position of addedPositions) isAdded[position] = 1;
    this.rows = new Float64Array(size);
    this.sumLow = new Int32Array(size);
    this.sumHigh = new Int32Array(size);
    this.dirty = new Uint8Array(size).fill(1);
    this.filters = new Int32Array(size);
    this.touchedAtMs = new Float64Array(size);
    this.provedAtMs = new Float64Array(size);
    this.#dirtyCount = size;
    this.#changed = new Set();
    for (let position = 0; position < old.rows.length; position++) {
      const [to] = map(position);
      if (isAdded[to] === 1) continue;
      this.rows[to] = old.rows[position] ?? 0;
      this.sumLow[to] = old.low[position] ?? 0;
      this.sumHigh[to] = old.high[position] ?? 0;
      this.filters[to] = oldFilters[position] ?? 0;
      this.touchedAtMs[to] = oldTouched[position] ?? 0;
      this.provedAtMs[to] = oldProved[position] ?? 0;
      this.#setDirty(to, old.dirty[position] === 1);
    }
    for (const position of oldChanged) {
      const [to] = map(position);
      if (isAdded[to] !== 1) this.#changed.add(to);
    }
  }

  #setDirty(position: number, isDirty: boolean): void {
    const was = this.dirty[position] === 1;
    if (was === isDirty) return;
    this.dirty[position] = isDirty ? 1 : 0;
    this.#dirtyCount += isDirty ? 1 : -1;
  }
}

export function joinHalves(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

export function lowHalf(value: bigint): number {
  return Number(value & 0xffffffffn) | 0;
}

export function highHalf(value: bigint): number {
  return Number((value >> 32n) & 0xffffffffn) | 0;
}
