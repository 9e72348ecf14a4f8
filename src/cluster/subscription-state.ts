import type { Lsn } from '../base/lsn.js';

/** What one look at a subscription shows. */
export interface SubscriptionSight {
  readonly nowMs: number;
  readonly isEnabled: boolean;
  /** Somebody streams from its slot. */
  readonly isActive: boolean;
  /** What it has confirmed; null: unknown. */
  readonly confirmed: Lsn | null;
  /** Where its publisher's log ends; null: unknown. */
  readonly end: Lsn | null;
}

export interface SubscriptionKnown {
  /** `down`: it is disabled or not connected. `behind`: it runs, and does not arrive. */
  readonly state: 'running' | 'down' | 'behind';
  readonly sinceMs: number;
  readonly behindBytes: number | null;
  /** Since when it was seen not to be connected; null: it is. */
  readonly inactiveSinceMs: number | null;
  /** A position of the publisher that it has not confirmed yet, and when that was the end of the log. */
  readonly target: { readonly lsn: Lsn; readonly atMs: number } | null;
}

/** A worker that starts again is away for so long without that being told. */
const DOWN_AFTER_MS = 10_000;
const BEHIND_AFTER_MS = 30_000;
/** On an idle server a position may end so much short of the end of the log: a page's header. */
const TOLERANCE_BYTES = 64n;

/** The transition between two looks. Pure. */
export function nextState(
  before: SubscriptionKnown | undefined,
  sight: SubscriptionSight,
): SubscriptionKnown {
  const { nowMs, isEnabled, isActive, confirmed, end } = sight;
  const missing = confirmed === null || end === null ? null : end - confirmed;
  const behindBytes = missing === null ? null : Math.max(0, Number(missing));
  const inactiveSinceMs = isEnabled && isActive ? null : (before?.inactiveSinceMs ?? nowMs);
  const target = nextTarget(before?.target ?? null, sight);
  const known = { behindBytes, inactiveSinceMs, target };
  const stays = (state: SubscriptionKnown['state'], sinceMs: number): SubscriptionKnown => ({
    ...known,
    state,
    sinceMs: before?.state === state ? before.sinceMs : sinceMs,
  });
  if (inactiveSinceMs !== null) {
    const isDown = !isEnabled || nowMs - inactiveSinceMs >= DOWN_AFTER_MS;
    if (isDown || before?.state === 'down') return stays('down', inactiveSinceMs);
    return stays(before?.state ?? 'running', nowMs);
  }
  if (target === null) return stays('running', nowMs);
  if (nowMs - target.atMs >= BEHIND_AFTER_MS) return stays('behind', target.atMs);
  return stays('running', nowMs);
}

function nextTarget(
  before: SubscriptionKnown['target'],
  { nowMs, confirmed, end }: SubscriptionSight,
): SubscriptionKnown['target'] {
  if (confirmed === null || end === null) return before;
  if (before !== null && confirmed + TOLERANCE_BYTES < before.lsn) return before;
  return confirmed + TOLERANCE_BYTES < end ? { lsn: end, atMs: nowMs } : null;
}
