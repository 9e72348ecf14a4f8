import { logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { NodeServer } from './node-server.js';
import { RecentXids, type XidReading } from './recent-xids.js';

export interface HiddenCommitsOptions {
  readonly server: NodeServer;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** Above this number the server is asked which of them every session can see. */
const MAX_RECENT_XIDS = 50_000;

/**
 * What one node's snapshots may not show yet although its leaves have it: a commit is in the stream
 * before other sessions can see it. What is read in a snapshot that lacks one of these is older than
 * the leaves.
 */
export class HiddenCommits {
  readonly #options: HiddenCommitsOptions;
  readonly #xids = new RecentXids();
  #isSettling = false;
  /** For commits of before the stream; null: not begun. */
  #search: Promise<void> | null = null;

  constructor(options: HiddenCommitsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#xids.size;
  }

  /** A transaction was applied from the stream. */
  add(xid: number): void {
    this.#xids.add(xid);
    if (this.#xids.size > MAX_RECENT_XIDS) void this.#settle();
  }

  /** Before the statement is sent whose snapshot is to be judged. */
  startReading(): XidReading {
    return this.#xids.startReading();
  }

  /**
   * Must have resolved before blocks are read. What committed before the stream's start is not sent
   * (again), and yet snapshots may not show it for long: it is among these after this. Asks the
   * server once, until searchAgain. Errors: those of a query.
   */
  async remember(): Promise<void> {
    this.#search ??= this.#searchOlder();
    const search = this.#search;
    try {
      await search;
    } catch (error) {
      if (this.#search === search) this.#search = null;
      throw error;
    }
  }

  /** The server may be another one than it was. */
  searchAgain(): void {
    this.#search = null;
  }

  async #searchOlder(): Promise<void> {
    // As the stream has them: 32 bits.
    for (const xid of await this.#options.server.hiddenXids(this.#options.signal)) {
      this.#xids.add(Number(BigInt.asUintN(32, xid)));
    }
  }

  async #settle(): Promise<void> {
    if (this.#isSettling) return;
    this.#isSettling = true;
    const reading = this.startReading();
    try {
      reading.isMissing(await this.#options.server.snapshot());
    } catch (error) {
      this.#options.log.warn({ event: 'settle_failed' }, logMessage(error));
    } finally {
      reading.end();
      this.#isSettling = false;
    }
  }
}
