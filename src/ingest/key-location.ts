import { steadyNowMs } from '../base/clock.js';
import type { Lsn } from '../base/lsn.js';
import type { TableApplier } from './table-applier.js';

/** A transaction whose commit has come. */
export interface Commit {
  readonly xid: number;
  readonly endLsn: Lsn;
  readonly timeUs: bigint;
}

interface WaitingCommit {
  readonly commit: Commit;
  readonly appliers: readonly TableApplier[];
  /** Keys that the server has to locate for it, and one for itself. */
  readonly work: number;
}

/** The stream that commits come from. */
export interface StreamFlow {
  pause(reason: string): void;
  resume(): void;
  /** Ends it with an error; it begins again where the leaves are durable. */
  fail(error: unknown): void;
}

export interface KeyLocationOptions {
  readonly flow: StreamFlow;
  /** A commit that waited is in the leaves now. */
  readonly onApplied: (commit: Commit) => void;
}

/** Keys that the server locates, and transactions that wait for them, stop the stream above this number. */
const MAX_UNLOCATED = 20_000;

/**
 * The commits of one node that wait until the server has told in which blocks keys lie, because only
 * it knows their order; and all commits after the first such one, of whatever table: transactions take
 * effect in order or not at all.
 *
 *     TableApplier         a row's key has no locator     ─► UnlocatedChanges.add
 *     ChangeApplier        COMMIT of such a transaction,  ─► KeyLocation.hold
 *                          or while one waits               └► UnlocatedChanges.hold, for each table
 *     KeyLocation          one round for all that waits:
 *                            UnlocatedChanges.locate, for each table: one statement for all its keys,
 *                            again when blocks were cut or joined meanwhile; then keys have positions
 *                            applyHeld, commit by commit  ─► leaves, then onApplied: the position
 *
 * A disconnect forgets all of it: nothing of it was applied or confirmed, so it is sent again.
 */
export class KeyLocation {
  readonly #options: KeyLocationOptions;
  /** Oldest first. */
  #waiting: WaitingCommit[] = [];
  #work = 0;
  #isLocating = false;
  /** Counts the connections: what was asked for in one is of no use in the next. */
  #connection = 0;

  constructor(options: KeyLocationOptions) {
    this.#options = options;
  }

  /** Whether every further commit must be held. */
  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  hold(commit: Commit, appliers: readonly TableApplier[]): void {
    let work = 1;
    for (const applier of appliers) work += applier.hold(commit.xid);
    this.#waiting.push({ commit, appliers, work });
    this.#work += work;
    if (!this.#isLocating) void this.#locateAll();
    else if (this.#work > MAX_UNLOCATED) this.#options.flow.pause('locating keys');
  }

  /** The connection ended. */
  discard(): void {
    this.#waiting = [];
    this.#work = 0;
    this.#connection++;
  }

  async #locateAll(): Promise<void> {
    const { flow } = this.#options;
    this.#isLocating = true;
    try {
      while (this.isWaiting) {
        const count = this.#waiting.length;
        const connection = this.#connection;
        const appliers = new Set(this.#waiting.flatMap((one) => one.appliers));
        for (const applier of appliers) await applier.locateHeld();
        if (this.#connection !== connection) continue;
        this.#release(count);
        flow.resume();
      }
    } catch (error) {
      flow.fail(error);
    } finally {
      this.#isLocating = false;
    }
  }

  /** Applies the `count` oldest: all their keys have been located. */
  #release(count: number): void {
    for (const { commit, appliers, work } of this.#waiting.splice(0, count)) {
      this.#work -= work;
      const nowMs = steadyNowMs();
      for (const applier of appliers) applier.applyHeld(nowMs);
      this.#options.onApplied(commit);
    }
  }
}
