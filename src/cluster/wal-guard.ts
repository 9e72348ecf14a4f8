import { steadyNowMs } from '../base/clock.js';
import { AcedError } from '../base/errors.js';
import { readSlot } from '../replication/slot.js';
import { synchronousNames } from '../replication/synchronous.js';
import type { Cluster } from './cluster.js';
import type { Condition } from '../protocol/drift.js';
import { Loop, tellsFailures } from '../base/loop.js';
import { walOutlook, type WalOutlook, type WalReading } from './wal-budget.js';

const CHECK_INTERVAL_MS = 10_000;
/** The trend is taken over so many readings, two minutes. */
const MAX_READINGS = 13;
/**
 * Dropping a slot takes its time, and a new one that is complete holds back what was written while it
 * was made until the server moves it on, every 15 s: dropping it for that would begin again and again.
 */
const PATIENCE_MS = 60_000;

/** What a look at a node's slot showed. */
export interface SlotSight extends WalOutlook {
  readonly retainedBytes: number;
  /** Log of the node beyond our position; null: the slot is still being made. */
  readonly lagBytes: number | null;
}

/**
 * Our slot keeps write-ahead log on its node for as long as we lag. At the configured limit the
 * slot is dropped and the node's blocks are read again later: a verifier must not fill a disk.
 */
export class WalGuard {
  /** Node -> its slot when it was last looked at. */
  readonly slots = new Map<string, SlotSight>();
  readonly #cluster: Cluster;
  readonly #readings = new Map<string, WalReading[]>();
  readonly #patientUntilMs = new Map<string, number>();
  readonly #loop: Loop;

  constructor(cluster: Cluster, checkIntervalMs = CHECK_INTERVAL_MS) {
    this.#cluster = cluster;
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'wal_guard_failed'),
      backoff: { firstMs: checkIntervalMs, maxMs: checkIntervalMs },
      round: async (signal) => {
        const nodes = [...cluster.pipelines.keys()];
        const results = await Promise.allSettled(nodes.map((node) => this.#check(node, signal)));
        const failure = results.find((result) => result.status === 'rejected');
        if (failure !== undefined) throw failure.reason;
        return checkIntervalMs;
      },
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  async #check(node: string, signal: AbortSignal): Promise<void> {
    const { config, log, pipelines } = this.#cluster;
    // What there is of the slot now is on its way out: judging it would drop the next one too.
    const pipeline = pipelines.get(node);
    if (pipeline === undefined || pipeline.isGivingUpSlot) return;
    const slot = await this.#cluster.pool(node).use(async (session) => {
      const { applicationName } = pipeline;
      pipeline.noteSynchronous(await synchronousNames(session, applicationName));
      return readSlot(session, config.slotName);
    }, signal);
    if (slot === null) {
      this.#readings.delete(node);
      this.#report(node, null);
      this.slots.delete(node);
      return;
    }
    const nowMs = steadyNowMs();
    const retainedBytes = Number(slot.retainedBytes);
    const { walStatus } = slot;
    const readings = this.#readings.get(node) ?? [];
    readings.push({
      atMs: nowMs,
      retainedBytes,
      walStatus,
      safeBytes: slot.safeWalSize === null ? null : Number(slot.safeWalSize),
    });
    this.#readings.set(node, readings.slice(-MAX_READINGS));
    const limitBytes = config.stream.maxSlotWalBytes;
    const outlook = walOutlook(readings, limitBytes);
    const { kind, bytesLeft, secondsLeft } = outlook;
    const { restartLsn } = slot;
    const endLsn = restartLsn === null ? null : restartLsn + slot.retainedBytes;
    const lagBytes = endLsn === null ? null : Math.max(0, Number(endLsn - pipeline.position));
    this.slots.set(node, { ...outlook, retainedBytes, lagBytes });
    const facts = { node, retainedBytes, limitBytes, bytesLeft, secondsLeft, walStatus };
    const isBeingMade = slot.confirmedFlushLsn === null && slot.active;
    const isPatient = !isBeingMade && nowMs < (this.#patientUntilMs.get(node) ?? 0);
    if (isBeingMade) this.#patientUntilMs.set(node, nowMs + PATIENCE_MS);
    if (kind === 'over' && !isPatient) {
      log.error(
        { event: 'slot_over_limit', ...facts },
        'the slot is dropped; its node is read again',
      );
      this.#readings.delete(node);
      this.#patientUntilMs.set(node, nowMs + PATIENCE_MS);
      pipeline.abandonSlot(overLimit(node, retainedBytes, isBeingMade));
    }
    this.#report(node, kind === 'fine' ? null : facts);
  }

  /** `facts` of a slot that lags; null: it does not. */
  #report(node: string, facts: Condition['facts'] | null): void {
    const lags: Condition[] =
      facts === null
        ? []
        : [{ kind: 'slot_lags', about: 'node', subject: node, reason: REASON, facts }];
    this.#cluster.conditions.report(`slot of ${node}`, lags, { nowMs: Date.now() });
  }
}

function overLimit(node: string, retainedBytes: number, isBeingMade: boolean): AcedError {
  const state = isBeingMade ? 'while it waited for running transactions' : 'while it was followed';
  return new AcedError(
    'SLOT_LOST',
    `the slot on node ${node} held back ${retainedBytes} bytes of write-ahead log ${state}, more ` +
      'than stream.max_slot_wal_bytes: it is dropped and recreated',
    { hint: 'End transactions that stay open on the node, or raise the limit.' },
  );
}

const REASON =
  'the slot holds back much write-ahead log; at stream.max_slot_wal_bytes it is given up';
