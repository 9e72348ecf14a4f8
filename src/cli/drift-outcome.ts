import type { CanaryResult, DriftListResult, IncidentState } from '../protocol/drift.js';
import {
  age,
  EXIT_DIFFERENT,
  EXIT_DONE,
  EXIT_TROUBLE,
  grid,
  plain,
  type Outcome,
} from './outcome-lines.js';

/** `drift list`: exit code as a diff's, over all tables; rows in flight are no trouble. */
export function describeDriftList({ tables, incidents }: DriftListResult): Outcome {
  const rows = tables.map(({ table, verdict, sinceMs, openRows, incident, reason }) => [
    table,
    verdict,
    age(sinceMs),
    String(openRows),
    incident?.slice(0, 8) ?? '-',
    reason ?? '',
  ]);
  const head = ['TABLE', 'VERDICT', 'SINCE', 'OPEN', 'INCIDENT', ''];
  const lines = grid([head, ...rows]).map(plain);
  if (incidents.length > 0) lines.push(plain(''), ...grid(incidentRows(incidents)).map(plain));
  const verdicts = new Set(tables.map(({ verdict }) => verdict));
  const isProved = [...verdicts].every((verdict) =>
    ['match', 'in_flight', 'drift'].includes(verdict),
  );
  if (!isProved) return { lines, exitCode: EXIT_TROUBLE };
  return { lines, exitCode: verdicts.has('drift') ? EXIT_DIFFERENT : EXIT_DONE };
}

function incidentRows(incidents: readonly IncidentState[]): string[][] {
  const head = ['INCIDENT', 'TABLE', 'ROWS', 'KIND', 'AGREE', 'CAUSE', 'OPEN FOR', 'SEEN BY'];
  return [
    head,
    ...incidents.map((incident) => [
      incident.id.slice(0, 8),
      incident.table,
      String(incident.rows),
      incident.kind,
      agreement(incident),
      incident.certificate.cause,
      age(incident.openedAtMs),
      incident.acknowledgedBy ?? '-',
    ]),
  ];
}

/** `drift show`, `drift ack`. */
export function describeIncident(incident: IncidentState): Outcome {
  const { certificate, missing, extra, different } = incident;
  const { detectedAfterMs } = certificate;
  const facts: [string, string][] = [
    ['Incident', incident.id],
    ['Table', incident.table],
    ['Open since', new Date(incident.openedAtMs).toISOString()],
    ['Rows', `${incident.rows} (${missing} missing, ${extra} extra, ${different} different)`],
    ['Agree', agreement(incident)],
    ['Cause', certificate.cause],
    ['Found by', certificate.trigger === 'change' ? 'a change' : 'comparing the whole table'],
    ['Found after', detectedAfterMs === null ? 'unknown' : `${detectedAfterMs} ms`],
    ['Seen by', incident.acknowledgedBy ?? 'nobody'],
    ...certificate.hints.map((hint): [string, string] => ['Hint', hint]),
    ...incident.keys.map((key): [string, string] => ['Key', key.join(', ')]),
  ];
  const writes = Object.entries(certificate.lastWrites).map(([node, write]) => [
    node,
    write.xid === null ? 'no such row' : `xid ${write.xid}${write.isRemoval ? ', removed' : ''}`,
    write.commitTime ?? '-',
    write.origin ?? '-',
    certificate.positions[node] ?? '-',
  ]);
  const lines = grid(facts).map(plain);
  if (writes.length > 0) {
    const head = ['NODE', 'LAST WRITE', 'COMMITTED', 'ORIGIN', 'POSITION'];
    lines.push(plain(''), ...grid([head, ...writes]).map(plain));
  }
  return { lines, exitCode: EXIT_DONE };
}

/** `drift canary`: exit code 2 when a difference was not found. */
export function describeCanary({ foundAfterMs }: CanaryResult): Outcome {
  const nodes = Object.entries(foundAfterMs);
  const lines = grid(
    nodes.map(([node, afterMs]) => [
      node,
      afterMs === null ? 'not found' : `found in ${afterMs} ms`,
    ]),
  ).map(plain);
  const isLost = nodes.some(([, afterMs]) => afterMs === null);
  return { lines, exitCode: isLost ? EXIT_TROUBLE : EXIT_DONE };
}

/** `n1 n3 | n2` */
function agreement({ agreement: groups }: IncidentState): string {
  return groups.map((nodes) => nodes.join(' ')).join(' | ');
}
