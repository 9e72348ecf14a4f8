import { join } from 'node:path';
import { steadyNowMs } from '../base/clock.js';
import { aborted, sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import type { NotFollowed } from '../cluster/table-tracker.js';
import type { Canary } from '../drift/canary.js';
import { eventRecord } from '../drift/drift-event.js';
import type { DriftEvents } from '../drift/drift-events.js';
import type { DriftWatch } from '../drift/drift-watch.js';
import type {
  AcknowledgeParams,
  CommandContext,
  DriftRepairParams,
  DriftRepairResult,
  IncidentParams,
} from '../protocol/commands.js';
import type { DriftListResult, IncidentState, TableVerdict } from '../protocol/drift.js';
import { diffTree } from './diff-tree.js';
import { repair } from './repair.js';

/** What a daemon has that judges its tables all the time. */
export interface LiveDrift {
  readonly watch: DriftWatch;
  readonly events: DriftEvents;
  readonly canary: Canary;
}

const CLOSE_POLL_MS = 50;
/** How long the streams may take to show a repair. */
const CLOSE_TIMEOUT_MS = 30_000;

/** `drift list`: the verdict on every tracked table, and the open incidents. */
export function listDrift(
  cluster: Cluster,
  { watch }: LiveDrift,
  notFollowed: readonly NotFollowed[],
): DriftListResult {
  const followed = cluster.tables.map((table) => ({
    table: table.label,
    ...watch.verdict(table),
  }));
  const known = new Set(followed.map(({ table }) => table));
  const others = notFollowed
    .filter(({ label }) => !known.has(label))
    .map(({ label, kind, reason, sinceMs }): TableVerdict => ({
      table: label,
      verdict: kind === 'schema_mismatch' ? kind : 'unverified',
      sinceMs,
      reason,
      positions: {},
      openRows: 0,
      incident: null,
    }));
  return {
    tables: [...followed, ...others],
    incidents: watch.incidents,
  };
}

/** `drift show`. Errors: BAD_USAGE when no open incident has this id. */
export function showIncident({ watch }: LiveDrift, { incident }: IncidentParams): IncidentState {
  return findIncident(watch, incident);
}

/** `drift ack`: somebody has seen it. Errors: BAD_USAGE. */
export function acknowledge({ watch }: LiveDrift, params: AcknowledgeParams): IncidentState {
  const { id } = findIncident(watch, params.incident);
  return watch.acknowledge(id, params.by ?? 'somebody') ?? findIncident(watch, id);
}

/** `drift watch`: every event from now on, until the client goes. */
export async function watchDrift(
  cluster: Cluster,
  live: LiveDrift,
  context: CommandContext,
): Promise<DriftListResult> {
  const { signal, emit } = context;
  const stop = live.events.listen((event) =>
    emit({ type: 'drift', fields: eventRecord(event, new Date()) }),
  );
  try {
    await aborted(signal);
  } finally {
    stop();
  }
  return listDrift(cluster, live, []);
}

/**
 * `drift repair`: compares the incident's table now, repairs it from the source of truth, and waits
 * until every stream has shown the fix. Errors: BAD_USAGE, those of a diff and of a repair.
 */
export async function repairIncident(
  cluster: Cluster,
  { watch }: LiveDrift,
  { params, context }: { readonly params: DriftRepairParams; readonly context: CommandContext },
): Promise<DriftRepairResult> {
  const { id, table } = findIncident(watch, params.incident);
  const quoted = quotedLabel(cluster, table);
  const diff = await diffTree(cluster, { table: quoted }, context);
  const [file] = diff.files;
  if (diff.verdict !== 'drift' || file === undefined) {
    throw new AcedError('STARVED', `${table} is ${diff.verdict} now: nothing was repaired`, {
      hint: `Look again: acectl drift show ${id}`,
    });
  }
  const result = await repair(
    cluster,
    {
      table: quoted,
      ...(params.sourceOfTruth === undefined ? {} : { sourceOfTruth: params.sourceOfTruth }),
      ...(params.fireTriggers === undefined ? {} : { fireTriggers: params.fireTriggers }),
    },
    { ...context, inputPath: join(context.reportDir, file), inputName: file },
  );
  watch.repaired(table);
  const deadline = steadyNowMs() + CLOSE_TIMEOUT_MS;
  const isOpen = (): boolean => watch.incidents.some((incident) => incident.id === id);
  while (isOpen() && steadyNowMs() < deadline) await sleep(CLOSE_POLL_MS, context.signal);
  return { ...result, files: [file, ...result.files], incident: id, isResolved: !isOpen() };
}

/** By its id, or by the first characters of it that no other one has. */
function findIncident({ incidents }: DriftWatch, id: string): IncidentState {
  const [found, ...others] = incidents.filter((incident) => incident.id.startsWith(id));
  if (found !== undefined && others.length === 0) return found;
  const known = incidents.map((incident) => `${incident.id} (${incident.table})`);
  throw new AcedError(
    'BAD_USAGE',
    found === undefined ? `no open incident ${id}` : `several open incidents begin with ${id}`,
    { hint: known.length === 0 ? 'There is none.' : `Open are ${known.join(', ')}.` },
  );
}

function quotedLabel(cluster: Cluster, label: string): string {
  const found = cluster.tables.find((table) => table.label === label);
  const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;
  return found === undefined ? label : `${quote(found.spec.schema)}.${quote(found.spec.name)}`;
}
