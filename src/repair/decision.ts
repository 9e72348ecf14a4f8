import type { Expectation } from './expectation.js';

/** A row as it is now: digest as signed decimal, null: no such row. */
export interface CurrentRow {
  readonly source: string | null;
  readonly target: string | null;
  /** What the expectation's proofs are compared with; differ from the digests for ACE's files. */
  readonly sourceProof: string | null;
  readonly targetProof: string | null;
}

export type Decision =
  | 'insert'
  | 'update'
  | 'delete'
  | 'equal'
  | 'left'
  /** The source gets the row, when it is the target. */
  | 'other way'
  | 'target changed'
  | 'source changed'
  /** The columns do not take the values. */
  | 'unfit';

/** What the target is to get of the source's rows. */
export interface CopyMode {
  /** Rows that the target lacks. */
  readonly inserts: boolean;
  /** Rows that the target has with other values. */
  readonly updates: boolean;
  /** Rows that the source lacks are deleted on the target. */
  readonly deletes: boolean;
}

type Values = readonly (string | null)[];

/** What the target is to have of both rows as they are; null: nothing of it is to change. */
export type Merge = (rows: {
  readonly target: Values | null;
  readonly source: Values | null;
}) => Merged | null;

export interface Merged {
  readonly values: Values;
  /** The two rows differ even then. */
  readonly isPartial: boolean;
}

/** What is to become of one key on the target. */
export type Wish =
  | { readonly kind: 'copy'; readonly mode: CopyMode; readonly isBothWays?: boolean }
  | { readonly kind: 'delete' }
  | { readonly kind: 'leave' }
  | { readonly kind: 'merge'; readonly merge: Merge };

export interface Ruling {
  readonly wish: Wish;
  /** Also where a row is no longer what the diff saw: as it is now, it may be written over. */
  readonly appliesToStale: boolean;
}

/**
 * What to do about a key. A row that is no longer what the diff saw, on either node, is left alone:
 * nobody has looked at what is there now, and it may be about to be replicated. Pure.
 */
export function decide(
  expected: Pick<Expectation, 'target' | 'source'>,
  current: CurrentRow,
  { wish, appliesToStale }: Ruling,
): Decision {
  if (current.source === current.target) return 'equal';
  if (!appliesToStale) {
    if (current.targetProof !== expected.target) return 'target changed';
    if (current.sourceProof !== expected.source) return 'source changed';
  }
  switch (wish.kind) {
    case 'leave':
      return 'left';
    case 'delete':
      return current.target === null ? 'equal' : 'delete';
    case 'merge':
      return current.target === null ? 'insert' : 'update';
    case 'copy':
      if (wish.isBothWays === true && current.source === null) return 'other way';
      return isWanted(current, wish.mode) ? copyDecision(current) : 'left';
  }
}

function copyDecision({ source, target }: Pick<CurrentRow, 'source' | 'target'>): Decision {
  if (source === null) return 'delete';
  return target === null ? 'insert' : 'update';
}

/** Whether the mode has anything to do with rows that are, or are not, there. */
export function isWanted(
  { source, target }: { readonly source: string | null; readonly target: string | null },
  mode: CopyMode,
): boolean {
  if (source === null) return mode.deletes;
  return target === null ? mode.inserts : mode.updates;
}

/** What is known before the rows are looked at: that nothing is to be done. Null: they must be looked at. */
export function decideUnseen(
  expected: Pick<Expectation, 'target' | 'source'>,
  { wish, appliesToStale }: Ruling,
): 'left' | 'other way' | null {
  if (wish.kind !== 'copy' || appliesToStale || isWanted(expected, wish.mode)) return null;
  return wish.isBothWays === true && expected.source === null ? 'other way' : 'left';
}
