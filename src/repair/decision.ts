import type { Expectation } from './expectation.js';
import type { RepairMode } from './request.js';

/** A row as it is now: digest as signed decimal, null: no such row. */
export interface CurrentRow {
  readonly source: string | null;
  readonly target: string | null;
  /** What the expectation's `target` is compared with; differs from the digest for ACE's files. */
  readonly targetProof: string | null;
}

export type Decision = 'insert' | 'update' | 'delete' | 'equal' | 'changed';

/**
 * What to do about a key. `changed`: one of the rows is no longer what the diff saw, so that nobody
 * has looked at what is there now; it is left alone. A source row with new values still counts as
 * the source of truth. Pure.
 */
export function decide(expected: Expectation, current: CurrentRow): Decision {
  if (current.source === current.target) return 'equal';
  if (current.targetProof !== expected.target) return 'changed';
  if ((current.source !== null) !== expected.hasSource) return 'changed';
  if (current.source === null) return 'delete';
  return current.target === null ? 'insert' : 'update';
}

/** Whether the mode of the repair has anything to do with such a key. */
export function isWanted(expected: Expectation, mode: RepairMode): boolean {
  if (!expected.hasSource) return mode.deletes;
  return expected.target === null ? mode.inserts : mode.updates;
}
