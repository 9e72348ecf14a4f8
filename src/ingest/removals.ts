/** A transaction as a node's stream shows it. */
export interface ShownTransaction {
  readonly xid: number;
  /** Microseconds since the Unix epoch, by the node's clock. */
  readonly commitTimeUs: bigint;
  /** Name of the node's replication origin that it came by; '': written on the node itself. */
  readonly origin: string;
}

/** 2000-01-01: the first transaction of a session that has set up an origin, and no time, is shown with that. */
const NO_TIME_US = 946_684_800_000_000n;

export function isTimeKnown(commitTimeUs: bigint): boolean {
  return commitTimeUs > NO_TIME_US;
}

/** A transaction that took rows of the table away on a node. */
export interface Removal extends ShownTransaction {
  /** Index of the node in the cluster's order. */
  readonly node: number;
}

/** A number names a removal while it is among so many last ones. */
const KEPT = 1024;
const MAX_NUMBER = 2 ** 20 * KEPT;

/**
 * Who took rows away: of a row that a node lacks, the node itself tells nothing, its stream did.
 * Keeps the last transactions with a DELETE or a changed key of one table, and each node's last TRUNCATE.
 */
export class Removals {
  readonly #kept: { readonly number: number; readonly removal: Removal }[] = [];
  readonly #truncated = new Map<number, Removal>();
  #last = 0;

  /** Returns the removal's number, from 1 on. */
  add(removal: Removal): number {
    this.#last = (this.#last % MAX_NUMBER) + 1;
    this.#kept[this.#last % KEPT] = { number: this.#last, removal };
    return this.#last;
  }

  /** Null: it was too long ago. */
  get(number: number): Removal | null {
    const found = this.#kept[number % KEPT];
    return found?.number === number ? found.removal : null;
  }

  truncate(removal: Removal): void {
    this.#truncated.set(removal.node, removal);
  }

  /** The node's last TRUNCATE that its stream has shown. */
  truncation(node: number): Removal | null {
    return this.#truncated.get(node) ?? null;
  }
}
