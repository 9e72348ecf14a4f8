import type { Merge, Ruling } from './decision.js';
import type { RepairWay } from './request.js';

/** NULLs of the target get the source's values; nothing else is touched. */
const fillNulls: Merge = ({ target, source }) => {
  if (target === null || source === null) return null;
  const values = target.map((value, i) => value ?? source[i] ?? null);
  const isPartial = values.some((value, i) => value !== (source[i] ?? target[i] ?? null));
  return { values, isPartial };
};

const MISSING_ROWS = { inserts: true, updates: false, deletes: false };

/** What becomes of each key that is not ruled by itself. Pure. */
export function rulingOfWay(
  way: Exclude<RepairWay, { kind: 'undo' | 'plan' }>,
  appliesToStale: boolean,
): Ruling {
  switch (way.kind) {
    case 'source':
      return { wish: { kind: 'copy', mode: way.mode }, appliesToStale };
    case 'bidirectional':
      return { wish: { kind: 'copy', mode: MISSING_ROWS, isBothWays: true }, appliesToStale };
    case 'fix-nulls':
      return { wish: { kind: 'merge', merge: fillNulls }, appliesToStale };
  }
}
