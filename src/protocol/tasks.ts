import type { CommandName } from './commands.js';

/** When a job runs: again and again after so long, or at the times of a cron pattern. */
export type Rhythm = (
  | { readonly kind: 'every'; readonly ms: number }
  | { readonly kind: 'cron'; readonly pattern: string; readonly timeZone: string | null }
) & {
  /** When it does not begin. */
  readonly notBetween?: {
    readonly windows: readonly string[];
    /** Null: the host's. */
    readonly timeZone: string | null;
  };
};

export interface TasksParams {
  readonly nodes?: readonly string[];
  /** The newest so many; default 20. */
  readonly limit?: number;
  /** Runs of this job alone. */
  readonly job?: string;
}

/** What was asked for over ACE's HTTP routes. */
export interface ApiRequest {
  /** A UUID: what its client asks by. */
  readonly id: string;
  /** ACE's name of what is done, such as `TABLE_DIFF`. */
  readonly type: string;
  /** Empty: it is about none. */
  readonly schema: string;
  readonly table: string;
  readonly repset: string;
}

/** Such a task when it has ended. */
export interface ApiTask extends ApiRequest {
  /** The command's result; null: it failed, or the result is too long to be kept. */
  readonly result: object | null;
}

/** Who has repaired, from what, and what became of it. */
export interface RepairAudit {
  /** The user id at the other end of the socket, or of the process without a daemon; null: not known. */
  readonly uid: number | null;
  /** The common name of the client's certificate; absent: none was asked for. */
  readonly certificate?: string;
  /** The diff or undo file as the user named it. */
  readonly file: string | null;
  /** SHA-256, 64 hex digits. */
  readonly fileHash: string | null;
  /** Of the repair plan; null: there is none. */
  readonly planHash: string | null;
  /** The flags that say what is done with the rows. */
  readonly flags: readonly string[];
  /** Of the active one of several aced. */
  readonly epoch?: number;
  /** Null: it did not end well, see the task's message. */
  readonly nodes: Readonly<
    Record<
      string,
      {
        readonly upserted: number;
        readonly deleted: number;
        readonly skipped: number;
        readonly failed: number;
        /** Sums of the digests of the written rows, 16 hex digits. */
        readonly digestBefore: string;
        readonly digestAfter: string;
      }
    >
  > | null;
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
  /** Null: it was no repair, or it wrote nothing by intention. */
  readonly repair: RepairAudit | null;
  /** Null: it was not asked for over ACE's routes. */
  readonly api: ApiTask | null;
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
