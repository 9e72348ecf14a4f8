import type { ConditionChange } from '../cluster/conditions.js';
import type { ConditionKind } from '../protocol/drift.js';
import {
  DRIFT_EVENT_SCHEMA,
  SEVERITY,
  shortened,
  type DriftEvent,
  type EventLevel,
  type EventScope,
} from './drift-event.js';

/** What a condition is told as while it holds, and when it is over. */
const EVENTS: Record<ConditionKind, { readonly open: Told; readonly over: Told }> = {
  replication_starved: {
    open: { event: 'replication_starved' },
    over: { event: 'replication_recovered' },
  },
  schema_mismatch: { open: { event: 'schema_mismatch' }, over: { event: 'schema_mismatch' } },
  slot_lags: { open: { event: 'slot_lags' }, over: { event: 'slot_lags' } },
  coverage: { open: { event: 'coverage' }, over: { event: 'coverage' } },
};

interface Told {
  readonly event: string;
}

/** Reasons may quote a server's message. */
const MAX_REASON_LENGTH = 500;

/** The line that tells a condition's event. Pure. */
export function conditionEvent(change: ConditionChange, scope: EventScope): DriftEvent {
  const { status, state, openForMs } = change;
  const isOver = status === 'over';
  const level: EventLevel = isOver ? 'info' : 'warn';
  const reason =
    state.reason.length > MAX_REASON_LENGTH
      ? `${state.reason.slice(0, MAX_REASON_LENGTH)}…`
      : state.reason;
  const fields = {
    ...EVENTS[state.kind][status],
    schema: DRIFT_EVENT_SCHEMA,
    incident: state.id,
    revision: state.revision,
    cluster: scope.cluster,
    database: scope.database,
    status,
    about: state.about,
    subject: state.subject,
    reason,
    ...state.facts,
    since: new Date(state.sinceMs).toISOString(),
    ...(isOver ? { openForMs } : {}),
    severityNumber: SEVERITY[level],
    fingerprint: [scope.cluster, scope.database, state.kind, state.subject].join('/'),
  };
  return { level, fields: shortened(fields), message: messageOf(change, reason) };
}

function messageOf({ status, state }: ConditionChange, reason: string): string {
  if (status === 'open') return `${state.subject}: ${reason}`;
  switch (state.kind) {
    case 'replication_starved':
      return `${state.subject}: changes are delivered again`;
    case 'schema_mismatch':
      return `${state.subject}: it is the same on all nodes again`;
    case 'slot_lags':
      return `${state.subject}: the slot no longer lags`;
    case 'coverage':
      return `${state.subject}: verified again, or no longer to be`;
  }
}
