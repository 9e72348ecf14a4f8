/**
 * Every error that a person can meet has a code from this table. `retry` says whether it may be
 * gone when the daemon, or who supervises it, tries again.
 */
const ERRORS = {
  BAD_USAGE: { retry: false },
  BAD_CONFIG: { retry: false },
  UNKNOWN_CLUSTER: { retry: false },
  OTHER_SERVERS: { retry: false },
  UNKNOWN_NODE: { retry: false },
  NODE_UNREACHABLE: { retry: true },
  AUTH_FAILED: { retry: false },
  SETTING_NOT_TAKEN: { retry: false },
  MISSING_PRIVILEGE: { retry: false },
  WAL_LEVEL: { retry: false },
  NO_FREE_SLOT: { retry: false },
  SLOT_BUSY: { retry: true },
  PUBLICATION_LOST: { retry: true },
  SLOT_FOREIGN: { retry: false },
  SLOT_LOST: { retry: true },
  STREAM_LOST: { retry: true },
  STREAM_PROTOCOL: { retry: false },
  NO_SUCH_TABLE: { retry: false },
  NO_PRIMARY_KEY: { retry: false },
  SCHEMA_MISMATCH: { retry: false },
  NOT_TRACKED: { retry: false },
  NOT_INITIALISED: { retry: false },
  STALE_TREE: { retry: true },
  STARVED: { retry: true },
  QUERY_FAILED: { retry: false },
  BAD_DIFF_FILE: { retry: false },
  REPORT_WRITE: { retry: false },
  REPAIR_ECHO: { retry: false },
  NOT_PROVED: { retry: true },
  ROWS_CHANGED: { retry: false },
  STORE: { retry: false },
  STATE_LOCKED: { retry: true },
  DAEMON_UNREACHABLE: { retry: false },
  SOCKET_IN_USE: { retry: false },
  BUSY: { retry: true },
  CANCELLED: { retry: false },
  TIMEOUT: { retry: true },
  UNSUPPORTED: { retry: false },
  INTERNAL: { retry: false },
} as const;

export type ErrorCode = keyof typeof ERRORS;

export interface AcedErrorOptions {
  /** What the operator can do about it; one sentence. */
  readonly hint?: string;
  readonly cause?: unknown;
  /** What a log may say, where `message` may quote values of rows. */
  readonly logMessage?: string;
}

/** An error with a code, a message that names the input, and a remedy. Never carries a password. */
export class AcedError extends Error {
  override readonly name = 'AcedError';
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  /** `message`, without what may be a value of a row. */
  readonly logMessage: string;

  constructor(code: ErrorCode, message: string, options: AcedErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.logMessage = options.logMessage ?? message;
  }

  get isRetryable(): boolean {
    return ERRORS[this.code].retry;
  }
}

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERRORS, text);
}

/** The message of anything that was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The message of anything that was thrown, as a log may have it: without values of rows. */
export function logMessage(error: unknown): string {
  return error instanceof AcedError ? error.logMessage : errorMessage(error);
}
