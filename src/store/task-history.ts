import type { CommandName } from '../protocol/commands.js';
import type { ApiTask, RepairAudit, Task } from '../protocol/tasks.js';
import type { RunStatement } from './kept-states.js';

export type NewTask = Omit<Task, 'id'>;

/** So many are kept, and as many repairs; of each job the last one. */
const MAX_TASKS = 5_000;

interface TaskRow {
  id: number;
  job: string | null;
  command: string;
  subject: string | null;
  started_at: string;
  took_ms: number;
  outcome: string;
  message: string | null;
  files: string;
  repair: string | null;
  api_id: string | null;
  api: string | null;
}

/** Commands that have ended. Written when there is time: nobody waits for it. */
export class TaskHistory {
  readonly #run: RunStatement;
  #pending: NewTask[] = [];

  constructor(run: RunStatement) {
    this.#run = run;
  }

  add(task: NewTask): void {
    if (this.#pending.length === 0) setImmediate(() => this.#flushLater());
    this.#pending.push(task);
  }

  /** Newest first. */
  list({ limit, job }: { readonly limit: number; readonly job?: string | undefined }): Task[] {
    this.flush();
    const rows = this.#run(
      'SELECT * FROM task WHERE @job IS NULL OR job = @job ORDER BY id DESC LIMIT @limit',
      (s) => s.all({ job: job ?? null, limit }),
    ) as TaskRow[];
    return rows.map(taskFromRow);
  }

  /** What was asked for over ACE's routes; null: none that has ended has this id. */
  ofApi(id: string): Task | null {
    this.flush();
    const row = this.#run('SELECT * FROM task WHERE api_id = ?', (s) => s.get(id)) as
      TaskRow | undefined;
    return row === undefined ? null : taskFromRow(row);
  }

  last(job: string): Task | null {
    return this.list({ limit: 1, job })[0] ?? null;
  }

  #flushLater(): void {
    try {
      this.flush();
    } catch {
      // A full disk is told by who cannot do without: the history is not worth an end of the daemon.
    }
  }

  flush(): void {
    const tasks = this.#pending;
    this.#pending = [];
    for (const { job, command, subject, startedAt, tookMs, outcome, message, ...rest } of tasks) {
      const list = JSON.stringify(rest.files);
      const repair = rest.repair === null ? null : JSON.stringify(rest.repair);
      const api = rest.api === null ? null : JSON.stringify(rest.api);
      const about = [list, repair, rest.api?.id ?? null, api];
      this.#run(
        `INSERT INTO task (job, command, subject, started_at, took_ms, outcome, message, files, repair, api_id, api)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        (s) => s.run(job, command, subject, startedAt, tookMs, outcome, message, ...about),
      );
    }
    if (tasks.length === 0) return;
    this.#run(
      `DELETE FROM task WHERE id <= (SELECT max(id) FROM task) - ?
          AND id NOT IN (SELECT max(id) FROM task WHERE job IS NOT NULL GROUP BY job)
          AND id NOT IN (SELECT id FROM task WHERE repair IS NOT NULL ORDER BY id DESC LIMIT ?)`,
      (s) => s.run(MAX_TASKS, MAX_TASKS),
    );
  }
}

function taskFromRow(row: TaskRow): Task {
  const { id, job, command, subject, outcome, message, repair, api } = row;
  return {
    ...{ id, job, subject, outcome, message },
    // What was written is a command's name.
    command: command as CommandName,
    startedAt: row.started_at,
    tookMs: row.took_ms,
    files: JSON.parse(row.files) as string[],
    repair: repair === null ? null : (JSON.parse(repair) as RepairAudit),
    api: api === null ? null : (JSON.parse(api) as ApiTask),
  };
}
