/**
 * Milliseconds since the epoch when the process began, and counted from there: a clock that is set does not move it.
 * Whatever is waited for, rested or measured goes by it; Date.now() is for times that people are shown or that outlive the process.
 */
export function steadyNowMs(): number {
  return Math.floor(performance.timeOrigin + performance.now());
}

/** What the clock, as it is set now, would have shown at a time of steadyNowMs(). */
export function shownTime(steadyMs: number): Date {
  return new Date(Date.now() - steadyNowMs() + steadyMs);
}
