import { setTimeout as delay } from 'node:timers/promises';

export interface WaitOptions {
  /** What is waited for; the error's message names it. */
  readonly what: string;
  readonly timeoutMs?: number;
  readonly intervalMs?: number;
}

/** Only there to end a test that can never pass: a machine that is busy with other things is slow. */
const DEFAULT_TIMEOUT_MS = 60_000;
const DEFAULT_INTERVAL_MS = 20;

/**
 * Asks until `condition` answers true. An error that it throws ends the wait at once: a condition
 * that may fail for a while must say so by answering false.
 */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  options: WaitOptions,
): Promise<void> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (await condition()) return;
    if (Date.now() >= deadline) {
      throw new Error(`waited ${timeoutMs} ms in vain for ${options.what}`);
    }
    await delay(options.intervalMs ?? DEFAULT_INTERVAL_MS);
  }
}
