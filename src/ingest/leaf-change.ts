import type { PositionMap } from '../merkle/layout.js';
import type { LeafSet } from '../merkle/leaves.js';
import { OPERATION_WORDS, type TableRowDigests } from '../merkle/row-digests.js';

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
  /** Changes of rows whose digests are kept, in order; see OPERATION_WORDS. */
  readonly operations: Int32Array | null;
}

/**
 * The changes of one transaction under a new layout, one for each block: a second one for a block
 * that was emptied would empty it again. What happened to a block that was split is a change of
 * unknown size to each of its parts.
 */
export function relayoutChanges(changes: readonly LeafChange[], map: PositionMap): LeafChange[] {
  const moved = new Map<number, LeafChange>();
  for (const change of changes) {
    const [first, last] = map(change.position);
    const wasOperated = change.operations !== null;
    const isUnknown =
      change.isUnknown || wasOperated || (first !== last && (!change.isReset || change.rows !== 0));
    const none = { rows: 0, sumLow: 0, sumHigh: 0 };
    const part = { ...change, ...(first === last ? {} : none), isUnknown, operations: null };
    for (let position = first; position <= last; position++) {
      const other = moved.get(position);
      const here = { ...part, position };
      moved.set(position, other === undefined ? here : joinLeafChanges(other, here));
    }
  }
  return [...moved.values()];
}

/** Two changes of one transaction to what has become one block. */
function joinLeafChanges(one: LeafChange, other: LeafChange): LeafChange {
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
    operations: null,
  };
}

/** The leaves of one table on one node, and the rows that are kept of some of them. */
export interface TableLeaves {
  readonly leaves: LeafSet;
  readonly rowDigests: TableRowDigests;
}

const delta = new Int32Array(3);

/** Applies a change to a leaf whose value does not hold it yet. */
export function applyLeafChange(
  { leaves, rowDigests }: TableLeaves,
  change: LeafChange,
  nowMs: number,
): void {
  const { position, operations } = change;
  const hasSum = change.rows !== 0 || change.sumLow !== 0 || change.sumHigh !== 0;
  if (change.isReset) {
    leaves.set(position, { rows: 0, sum: 0n }, false, leaves.filters[position] ?? 0);
    rowDigests.get(position)?.clear();
  }
  if (hasSum) leaves.add(position, change.rows, change.sumLow, change.sumHigh);
  // Rows that came without an operation, before their block's were kept, are not among them.
  if (hasSum || change.isUnknown) rowDigests.delete(position);
  if (change.isUnknown) leaves.markDirty(position);
  if (operations !== null) applyOperations({ leaves, rowDigests }, position, operations);
  leaves.touchedAtMs[position] = nowMs;
}

/** Rows that are not kept any more, or operations that do not fit them: the block must be read. */
function applyOperations(
  { leaves, rowDigests }: TableLeaves,
  position: number,
  operations: Int32Array,
): void {
  const rows = rowDigests.get(position);
  let isKnown = rows !== undefined;
  delta.fill(0);
  for (let at = 0; isKnown && at < operations.length; at += OPERATION_WORDS) {
    isKnown = rows?.apply(operations, at, delta) === true;
  }
  if (isKnown) {
    leaves.add(position, delta[0] ?? 0, delta[1] ?? 0, delta[2] ?? 0);
    rowDigests.resized(position);
  } else {
    rowDigests.delete(position);
    leaves.markDirty(position);
  }
}
