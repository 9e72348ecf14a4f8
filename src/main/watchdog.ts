import { Worker } from 'node:worker_threads';
import type { Logger } from '../base/log.js';

export interface WatchdogOptions {
  readonly log: Logger;
  /** A turn of the event loop that takes so long is told once it is over. */
  readonly lagMs?: number;
  /** The process is ended when the event loop has not turned for so long. */
  readonly stuckMs?: number;
}

export interface Watchdog {
  stop(): Promise<void>;
}

const BEAT_MS = 1_000;
const LAG_MS = 5_000;
/** Well beyond any work of ours in one piece; a supervisor starts the daemon again. */
const STUCK_MS = 300_000;
const WORKER = new URL('./watchdog-worker.js', import.meta.url);

/** What the worker is given. */
export interface WatchdogData {
  /** One number, which the main thread changes with every beat. */
  readonly beats: Int32Array;
  readonly beatMs: number;
  readonly stuckBeats: number;
}

/**
 * Watches the event loop: a daemon whose loop hangs answers nobody, reads no stream, and would stay so
 * for ever. A thread of its own sees that and kills the process, which loses nothing: what was not
 * confirmed is sent again. It counts its own turns rather than time: a process that was stopped as a
 * whole, or a host that slept, is no loop that hangs.
 */
export function startWatchdog(options: WatchdogOptions): Watchdog {
  const { log, lagMs = LAG_MS, stuckMs = STUCK_MS } = options;
  const beats = new Int32Array(new SharedArrayBuffer(4));
  let lastMs = performance.now();
  const timer = setInterval(() => {
    const nowMs = performance.now();
    const lateMs = Math.round(nowMs - lastMs - BEAT_MS);
    lastMs = nowMs;
    Atomics.add(beats, 0, 1);
    if (lateMs >= lagMs) {
      log.warn({ event: 'event_loop_lag', lateMs }, 'the daemon was stopped, or busy in one piece');
    }
  }, BEAT_MS);
  timer.unref();
  const workerData: WatchdogData = {
    beats,
    beatMs: BEAT_MS,
    stuckBeats: Math.ceil(stuckMs / BEAT_MS),
  };
  const worker = new Worker(WORKER, { workerData });
  worker.unref();
  worker.on('error', (err) =>
    log.warn({ event: 'watchdog_failed', err }, 'nobody watches the event loop'),
  );
  return {
    stop: async () => {
      clearInterval(timer);
      await worker.terminate();
    },
  };
}
