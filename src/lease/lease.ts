import { hostname } from 'node:os';
import { randomBytes } from 'node:crypto';
import { AcedError, errorMessage, logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { Loop, tellsFailures } from '../base/loop.js';
import type { NodeConfig } from '../config/config.js';
import { Session } from '../postgres/session.js';
import {
  claimLease,
  prepareLeaseSession,
  readHandover,
  readLease,
  releaseLease,
  writeHandover,
  type LeaseKey,
  type LeaseRow,
} from './lease-table.js';

/** By the server's clock. */
const TERM_MS = 15_000;
/** The active one ends its term so much earlier: clocks do not run at quite the same rate. */
const MARGIN_MS = 1_000;
const RENEW_MS = TERM_MS / 3;
const POLL_MS = 1_000;
/** One attempt to ask or renew, connecting included: two that fail leave time for a third. */
const ATTEMPT_MS = 4_000;
const BACKOFF = { firstMs: 250, maxMs: 1_000 };

export interface LeaseOptions {
  /** The database that holds the lease. */
  readonly database: NodeConfig;
  readonly schema: string;
  readonly cluster: string;
  /** For people: who this is. Default: the host's name. */
  readonly instance: string | null;
  readonly log: Logger;
  /** The term is over, or somebody else has taken over. Must end the process before it returns. */
  readonly onLost: (reason: string) => void;
}

/** What a standby knows. */
export interface LeaseView {
  readonly holder: string | null;
  readonly epoch: number;
  /** Why the database cannot be asked; null: it was asked within the last seconds. */
  readonly error: string | null;
}

/** What active work asks of the lease: whatever tells or writes something asks first. */
export interface Reign {
  readonly holder: string;
  readonly epoch: number;
  /** Does not return when the term is over. To be called before anything is told or committed. */
  require(): void;
  /** Resolves once a renewal that was sent after the call is confirmed. */
  confirm(): Promise<void>;
  readHandover(): Promise<ReadonlyMap<string, string>>;
  /** Durable when it resolves. Does not return when the lease is somebody else's. */
  writeHandover(changes: ReadonlyMap<string, string | null>): Promise<void>;
}

/**
 * One of several aced for a cluster is the active one: who holds a row in a database, for a term that
 * only the server's clock counts. Our own clock counts from before each renewal was sent, and never goes
 * back, so that we know the term to be over before anybody else can.
 */
export class Lease {
  readonly #options: LeaseOptions;
  readonly #key: LeaseKey;
  readonly #loop: Loop;
  #session: Session | null = null;
  #view: LeaseView = { holder: null, epoch: 0, error: null };
  #reign: { readonly epoch: number; untilMs: number } | null = null;
  #timer: NodeJS.Timeout | null = null;
  #onReign: (reign: Reign) => void = () => undefined;
  readonly #confirmations = new Set<(sentAtMs: number) => void>();

  constructor(options: LeaseOptions) {
    const { schema, cluster, instance } = options;
    this.#options = options;
    // Never the same twice: a process that comes back must not take itself for the one before.
    const holder = `${instance ?? hostname()}/${process.pid}/${randomBytes(4).toString('hex')}`;
    this.#key = { schema, cluster, holder };
    this.#loop = new Loop({
      ...tellsFailures(options.log, 'lease_failed'),
      backoff: BACKOFF,
      round: () => this.#round(),
    });
  }

  /** Begins to ask for the lease; resolves when it is ours. */
  async acquire(): Promise<Reign> {
    const acquired = new Promise<Reign>((resolve) => {
      this.#onReign = resolve;
    });
    this.#loop.start();
    return acquired;
  }

  get view(): LeaseView {
    return this.#view;
  }

  /** Ends the term, so that a standby takes over at once. Never fails. */
  async release(): Promise<void> {
    await this.#loop.stop();
    if (this.#timer !== null) clearTimeout(this.#timer);
    const reign = this.#reign;
    this.#reign = null;
    try {
      if (reign !== null) await this.#attempt((session) => releaseLease(session, this.#key));
    } catch (error) {
      this.#options.log.warn({ event: 'lease_failed' }, logMessage(error));
    }
    await this.#session?.close();
  }

  async #round(): Promise<number> {
    const sentAtMs = performance.now();
    try {
      const { row, epoch } = await this.#attempt((session) => this.#ask(session));
      this.#view = { holder: row?.holder ?? null, epoch: row?.epoch ?? 0, error: null };
      if (this.#reign !== null) return this.#renewed(epoch, sentAtMs);
      if (epoch === null) return Math.min(POLL_MS, Math.max(0, row?.remainingMs ?? 0));
      return this.#begin(epoch, sentAtMs);
    } catch (error) {
      this.#view = { ...this.#view, error: errorMessage(error) };
      throw error;
    }
  }

  /** `epoch`: the lease is ours. */
  async #ask(session: Session): Promise<{ row: LeaseRow | null; epoch: number | null }> {
    const { holder } = this.#key;
    if (this.#reign === null) {
      const row = await readLease(session, this.#key);
      // It is ours when the answer to an earlier claim was lost.
      if (row !== null && row.remainingMs > 0 && row.holder !== holder) return { row, epoch: null };
    }
    const epoch = await claimLease(session, this.#key, TERM_MS);
    return epoch === null
      ? { row: await readLease(session, this.#key), epoch }
      : { row: { holder, epoch, remainingMs: TERM_MS }, epoch };
  }

  #begin(epoch: number, sentAtMs: number): number {
    const untilMs = sentAtMs + TERM_MS - MARGIN_MS;
    // The answer came too late, after the process was stopped say.
    if (performance.now() >= untilMs) return 0;
    this.#reign = { epoch, untilMs };
    this.#watchTerm();
    this.#options.log.info({ event: 'lease_taken', epoch, holder: this.#key.holder }, 'active now');
    this.#onReign({
      holder: this.#key.holder,
      epoch,
      require: () => this.#require(),
      confirm: () => this.#confirm(),
      readHandover: () => this.#beside((session) => readHandover(session, this.#key)),
      writeHandover: (changes) => this.#writeHandover(epoch, changes),
    });
    return RENEW_MS;
  }

  #renewed(epoch: number | null, sentAtMs: number): number {
    const reign = this.#reign;
    if (reign === null) return POLL_MS;
    if (epoch !== reign.epoch) {
      this.#options.onLost(`${this.#view.holder ?? 'nobody'} holds the lease now`);
      return Infinity;
    }
    this.#require();
    reign.untilMs = sentAtMs + TERM_MS - MARGIN_MS;
    this.#watchTerm();
    for (const confirmed of [...this.#confirmations]) confirmed(sentAtMs);
    return RENEW_MS;
  }

  #require(): void {
    const untilMs = this.#reign?.untilMs ?? Infinity;
    if (performance.now() >= untilMs) {
      this.#options.onLost('the lease was not renewed before its term ended');
    }
  }

  /** Whoever is idle when the term ends must end too. */
  #watchTerm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    const restMs = (this.#reign?.untilMs ?? 0) - performance.now();
    this.#timer = setTimeout(() => this.#require(), Math.max(0, Math.ceil(restMs)));
  }

  async #confirm(): Promise<void> {
    const askedAtMs = performance.now();
    const confirmed = new Promise<void>((resolve) => {
      const note = (sentAtMs: number): void => {
        if (sentAtMs < askedAtMs) return;
        this.#confirmations.delete(note);
        resolve();
      };
      this.#confirmations.add(note);
    });
    this.#loop.wake();
    await confirmed;
  }

  async #writeHandover(epoch: number, changes: ReadonlyMap<string, string | null>): Promise<void> {
    const isOurs = await this.#beside((session) =>
      writeHandover(session, { ...this.#key, epoch }, changes),
    );
    if (!isOurs) this.#options.onLost('somebody else holds the lease now');
    this.#require();
  }

  /** On a connection of its own: renewals wait for nothing else. */
  async #beside<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const session = await this.#connect();
    try {
      return await inTime(work(session), session);
    } finally {
      await session.close();
    }
  }

  /** An attempt that takes too long is given up together with its connection. */
  async #attempt<T>(work: (session: Session) => Promise<T>): Promise<T> {
    if (this.#session?.isBroken !== false) this.#session = await this.#connect();
    const session = this.#session;
    try {
      return await inTime(work(session), session);
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  async #connect(): Promise<Session> {
    const { database, schema, cluster } = this.#options;
    const node = { ...database, connectTimeoutMs: ATTEMPT_MS, tcpUserTimeoutMs: ATTEMPT_MS };
    const session = await Session.connect(node, { applicationName: `aced lease ${cluster}` });
    try {
      await inTime(prepareLeaseSession(session, schema, ATTEMPT_MS), session);
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    }
  }
}

async function inTime<T>(work: Promise<T>, session: Session): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const text = `the database of the lease has not answered for ${ATTEMPT_MS / 1000} s`;
      reject(new AcedError('TIMEOUT', text, { hint: 'Look at the server and the network.' }));
      session.destroy();
    }, ATTEMPT_MS);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
