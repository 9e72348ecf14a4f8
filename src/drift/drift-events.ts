import type { ConditionChange, Conditions } from '../cluster/conditions.js';
import type { Handover } from '../cluster/handover.js';
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
  /** Of the active one of several aced: keeps, and lets tell what is kept; null: there is one. */
  readonly handover: Handover | null;
  /** A copy of each event, beside the log. */
  readonly copy: ((event: DriftEvent, isMilestone: boolean) => void) | null;
}

/** What could not be stored is tried again so often. */
const UNSTORED_REST_MS = 1_000;

interface StoredCondition {
  readonly source: string;
  readonly state: OpenCondition;
}

/** As it is left to a successor: what is over stays until it was told. */
type LeftIncident =
  | { readonly open: IncidentState }
  | { readonly over: IncidentEvent & { readonly event: 'drift_resolved' } };
type LeftCondition = { readonly open: StoredCondition } | { readonly over: ConditionChange };

/**
 * Keeps incidents and conditions over restarts and tells what happens to them. Keeping comes first, so
 * that what was told is known after a restart; where it fails, on a full disk say, it is told all the
 * same, and stored when that is possible again.
 */
export class DriftEvents {
  readonly #options: DriftEventsOptions;
  readonly #listeners = new Set<(event: DriftEvent) => void>();
  readonly #flood = new Flood();
  /** By what it is about, what could not be stored: the newest of each. */
  readonly #unstored = new Map<string, () => void>();
  #storeAtMs = 0;

  constructor(options: DriftEventsOptions) {
    this.#options = options;
    const { store, conditions } = options;
    this.#succeed();
    for (const text of store.kept.conditions()) {
      const { source, state } = JSON.parse(text) as StoredCondition;
      conditions.restore(source, state);
    }
    conditions.listen((change) => this.#tellCondition(change));
  }

  /**
   * What was left by the one before, which may be ourselves, is told from there on; what is over by now,
   * and perhaps was not told, is told now. The state file may know of more that was never told.
   */
  #succeed(): void {
    const { store, handover } = this.#options;
    if (handover === null) return;
    for (const text of store.kept.conditions()) {
      const { state } = JSON.parse(text) as StoredCondition;
      store.kept.removeCondition(state.id);
    }
    store.kept.removeIncidents();
    for (const left of handover.inherited<LeftIncident>('incident')) {
      if ('over' in left) this.#tellIncident(left.over);
      else store.kept.saveIncident(left.open.table, JSON.stringify(left.open));
    }
    for (const left of handover.inherited<LeftCondition>('condition')) {
      if ('over' in left) this.#tellCondition(left.over);
      else store.kept.saveCondition(left.open.state.id, JSON.stringify(left.open));
    }
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
    const { kept } = this.#options.store;
    this.#leave(`incident ${state.id}`, { open: state } satisfies LeftIncident);
    this.#keep(`incident ${state.table}`, () =>
      kept.saveIncident(state.table, JSON.stringify(state)),
    );
  }

  tell(events: readonly IncidentEvent[]): void {
    const { kept } = this.#options.store;
    const nowMs = Date.now();
    for (const event of events) {
      const { table } = event.state;
      if (event.event !== 'drift_resolved') this.keep(event.state);
      else {
        this.#keep(`incident ${table}`, () => kept.removeIncident(table));
        this.#leave(`incident ${event.state.id}`, { over: event } satisfies LeftIncident);
      }
      if (this.#flood.admits(event, nowMs)) this.#tellIncident(event);
    }
  }

  /** Tells, and stores, what had to wait. To be called now and then. */
  tellDue(nowMs: number): void {
    if (this.#unstored.size > 0 && Math.abs(nowMs - this.#storeAtMs) >= UNSTORED_REST_MS) {
      this.#storeAtMs = nowMs;
      for (const [about, write] of [...this.#unstored]) this.#keep(about, write);
    }
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
    if (event.event === 'drift_resolved') this.#leaveNothing(`incident ${event.state.id}`);
  }

  #tellCondition(change: ConditionChange): void {
    const { store, scope } = this.#options;
    const { status, state, source } = change;
    const isOver = status === 'over';
    const stored: StoredCondition = { source, state };
    const name = `condition ${state.id}`;
    this.#keep(name, () =>
      isOver
        ? store.kept.removeCondition(state.id)
        : store.kept.saveCondition(state.id, JSON.stringify(stored)),
    );
    this.#leave(name, (isOver ? { over: change } : { open: stored }) satisfies LeftCondition);
    this.#say(conditionEvent(change, scope), isOver || state.revision === 1);
    if (isOver) this.#leaveNothing(name);
  }

  #leave(name: string, value: LeftIncident | LeftCondition): void {
    this.#options.handover?.keep(name, value);
  }

  /** Once it was told. */
  #leaveNothing(name: string): void {
    const { handover } = this.#options;
    handover?.then(() => handover.keep(name, null));
  }

  /** Streams that cannot be stored tell why. */
  #keep(about: string, write: () => void): void {
    try {
      write();
      this.#unstored.delete(about);
    } catch {
      this.#unstored.set(about, write);
    }
  }

  #say(line: DriftEvent, isMilestone: boolean): void {
    const { handover } = this.#options;
    if (handover === null) this.#sayNow(line, isMilestone);
    else handover.then(() => this.#sayNow(line, isMilestone));
  }

  #sayNow(line: DriftEvent, isMilestone: boolean): void {
    const { log, copy } = this.#options;
    logDriftEvent(log, line);
    copy?.(line, isMilestone);
    for (const listener of this.#listeners) listener(line);
  }
}
