import { play } from './player.js';
import { Tally, type HistoryFailure } from './outcome.js';
import type { Servers } from './playground.js';
import type { History, Step } from './steps.js';

export interface Shrunk {
  readonly history: History;
  readonly failure: HistoryFailure;
  readonly replays: number;
}

export interface ShrinkOptions {
  readonly timeMs: number;
  readonly onProgress?: (steps: number) => void;
}

/**
 * Makes a failing history short: delta debugging over its steps, each replay on fresh databases.
 * A step stays only if the failure is not seen without it, so one that depends on luck leaves a
 * longer history, never a wrong one.
 */
export async function shrink(
  servers: Servers,
  history: History,
  failure: HistoryFailure,
  { timeMs, onProgress }: ShrinkOptions,
): Promise<Shrunk> {
  const deadline = Date.now() + timeMs;
  let replays = 0;
  let best = { steps: history.steps.slice(0, failure.step + 1), failure };
  const fails = async (steps: readonly Step[]): Promise<HistoryFailure | null> => {
    replays += 1;
    const again = await play(servers, withNamedTables(history, steps), new Tally());
    return again?.kind === failure.kind ? again : null;
  };
  let parts = 2;
  while (best.steps.length > 1 && Date.now() < deadline) {
    const size = Math.ceil(best.steps.length / parts);
    let isShorter = false;
    // From the front: what came long before is the least likely to matter.
    for (let start = 0; start < best.steps.length && Date.now() < deadline;) {
      const steps = [...best.steps.slice(0, start), ...best.steps.slice(start + size)];
      const again = steps.length === 0 ? null : await fails(steps);
      if (again === null) {
        start += size;
        continue;
      }
      best = { steps: steps.slice(0, again.step + 1), failure: again };
      isShorter = true;
      onProgress?.(best.steps.length);
    }
    if (!isShorter && size === 1) break;
    parts = isShorter ? Math.max(2, Math.min(parts, best.steps.length)) : parts * 2;
  }
  return { history: withNamedTables(history, best.steps), failure: best.failure, replays };
}

/** Tables that no step names are not made. */
function withNamedTables(history: History, steps: readonly Step[]): History {
  const text = JSON.stringify(steps);
  return { ...history, tables: history.tables.filter((table) => text.includes(table)), steps };
}
