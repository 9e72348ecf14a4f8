/** What a slot held back at one moment. */
export interface WalReading {
  readonly atMs: number;
  readonly retainedBytes: number;
  readonly walStatus: string | null;
  /** What the server lets be written before it gives the slot up; null: it has no such limit. */
  readonly safeBytes: number | null;
}

export interface WalOutlook {
  readonly kind: 'fine' | 'lags' | 'over';
  /** Until our own limit or the server's, whichever comes first. */
  readonly bytesLeft: number;
  /** At the pace since the earliest reading; null: it does not grow. */
  readonly secondsLeft: number | null;
}

/** What is held back comes and goes with every checkpoint: a shorter look says nothing. */
const MIN_TREND_MS = 60_000;
/** Time enough for somebody to get up and see to it. */
const ALARM_SECONDS = 3_600;

/**
 * Whether the log that a slot holds back needs attention. `readings` are in order of time, the last
 * one is of now. `lags`: half of the budget is gone, or it will all be within the hour.
 */
export function walOutlook(readings: readonly WalReading[], limitBytes: number): WalOutlook {
  const [first] = readings;
  const now = readings.at(-1);
  if (first === undefined || now === undefined) throw new RangeError('no reading');
  const bytesLeft = Math.min(limitBytes - now.retainedBytes, now.safeBytes ?? Infinity);
  const elapsedMs = now.atMs - first.atMs;
  const grownBytes = now.retainedBytes - first.retainedBytes;
  const secondsLeft =
    elapsedMs >= MIN_TREND_MS && grownBytes > 0
      ? Math.max(0, Math.round((bytesLeft / grownBytes) * (elapsedMs / 1000)))
      : null;
  const isLate =
    bytesLeft < now.retainedBytes ||
    now.walStatus === 'unreserved' ||
    (secondsLeft !== null && secondsLeft < ALARM_SECONDS);
  const isOver = now.retainedBytes > limitBytes;
  return { kind: isOver ? 'over' : isLate ? 'lags' : 'fine', bytesLeft, secondsLeft };
}
