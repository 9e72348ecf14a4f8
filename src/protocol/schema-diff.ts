import type { CommonParams } from './commands.js';

/**
 * How much a difference matters, the least first. `cosmetic`: nothing behaves otherwise.
 * `equivalent_differing`: the same rows are accepted and shown. `narrowed`: one node takes, or shows,
 * fewer values than another. `incompatible`: it means another thing. `absent`: some node has it not.
 */
export const RANKS = [
  'cosmetic',
  'equivalent_differing',
  'narrowed',
  'incompatible',
  'absent',
] as const;
export type Rank = (typeof RANKS)[number];

export interface StructureDiffParams extends CommonParams {
  readonly schema: string;
  /** As TableChoice's: what belongs to these tables is left out. */
  readonly skipTables?: readonly string[];
  /** The exit code is ACE's: 0, 32, 48 or 64, by rank. */
  readonly aceExitCodes?: boolean;
}

export interface StructureDifference {
  /** `table`, `column`, `index` … */
  readonly kind: string;
  /** Qualified and quoted. */
  readonly object: string;
  /** What of it: `type`, `definition` …; null: the object as a whole. */
  readonly fact: string | null;
  readonly rank: Rank;
  /** Node -> what it says; null: nothing, or no such object. */
  readonly values: Readonly<Record<string, string | null>>;
}

export interface StructureDiffResult {
  readonly schema: string;
  readonly nodes: readonly string[];
  /** By rank, the gravest first. */
  readonly differences: readonly StructureDifference[];
  /** Rank -> how many. */
  readonly counts: Readonly<Record<Rank, number>>;
  /** Kind -> how many objects were compared. */
  readonly objects: Readonly<Record<string, number>>;
  /** What was left out, and why. */
  readonly leftOut: readonly { readonly reason: string; readonly objects: readonly string[] }[];
  readonly warnings: readonly string[];
  /** By the worst rank: 1, or 0 when nothing but cosmetic differs; or ACE's. */
  readonly exitCode: number;
  readonly timeTakenMs: number;
}
