import type { IncidentEvent } from './incident.js';
import type { Suppressed } from './drift-event.js';

/** So many lines in a row, and then ten each second: a node put back to an old image is one flood. */
const BURST = 50;
const PER_SECOND = 10;
const TELL_EVERY_MS = 10_000;
const MAX_TABLES = 10;

/**
 * Lets events of incidents pass one by one when there are too many: those of a table that waits are
 * replaced by its newest, which has the whole state, and keep what they are (an opening stays one).
 * Pure: time is given.
 */
export class Flood {
  readonly #waiting = new Map<string, IncidentEvent>();
  #tokens = BURST;
  #refilledAtMs = 0;
  #toldAtMs = -Infinity;

  /** False: it waits, and due() has it later. */
  admits(event: IncidentEvent, nowMs: number): boolean {
    const { table } = event.state;
    const before = this.#waiting.get(table);
    // An end is told at once, also over an update that waits: what comes next may be another incident,
    // and would take its place. Only when nobody has heard of its beginning it waits in that one's turn.
    if (event.event === 'drift_resolved' && !isUnheard(before)) {
      this.#waiting.delete(table);
      return true;
    }
    if (before === undefined && this.#take(nowMs)) return true;
    this.#waiting.set(table, joined(before, event));
    return false;
  }

  /** What may be told by now, and how much still waits, when that is to be told. */
  due(nowMs: number): { readonly events: IncidentEvent[]; readonly suppressed: Suppressed | null } {
    const events: IncidentEvent[] = [];
    for (const [table, event] of this.#waiting) {
      if (!this.#take(nowMs)) break;
      this.#waiting.delete(table);
      events.push(event);
    }
    if (this.#waiting.size === 0 || nowMs - this.#toldAtMs < TELL_EVERY_MS) {
      return { events, suppressed: null };
    }
    this.#toldAtMs = nowMs;
    const tables = [...this.#waiting.keys()].slice(0, MAX_TABLES);
    return { events, suppressed: { count: this.#waiting.size, tables } };
  }

  #take(nowMs: number): boolean {
    const refill = ((nowMs - this.#refilledAtMs) / 1000) * PER_SECOND;
    this.#tokens = Math.min(BURST, this.#tokens + Math.max(0, refill));
    this.#refilledAtMs = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }
}

function isUnheard(waiting: IncidentEvent | undefined): boolean {
  return waiting?.event === 'drift_opened';
}

/** The newest state; an opening that nobody has heard of stays one, unless it is over. */
function joined(before: IncidentEvent | undefined, event: IncidentEvent): IncidentEvent {
  if (!isUnheard(before) || event.event === 'drift_resolved') return event;
  return { event: 'drift_opened', state: event.state };
}
