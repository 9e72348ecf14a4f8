import { formatDuration } from '../base/duration.js';
import type { RepairAudit, Rhythm, TasksResult } from '../protocol/tasks.js';
import { EXIT_DONE, age, grid, plain, type Outcome } from './outcome-lines.js';

/** `tasks`: the jobs with their next run, then what has ended, newest first. */
export function describeTasks({ tasks, jobs }: TasksResult): Outcome {
  const lines = [];
  if (jobs.length > 0) {
    const rows = jobs.map(({ name, command, rhythm, nextAt, isRunning, last }) => [
      name,
      command,
      rhythmText(rhythm),
      isRunning ? 'running' : (nextAt ?? 'never'),
      last === null ? '-' : `${last.outcome}, ${age(Date.parse(last.startedAt))} ago`,
    ]);
    lines.push(...grid([['JOB', 'COMMAND', 'RHYTHM', 'NEXT', 'LAST'], ...rows]), '');
  }
  const rows = tasks.map(({ id, job, command, subject, startedAt, tookMs, outcome, message }) => [
    String(id),
    startedAt.replace(/\.\d+Z$/, 'Z'),
    job ?? '-',
    command,
    subject ?? '-',
    `${(tookMs / 1000).toFixed(2)} s`,
    message === null ? outcome : `${outcome}: ${message}`,
  ]);
  const head = ['ID', 'STARTED', 'JOB', 'COMMAND', 'OF', 'TOOK', 'OUTCOME'];
  if (rows.length === 0) lines.push('No command has ended yet');
  else lines.push(...grid([head, ...rows]));
  for (const { id, repair } of tasks) if (repair !== null) lines.push(...auditLines(id, repair));
  return { lines: lines.map(plain), exitCode: EXIT_DONE };
}

/** Who, from what, and what became of it. */
function auditLines(id: number, audit: RepairAudit): string[] {
  const { file, fileHash, planHash, flags, nodes } = audit;
  const by = whoOf(audit);
  const plan = planHash === null ? '' : `, plan ${planHash}`;
  return [
    '',
    `Task ${id}: by ${by}, from ${file ?? 'no file'} (SHA-256 ${fileHash ?? 'not known'})${plan}`,
    ...(flags.length === 0 ? [] : [`  ${flags.join(' ')}`]),
    ...Object.entries(nodes ?? {}).map(
      ([node, { upserted, deleted, skipped, failed, digestBefore, digestAfter }]) =>
        `  ${node}: ${upserted} upserted, ${deleted} deleted, ${skipped} skipped, ${failed} failed; digests ${digestBefore} before, ${digestAfter} after`,
    ),
  ];
}

function whoOf({ uid, certificate }: RepairAudit): string {
  if (certificate !== undefined) return `certificate ${certificate}`;
  return uid === null ? 'a user who is not known' : `uid ${uid}`;
}

function rhythmText(rhythm: Rhythm): string {
  const windows = rhythm.notBetween?.windows ?? [];
  return [timesText(rhythm), ...windows.map((window) => `not ${window}`)].join(', ');
}

function timesText(rhythm: Rhythm): string {
  if (rhythm.kind === 'every') return `every ${formatDuration(rhythm.ms)}`;
  return rhythm.timeZone === null ? rhythm.pattern : `${rhythm.pattern} ${rhythm.timeZone}`;
}
