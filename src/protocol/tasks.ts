import type { CommandName } from './commands.js';

/** When a job runs: again and again after so long, or at the times of a cron pattern. */
export type Rhythm =
  | { readonly kind: 'every'; readonly ms: number }
  | { readonly kind: 'cron'; readonly pattern: string; readonly timeZone: string | null };

export interface TasksParams {
  readonly nodes?: readonly string[];
  /** The newest so many; default 20. */
  readonly limit?: number;
  /** Runs of this job alone. */
  readonly job?: string;
}

/** A command that has ended. */
export interface Task {
  readonly id: number;
  /** The scheduled job that ran it; null: somebody asked for it. */
  readonly job: string | null;
  readonly command: CommandName;
  /** The table, tables or schema that it was about; null: the cluster. */
  readonly subject: string | null;
  /** RFC 3339. */
  readonly startedAt: string;
  readonly tookMs: number;
  /** A verdict, `equal`, `different`, `done` …, or the code of an error. */
  readonly outcome: string;
  /** What the error said; null: it did not fail. */
  readonly message: string | null;
  readonly files: readonly string[];
}

export interface JobStatus {
  readonly name: string;
  readonly command: CommandName;
  readonly rhythm: Rhythm;
  /** RFC 3339; null: nobody runs jobs, or it is running now. */
  readonly nextAt: string | null;
  readonly isRunning: boolean;
  /** How the last run ended; null: there was none. */
  readonly last: Task | null;
}

export interface TasksResult {
  /** Newest first. */
  readonly tasks: readonly Task[];
  readonly jobs: readonly JobStatus[];
}
