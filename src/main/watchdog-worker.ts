import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import type { WatchdogData } from './watchdog.js';

const STDOUT = 1;
const { beats, beatMs, stuckBeats } = workerData as WatchdogData;
/** Nobody ever wakes it: waiting for it is a sleep that needs no event loop. */
const sleeper = new Int32Array(new SharedArrayBuffer(4));

let seen = Atomics.load(beats, 0);
for (let missed = 0; missed < stuckBeats; missed++) {
  Atomics.wait(sleeper, 0, 0, beatMs);
  const now = Atomics.load(beats, 0);
  if (now === seen) continue;
  seen = now;
  missed = -1;
}
const line = {
  level: 'fatal',
  time: new Date().toISOString(),
  event: 'event_loop_stuck',
  msg: `the event loop has not turned for ${Math.round((stuckBeats * beatMs) / 1000)} s: the process ends itself`,
};
// The logger is the other thread's, and that one hangs.
writeSync(STDOUT, `${JSON.stringify(line)}\n`);
process.kill(process.pid, 'SIGKILL');
