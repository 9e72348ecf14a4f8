import type { BackoffOptions } from '../base/backoff.js';
import { errorMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { Loop } from '../base/loop.js';
import { RepeatedFailure } from '../base/repeated-failure.js';
import { eventRecord, type DriftEvent } from '../drift/drift-event.js';
import { EventSpool } from './event-spool.js';
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
  readonly backoff?: BackoffOptions;
}

/**
 * Hands events on, one after another and in order, at least once each: an event leaves the spool when
 * the receiver has taken it. A receiver that fails or never answers costs nobody anything but the room
 * for events that wait; of those the oldest go when there are too many.
 */
export class Hook {
  readonly #options: HookOptions;
  readonly #spool: EventSpool;
  readonly #loop: Loop;
  readonly #failure = new RepeatedFailure(REPEAT_MS);
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
    this.#loop = Loop.start({
      backoff: options.backoff ?? BACKOFF,
      round: (signal) => this.#deliver(signal),
      onFailure: (error) => this.#onFailure(error),
    });
  }

  /** Never throws, and does not wait for anybody. */
  tell(event: DriftEvent): void {
    this.#spool.add(eventRecord(event, new Date()));
    this.#loop.wake();
  }

  /** What has not been taken is handed on by the next process. */
  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** Hands on the first event that waits. */
  async #deliver(signal: AbortSignal): Promise<number> {
    const event = this.#spool.first;
    if (event === undefined) return Infinity;
    const { target, name: hook, log } = this.#options;
    const delivery = await target(event, signal);
    if (delivery.outcome === 'failed') throw new Error(delivery.why);
    this.#spool.remove(event);
    if (delivery.outcome === 'refused') {
      log.error({ event: 'hook_dropped', hook, count: 1 }, `refused: ${delivery.why}`);
    } else if (this.#failure.isTold) {
      const facts = { event: 'hook_recovered', hook, waiting: this.#spool.size };
      log.info(facts, 'events are taken again');
      this.#failure.end();
    }
    return 0;
  }

  #onFailure(error: unknown): void {
    const { name: hook, log } = this.#options;
    if (!this.#failure.note('')) return;
    const facts = { event: 'hook_failed', hook, waiting: this.#spool.size };
    log.warn(facts, `${errorMessage(error)}; tried again, events wait meanwhile`);
  }
}
