import { formatLsn, NO_LSN, type Lsn } from '../base/lsn.js';
import { isSlotLost, type SlotInfo } from './slot.js';

/** What of the slot matters at start. */
export type StartSlot = Pick<
  SlotInfo,
  'active' | 'activePid' | 'walStatus' | 'invalidationReason' | 'confirmedFlushLsn'
>;

/** Our durable position, and where it was valid. */
export interface StartLocal {
  readonly position: Lsn;
  readonly systemId: string;
  readonly timeline: number;
}

export interface StartServer {
  readonly systemId: string;
  readonly timeline: number;
  readonly insertLsn: Lsn;
  /** Where the current timeline left its parent, when known. */
  readonly timelineStartLsn?: Lsn;
}

export interface StartInput {
  readonly slot: StartSlot | null;
  readonly local: StartLocal | null;
  readonly server: StartServer;
}

export type StartDecision =
  /** No slot and no position: publication, slot, build. */
  | { readonly kind: 'create'; readonly reason: string }
  /** Forget the position first, drop the slot if it is there, make a new one, rebuild. */
  | { readonly kind: 'recreate'; readonly dropFirst: boolean; readonly reason: string }
  /** The slot is good but our trees are not: rebuild (or take over) and stream from `from`. */
  | { readonly kind: 'rebuild'; readonly from: Lsn; readonly reason: string }
  | { readonly kind: 'stream'; readonly from: Lsn; readonly reason: string }
  /** Somebody streams from the slot; take over only if the process is ours. */
  | { readonly kind: 'wait'; readonly pid: number | null; readonly reason: string };

/**
 * What to do with a node when the daemon starts or reconnects; L is our durable position, C the
 * slot's confirmed one. A position is only ever trusted where it provably continues this server's
 * own history: everything else rebuilds.
 */
export function decideStart({ slot, local, server }: StartInput): StartDecision {
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
  const rebuild = (reason: string): StartDecision => ({ kind: 'rebuild', from: confirmed, reason });
  if (local === null) return rebuild('no position of our own');
  if (local.systemId !== server.systemId) return rebuild('the node is another database system now');
  if (local.position > server.insertLsn) {
    return rebuild(
      `our position ${formatLsn(local.position)} is past the server's end of log ${formatLsn(server.insertLsn)}`,
    );
  }
  if (local.position < confirmed) {
    return rebuild(
      `gap: the slot was confirmed up to ${formatLsn(confirmed)}, our position is ${formatLsn(local.position)}`,
    );
  }
  if (local.timeline !== server.timeline && !isBeforeSwitch(local.position, confirmed, server)) {
    return rebuild(
      `the timeline changed from ${local.timeline} to ${server.timeline}, and our position may ` +
        `lie on the abandoned one`,
    );
  }
  return { kind: 'stream', from: local.position, reason: 'our position is at or past the slot' };
}

/**
 * Whether the new timeline contains the log that we have read. A failover slot's confirmed position
 * is in the new primary's history; a position past it is only if the switch came later.
 */
function isBeforeSwitch(position: Lsn, confirmed: Lsn, server: StartServer): boolean {
  if (position === confirmed) return true;
  return server.timelineStartLsn !== undefined && position <= server.timelineStartLsn;
}
