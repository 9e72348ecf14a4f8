import { escapeControls } from '../base/escape-controls.js';
import type { Logger } from '../base/log.js';
import type { IncidentState } from '../protocol/drift.js';
import type { IncidentEvent } from './incident.js';

/** Version of the events' form; docs/14-drift.md and drift-event.schema.json describe it. */
export const DRIFT_EVENT_SCHEMA = 1;

/** journald hands out longer messages as null or as bytes, unless it is asked for them in full. */
const MAX_EVENT_BYTES = 4000;

/** OpenTelemetry's severity numbers. */
export const SEVERITY = { info: 9, warn: 13 } as const;
export type EventLevel = keyof typeof SEVERITY;

export interface EventScope {
  readonly cluster: string;
  /** Of the first node. */
  readonly database: string;
  readonly nodes: readonly string[];
  readonly hasKeys: boolean;
  /** Of the active one of several aced: what an earlier one tells after a later one no longer counts. */
  readonly epoch: number | null;
}

/** One flat JSON object, a line of the log: every event carries the whole state. */
export interface DriftEvent {
  readonly level: EventLevel;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

export function epochOf({ epoch }: EventScope): { readonly epoch?: number } {
  return epoch === null ? {} : { epoch };
}

/** The line that tells an incident's event. Pure. */
export function driftEvent(incident: IncidentEvent, scope: EventScope): DriftEvent {
  const { event, state } = incident;
  const level: EventLevel = event === 'drift_resolved' ? 'info' : 'warn';
  const { certificate } = state;
  const writes = Object.entries(certificate.lastWrites);
  const known = (field: 'origin' | 'xid' | 'commitTime'): Record<string, string> =>
    Object.fromEntries(
      writes.flatMap(([node, write]) => {
        const value = write[field];
        return value === null ? [] : [[node, value]];
      }),
    );
  const fields = {
    event,
    schema: DRIFT_EVENT_SCHEMA,
    incident: state.id,
    revision: state.revision,
    cluster: scope.cluster,
    database: scope.database,
    ...epochOf(scope),
    table: state.table,
    kind: state.kind,
    rows: state.rows,
    missing: state.missing,
    extra: state.extra,
    different: state.different,
    nodes: scope.nodes,
    agree: state.agreement,
    since: new Date(state.openedAtMs).toISOString(),
    trigger: certificate.trigger,
    cause: certificate.cause,
    detectedAfterMs: certificate.detectedAfterMs,
    positions: certificate.positions,
    origin: known('origin'),
    xid: known('xid'),
    commitTime: known('commitTime'),
    ...(certificate.hints.length === 0 ? {} : { hints: certificate.hints }),
    ...(state.acknowledgedBy === null ? {} : { acknowledgedBy: state.acknowledgedBy }),
    ...(incident.event === 'drift_resolved'
      ? { how: incident.how, openForMs: incident.openForMs }
      : {}),
    severityNumber: SEVERITY[level],
    fingerprint: [scope.cluster, scope.database, state.table].join('/'),
    ...(scope.hasKeys ? { keys: state.keys } : {}),
  };
  return shortened({ level, fields, message: messageOf(incident) });
}

export interface Suppressed {
  /** Openings and updates that wait for their turn. */
  readonly count: number;
  /** Some of the tables that they are of. */
  readonly tables: readonly string[];
}

/** The line that says that a flood of incidents is told bit by bit. Pure. */
export function suppressedEvent({ count, tables }: Suppressed, scope: EventScope): DriftEvent {
  const fields = {
    event: 'drift_suppressed',
    schema: DRIFT_EVENT_SCHEMA,
    cluster: scope.cluster,
    database: scope.database,
    ...epochOf(scope),
    count,
    tables,
    severityNumber: SEVERITY.warn,
    fingerprint: [scope.cluster, scope.database, 'drift_suppressed'].join('/'),
  };
  const message = `${count} events of drift wait for their turn; acectl drift list shows all`;
  return shortened({ level: 'warn', fields, message });
}

/** Tells an event through the log. */
export function logDriftEvent(log: Logger, { level, fields, message }: DriftEvent): void {
  log[level](fields, message);
}

function messageOf(incident: IncidentEvent): string {
  const { state } = incident;
  switch (incident.event) {
    case 'drift_resolved':
      return `${state.table} is equal again on all nodes`;
    case 'drift_opened':
      return `${rowsText(state)} of ${state.table} differ and replication has passed them`;
    case 'drift_updated':
      return `${rowsText(state)} of ${state.table} differ now`;
    case 'drift_reminder':
      return `${rowsText(state)} of ${state.table} still differ`;
  }
}

function rowsText({ rows }: IncidentState): string {
  return rows === 1 ? '1 row' : `${rows} rows`;
}

/** In this order: what can be found elsewhere goes first. */
const LONG_FIELDS = [
  'keys',
  'hints',
  'tables',
  'commitTime',
  'xid',
  'origin',
  'positions',
  'agree',
  'nodes',
] as const;

/** Leaves out what is long until the line is short enough, and says so. */
export function shortened(event: DriftEvent): DriftEvent {
  let short = event;
  for (const name of LONG_FIELDS) {
    if (Buffer.byteLength(eventLine(short, new Date(0))) < MAX_EVENT_BYTES) break;
    if (!(name in short.fields)) continue;
    const kept = Object.entries(short.fields).filter(([field]) => field !== name);
    short = { ...short, fields: { ...Object.fromEntries(kept), truncated: true } };
  }
  return short;
}

/** The whole event, as docs/drift-event.schema.json has it. */
export function eventRecord(
  { level, fields, message }: DriftEvent,
  time: Date,
): Readonly<Record<string, unknown>> {
  return { level, time: time.toISOString(), ...fields, msg: message };
}

/** The event as a line of the log has it. */
export function eventLine(event: DriftEvent, time: Date): string {
  return escapeControls(JSON.stringify(eventRecord(event, time)));
}
