/** One measured number, with the floor that was taken beside it in the same run. */
export interface Figure {
  /** Name of the measure, as `--only` takes it. */
  readonly measure: string;
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  readonly floor?: { readonly what: string; readonly value: number };
  /** What must hold; absent: reported for its own sake. `of`: the value itself, or value / floor. */
  readonly target?: {
    readonly of: 'value' | 'ratio';
    readonly at: 'most' | 'least';
    readonly limit: number;
  };
}

export interface JudgedFigure extends Figure {
  readonly ratio: number | null;
  /** Null: no target. */
  readonly isMet: boolean | null;
}

export function judge(figure: Figure): JudgedFigure {
  const { floor, target, value } = figure;
  const ratio = floor === undefined ? null : value / floor.value;
  if (target === undefined) return { ...figure, ratio, isMet: null };
  const judged = target.of === 'value' ? value : ratio;
  if (judged === null) throw new RangeError(`${figure.what}: a ratio needs a floor`);
  const isMet = target.at === 'most' ? judged <= target.limit : judged >= target.limit;
  return { ...figure, ratio, isMet };
}

/** One line for a person: what, value, floor, ratio, target, verdict. */
export function describe(figure: JudgedFigure): string {
  const { what, value, unit, floor, ratio, target, isMet } = figure;
  const parts = [`${what}: ${round(value)} ${unit}`];
  if (floor !== undefined) parts.push(`${floor.what} ${round(floor.value)} ${unit}`);
  if (ratio !== null) parts.push(`ratio ${round(ratio)}`);
  if (target !== undefined) {
    const sign = target.at === 'most' ? '<=' : '>=';
    parts.push(`target ${target.of === 'ratio' ? 'ratio ' : ''}${sign} ${target.limit}`);
  }
  if (isMet !== null) parts.push(isMet ? 'pass' : 'MISS');
  return parts.join(' | ');
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >>> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

function round(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
