import { AcedError } from '../base/errors.js';
import { formatLsn, type Lsn } from '../base/lsn.js';
import type { Message } from '../pgoutput/message.js';
import type { LastTransaction } from '../replication/start-decision.js';

/** The server's log is not the one that our leaves were made from. */
export class OtherHistory extends AcedError {}

/**
 * Looks for the last transaction that is in our leaves in what the server sends once more. A server
 * that was put back to an older copy of its disk has our slot, our system id and our timeline; what
 * it has written since is another history, and the same positions in it mean something else. Only the
 * transaction itself tells: its end, its id and its commit time.
 */
export class HistoryCheck {
  readonly #node: string;
  readonly #expected: LastTransaction;
  #xid: number | null = null;
  #isPassed = false;
  #onPassed: () => void = () => undefined;
  readonly passed: Promise<void>;

  constructor(node: string, expected: LastTransaction) {
    this.#node = node;
    this.#expected = expected;
    this.passed = new Promise((resolve) => {
      this.#onPassed = resolve;
    });
  }

  /** From the next message on everything is new to us. */
  get isPassed(): boolean {
    return this.#isPassed;
  }

  /** Errors: OtherHistory. */
  message(message: Message): void {
    if (message.kind === 'begin') this.#xid = message.xid;
    if (message.kind !== 'commit') return;
    const { endLsn, commit } = this.#expected;
    if (message.endLsn >= endLsn) {
      const isSame =
        message.endLsn === endLsn &&
        this.#xid === commit?.xid &&
        message.commitTimeUs === commit.timeUs;
      if (!isSame) throw this.#differs();
      this.#isPassed = true;
      this.#onPassed();
    }
    this.#xid = null;
  }

  /** Errors: OtherHistory. */
  keepalive(walEnd: Lsn): void {
    if (this.#xid === null && walEnd >= this.#expected.endLsn) throw this.#differs();
  }

  #differs(): OtherHistory {
    const { endLsn, commit } = this.#expected;
    return new OtherHistory(
      'STREAM_LOST',
      `node ${this.#node} no longer has the last transaction that was read from it ` +
        `(${commit?.xid ?? 0}, ended at ${formatLsn(endLsn)}): it was put back to an earlier state`,
      { hint: 'All blocks of the node are read again.' },
    );
  }
}
