/** A row as one node had it when it was read; null: no such row. */
export type RowState = {
  readonly digest: string;
  /** Changes with every write of the row, also with one that brings an old value back. */
  readonly version: string;
} | null;

/**
 * What became of a row that differed. Between the two reads replication has passed: all that was
 * committed on any node before the first read has been applied on every other.
 * - `equal`: it was in flight.
 * - `drift`: no node's row has been written, and they still differ.
 * - `moving`: it has been written meanwhile, so the new state may be in flight. Equal digests do
 *   not prove that it was not: a value that goes to and fro would look like drift.
 */
export type SettleVerdict = 'equal' | 'drift' | 'moving';

export function settleRow(before: readonly RowState[], after: readonly RowState[]): SettleVerdict {
  const [first] = after;
  if (after.every((state) => state?.digest === first?.digest)) return 'equal';
  return after.every((state, node) => state?.version === before[node]?.version)
    ? 'drift'
    : 'moving';
}
