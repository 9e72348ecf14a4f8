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

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** Delay before attempt `attempt` (0 is the first retry): doubles, capped, with up to 25 % jitter. */
export function backoffMs(attempt: number, options: BackoffOptions): number {
  const capped = Math.min(options.maxMs, options.firstMs * 2 ** Math.min(attempt, 30));
  return capped * (0.75 + Math.random() * 0.25);
}
