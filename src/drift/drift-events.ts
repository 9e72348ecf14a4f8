import type { ConditionChange, Conditions } from '../cluster/conditions.js';
import type { Logger } from '../base/log.js';
import type { IncidentState, OpenCondition } from '../protocol/drift.js';
import type { Store } from '../store/store.js';
import { conditionEvent } from './condition-event.js';
import {
  driftEvent,
  logDriftEvent,
  suppressedEvent,
  type DriftEvent,
  type EventScope,
} from './drift-event.js';
import { Flood } from './flood.js';
import type { IncidentEvent } from './incident.js';

export interface DriftEventsOptions {
  readonly store: Store;
  readonly log: Logger;
  readonly scope: EventScope;
  readonly conditions: Conditions;
  /** A copy of each event, beside the log. */
  readonly copy: ((event: DriftEvent, isMilestone: boolean) => void) | null;
}

interface StoredCondition {
  readonly source: string;
  readonly state: OpenCondition;
}

/** Keeps incidents and conditions over restarts and tells what happens to them; keeping comes first. */
export class DriftEvents {
  readonly #options: DriftEventsOptions;
  readonly #listeners = new Set<(event: DriftEvent) => void>();
  readonly #flood = new Flood();

  constructor(options: DriftEventsOptions) {
    this.#options = options;
    const { store, conditions } = options;
    for (const text of store.kept.conditions()) {
      const { source, state } = JSON.parse(text) as StoredCondition;
      conditions.restore(source, state);
    }
    conditions.listen((change) => this.#tellCondition(change));
  }

  /** The table's incident that was open when the daemon ended; null: none. */
  restored(table: string): IncidentState | null {
    const stored = this.#options.store.kept.incident(table);
    if (stored === null) return null;
    const state = JSON.parse(stored) as IncidentState;
    // A release of before had no hints.
    return { ...state, certificate: { ...{ hints: [] }, ...state.certificate } };
  }

  keep(state: IncidentState): void {
    this.#options.store.kept.saveIncident(state.table, JSON.stringify(state));
  }

  tell(events: readonly IncidentEvent[]): void {
    const { store } = this.#options;
    const nowMs = Date.now();
    for (const event of events) {
      if (event.event === 'drift_resolved') store.kept.removeIncident(event.state.table);
      else this.keep(event.state);
      if (this.#flood.admits(event, nowMs)) this.#tellIncident(event);
    }
  }

  /** Tells what had to wait. To be called now and then. */
  tellDue(nowMs: number): void {
    const { events, suppressed } = this.#flood.due(nowMs);
    for (const event of events) this.#tellIncident(event);
    if (suppressed !== null) this.#say(suppressedEvent(suppressed, this.#options.scope), false);
  }

  /** Calls `listener` with every event from now on, until the function that is returned is called. */
  listen(listener: (event: DriftEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #tellIncident(event: IncidentEvent): void {
    const isMilestone = event.event === 'drift_opened' || event.event === 'drift_resolved';
    this.#say(driftEvent(event, this.#options.scope), isMilestone);
  }

  #tellCondition(change: ConditionChange): void {
    const { store, scope } = this.#options;
    const { status, state, source } = change;
    try {
      if (status === 'over') store.kept.removeCondition(state.id);
      else {
        store.kept.saveCondition(
          state.id,
          JSON.stringify({ source, state } satisfies StoredCondition),
        );
      }
    } catch {
      // The disk is full, say: the streams tell that. What holds is reported again after a restart.
    }
    this.#say(conditionEvent(change, scope), status === 'over' || state.revision === 1);
  }

  #say(line: DriftEvent, isMilestone: boolean): void {
    const { log, copy } = this.#options;
    logDriftEvent(log, line);
    copy?.(line, isMilestone);
    for (const listener of this.#listeners) listener(line);
  }
}
