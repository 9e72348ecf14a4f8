import { sleep } from '../base/abort.js';
import { logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';

export interface PeriodicOptions {
  readonly log: Logger;
  /** `event` of the warning when a round fails; the next round tries again. */
  readonly failureEvent: string;
  /** One round; returns how long to rest before the next (ms). */
  readonly round: (signal: AbortSignal) => Promise<number>;
  readonly restAfterFailureMs: number;
}

/** A round that fails as the one before did is told so often. */
const REPEAT_MS = 300_000;

/** A background loop that a failed round does not end. */
export class Periodic {
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: PeriodicOptions) {
    this.#running = this.#run(options);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #run(options: PeriodicOptions): Promise<void> {
    const { signal } = this.#abort;
    const isStopping = (): boolean => signal.aborted;
    let told = { message: '', atMs: -Infinity };
    while (!isStopping()) {
      let restMs = options.restAfterFailureMs;
      try {
        restMs = await options.round(signal);
        told = { message: '', atMs: -Infinity };
      } catch (error) {
        if (isStopping()) return;
        const message = logMessage(error);
        const isRepeat = message === told.message && Date.now() - told.atMs < REPEAT_MS;
        options.log[isRepeat ? 'debug' : 'warn']({ event: options.failureEvent }, message);
        if (!isRepeat) told = { message, atMs: Date.now() };
      }
      await sleep(restMs, signal).catch(() => undefined);
    }
  }
}
