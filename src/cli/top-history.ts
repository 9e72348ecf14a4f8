import type { TopResult } from '../protocol/top.js';

/** An answer, and when it came: by the clock for people, and by the one that nobody sets (ms). */
export interface Reading {
  readonly atMs: number;
  readonly steadyMs: number;
  readonly result: TopResult;
}

/** How fast a node's log grows and is followed. Null: not known, for there was no answer before. */
export interface NodePace {
  readonly changesPerSecond: number | null;
  readonly walBytesPerSecond: number | null;
  /** How long ago the position was the end of the node's log. */
  readonly lagMs: number | null;
  /** It was longer ago than there are answers. */
  readonly isLagLonger: boolean;
}

const UNKNOWN: NodePace = {
  changesPerSecond: null,
  walBytesPerSecond: null,
  lagMs: null,
  isLagLonger: false,
};

/** Rates are over so long, or over what there is. */
const RATE_MS = 5_000;
/** A lag in time is known up to so long. */
const KEPT_MS = 10 * 60_000;
const KEPT_READINGS = 1_200;

interface Point {
  readonly atMs: number;
  readonly changes: number | null;
  readonly endBytes: number | null;
}

/** What several answers tell that one does not. */
export class TopHistory {
  readonly #points = new Map<string, Point[]>();
  #pid: number | null = null;

  add({ steadyMs: atMs, result }: Reading): void {
    // Another daemon counts anew.
    if (this.#pid !== result.pid) this.#points.clear();
    this.#pid = result.pid;
    for (const { name, changes, endBytes } of result.nodes) {
      const points = this.#points.get(name) ?? [];
      points.push({ atMs, changes, endBytes });
      while (points.length > KEPT_READINGS || (points[0]?.atMs ?? atMs) < atMs - KEPT_MS) {
        points.shift();
      }
      this.#points.set(name, points);
    }
  }

  /** Of a node as it was in the last answer. */
  pace(node: string, positionBytes: number | null): NodePace {
    const points = this.#points.get(node) ?? [];
    const last = points.at(-1);
    if (last === undefined) return UNKNOWN;
    const first = points.find(({ atMs }) => atMs >= last.atMs - RATE_MS) ?? last;
    const seconds = (last.atMs - first.atMs) / 1000;
    const rate = (from: number | null, to: number | null): number | null =>
      seconds <= 0 || from === null || to === null || to < from ? null : (to - from) / seconds;
    return {
      changesPerSecond: rate(first.changes, last.changes),
      walBytesPerSecond: rate(first.endBytes, last.endBytes),
      ...lagOf(points, last, positionBytes),
    };
  }
}

function lagOf(
  points: readonly Point[],
  last: Point,
  positionBytes: number | null,
): Pick<NodePace, 'lagMs' | 'isLagLonger'> {
  if (positionBytes === null || last.endBytes === null) return { lagMs: null, isLagLonger: false };
  if (positionBytes >= last.endBytes) return { lagMs: 0, isLagLonger: false };
  const passed = points.findLast(({ endBytes }) => endBytes !== null && endBytes <= positionBytes);
  const oldest = points[0] ?? last;
  return { lagMs: last.atMs - (passed ?? oldest).atMs, isLagLonger: passed === undefined };
}
