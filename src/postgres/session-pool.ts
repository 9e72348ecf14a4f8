import { throwIfAborted } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { NodeConfig } from '../config/config.js';
import type { OpenDatabases } from './open-databases.js';
import { Session } from './session.js';

export interface SessionPoolOptions {
  /** Connections at most; further work waits in order of arrival. */
  readonly max: number;
  readonly applicationName: string;
  /** See ConnectOptions. */
  readonly hasUserPath?: boolean;
  /** An unused connection is closed after so long. */
  readonly idleMs?: number;
  /** Shared by the pools of nodes that must be different databases. */
  readonly databases?: OpenDatabases;
}

const DEFAULT_IDLE_MS = 30_000;

interface IdleSession {
  readonly session: Session;
  readonly timer: NodeJS.Timeout;
}

interface Waiter {
  readonly wake: () => void;
  readonly fail: (error: AcedError) => void;
}

/** A few sessions to one node, opened when first needed. Work must leave its session as found. */
export class SessionPool {
  readonly node: NodeConfig;
  readonly #options: SessionPoolOptions;
  readonly #idle: IdleSession[] = [];
  readonly #waiters: Waiter[] = [];
  readonly #closing = new Set<Promise<void>>();
  #busyCount = 0;
  #isClosed = false;
  #onDrained: (() => void) | undefined;

  constructor(node: NodeConfig, options: SessionPoolOptions) {
    this.node = node;
    this.#options = options;
  }

  /**
   * Lends a session for the time of `work`. A session that comes back broken or inside a
   * transaction is dropped. `signal` ends the wait for a session; pass it to the queries as well.
   */
  async use<T>(work: (session: Session) => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.#takePlace(signal);
    try {
      const session = this.#takeIdle() ?? (await this.#connect(signal));
      try {
        return await work(session);
      } finally {
        this.#giveBack(session);
      }
    } finally {
      this.#leavePlace();
    }
  }

  /** Refuses new work, lets running work end, closes all connections. Abort work first to be quick. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const waiter of this.#waiters.splice(0)) waiter.fail(this.#closedError());
    for (const { session, timer } of this.#idle.splice(0)) {
      clearTimeout(timer);
      this.#discard(session);
    }
    if (this.#busyCount > 0) {
      await new Promise<void>((resolve) => {
        this.#onDrained = resolve;
      });
    }
    await Promise.all(this.#closing);
  }

  async #connect(signal: AbortSignal | undefined): Promise<Session> {
    const { applicationName, hasUserPath = false, databases } = this.#options;
    const session = await Session.connect(this.node, {
      applicationName,
      hasUserPath,
      ...(signal === undefined ? {} : { signal }),
    });
    try {
      databases?.enter(session);
    } catch (error) {
      this.#discard(session);
      throw error;
    }
    return session;
  }

  async #takePlace(signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal);
    if (this.#isClosed) throw this.#closedError();
    if (this.#busyCount < this.#options.max) {
      this.#busyCount += 1;
      return;
    }
    // A woken waiter inherits the place of the one who left, so nobody can overtake it.
    await new Promise<void>((resolve, reject) => {
      const stopListening = (): void => signal?.removeEventListener('abort', onAbort);
      const waiter: Waiter = {
        wake: () => {
          stopListening();
          resolve();
        },
        fail: (error) => {
          stopListening();
          reject(error);
        },
      };
      const onAbort = (): void => {
        const index = this.#waiters.indexOf(waiter);
        if (index >= 0) this.#waiters.splice(index, 1);
        waiter.fail(new AcedError('CANCELLED', 'cancelled'));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiters.push(waiter);
    });
  }

  #leavePlace(): void {
    const next = this.#waiters.shift();
    if (next !== undefined) {
      next.wake();
      return;
    }
    this.#busyCount -= 1;
    if (this.#busyCount === 0) this.#onDrained?.();
  }

  #takeIdle(): Session | undefined {
    for (;;) {
      const entry = this.#idle.pop();
      if (entry === undefined) return undefined;
      clearTimeout(entry.timer);
      if (entry.session.isIdle) return entry.session;
      this.#discard(entry.session);
    }
  }

  #giveBack(session: Session): void {
    if (this.#isClosed || !session.isIdle) {
      this.#discard(session);
      return;
    }
    const timer = setTimeout(() => {
      const index = this.#idle.findIndex((entry) => entry.session === session);
      if (index >= 0) this.#idle.splice(index, 1);
      this.#discard(session);
    }, this.#options.idleMs ?? DEFAULT_IDLE_MS);
    timer.unref();
    this.#idle.push({ session, timer });
  }

  #discard(session: Session): void {
    this.#options.databases?.leave(session);
    const closing = session.close().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
  }

  #closedError(): AcedError {
    return new AcedError('CANCELLED', `the connections to node ${this.node.name} are closing`);
  }
}
