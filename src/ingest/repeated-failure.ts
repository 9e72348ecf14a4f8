import type { ErrorCode } from '../base/errors.js';

/** A failure that goes on is told so often; what leads to it each time is not. */
const REPEAT_MS = 300_000;
/** So many failures before it make one an error, which must be told. */
const TOLD_ATTEMPT = 3;

/** The same failure again and again is one event, repeated now and then. */
export class RepeatedFailure {
  #told: { readonly code: ErrorCode; readonly atMs: number } | null = null;
  #isQuiet = false;

  /** Whether what happens now was told before. */
  get isQuiet(): boolean {
    return this.#isQuiet;
  }

  /** `attempt`: failures in a row before this one. */
  note(code: ErrorCode, attempt: number): void {
    const nowMs = Date.now();
    const isTold = this.#told?.code === code && nowMs - this.#told.atMs < REPEAT_MS;
    this.#isQuiet = isTold && attempt !== TOLD_ATTEMPT;
    if (!this.#isQuiet) this.#told = { code, atMs: nowMs };
  }

  /** Returns whether it had been quiet: that it is over must be told. */
  end(): boolean {
    const wasQuiet = this.#isQuiet;
    this.#told = null;
    this.#isQuiet = false;
    return wasQuiet;
  }
}
