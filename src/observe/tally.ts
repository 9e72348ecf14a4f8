import type { MetricId } from './metric-names.js';
import type { Labels, Samples } from './samples.js';

/** Counts what has happened since the process began, by labels. */
export class Tally {
  readonly #id: MetricId;
  readonly #counts = new Map<string, { readonly labels: Labels; count: number }>();

  constructor(id: MetricId) {
    this.#id = id;
  }

  add(labels: Labels, count = 1): void {
    const key = JSON.stringify(labels);
    const known = this.#counts.get(key);
    if (known === undefined) this.#counts.set(key, { labels, count });
    else known.count += count;
  }

  /**
   * Counts of what is not there any more are forgotten, since their number would have no bound.
   * `alive`: label (`table`, `job`) -> the values that there are.
   */
  report(samples: Samples, alive: Readonly<Record<string, ReadonlySet<string>>>): void {
    for (const [key, { labels, count }] of this.#counts) {
      const isAlive = Object.entries(labels).every(
        ([label, value]) => alive[label]?.has(value) !== false,
      );
      if (isAlive) samples.add(this.#id, labels, count);
      else this.#counts.delete(key);
    }
  }
}
