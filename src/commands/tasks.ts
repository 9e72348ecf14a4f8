import { steadyNowMs } from '../base/clock.js';
import { AcedError, logMessage } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import type { CommandName } from '../protocol/commands.js';
import type {
  ApiRequest,
  ApiTask,
  JobStatus,
  RepairAudit,
  TasksParams,
  TasksResult,
} from '../protocol/tasks.js';

const DEFAULT_LIMIT = 20;

/** Questions that leave nothing behind. */
const UNRECORDED: ReadonlySet<CommandName> = new Set<CommandName>([
  ...(['status', 'top', 'names', 'tasks', 'drift-list', 'drift-show', 'drift-watch'] as const),
]);

export function listTasks(
  cluster: Cluster,
  { limit = DEFAULT_LIMIT, job }: TasksParams,
  jobs: readonly JobStatus[],
): TasksResult {
  return {
    tasks: cluster.store.tasks.list({ limit, job }),
    jobs: jobs.filter(({ name }) => job === undefined || name === job),
  };
}

export interface EndedCommand {
  readonly name: CommandName;
  readonly params: object;
  readonly job: string | undefined;
  readonly api: ApiRequest | undefined;
  /** On the clock, and on the one that nobody sets. */
  readonly startedAt: Date;
  readonly startedAtMs: number;
  /** Null: it repaired nothing. */
  readonly audit: RepairAudit | null;
  /** What it answered, or what it threw. */
  readonly ended: { readonly outcome: object } | { readonly error: unknown };
}

/** Remembers a command that has ended. Returns how: Task.outcome. */
export function recordTask(cluster: Cluster, command: EndedCommand): string {
  const { name, params, job, api, startedAt, startedAtMs, audit, ended } = command;
  const error = 'error' in ended ? ended.error : null;
  const outcome = 'outcome' in ended ? outcomeOf(ended.outcome) : codeOf(error);
  if (UNRECORDED.has(name)) return outcome;
  cluster.store.tasks.add({
    job: job ?? null,
    command: name,
    subject: subjectOf(params),
    startedAt: startedAt.toISOString(),
    tookMs: steadyNowMs() - startedAtMs,
    outcome,
    message: error === null ? null : logMessage(error),
    files: 'outcome' in ended && 'files' in ended.outcome ? textsOf(ended.outcome.files) : [],
    repair: audit,
    api: api === undefined ? null : apiTask(api, 'outcome' in ended ? ended.outcome : null),
  });
  return outcome;
}

/** Of a result, in characters: one of a thousand tables is in the files and the log. */
const MAX_KEPT_RESULT = 64 * 1024;

function apiTask(api: ApiRequest, outcome: object | null): ApiTask {
  const isKept = outcome !== null && JSON.stringify(outcome).length <= MAX_KEPT_RESULT;
  return { ...api, result: isKept ? outcome : null };
}

function codeOf(error: unknown): string {
  return error instanceof AcedError ? error.code : 'INTERNAL';
}

/** Of many tables the worst end that some table had. */
const ENDS = ['failed', 'unproved', 'different', 'missing', 'equal', 'done', 'skipped'];

function outcomeOf(outcome: object): string {
  if ('verdict' in outcome && typeof outcome.verdict === 'string') return outcome.verdict;
  if ('counts' in outcome && 'tables' in outcome) {
    const counts = new Map(Object.entries(outcome.counts as Record<string, number>));
    return ENDS.find((end) => (counts.get(end) ?? 0) > 0) ?? 'done';
  }
  if ('exitCode' in outcome) return outcome.exitCode === 0 ? 'equal' : 'different';
  if ('hidden' in outcome && 'problems' in outcome && 'differences' in outcome) {
    if (lengthOf(outcome.hidden) > 0) return 'unproved';
    const isAlike = lengthOf(outcome.problems) + lengthOf(outcome.differences) === 0;
    return isAlike ? 'equal' : 'different';
  }
  return 'done';
}

function lengthOf(list: unknown): number {
  return Array.isArray(list) ? list.length : 0;
}

function textsOf(list: unknown): string[] {
  return Array.isArray(list) ? list.filter((one) => typeof one === 'string') : [];
}

function subjectOf(params: object): string | null {
  const fields = new Map<string, unknown>(Object.entries(params));
  for (const name of ['table', 'schema', 'incident', 'repset', 'publication']) {
    const value = fields.get(name);
    if (typeof value === 'string') return value;
  }
  const many = [...textsOf(fields.get('tables')), ...textsOf(fields.get('schemas'))];
  if (many.length > 0) return many.join(', ');
  return fields.get('all') === true ? 'all tables' : null;
}
