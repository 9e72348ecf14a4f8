import { Cron } from 'croner';
import { parseDuration } from '../base/duration.js';
import { AcedError, errorMessage } from '../base/errors.js';
import type { CommandName } from '../protocol/commands.js';
import { isObject } from '../protocol/params.js';
import type { Rhythm } from '../protocol/tasks.js';
import { checkBlackout, firstOutside, type Blackout } from './blackout.js';
import { jobRequest, type JobRequest } from './job-request.js';
import type { SettingSources } from './settings.js';
import type { YamlFile } from './yaml-files.js';

/** A command that the daemon runs by itself. */
export interface JobConfig {
  readonly name: string;
  readonly request: JobRequest<CommandName>;
  readonly rhythm: Rhythm;
}

export interface Schedule {
  readonly jobs: readonly JobConfig[];
  /** Jobs that do not run, and why: they are switched off, another cluster's, or ACE's and not for us. */
  readonly left: readonly { readonly job: string; readonly reason: string }[];
}

export const SCHEDULE_KEYS = ['schedule_jobs', 'schedule_config'] as const;

/**
 * The jobs of `aced.yaml`, or where it has none of ACE's `ace.yaml`. Errors: BAD_CONFIG naming file and
 * job; a job of ACE's that we cannot run is left instead, since its file is not ours to refuse.
 */
export function readSchedule({ aced, ace }: SettingSources, cluster: string): Schedule {
  const own = SCHEDULE_KEYS.some((key) => aced?.values.has(key) === true);
  const file = own ? aced : ace;
  if (file === undefined) return { jobs: [], left: [] };
  const definitions = byName(file, listOf(file, 'schedule_jobs'));
  const jobs: JobConfig[] = [];
  const left: { job: string; reason: string }[] = [];
  const planned = new Set<string>();
  for (const entry of listOf(file, 'schedule_config')) {
    const name = textOf(entry['job_name']) ?? '';
    planned.add(name);
    try {
      const job = readJob(name, entry, { definition: definitions.get(name), cluster });
      if (typeof job === 'string') left.push({ job: name, reason: job });
      else jobs.push(job);
    } catch (error) {
      if (own) throw bad(`${file.path}, job ${JSON.stringify(name)}`, error);
      left.push({ job: name, reason: errorMessage(error) });
    }
  }
  for (const name of definitions.keys()) {
    if (!planned.has(name)) left.push({ job: name, reason: 'schedule_config does not name it' });
  }
  const [twice] = jobs.filter(({ name }, i) => jobs.findIndex((one) => one.name === name) !== i);
  if (twice !== undefined) {
    throw bad(`${file.path}, job ${JSON.stringify(twice.name)}`, 'schedule_config names it twice');
  }
  return { jobs, left };
}

type Entry = Readonly<Record<string, unknown>>;

interface JobContext {
  readonly definition: Entry | undefined;
  readonly cluster: string;
}

/** A text: why it does not run. */
function readJob(
  name: string,
  entry: Entry,
  { definition, cluster }: JobContext,
): JobConfig | string {
  if (name === '') throw new RangeError('an entry of schedule_config has no job_name');
  if (definition === undefined) throw new RangeError('schedule_jobs has no job of this name');
  const rhythm = readRhythm(entry);
  const of = textOf(definition['cluster_name']);
  if (of !== undefined && of !== cluster) return `it is of cluster ${of}`;
  const request = jobRequest(definition);
  return entry['enabled'] === false ? 'it is switched off' : { name, request, rhythm };
}

function readRhythm(entry: Entry): Rhythm {
  const every = textOf(entry['run_frequency']);
  const pattern = textOf(entry['crontab_schedule']);
  if ((every === undefined) === (pattern === undefined)) {
    throw new RangeError('give either run_frequency or crontab_schedule');
  }
  if (every !== undefined) {
    const ms = parseDuration(every);
    if (ms === undefined || ms < 1000) {
      throw new RangeError(
        `run_frequency ${JSON.stringify(every)} is not a duration as 30m or 24h`,
      );
    }
    return checked({ kind: 'every', ms, ...blackoutOf(entry) });
  }
  const timeZone = textOf(entry['time_zone']) ?? null;
  return checked({ kind: 'cron', pattern: pattern ?? '', timeZone, ...blackoutOf(entry) });
}

function blackoutOf(entry: Entry): { readonly notBetween?: Blackout } {
  const { not_between: given = [] } = entry;
  const windows: unknown[] = Array.isArray(given) ? given : [given];
  if (!windows.every((one) => typeof one === 'string')) {
    throw new RangeError('not_between is a text such as "08:00-20:00", or a list of them');
  }
  if (windows.length === 0) return {};
  const notBetween = { windows, timeZone: textOf(entry['time_zone']) ?? null };
  checkBlackout(notBetween);
  return { notBetween };
}

/** Refuses what is no pattern, a time zone that nobody knows, and what is never due. */
function checked(rhythm: Rhythm): Rhythm {
  if (nextTime(rhythm, Date.now()) === null) throw new RangeError('it would never run');
  return rhythm;
}

/** A pattern whose times fall into its windows so often in a row never comes out of them. */
const MAX_TRIES = 1_000;

/** The next time after this one (ms since 1970) that is in none of its windows; null: never. */
export function nextTime(rhythm: Rhythm, afterMs: number): number | null {
  if (rhythm.kind === 'every') return allowedTime(rhythm, afterMs + rhythm.ms);
  const { pattern, timeZone } = rhythm;
  const cron = new Cron(pattern, timeZone === null ? {} : { timezone: timeZone });
  let fromMs = afterMs;
  for (let i = 0; i < MAX_TRIES; i += 1) {
    const dueMs = cron.nextRun(new Date(fromMs))?.getTime() ?? null;
    const allowedMs = dueMs === null ? null : allowedTime(rhythm, dueMs);
    if (allowedMs === null || allowedMs === dueMs) return allowedMs;
    // The time at which the window ends is one of the pattern's, perhaps.
    fromMs = allowedMs - 1;
  }
  return null;
}

/** The first time from this one on at which it may begin; null: never. */
export function allowedTime({ notBetween }: Rhythm, atMs: number): number | null {
  return notBetween === undefined ? atMs : firstOutside(notBetween, atMs);
}

function listOf(file: YamlFile, key: string): Entry[] {
  const entry = file.values.get(key);
  if (entry?.value === undefined || entry.value === null) return [];
  const list: unknown[] = Array.isArray(entry.value) ? entry.value : [entry.value];
  if (list.every(isObject)) return list;
  throw bad(`${file.path}, line ${entry.line}, ${key}`, 'not a list of entries');
}

function byName(file: YamlFile, entries: readonly Entry[]): Map<string, Entry> {
  const found = new Map<string, Entry>();
  for (const entry of entries) {
    const name = textOf(entry['name']);
    if (name === undefined || found.has(name)) {
      const what = name === undefined ? 'a job has no name' : `two jobs are called ${name}`;
      throw bad(`${file.path}, schedule_jobs`, what);
    }
    found.set(name, entry);
  }
  return found;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function bad(where: string, why: unknown): AcedError {
  return new AcedError('BAD_CONFIG', `${where}: ${errorMessage(why)}`, {
    hint: 'See the section on scheduled jobs in docs/12-operations.md.',
    cause: why,
  });
}
