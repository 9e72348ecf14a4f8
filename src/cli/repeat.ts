import { steadyNowMs } from '../base/clock.js';
import { sleep } from '../base/abort.js';
import { parseDuration } from '../base/duration.js';
import { usage, type FlagValues } from './flags.js';

/** `--schedule --every 30m`: how long from one begin to the next (ms); null: once. Errors: BAD_USAGE. */
export function intervalOf(flags: FlagValues): number | null {
  const every = flags.get('every');
  if (flags.get('schedule') !== true) {
    if (every === undefined) return null;
    throw usage('--every is for --schedule', 'Give both, or neither.');
  }
  const ms = typeof every === 'string' ? parseDuration(every) : undefined;
  if (ms !== undefined) return ms;
  throw usage('--schedule needs --every', 'Say how often, as in --schedule --every 30m.');
}

/** Runs at once and then again and again until the signal; returns the worst exit code. */
export async function repeat(
  everyMs: number,
  signal: AbortSignal,
  run: () => Promise<number>,
): Promise<number> {
  let worst = 0;
  for (;;) {
    const startedAtMs = steadyNowMs();
    const exitCode = await run();
    // What the signal has cut short says nothing.
    if (signal.aborted) return worst;
    worst = Math.max(worst, exitCode);
    const restMs = Math.max(0, startedAtMs + everyMs - steadyNowMs());
    try {
      await sleep(restMs, signal);
    } catch {
      return worst;
    }
  }
}
