import type { Logger } from '../base/log.js';
import type { Health } from '../observe/health.js';
import { notifyServiceManager, type ServiceState } from './notify.js';

/** systemd waits so long for the next word, from when it is told so. */
const EXTEND_MS = 30_000;
const EXTEND_EVERY_MS = 10_000;
/** Work that has not ended by then may be ended by systemd. */
const EXTEND_FOR_MS = 30 * 60_000;
const TICK_MS = 5_000;

export interface ServiceOptions {
  readonly log: Logger;
  readonly env?: NodeJS.ProcessEnv;
  readonly tickMs?: number;
}

/** The daemon as systemd sees it: whether it is ready, what it does, whether it is alive. */
export class Service {
  readonly #log: Logger;
  readonly #env: NodeJS.ProcessEnv;
  readonly #tickMs: number;
  /** systemd ends a daemon that is silent for so long; null: it does not watch. */
  readonly #watchdogMs: number | null;
  #timer: NodeJS.Timeout | null = null;
  #status = '';
  #pingedAtMs = -Infinity;
  #unhealthy = '';

  constructor({ log, env = process.env, tickMs = TICK_MS }: ServiceOptions) {
    this.#log = log;
    this.#env = env;
    this.#watchdogMs = watchdogMs(env);
    this.#tickMs = Math.min(tickMs, (this.#watchdogMs ?? Infinity) / 4);
  }

  /** Ready, and watched from now on. */
  async ready(health: Health): Promise<void> {
    await this.#tell(['READY=1']);
    this.#look(health);
    this.#timer = setInterval(() => this.#look(health), this.#tickMs);
    this.#timer.unref();
  }

  /** Between the two messages that a reload consists of. */
  async reloading(work: () => Promise<void>): Promise<void> {
    // CLOCK_MONOTONIC, as systemd wants it: https://www.freedesktop.org/software/systemd/man/sd_notify.html
    await this.#tell(['RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`]);
    try {
      await work();
    } finally {
      await this.#tell(['READY=1']);
    }
  }

  async stopping(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#tell(['STOPPING=1']);
  }

  /**
   * Work at the start or at the end that may take longer than systemd's patience, such as a state of
   * many tables: as long as the event loop turns, for half an hour at most, it is asked for more.
   */
  async patiently<T>(work: () => Promise<T>): Promise<T> {
    const endMs = performance.now() + EXTEND_FOR_MS;
    const ask = (): void => {
      if (performance.now() > endMs) return;
      void this.#tell([`EXTEND_TIMEOUT_USEC=${EXTEND_MS * 1000}`, 'WATCHDOG=1']);
    };
    const timer = setInterval(ask, Math.min(EXTEND_EVERY_MS, this.#tickMs));
    try {
      return await work();
    } finally {
      clearInterval(timer);
    }
  }

  #look(health: Health): void {
    const { status, problems } = health.check(performance.now());
    const states: ServiceState[] = [];
    if (status !== this.#status) states.push(`STATUS=${status}`);
    this.#status = status;
    const unhealthy = problems.join('; ');
    if (unhealthy !== this.#unhealthy && unhealthy !== '') {
      this.#log.error({ event: 'unhealthy' }, unhealthy);
    }
    this.#unhealthy = unhealthy;
    const nowMs = performance.now();
    const isDue = nowMs - this.#pingedAtMs + this.#tickMs > (this.#watchdogMs ?? Infinity) / 2;
    if (isDue && unhealthy === '') {
      states.push('WATCHDOG=1');
      this.#pingedAtMs = nowMs;
    }
    if (states.length > 0) void this.#tell(states);
  }

  async #tell(states: readonly ServiceState[]): Promise<void> {
    if ((await notifyServiceManager(states, this.#env)) !== 'failed') return;
    this.#log.warn({ event: 'notify_failed' }, `systemd was not told: ${states.join(', ')}`);
  }
}

/** sd_watchdog_enabled(3): it may be meant for a process that started this one. */
function watchdogMs(env: NodeJS.ProcessEnv): number | null {
  const { WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env;
  if (usec === undefined || !/^[1-9]\d*$/.test(usec)) return null;
  return pid === undefined || pid === String(process.pid) ? Number(usec) / 1000 : null;
}
