// Hangs as a daemon would, after it has been late once.
import { createLogger } from '../../src/base/log.js';
import { startWatchdog } from '../../src/main/watchdog.js';

function busyFor(ms: number): void {
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs);
}

const watchdog = startWatchdog({ log: createLogger('info'), lagMs: 500, stuckMs: 3_000 });
if (process.argv[2] === 'ends') {
  await watchdog.stop();
} else {
  setTimeout(() => busyFor(2_500), 1_500);
  // Told by the turn after the late one.
  setTimeout(() => busyFor(Infinity), 6_000);
}
