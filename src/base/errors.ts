/**
 * What becomes of an error when the same is tried again:
 * - `retry`: it may be gone by itself. Who waits goes on waiting; who supervises tries again.
 * - `person`: it stays until a person has acted. Who waits is told at once; a loop goes on looking,
 *   since nobody tells it.
 * - `never`: the same attempt fails in the same way. A loop tries as seldom as it ever does.
 */
export type Prospect = 'retry' | 'person' | 'never';

/** Every error that a person can meet has a code from this table. */
const ERRORS = {
  BAD_USAGE: 'never',
  BAD_CONFIG: 'person',
  UNKNOWN_CLUSTER: 'never',
  OTHER_SERVERS: 'person',
  UNKNOWN_NODE: 'never',
  NODE_UNREACHABLE: 'retry',
  AUTH_FAILED: 'person',
  SETTING_NOT_TAKEN: 'person',
  MISSING_PRIVILEGE: 'person',
  WAL_LEVEL: 'person',
  NO_FREE_SLOT: 'person',
  SLOT_BUSY: 'retry',
  PUBLICATION_LOST: 'retry',
  SLOT_FOREIGN: 'person',
  SLOT_LOST: 'retry',
  STREAM_LOST: 'retry',
  STREAM_PROTOCOL: 'never',
  NO_SUCH_TABLE: 'person',
  NO_PRIMARY_KEY: 'person',
  SCHEMA_MISMATCH: 'person',
  NOT_TRACKED: 'person',
  NOT_INITIALISED: 'person',
  STALE_TREE: 'retry',
  STARVED: 'retry',
  QUERY_FAILED: 'person',
  BAD_DIFF_FILE: 'never',
  REPORT_WRITE: 'person',
  REPAIR_ECHO: 'person',
  NOT_PROVED: 'retry',
  ROWS_CHANGED: 'person',
  STORE: 'person',
  STATE_LOCKED: 'retry',
  STANDBY: 'retry',
  DAEMON_UNREACHABLE: 'person',
  SOCKET_IN_USE: 'person',
  BUSY: 'retry',
  CANCELLED: 'never',
  TIMEOUT: 'retry',
  UNSUPPORTED: 'person',
  INTERNAL: 'person',
} as const satisfies Readonly<Record<string, Prospect>>;

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

  get prospect(): Prospect {
    return ERRORS[this.code];
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
