import { isVisible, type Snapshot } from '../postgres/snapshot.js';

/**
 * Transactions that were applied from the stream but that no snapshot has shown yet. A commit is
 * in the write-ahead log, hence in the stream, before other sessions can see it; with synchronous
 * replication long before. A leaf read in between would miss it, although its change has been
 * applied already.
 */
export class RecentXids {
  /** xid -> order in which it was applied. */
  readonly #xids = new Map<number, number>();
  #sequence = 0;

  get size(): number {
    return this.#xids.size;
  }

  /** Order of the latest transaction applied. */
  get sequence(): number {
    return this.#sequence;
  }

  add(xid: number): void {
    this.#xids.set(xid, ++this.#sequence);
  }

  /**
   * Forgets the transactions that the snapshot shows. True when one that was applied up to
   * `sequence` is not among them: what was read in that snapshot is older than the leaves.
   */
  isMissing(snapshot: Snapshot, sequence: number): boolean {
    let isMissing = false;
    for (const [xid, order] of this.#xids) {
      if (isVisible(snapshot, xid)) this.#xids.delete(xid);
      else if (order <= sequence) isMissing = true;
    }
    return isMissing;
  }
}
