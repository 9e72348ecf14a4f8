import { AcedError } from './errors.js';

/** Waits `delayMs`, or rejects with CANCELLED as soon as the signal aborts. */
export async function sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
  throwIfAborted(signal);
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(cancelled());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, delayMs);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw cancelled();
}

function cancelled(): AcedError {
  return new AcedError('CANCELLED', 'cancelled');
}

/**
 * Waits until all have ended. When one failed its fellows are usually aborted: rejects with the cause
 * then, rather than with the CANCELLED of those.
 */
export async function allOrCause<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(work);
  const reasons: unknown[] = [];
  const values: T[] = [];
  for (const result of results) {
    if (result.status === 'fulfilled') values.push(result.value);
    else reasons.push(result.reason);
  }
  if (reasons.length === 0) return values;
  throw reasons.find((reason) => !isCancelled(reason)) ?? reasons[0];
}

function isCancelled(error: unknown): boolean {
  return error instanceof AcedError && error.code === 'CANCELLED';
}

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** Delay before attempt `attempt` (0 is the first retry): doubles, capped, with up to 25 % jitter. */
export function backoffMs(attempt: number, options: BackoffOptions): number {
  const capped = Math.min(options.maxMs, options.firstMs * 2 ** Math.min(attempt, 30));
  return capped * (0.75 + Math.random() * 0.25);
}
