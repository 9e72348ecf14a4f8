import type { Expectation } from './expectation.js';
import type { RepairMode } from './request.js';

/** A row as it is now: digest as signed decimal, null: no such row. */
export interface CurrentRow {
  readonly source: string | null;
  readonly target: string | null;
  /** What the expectation's proofs are compared with; differ from the digests for ACE's files. */
  readonly sourceProof: string | null;
  readonly targetProof: string | null;
}

export type Decision =
  'insert' | 'update' | 'delete' | 'equal' | 'target changed' | 'source changed';

/**
 * What to do about a key. A row that is no longer what the diff saw, on either node, is left alone:
 * nobody has looked at what is there now, and it may be about to be replicated. Pure.
 */
export function decide(expected: Expectation, current: CurrentRow): Decision {
  if (current.source === current.target) return 'equal';
  if (current.targetProof !== expected.target) return 'target changed';
  if (current.sourceProof !== expected.source) return 'source changed';
  if (current.source === null) return 'delete';
  return current.target === null ? 'insert' : 'update';
}

/** Whether the mode of the repair has anything to do with such a key. */
export function isWanted(expected: Expectation, mode: RepairMode): boolean {
  if (expected.source === null) return mode.deletes;
  return expected.target === null ? mode.inserts : mode.updates;
}
