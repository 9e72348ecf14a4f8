import { escapeControls } from '../base/escape-controls.js';
import type { ConditionChange } from '../cluster/conditions.js';
import type { ConditionKind } from '../protocol/drift.js';
import {
  DRIFT_EVENT_SCHEMA,
  SEVERITY,
  epochOf,
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

/** Reasons may quote a server's message. Twice in a line, with names beside it, as bytes of the line. */
const MAX_REASON_BYTES = 800;

/** The line that tells a condition's event. Pure. */
export function conditionEvent(change: ConditionChange, scope: EventScope): DriftEvent {
  const { status, state, openForMs } = change;
  const isOver = status === 'over';
  const level: EventLevel = isOver ? 'info' : 'warn';
  const reason = cut(state.reason);
  const fields = {
    ...EVENTS[state.kind][status],
    schema: DRIFT_EVENT_SCHEMA,
    incident: state.id,
    revision: state.revision,
    cluster: scope.cluster,
    database: scope.database,
    ...epochOf(scope),
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
  return shortened({ level, fields, message: messageOf(change, reason) });
}

function cut(text: string): string {
  let end = text.length;
  let bytes = 0;
  for (let at = 0; at < text.length; at++) {
    bytes += Buffer.byteLength(escapeControls(JSON.stringify(text[at]))) - 2;
    if (bytes > MAX_REASON_BYTES) {
      end = at;
      break;
    }
  }
  return end < text.length ? `${text.slice(0, end)}…` : text;
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
