import { sleep } from '../base/abort.js';
import type { Lsn } from '../base/lsn.js';

interface Waiter {
  readonly lsn: Lsn;
  readonly resolve: () => void;
}

/** Those who wait for a position of a stream. */
export class FenceWaiters {
  readonly #waiters = new Set<Waiter>();

  /** Everybody whose fence has been reached goes on. */
  pass(position: Lsn): void {
    for (const waiter of this.#waiters) {
      if (position < waiter.lsn) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  /** Resolves when `lsn` is reached, or after `maxMs`. Errors: CANCELLED. */
  async reached(lsn: Lsn, maxMs: number, signal: AbortSignal | undefined): Promise<void> {
    const stop = new AbortController();
    const waiter: Waiter = { lsn, resolve: () => stop.abort() };
    this.#waiters.add(waiter);
    const both = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    try {
      await sleep(maxMs, both);
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      this.#waiters.delete(waiter);
    }
  }
}
