import type { StatusProblem, StatusResult, TableStatus } from '../protocol/commands.js';
import type { TableState } from '../protocol/states.js';
import type { LiveVerdict } from '../protocol/drift.js';

type TableFacts = Pick<TableStatus, 'table' | 'state' | 'reason' | 'lastDiff' | 'live'>;

export interface StatusFacts extends Pick<
  StatusResult,
  'cluster' | 'daemon' | 'nodes' | 'subscriptions' | 'conditions'
> {
  readonly tables: readonly TableFacts[];
  readonly isInitialised: boolean;
  /** Where a daemon would listen. */
  readonly socketPath: string;
}

/**
 * What keeps a status from being good news. Pure. A table that was never compared is none: nothing
 * is said of it. Whoever adds something to `status` that can be bad adds it here.
 */
export function statusProblems(facts: StatusFacts): StatusProblem[] {
  const { cluster, daemon, isInitialised, nodes, subscriptions, tables, conditions } = facts;
  if (!daemon) {
    const here = `no aced is running here, none listens on ${facts.socketPath}`;
    const streaming = nodes.find(({ slotPid }) => slotPid !== null);
    const other =
      streaming === undefined
        ? ''
        : `; but process ${streaming.slotPid} on node ${streaming.name} streams from ${streaming.slot}: ` +
          "set ACED_SOCKET to that aced's socket";
    return [trouble(cluster, `${here}${other}`)];
  }
  if (!isInitialised) return [trouble(cluster, `run acectl mtree init ${cluster}`)];
  const problems = [
    ...nodes
      .filter(({ state, error }) => state !== 'streaming' || error !== null)
      .map(({ name, state, error }) => trouble(name, error ?? `the stream is ${state}`)),
    ...subscriptions
      .filter(({ state }) => state !== 'running')
      .map(({ name, from, to, state, since }) =>
        trouble(`${from} -> ${to}`, `subscription ${name} is ${state} since ${since}`),
      ),
    ...tables.flatMap(tableProblems),
  ];
  const told = new Set(problems.map(({ subject }) => subject));
  return [
    ...problems,
    ...conditions
      .filter(({ subject }) => !told.has(subject))
      .map(({ kind, subject, reason }) => trouble(subject, `${kind}: ${reason}`)),
  ];
}

function tableProblems({ table, state, reason, lastDiff, live }: TableFacts): StatusProblem[] {
  const problems: StatusProblem[] = [];
  if (state === 'building' || state === 'stale' || state === 'failed') {
    problems.push(trouble(table, reason === null ? state : `${state}: ${reason}`));
  }
  if (live !== null) problems.push(...liveProblems(table, state, live));
  const verdict = lastDiff?.verdict ?? 'match';
  if (verdict === 'drift') {
    // What a diff has found stays found, unless the streams have shown the rows equal since.
    const isTold = live?.verdict === 'drift';
    const isOver =
      lastDiff?.isBeyondTree === false &&
      live?.verdict === 'match' &&
      live.sinceMs > Date.parse(lastDiff.at);
    if (!isTold && !isOver) {
      problems.push({ kind: 'different', subject: table, message: 'differed when last compared' });
    }
  } else if (verdict !== 'match' && live === null) {
    problems.push(trouble(table, `was not proved equal when last compared: ${verdict}`));
  }
  return problems;
}

/** Rows in flight are none: they are on their way. */
function liveProblems(table: string, state: TableState, live: LiveVerdict): StatusProblem[] {
  switch (live.verdict) {
    case 'match':
    case 'in_flight':
      return [];
    case 'drift':
      return [
        { kind: 'different', subject: table, message: `differs: incident ${live.incident ?? '?'}` },
      ];
    case 'starved':
    case 'schema_mismatch':
    case 'unverified':
      // Its state has been told.
      if (state !== 'live') return [];
      return [trouble(table, `${live.verdict}: ${live.reason ?? 'not compared'}`)];
  }
}

function trouble(subject: string, message: string): StatusProblem {
  return { kind: 'trouble', subject, message };
}
