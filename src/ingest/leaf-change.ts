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
