import { METRICS, type MetricId, type MetricSpec } from './metric-names.js';

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
}

/** The values of one scrape. Where there are many tables, theirs become one series. */
export class Samples {
  readonly #isPerTable: boolean;
  readonly #series = new Map<MetricId, Map<string, Sample>>();

  constructor({ isPerTable }: { readonly isPerTable: boolean }) {
    this.#isPerTable = isPerTable;
  }

  add(id: MetricId, labels: Labels, value: number): void {
    const spec: MetricSpec = METRICS[id];
    const isOfTable = spec.labels.includes('table');
    if (isOfTable && !this.#isPerTable && spec.overTables === 'none') return;
    const kept = isOfTable && !this.#isPerTable ? withoutTable(labels) : labels;
    const series = this.#series.get(id) ?? new Map<string, Sample>();
    this.#series.set(id, series);
    const key = JSON.stringify(kept);
    const before = series.get(key);
    series.set(key, {
      labels: kept,
      value: before === undefined ? value : combined(spec, before.value, value),
    });
  }

  of(id: MetricId): readonly Sample[] {
    return [...(this.#series.get(id)?.values() ?? [])];
  }
}

function combined({ overTables = 'sum' }: MetricSpec, a: number, b: number): number {
  if (overTables === 'min') return Math.min(a, b);
  return overTables === 'max' ? Math.max(a, b) : a + b;
}

function withoutTable(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => name !== 'table'));
}
