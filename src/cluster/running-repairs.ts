import { steadyNowMs } from '../base/clock.js';
import type { TableName } from '../table/table-name.js';

/** Between two looks at a table that a repair writes to. */
const LOOK_MS = 5_000;

interface RunningRepair {
  readonly sinceMs: number;
  count: number;
}

/** Tables that a repair of ours writes to right now. */
export class RunningRepairs {
  readonly #running = new Map<string, RunningRepair>();

  /**
   * Whether the table's rows are left to a repair that writes them: those that it has still to write do differ, and
   * reading them again and again meanwhile costs as much as the repair. Not for long, for other rows may differ too.
   *
   * @param lookedAtMs when the last look at the table began
   */
  leaves(table: TableName, lookedAtMs: number, nowMs: number): boolean {
    const running = this.#running.get(labelOf(table));
    return running !== undefined && nowMs - Math.max(running.sinceMs, lookedAtMs) < LOOK_MS;
  }

  async during<T>(table: TableName, work: () => Promise<T>): Promise<T> {
    const label = labelOf(table);
    const running = this.#running.get(label) ?? { sinceMs: steadyNowMs(), count: 0 };
    running.count += 1;
    this.#running.set(label, running);
    try {
      return await work();
    } finally {
      running.count -= 1;
      if (running.count === 0) this.#running.delete(label);
    }
  }
}

function labelOf({ schema, name }: TableName): string {
  return JSON.stringify([schema, name]);
}
