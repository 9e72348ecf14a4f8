import { isSameOnAll, type RowDifference } from './row-difference.js';

/**
 * What became of a row that differed. Between the two reads replication has passed: all that was
 * committed on any node before the first read has been applied on every other.
 * - `equal`: it was in flight.
 * - `drift`: no node's row has moved, and they still differ.
 * - `moving`: it has changed meanwhile, so the new state may be in flight.
 */
export type SettleVerdict = 'equal' | 'drift' | 'moving';

export function settleRow(
  before: RowDifference['digests'],
  after: RowDifference['digests'],
): SettleVerdict {
  if (isSameOnAll(after)) return 'equal';
  return after.every((digest, node) => digest === before[node]) ? 'drift' : 'moving';
}
