import { backoffMs, sleep } from '../base/abort.js';
import { errorMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { DriftEvent } from '../drift/drift-event.js';
import { EventSpool, type SpooledEvent } from './event-spool.js';
import type { HookTarget } from './hook-targets.js';

const MAX_EVENTS = 1000;
const BACKOFF = { firstMs: 1_000, maxMs: 300_000 };
/** A receiver that fails is told of so often. */
const REPEAT_MS = 3_600_000;

export interface HookOptions {
  /** `webhook` or `command`, for the log. */
  readonly name: string;
  readonly target: HookTarget;
  readonly directory: string;
  readonly log: Logger;
  readonly maxEvents?: number;
  readonly backoff?: { readonly firstMs: number; readonly maxMs: number };
}

/**
 * Hands events on, one after another and in order, at least once each: an event leaves the spool when
 * the receiver has taken it. A receiver that fails or never answers costs nobody anything but the room
 * for events that wait; of those the oldest go when there are too many.
 */
export class Hook {
  readonly #options: HookOptions;
  readonly #spool: EventSpool;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;
  #wake: () => void = () => undefined;
  #toldAtMs = -Infinity;
  #failures = 0;
  #isUnwritten = false;

  constructor(options: HookOptions) {
    this.#options = options;
    const { directory, name, log, maxEvents = MAX_EVENTS } = options;
    this.#spool = new EventSpool({
      directory,
      maxEvents,
      onDropped: (count) =>
        log.error({ event: 'hook_dropped', hook: name, count }, 'too many events wait'),
      onUnwritten: (error) => {
        if (!this.#isUnwritten) {
          const facts = { event: 'hook_spool_failed', hook: name };
          log.warn(facts, `events that wait would not outlive aced: ${errorMessage(error)}`);
        }
        this.#isUnwritten = true;
      },
    });
    this.#running = this.#run();
  }

  /** Never throws, and does not wait for anybody. */
  tell({ level, fields, message }: DriftEvent): void {
    this.#spool.add({ time: new Date().toISOString(), level, ...fields, msg: message });
    this.#wake();
  }

  /** What has not been taken is handed on by the next process. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    const isStopping = (): boolean => signal.aborted;
    while (!isStopping()) {
      const { first } = this.#spool;
      if (first === undefined) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      } else if (!(await this.#deliver(first, signal)) && !isStopping()) {
        const { backoff = BACKOFF } = this.#options;
        await sleep(backoffMs(this.#failures++, backoff), signal).catch(() => undefined);
      }
    }
  }

  /** Whether the next event may follow. */
  async #deliver(event: SpooledEvent, signal: AbortSignal): Promise<boolean> {
    const { target, name: hook, log } = this.#options;
    const delivery = await target(event, signal);
    if (delivery.outcome === 'failed') {
      if (!signal.aborted && performance.now() - this.#toldAtMs > REPEAT_MS) {
        this.#toldAtMs = performance.now();
        const facts = { event: 'hook_failed', hook, waiting: this.#spool.size };
        log.warn(facts, `${delivery.why}; tried again, events wait meanwhile`);
      }
      return false;
    }
    this.#spool.remove(event);
    if (delivery.outcome === 'refused') {
      log.error({ event: 'hook_dropped', hook, count: 1 }, `refused: ${delivery.why}`);
    } else if (this.#toldAtMs !== -Infinity) {
      log.info(
        { event: 'hook_recovered', hook, waiting: this.#spool.size },
        'events are taken again',
      );
      this.#toldAtMs = -Infinity;
    }
    this.#failures = 0;
    return true;
  }
}
