import { sleep } from './abort.js';
import { Backoff, type BackoffOptions } from './backoff.js';
import { logMessage } from './errors.js';
import type { Logger } from './log.js';
import { RepeatedFailure } from './repeated-failure.js';

export interface LoopOptions {
  /** Returns how long to rest before the next round (ms); Infinity: until it is woken. */
  readonly round: (signal: AbortSignal) => Promise<number>;
  /** Rests after rounds that fail in a row. */
  readonly backoff: BackoffOptions;
  /** `before`: how many rounds in a row have failed before this one. */
  readonly onFailure: (error: unknown, before: number) => void;
  /** The round after a failure was a good one. */
  readonly onRecovery?: () => void;
}

/** Of setTimeout. */
const MAX_REST_MS = 2 ** 31 - 1;

/** Something that goes on in the background: round after round, which a failed one does not end. */
export class Loop {
  readonly #options: LoopOptions;
  readonly #abort = new AbortController();
  readonly #backoff: Backoff;
  #running: Promise<void> | null = null;
  /** Woken since the round began. */
  #isWoken = false;
  #isWakeable = false;
  #endRest: () => void = () => undefined;

  constructor(options: LoopOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.backoff);
  }

  static start(options: LoopOptions): Loop {
    const loop = new Loop(options);
    loop.start();
    return loop;
  }

  /** Aborts when the loop is to end. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** The next round begins at once, also when this one has not ended; a rest after a failure goes on. */
  wake(): void {
    this.#isWoken = true;
    if (this.#isWakeable) this.#endRest();
  }

  /** Failures before now are not in a row with what comes, though the round has not ended yet. */
  succeeded(): void {
    this.#backoff.succeeded();
  }

  /** Ends the round that runs, waits for it, and begins no other. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#endRest();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    const isStopping = (): boolean => signal.aborted;
    while (!isStopping()) {
      this.#isWoken = false;
      try {
        const restMs = await this.#options.round(signal);
        if (this.#backoff.failures > 0) this.#options.onRecovery?.();
        this.#backoff.succeeded();
        await this.#rest(restMs, true);
      } catch (error) {
        if (isStopping()) return;
        const before = this.#backoff.failures;
        const restMs = this.#backoff.failed(error);
        this.#options.onFailure(error, before);
        await this.#rest(restMs, false);
      }
    }
  }

  async #rest(forMs: number, isWakeable: boolean): Promise<void> {
    // Others have their turn.
    if (forMs <= 0 || (isWakeable && this.#isWoken)) return new Promise(setImmediate);
    // The round has ended as if nobody had asked it to: no rest that stop() would wait for.
    if (this.#abort.signal.aborted) return;
    const end = new AbortController();
    this.#endRest = () => end.abort();
    this.#isWakeable = isWakeable;
    await sleep(Math.min(forMs, MAX_REST_MS), end.signal).catch(() => undefined);
    this.#isWakeable = false;
  }
}

/** How a loop tells that its rounds fail: `event` once for each message, and again now and then. */
export function tellsFailures(
  log: Logger,
  event: string,
): Pick<LoopOptions, 'onFailure' | 'onRecovery'> {
  const failure = new RepeatedFailure();
  return {
    onFailure: (error) => {
      const message = logMessage(error);
      log[failure.note(message) ? 'warn' : 'debug']({ event }, message);
    },
    onRecovery: () => failure.end(),
  };
}
