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

/** Resolves once the signal has aborted. */
export async function aborted(signal: AbortSignal): Promise<null> {
  if (!signal.aborted) {
    await new Promise((resolve) => {
      signal.addEventListener('abort', resolve, { once: true });
    });
  }
  return null;
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
export async function allOrCause<T extends readonly unknown[] | []>(
  work: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const results = await Promise.allSettled(work);
  const reasons = results.flatMap((one) =>
    one.status === 'rejected' ? [one.reason as unknown] : [],
  );
  if (reasons.length === 0) return Promise.all(work);
  throw reasons.find((reason) => !isCancelled(reason)) ?? reasons[0];
}

/**
 * Runs `work` on all items at once. When it fails for one, or `signal` aborts, the signal that the
 * others were given aborts; rejects with the cause once all have ended: nothing goes on behind the
 * caller's back. Results are in the order of the items.
 */
export async function runAll<Item, Result>(
  items: Iterable<Item>,
  signal: AbortSignal | undefined,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
): Promise<Result[]> {
  const failure = new AbortController();
  const either = signal === undefined ? failure.signal : AbortSignal.any([signal, failure.signal]);
  return allOrCause(
    Array.from(items, async (item) => {
      try {
        return await work(item, either);
      } catch (error) {
        failure.abort();
        throw error;
      }
    }),
  );
}

function isCancelled(error: unknown): boolean {
  return error instanceof AcedError && error.code === 'CANCELLED';
}

const LOCKED_PAUSE_MS = 100;

export interface LockedRetry {
  readonly forMs: number;
  readonly signal: AbortSignal | undefined;
  /** Called once, when the first attempt met the lock. */
  readonly onWait?: () => void;
}

/**
 * Tries again while `attempt` fails with STATE_LOCKED: whoever has the lock is mostly gone within
 * seconds. Errors: those of the last attempt, CANCELLED.
 */
export async function retryWhileLocked<T>(
  attempt: () => Promise<T>,
  { forMs, signal, onWait }: LockedRetry,
): Promise<T> {
  const endMs = performance.now() + forMs;
  let isWaiting = false;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      const isLocked = error instanceof AcedError && error.code === 'STATE_LOCKED';
      if (!isLocked || performance.now() >= endMs) throw error;
    }
    if (!isWaiting) onWait?.();
    isWaiting = true;
    await sleep(LOCKED_PAUSE_MS, signal);
  }
}
