import { randomUUID } from 'node:crypto';
import type { Condition, OpenCondition } from '../protocol/drift.js';

export interface ConditionChange {
  /** `open`: it has begun, says something else, or goes on for an hour more. */
  readonly status: 'open' | 'over';
  /** Who reported it. */
  readonly source: string;
  readonly state: OpenCondition;
  readonly openForMs: number;
}

export interface ReportOptions {
  readonly nowMs: number;
  /** What is over sooner is not told. */
  readonly graceMs?: number;
}

interface Known {
  readonly source: string;
  readonly state: OpenCondition;
  /** Null: not told yet. */
  readonly toldAtMs: number | null;
  readonly graceMs: number;
}

const REMINDER_MS = 3_600_000;
/** A condition whose reason changes all the time is told so often. */
const UPDATE_MS = 60_000;

/**
 * What keeps aced from vouching for something, or is about to: each source reports all that holds
 * now, and what is new, changed or over is told. Time is given; nothing here asks anybody.
 */
export class Conditions {
  readonly #known = new Map<string, Known>();
  readonly #listeners = new Set<(change: ConditionChange) => void>();
  readonly #newId: () => string;

  constructor(newId: () => string = randomUUID) {
    this.#newId = newId;
  }

  /** Those that have been told, oldest first. */
  get open(): readonly OpenCondition[] {
    return [...this.#known.values()]
      .filter(({ toldAtMs }) => toldAtMs !== null)
      .map(({ state }) => state)
      .sort((a, b) => a.sinceMs - b.sinceMs);
  }

  listen(listener: (change: ConditionChange) => void): void {
    this.#listeners.add(listener);
  }

  /**
   * What was open when the last process ended. It is over unless its source reports it again, in the
   * first report after this.
   */
  restore(source: string, state: OpenCondition): void {
    this.#known.set(keyOf(source, state), { source, state, toldAtMs: 0, graceMs: 0 });
  }

  /** `conditions` are all of this source that hold now. */
  report(
    source: string,
    conditions: readonly Condition[],
    { nowMs, graceMs = 0 }: ReportOptions,
  ): void {
    const holding = new Map(conditions.map((one) => [keyOf(source, one), one]));
    for (const [key, known] of this.#known) {
      if (known.source === source && !holding.has(key)) this.#end(key, known, nowMs);
    }
    for (const [key, condition] of holding) this.#hold(key, { condition, source, nowMs, graceMs });
  }

  #hold(
    key: string,
    {
      condition,
      source,
      nowMs,
      graceMs,
    }: { condition: Condition; source: string; nowMs: number; graceMs: number },
  ): void {
    const known = this.#known.get(key);
    const before = (known === undefined ? undefined : notAhead(known.state, nowMs)) ?? {
      ...condition,
      id: this.#newId(),
      revision: 0,
      sinceMs: nowMs,
    };
    const state = { ...before, ...condition };
    const toldAtMs = known?.toldAtMs ?? null;
    const isChanged = before.reason !== condition.reason;
    const quietMs = toldAtMs === null ? 0 : Math.abs(nowMs - toldAtMs);
    const isDue =
      toldAtMs === null
        ? nowMs - before.sinceMs >= graceMs
        : quietMs >= (isChanged ? UPDATE_MS : REMINDER_MS);
    // A reason that is not told yet stays to be told.
    const kept = isDue || toldAtMs === null ? state : { ...state, reason: before.reason };
    this.#known.set(key, { source, state: kept, toldAtMs, graceMs });
    if (isDue) this.#tell(key, nowMs);
  }

  #tell(key: string, nowMs: number): void {
    const known = this.#known.get(key);
    if (known === undefined) return;
    const state = { ...known.state, revision: known.state.revision + 1 };
    this.#known.set(key, { ...known, state, toldAtMs: nowMs });
    this.#say({ status: 'open', source: known.source, state, openForMs: nowMs - state.sinceMs });
  }

  #end(key: string, { source, state, toldAtMs }: Known, nowMs: number): void {
    this.#known.delete(key);
    if (toldAtMs === null) return;
    const last = { ...notAhead(state, nowMs), revision: state.revision + 1 };
    this.#say({ status: 'over', source, state: last, openForMs: nowMs - last.sinceMs });
  }

  #say(change: ConditionChange): void {
    for (const listener of this.#listeners) listener(change);
  }
}

/** Its beginning lies ahead where the clock was set back since: then it counts from now. */
function notAhead(state: OpenCondition, nowMs: number): OpenCondition {
  return state.sinceMs > nowMs ? { ...state, sinceMs: nowMs } : state;
}

function keyOf(source: string, { kind, about, subject, facts }: Condition): string {
  return JSON.stringify([source, kind, about, subject, facts['subscription'] ?? '']);
}
