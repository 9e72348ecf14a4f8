/** Milliseconds since the epoch when the process began, and counted from there: a clock that is set does not move it. */
export function steadyNowMs(): number {
  return Math.floor(performance.timeOrigin + performance.now());
}
