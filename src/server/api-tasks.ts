import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { steadyNowMs } from '../base/clock.js';
import { AcedError, logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { CommandRunner } from '../protocol/commands.js';
import { isObject } from '../protocol/params.js';
import type { ApiRequest, Task } from '../protocol/tasks.js';
import type { ApiCommand } from './api-requests.js';
import type { Turns } from './turns.js';

/** Who asks. */
export interface Asker {
  /** Null: not over the socket, or the system does not tell. */
  readonly peerUid: number | null;
  /** The common name of the certificate; absent: over the socket. */
  readonly certificate?: string;
}

export interface ApiTasksOptions {
  readonly runner: CommandRunner;
  readonly turns: Turns;
  readonly log: Logger;
  readonly cluster: string;
  /** Where the files of the tasks are written. */
  readonly reportDir: string;
  /** What has ended; null: there is none with this id. */
  readonly ended: (id: string) => Task | null;
}

/** As ACE's `GET /api/v1/tasks/{task_id}` answers it. */
export interface TaskStatus {
  readonly task_id: string;
  readonly task_type: string;
  readonly status: 'PENDING' | 'RUNNING' | 'COMPLETED' | 'FAILED';
  readonly cluster: string;
  readonly schema: string;
  readonly table: string;
  readonly repset: string;
  /** RFC 3339; absent: it waits for its turn. */
  readonly started_at?: string;
  readonly finished_at?: string;
  /** Seconds. */
  readonly time_taken?: number;
  readonly task_context?: Readonly<Record<string, unknown>>;
}

interface LiveTask {
  readonly request: ApiRequest;
  /** Null: it waits for its turn. */
  startedAtMs: number | null;
}

/** So many wait for their turn; one more is refused. */
const MAX_WAITING = 1_000;

/** Ends of commands that `acectl` leaves with exit code 0 or 1: what was asked for was found out, or done. */
const COMPLETED = new Set(['match', 'equal', 'drift', 'different', 'missing', 'done', 'skipped']);

/** Commands that were asked for over ACE's routes: they run on their own, and are asked about by id. */
export class ApiTasks {
  readonly #options: ApiTasksOptions;
  readonly #live = new Map<string, LiveTask>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(options: ApiTasksOptions) {
    this.#options = options;
  }

  /** Returns the id of the task. Errors: BUSY. */
  submit(command: ApiCommand, asker: Asker): string {
    const waiting = [...this.#live.values()].filter(({ startedAtMs }) => startedAtMs === null);
    if (waiting.length >= MAX_WAITING || this.#stopping.signal.aborted) {
      throw new AcedError('BUSY', `${waiting.length} tasks wait for their turn already`, {
        hint: 'Wait until some have ended, or raise max_commands.',
      });
    }
    const request = { id: randomUUID(), ...command.about };
    const task: LiveTask = { request, startedAtMs: null };
    this.#live.set(request.id, task);
    const running = this.#run(task, command, asker).finally(() => {
      this.#live.delete(request.id);
      this.#running.delete(running);
    });
    this.#running.add(running);
    return request.id;
  }

  /** Null: there is none with this id. */
  status(id: string): TaskStatus | null {
    const live = this.#live.get(id);
    if (live !== undefined) {
      const { request, startedAtMs } = live;
      if (startedAtMs === null) return { ...this.#about(request), status: 'PENDING' };
      const startedAt = new Date(startedAtMs).toISOString();
      return { ...this.#about(request), status: 'RUNNING', started_at: startedAt };
    }
    const task = this.#options.ended(id);
    return task?.api === null || task === null ? null : this.#ended(task, task.api);
  }

  /** Cancels what waits and what runs, and waits for it. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#running);
  }

  async #run(task: LiveTask, command: ApiCommand, asker: Asker): Promise<void> {
    const { runner, turns, log, reportDir } = this.#options;
    const { signal } = this.#stopping;
    const { id: taskId, type } = task.request;
    const facts = { taskId, type, ...asker };
    let end: (() => void) | null = null;
    try {
      end = await turns.wait(signal);
      task.startedAtMs = Date.now();
      const startedMs = steadyNowMs();
      await runner.run(command.name, command.params, {
        ...{ signal, reportDir, ...asker, api: task.request },
        emit: () => undefined,
        ...(command.input === null
          ? {}
          : { inputPath: command.input.path, inputName: command.input.name }),
      });
      log.info({ event: 'api_task_finished', ...facts, tookMs: steadyNowMs() - startedMs });
    } catch (error) {
      const code = error instanceof AcedError ? error.code : 'INTERNAL';
      log.warn({ event: 'api_task_failed', ...facts, code }, logMessage(error));
    } finally {
      end?.();
    }
  }

  #about({ id, type, schema, table, repset }: ApiRequest) {
    const { cluster } = this.#options;
    return { task_id: id, task_type: type, cluster, schema, table, repset };
  }

  #ended(task: Task, api: NonNullable<Task['api']>): TaskStatus {
    const { startedAt, tookMs, outcome, message, files, repair } = task;
    const isCompleted = COMPLETED.has(outcome);
    const error = isCompleted ? null : (message ?? `neither equal nor different: ${outcome}`);
    const summary = summaryOf(api.result);
    return {
      ...this.#about(api),
      status: isCompleted ? 'COMPLETED' : 'FAILED',
      started_at: startedAt,
      finished_at: new Date(Date.parse(startedAt) + tookMs).toISOString(),
      time_taken: tookMs / 1000,
      task_context: {
        outcome,
        files: files.map((file) => join(this.#options.reportDir, file)),
        ...(error === null ? {} : { error }),
        ...(summary === null ? {} : { diff_summary: summary }),
        ...(api.result === null ? {} : { result: api.result }),
        ...(repair === null ? {} : { repair }),
      },
    };
  }
}

/** Of a comparison of one table, with the keys that its diff file has; null: it was none. */
function summaryOf(result: object | null): object | null {
  if (!isObject(result) || !isObject(result['differences'])) return null;
  return {
    nodes: result['nodes'],
    diff_rows_count: result['differences'],
    diff_row_limit_reached: result['rowLimitReached'],
  };
}
