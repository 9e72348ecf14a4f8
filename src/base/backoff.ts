import { steadyNowMs } from './clock.js';
import { AcedError } from './errors.js';

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
}

/**
 * Something that fails now and then and is tried again: after a rest that grows with every failure in
 * a row, twice as long each time and with up to 25 % jitter; after the longest one at once where the
 * same attempt can only fail again.
 */
export class Backoff {
  readonly #options: BackoffOptions;
  #failures = 0;
  #untilMs = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  /** In a row. */
  get failures(): number {
    return this.#failures;
  }

  get isResting(): boolean {
    return this.#untilMs > steadyNowMs();
  }

  /** Returns how long the rest is (ms). */
  failed(error?: unknown): number {
    const isVain = error instanceof AcedError && error.prospect === 'never';
    const restMs = isVain ? this.#options.maxMs : backoffMs(this.#failures, this.#options);
    this.#failures++;
    this.#untilMs = steadyNowMs() + restMs;
    return restMs;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#untilMs = 0;
  }
}

/** Delay before attempt `attempt` (0 is the first retry). */
export function backoffMs(attempt: number, { firstMs, maxMs }: BackoffOptions): number {
  const capped = Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 30));
  return capped * (0.75 + Math.random() * 0.25);
}
