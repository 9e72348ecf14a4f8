import { spawn } from 'node:child_process';
import type { SpooledEvent } from './event-spool.js';

/**
 * What came of an attempt. `refused`: the receiver will never take this event, others it may. `why` is
 * for the log: never an address, a header or what the receiver answered, which may hold a secret.
 */
export type Delivery =
  { readonly outcome: 'done' } | { readonly outcome: 'failed' | 'refused'; readonly why: string };

/** Hands one event on; never rejects. */
export type HookTarget = (event: SpooledEvent, signal: AbortSignal) => Promise<Delivery>;

const WEBHOOK_TIMEOUT_MS = 10_000;
const COMMAND_TIMEOUT_MS = 30_000;
/** The request itself is not well, so that another try is in vain. */
const REFUSALS: ReadonlySet<number> = new Set([400, 413, 415, 422]);

/** POST of the event to a URL. */
export function webhookTarget(url: string, authorization: string | null): HookTarget {
  return async (event, signal) => {
    const timeout = AbortSignal.timeout(WEBHOOK_TIMEOUT_MS);
    try {
      const { status, body } = await fetch(url, {
        method: 'POST',
        // Elsewhere the header would be told to another than the one that was named.
        redirect: 'manual',
        headers: {
          'content-type': 'application/json',
          'idempotency-key': event.key,
          ...(authorization === null ? {} : { authorization }),
        },
        body: event.text,
        signal: AbortSignal.any([signal, timeout]),
      });
      await body?.cancel();
      if (status >= 200 && status < 300) return { outcome: 'done' };
      return { outcome: REFUSALS.has(status) ? 'refused' : 'failed', why: `status ${status}` };
    } catch (error) {
      if (timeout.aborted) return failed(`no answer in ${WEBHOOK_TIMEOUT_MS / 1000} s`);
      const cause = error instanceof Error ? error.cause : undefined;
      const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'no connection';
      return failed(code);
    }
  };
}

/** Runs a program with the event as a line on its standard input; exit code 0: taken. */
export function commandTarget(program: string): HookTarget {
  return (event, signal) =>
    new Promise((resolve) => {
      const { PATH, HOME } = process.env;
      // A group of its own, so that what it starts ends with it. No password of ours in its environment.
      const child = spawn(program, [], {
        detached: true,
        env: { PATH, HOME, ACED_EVENT: event.event, ACED_EVENT_KEY: event.key },
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      const kill = (): void => {
        if (child.pid === undefined) return;
        try {
          process.kill(-child.pid, 'SIGKILL');
        } catch {
          // All of it has ended.
        }
      };
      const timer = setTimeout(kill, COMMAND_TIMEOUT_MS);
      signal.addEventListener('abort', kill, { once: true });
      const settle = (delivery: Delivery): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', kill);
        resolve(delivery);
      };
      child.once('error', (error) =>
        settle(failed('code' in error ? String(error.code) : 'not started')),
      );
      child.once('exit', (exitCode, killedBy) => {
        if (exitCode === 0) settle({ outcome: 'done' });
        else settle(failed(killedBy === null ? `exit code ${exitCode}` : `ended by ${killedBy}`));
      });
      // It need not read.
      child.stdin.on('error', () => undefined);
      child.stdin.end(`${event.text}\n`);
    });
}

function failed(why: string): Delivery {
  return { outcome: 'failed', why };
}
