import { readSlot } from '../postgres/slot.js';
import type { Cluster } from './cluster.js';
import { Periodic } from './periodic.js';

const CHECK_INTERVAL_MS = 10_000;
/** Share of the limit from which on the operator is warned. */
const WARN_SHARE = 0.5;

/**
 * Our slot keeps write-ahead log on its node for as long as we lag. At the configured limit the
 * slot is dropped and the node's blocks are read again later: a verifier must not fill a disk.
 */
export class WalGuard {
  readonly #cluster: Cluster;
  readonly #loop: Periodic;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#loop = new Periodic({
      log: cluster.log,
      failureEvent: 'wal_guard_failed',
      restAfterFailureMs: CHECK_INTERVAL_MS,
      round: async (signal) => {
        const nodes = [...cluster.pipelines.keys()];
        const results = await Promise.allSettled(nodes.map((node) => this.#check(node, signal)));
        const failure = results.find((result) => result.status === 'rejected');
        if (failure !== undefined) throw failure.reason;
        return CHECK_INTERVAL_MS;
      },
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #check(node: string, signal: AbortSignal): Promise<void> {
    const { config, log } = this.#cluster;
    const slot = await this.#cluster
      .pool(node)
      .use((session) => readSlot(session, config.slotName), signal);
    if (slot === null) return;
    const limitBytes = config.stream.maxSlotWalBytes;
    const retainedBytes = Number(slot.retainedBytes);
    const facts = { node, retainedBytes, limitBytes, walStatus: slot.walStatus };
    if (retainedBytes > limitBytes) {
      log.error(
        { event: 'slot_over_limit', ...facts },
        'the slot is dropped; its node is read again',
      );
      await this.#cluster.pipelines.get(node)?.abandonSlot();
    } else if (retainedBytes > limitBytes * WARN_SHARE || slot.walStatus === 'unreserved') {
      log.warn({ event: 'slot_lags', ...facts }, 'the slot holds back much write-ahead log');
    }
  }
}
