import { formatLsn, NO_LSN, type Lsn } from '../base/lsn.js';
import { isSlotLost, type SlotInfo } from './slot.js';

/** Where the leaves of a node were last changed; see the store's. */
export interface LastTransaction {
  readonly endLsn: Lsn;
  /** Null: they were begun there, from the tables. `timeUs`: commit time, since the Unix epoch. */
  readonly commit: { readonly xid: number; readonly timeUs: bigint } | null;
}

/** What of the slot matters at start. */
export type StartSlot = Pick<
  SlotInfo,
  'active' | 'activePid' | 'walStatus' | 'invalidationReason' | 'confirmedFlushLsn'
>;

/** Our durable position, and where it was valid. */
export interface StartLocal {
  readonly position: Lsn;
  readonly systemId: string;
  /** The last transaction that is in the leaves, or where they were begun. */
  readonly last: LastTransaction;
}

export interface StartServer {
  readonly systemId: string;
  readonly insertLsn: Lsn;
}

export interface StartInput {
  readonly slot: StartSlot | null;
  readonly local: StartLocal | null;
  readonly server: StartServer;
  /** Why the node's history is known not to be ours. */
  readonly distrust?: string | null;
}

export type StartDecision =
  /** No slot and no position: publication, slot, build. */
  | { readonly kind: 'create'; readonly reason: string }
  /** Forget the position first, drop the slot if it is there, make a new one, rebuild. */
  | { readonly kind: 'recreate'; readonly dropFirst: boolean; readonly reason: string }
  /** The slot is good but our trees are not: rebuild (or take over) and stream from `from`. */
  | { readonly kind: 'rebuild'; readonly from: Lsn; readonly reason: string }
  /**
   * Stream from `from`. The leaves stand at `position`; with a `proof`, the server must first send that
   * transaction once more.
   */
  | {
      readonly kind: 'stream';
      readonly from: Lsn;
      readonly position: Lsn;
      readonly proof: LastTransaction | null;
      readonly reason: string;
    }
  /** Somebody streams from the slot; take over only if the process is ours. */
  | { readonly kind: 'wait'; readonly pid: number | null; readonly reason: string };

/**
 * What to do with a node when the daemon starts or reconnects; L is our durable position, C the
 * slot's confirmed one. A position is only ever trusted where it provably continues this server's
 * own history: everything else rebuilds.
 *
 * C was confirmed by us: what lies before it is our history too, whatever has become of the server
 * since (a failover, a disk put back to an older copy). L past C is not proved by that: the server
 * sends from C once more, and must send the last transaction that we have.
 */
export function decideStart({ slot, local, server, distrust = null }: StartInput): StartDecision {
  if (slot === null) {
    return local === null
      ? { kind: 'create', reason: 'no slot yet' }
      : { kind: 'recreate', dropFirst: false, reason: 'the slot is missing' };
  }
  if (isSlotLost(slot)) {
    const reason = `the slot is lost: ${slot.invalidationReason ?? 'its write-ahead log was removed'}`;
    return { kind: 'recreate', dropFirst: true, reason };
  }
  if (slot.active) {
    const who = slot.activePid === null ? 'another process' : `process ${slot.activePid}`;
    return { kind: 'wait', pid: slot.activePid, reason: `the slot is held by ${who}` };
  }
  const confirmed = slot.confirmedFlushLsn ?? NO_LSN;
  if (confirmed > server.insertLsn) {
    // The server would leave out what commits until its log has grown that far.
    const reason = `the slot is at ${formatLsn(confirmed)}, past the server's end of log ${formatLsn(server.insertLsn)}`;
    return { kind: 'recreate', dropFirst: true, reason };
  }
  const rebuild = (reason: string): StartDecision => ({ kind: 'rebuild', from: confirmed, reason });
  if (local === null) return rebuild('no position of our own');
  if (distrust !== null) return rebuild(distrust);
  if (local.systemId !== server.systemId) return rebuild('the node is another database system now');
  const { position, last } = local;
  if (position > server.insertLsn) {
    return rebuild(
      `our position ${formatLsn(position)} is past the server's end of log ${formatLsn(server.insertLsn)}`,
    );
  }
  if (position < confirmed) {
    return rebuild(
      `gap: the slot was confirmed up to ${formatLsn(confirmed)}, our position is ${formatLsn(position)}`,
    );
  }
  const stream = (from: Lsn, proof: LastTransaction | null, reason: string): StartDecision => ({
    kind: 'stream',
    from: confirmed,
    position: from,
    proof,
    reason,
  });
  if (position === confirmed) return stream(position, null, "our position is the slot's");
  if (last.endLsn <= confirmed) {
    return stream(confirmed, null, "nothing has changed since the slot's position");
  }
  if (last.commit === null) {
    return rebuild(
      `the slot is at ${formatLsn(confirmed)}, before ${formatLsn(last.endLsn)}, where our blocks were begun`,
    );
  }
  return stream(
    last.endLsn,
    last,
    'the slot is behind our last transaction, which is to be sent again',
  );
}
