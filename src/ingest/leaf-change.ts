import type { LeafSet } from '../merkle/leaves.js';

/** What one transaction did to one block. */
export interface LeafChange {
  readonly xid: number;
  readonly position: number;
  /** TRUNCATE: the block became empty before the rest of the change. */
  readonly isReset: boolean;
  /** A row with an unknown old image changed: the sum is unknown until the block is read again. */
  readonly isUnknown: boolean;
  readonly rows: number;
  readonly sumLow: number;
  readonly sumHigh: number;
}

/** Two changes of one transaction to what has become one block. */
export function joinLeafChanges(one: LeafChange, other: LeafChange): LeafChange {
  const low = (one.sumLow + other.sumLow) | 0;
  const carry = low >>> 0 < other.sumLow >>> 0 ? 1 : 0;
  return {
    xid: one.xid,
    position: one.position,
    isReset: one.isReset || other.isReset,
    isUnknown: one.isUnknown || other.isUnknown,
    rows: one.rows + other.rows,
    sumLow: low,
    sumHigh: (one.sumHigh + other.sumHigh + carry) | 0,
  };
}

/** Applies a change to a leaf whose value does not hold it yet. */
export function applyLeafChange(leaves: LeafSet, change: LeafChange, nowMs: number): void {
  const { position } = change;
  if (change.isReset)
    leaves.set(position, { rows: 0, sum: 0n }, false, leaves.filters[position] ?? 0);
  if (change.rows !== 0 || change.sumLow !== 0 || change.sumHigh !== 0) {
    leaves.add(position, change.rows, change.sumLow, change.sumHigh);
  }
  if (change.isUnknown) leaves.markDirty(position);
  leaves.touchedAtMs[position] = nowMs;
}
