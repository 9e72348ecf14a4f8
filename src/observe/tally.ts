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

  /** Counts of tables that are no longer tracked are forgotten: their number would have no bound. */
  report(samples: Samples, tables: ReadonlySet<string>): void {
    for (const [key, { labels, count }] of this.#counts) {
      const { table } = labels;
      if (table === undefined || tables.has(table)) samples.add(this.#id, labels, count);
      else this.#counts.delete(key);
    }
  }
}
