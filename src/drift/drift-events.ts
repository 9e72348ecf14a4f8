import type { Logger } from '../base/log.js';
import type { IncidentState } from '../protocol/drift.js';
import type { Store } from '../store/store.js';
import { driftEvent, logDriftEvent, type DriftEvent, type EventScope } from './drift-event.js';
import type { IncidentEvent } from './incident.js';

export interface DriftEventsOptions {
  readonly store: Store;
  readonly log: Logger;
  readonly scope: EventScope;
  /** A copy of each event, beside the log. */
  readonly copy: ((event: DriftEvent, isMilestone: boolean) => void) | null;
}

/** Keeps incidents over restarts and tells what happens to them; keeping comes first. */
export class DriftEvents {
  readonly #options: DriftEventsOptions;
  readonly #listeners = new Set<(event: DriftEvent) => void>();

  constructor(options: DriftEventsOptions) {
    this.#options = options;
  }

  /** The table's incident that was open when the daemon ended; null: none. */
  restored(table: string): IncidentState | null {
    const stored = this.#options.store.incident(table);
    return stored === null ? null : (JSON.parse(stored) as IncidentState);
  }

  keep(state: IncidentState): void {
    this.#options.store.saveIncident(state.table, JSON.stringify(state));
  }

  tell(events: readonly IncidentEvent[]): void {
    const { store, log, scope, copy } = this.#options;
    for (const event of events) {
      if (event.event === 'drift_resolved') store.removeIncident(event.state.table);
      else this.keep(event.state);
      const line = driftEvent(event, scope);
      logDriftEvent(log, line);
      copy?.(line, event.event === 'drift_opened' || event.event === 'drift_resolved');
      for (const listener of this.#listeners) listener(line);
    }
  }

  /** Calls `listener` with every event from now on, until the function that is returned is called. */
  listen(listener: (event: DriftEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
