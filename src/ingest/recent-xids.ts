import { isVisible, type Snapshot } from '../postgres/snapshot.js';

interface AppliedTransaction {
  readonly appliedAt: number;
  /** When a snapshot first showed it; null: none has. */
  shownAt: number | null;
}

/** A read of leaves that is under way: its snapshot may be any that was taken since it started. */
export interface XidReading {
  /**
   * True when the snapshot lacks a transaction that was applied before the reading started: what
   * was read in it is older than the leaves.
   */
  isMissing(snapshot: Snapshot): boolean;
  /** Must be called however the reading ended: transactions are remembered until then. */
  end(): void;
}

/**
 * Transactions that were applied from the stream, by this process or one before, but that no snapshot
 * has shown yet. A commit is in the write-ahead log, hence in the stream, before other sessions can
 * see it; with synchronous replication long before. A leaf read in between would miss it, although
 * its change has been applied already.
 *
 * Snapshots arrive in any order. One that shows a transaction says nothing of the snapshot of a
 * reading that has been under way since before, so the transaction is remembered until that has ended.
 */
export class RecentXids {
  readonly #xids = new Map<number, AppliedTransaction>();
  /** When the readings that are under way started, oldest first. */
  readonly #readings = new Set<number>();
  /** Orders what happens; counts on with each event. */
  #clock = 0;

  get size(): number {
    return this.#xids.size;
  }

  add(xid: number): void {
    this.#xids.set(xid, { appliedAt: ++this.#clock, shownAt: null });
  }

  /** Before the statement is sent whose snapshot is to be judged. */
  startReading(): XidReading {
    const startedAt = ++this.#clock;
    this.#readings.add(startedAt);
    return {
      isMissing: (snapshot) => this.#lacks(snapshot, startedAt),
      end: () => {
        this.#readings.delete(startedAt);
        this.#forgetShown();
      },
    };
  }

  #lacks(snapshot: Snapshot, startedAt: number): boolean {
    let isMissing = false;
    for (const [xid, transaction] of this.#xids) {
      // Any snapshot that is taken later shows it too.
      if (transaction.shownAt !== null && transaction.shownAt < startedAt) continue;
      if (isVisible(snapshot, xid)) transaction.shownAt ??= ++this.#clock;
      else if (transaction.appliedAt <= startedAt) isMissing = true;
    }
    return isMissing;
  }

  #forgetShown(): void {
    const [oldest = Infinity] = this.#readings;
    for (const [xid, { shownAt }] of this.#xids) {
      if (shownAt !== null && shownAt < oldest) this.#xids.delete(xid);
    }
  }
}
