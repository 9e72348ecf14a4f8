import { steadyNowMs } from '../base/clock.js';
import { AcedError, logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { Loop, tellsFailures } from '../base/loop.js';
import { allowedTime, nextTime, type JobConfig } from '../config/schedule.js';
import type { CommandRunner } from '../protocol/commands.js';
import type { JobStatus, Task } from '../protocol/tasks.js';

export interface SchedulerOptions {
  readonly runner: CommandRunner;
  readonly log: Logger;
  /** Where the reports of jobs are written. */
  readonly reportDir: string;
  /** The last run of a job that has ended; null: none is known. */
  readonly lastRun: (job: string) => Task | null;
}

interface PlannedJob {
  readonly config: JobConfig;
  /** Null: it never runs again. */
  nextAtMs: number | null;
  running: Promise<void> | null;
  /** It was due again while it was running; told once a run. */
  hasSkipped: boolean;
}

/** However far the next run is: the clock may be set, and a host may sleep. */
const MAX_REST_MS = 30_000;
const BACKOFF = { firstMs: 1_000, maxMs: MAX_REST_MS };

/**
 * Runs jobs when their time has come: each one's runs never overlap. A job that was due while nobody
 * ran jobs is told once; one of an interval is then run at once, one of a cron pattern at its next time.
 */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #loop: Loop;
  #jobs: readonly PlannedJob[] = [];

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#loop = Loop.start({
      ...tellsFailures(options.log, 'schedule_failed'),
      backoff: BACKOFF,
      round: () => Promise.resolve(this.#startDue(Date.now())),
    });
  }

  /** A job that is as it was keeps its time; what runs is not interrupted. */
  setJobs(jobs: readonly JobConfig[]): void {
    const before = new Map(this.#jobs.map((job) => [JSON.stringify(job.config), job]));
    const running = new Map(this.#jobs.map((job) => [job.config.name, job.running]));
    this.#jobs = jobs.map(
      (config) =>
        before.get(JSON.stringify(config)) ?? {
          config,
          nextAtMs: this.#firstTime(config),
          running: running.get(config.name) ?? null,
          hasSkipped: false,
        },
    );
    this.#options.log.info({ event: 'schedule_loaded', jobs: jobs.map(({ name }) => name) });
    this.#loop.wake();
  }

  get jobs(): readonly JobStatus[] {
    return this.#jobs.map(({ config, nextAtMs, running }) => ({
      name: config.name,
      command: config.request.name,
      rhythm: config.rhythm,
      nextAt: nextAtMs === null ? null : new Date(nextAtMs).toISOString(),
      isRunning: running !== null,
      last: this.#options.lastRun(config.name),
    }));
  }

  /** Cancels what runs and waits for it. */
  async stop(): Promise<void> {
    await this.#loop.stop();
    await Promise.all(this.#jobs.flatMap(({ running }) => (running === null ? [] : [running])));
  }

  #firstTime({ name, rhythm }: JobConfig): number | null {
    const nowMs = Date.now();
    const last = this.#options.lastRun(name);
    const dueMs = last === null ? null : nextTime(rhythm, Date.parse(last.startedAt));
    if (dueMs !== null && dueMs < nowMs) {
      this.#options.log.warn(
        { event: 'job_missed', job: name, dueAt: new Date(dueMs).toISOString() },
        'it was due while no aced ran its jobs',
      );
    }
    if (rhythm.kind === 'every') {
      // The last run lies ahead where the clock was set back since.
      const nextMs = Math.min(dueMs ?? nowMs, nowMs + rhythm.ms);
      return allowedTime(rhythm, Math.max(nowMs, nextMs));
    }
    return nextTime(rhythm, nowMs);
  }

  /** Returns how long it is to the next one (ms). */
  #startDue(nowMs: number): number {
    for (const job of this.#jobs) {
      if (isDue(job, nowMs)) this.#start(job, nowMs);
      else job.nextAtMs = notLaterThanNext(job, nowMs);
    }
    const times = this.#jobs.flatMap(({ nextAtMs }) => (nextAtMs === null ? [] : [nextAtMs]));
    return Math.min(MAX_REST_MS, Math.max(1, Math.min(...times) - Date.now()));
  }

  #start(job: PlannedJob, nowMs: number): void {
    const { name, rhythm } = job.config;
    // A host that slept, or a clock that was set: the time that was allowed is over.
    const allowedMs = allowedTime(rhythm, nowMs);
    if (allowedMs !== nowMs) {
      job.nextAtMs = rhythm.kind === 'every' ? allowedMs : nextTime(rhythm, nowMs);
      return;
    }
    job.nextAtMs = nextTime(rhythm, nowMs);
    if (job.running !== null) {
      if (!job.hasSkipped) {
        const why = 'it is due again and still runs: this time it is left out';
        this.#options.log.warn({ event: 'job_skipped', job: name }, why);
      }
      job.hasSkipped = true;
      return;
    }
    job.hasSkipped = false;
    job.running = this.#execute(job.config).finally(() => {
      // A reload may have put another one in its place.
      for (const one of this.#jobs) if (one.config.name === name) one.running = null;
      job.running = null;
    });
  }

  async #execute({ name, request }: JobConfig): Promise<void> {
    const { runner, log, reportDir } = this.#options;
    const facts = { job: name, command: request.name };
    const startedAtMs = steadyNowMs();
    log.debug({ event: 'job_started', ...facts });
    try {
      await runner.run(request.name, request.params, {
        signal: this.#loop.signal,
        reportDir,
        job: name,
        emit: (event) => {
          if (event.type === 'log') log.debug({ event: 'job_log', ...facts }, event.message);
        },
      });
      const { outcome, files } = this.#options.lastRun(name) ?? { outcome: 'done', files: [] };
      const level = WELL.has(outcome) ? 'info' : 'warn';
      const tookMs = steadyNowMs() - startedAtMs;
      log[level]({ event: 'job_finished', ...facts, outcome, files, tookMs });
    } catch (error) {
      const code = error instanceof AcedError ? error.code : 'INTERNAL';
      if (this.#loop.signal.aborted) return;
      log.warn({ event: 'job_failed', ...facts, code }, logMessage(error));
    }
  }
}

/** When a job would be due next if it had run just now: it is never later, unless the clock was set back. */
function notLaterThanNext({ config, nextAtMs }: PlannedJob, nowMs: number): number | null {
  const nextMs = nextTime(config.rhythm, nowMs);
  return nextAtMs === null || nextMs === null ? nextAtMs : Math.min(nextAtMs, nextMs);
}

/** Outcomes that nobody needs to look at. */
const WELL = new Set(['match', 'equal', 'done']);

function isDue({ nextAtMs }: PlannedJob, nowMs: number): boolean {
  return nextAtMs !== null && nextAtMs <= nowMs;
}
