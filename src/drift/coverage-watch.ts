import type { Cluster } from '../cluster/cluster.js';
import { Loop, tellsFailures } from '../base/loop.js';
import type { PipelineState } from '../ingest/pipeline-state.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { Condition } from '../protocol/drift.js';
import { openQuestion, type TableSpec } from '../table/table-spec.js';

export interface CoverageWatchOptions {
  readonly intervalMs?: number;
  /** A stream connects again, and a tree is built again, without that being told. */
  readonly graceMs?: number;
}

const INTERVAL_MS = 1_000;
const GRACE_MS = 10_000;

/** Reports which tables and nodes are not verified, and why: what aced does not say is not silence. */
export class CoverageWatch {
  readonly #cluster: Cluster;
  readonly #graceMs: number;
  readonly #loop: Loop;

  constructor(
    cluster: Cluster,
    { intervalMs = INTERVAL_MS, graceMs = GRACE_MS }: CoverageWatchOptions = {},
  ) {
    this.#cluster = cluster;
    this.#graceMs = graceMs;
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'coverage_watch_failed'),
      backoff: { firstMs: intervalMs, maxMs: intervalMs },
      round: () => {
        this.#look(Date.now());
        return Promise.resolve(intervalMs);
      },
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  #look(nowMs: number): void {
    const { conditions, tables, pipelines } = this.#cluster;
    const unsure = { nowMs, graceMs: this.#graceMs };
    const streams = Array.from(pipelines, ([node, { state }]) => streamCondition(node, state));
    conditions.report('streams', streams.flat(), unsure);
    conditions.report('trees', tables.flatMap(treeCondition), unsure);
    conditions.report('columns', tables.flatMap(columnCondition), { nowMs });
  }
}

/** A node that cannot be reached delivers nothing to the others either. */
function streamCondition(node: string, state: PipelineState): Condition[] {
  if (state.kind === 'streaming' || state.kind === 'stopped') return [];
  const common = { about: 'node', subject: node, facts: { node } } as const;
  if (state.kind === 'waiting' && state.error.code === 'NODE_UNREACHABLE') {
    return [
      { ...common, kind: 'replication_starved', reason: `it is down: ${state.error.logMessage}` },
    ];
  }
  const why = state.kind === 'waiting' ? `: ${state.error.logMessage}` : '';
  return [{ ...common, kind: 'coverage', reason: `its stream is ${state.kind}${why}` }];
}

const MISMATCHES: ReadonlySet<string> = new Set(['SCHEMA_MISMATCH', 'NO_SUCH_TABLE']);

/** Whether the table cannot be compared because it is not the same on all nodes. */
export function isMismatch({ problem }: TrackedTable): boolean {
  return problem !== null && MISMATCHES.has(problem);
}

function treeCondition(table: TrackedTable): Condition[] {
  if (table.state === 'live') return [];
  return [
    {
      kind: isMismatch(table) ? 'schema_mismatch' : 'coverage',
      about: 'table',
      subject: table.label,
      reason: `its tree is ${table.state}${table.reason === null ? '' : `: ${table.reason}`}`,
      facts: { table: table.label },
    },
  ];
}

function columnCondition({ label, spec }: TrackedTable): Condition[] {
  const question = openQuestion(spec);
  if (question === null) return [];
  return [
    {
      kind: question === 'schema_mismatch' ? question : 'coverage',
      about: 'table',
      subject: label,
      reason: columnsNotCompared(spec),
      facts: { table: label },
    },
  ];
}

/** For people: which columns are left out although nobody asked for it. */
export function columnsNotCompared({ excluded }: TableSpec): string {
  const named = (cause: string): string =>
    excluded.flatMap((one) => (one.cause === cause ? [one.name] : [])).join(', ');
  const parts = [
    ['missing', 'not on every node'],
    ['unstable', 'their text depends on other objects'],
  ].flatMap(([cause = '', why]) => (named(cause) === '' ? [] : [`${named(cause)} (${why})`]));
  return `columns are not compared: ${parts.join('; ')}`;
}
