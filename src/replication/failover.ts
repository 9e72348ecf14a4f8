import type { Config } from '../config/config.js';
import type { Session } from '../postgres/session.js';

/** Whether a slot is one that standbys copy, and what that means for its stream. */
export interface SlotFailover {
  /** What the slot is to be made before it streams; null: it stays as it is. */
  readonly change: boolean | null;
  /** `synchronized_standby_slots`, where the stream sends nothing that these have not; null: it waits for none. */
  readonly standbySlots: string | null;
}

/** Before 17 there are no failover slots: nothing to change, nobody to wait for. */
const NONE: SlotFailover = { change: null, standbySlots: null };

/**
 * Standbys with `sync_replication_slots` copy the slots that are marked `failover`
 * (https://www.postgresql.org/docs/current/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS-SYNCHRONIZATION).
 * After a promotion a stream goes on from the copy. A primary does not know whether its standbys do that:
 * with `auto`, another failover slot or `synchronized_standby_slots` tells. Nothing is ever unmarked but by `off`.
 */
export async function decideFailover(
  session: Session,
  slot: string,
  wanted: Config['stream']['failoverSlot'],
): Promise<SlotFailover> {
  const rows = await session.query(
    `SELECT coalesce(pg_catalog.current_setting('synchronized_standby_slots', true), ''),
            bool_or((pg_catalog.to_jsonb(s) ->> 'failover')::bool) FILTER (WHERE s.slot_name = $1::name),
            bool_or((pg_catalog.to_jsonb(s) ->> 'failover')::bool) FILTER (WHERE s.slot_name <> $1::name)
       FROM pg_catalog.pg_replication_slots s`,
    [slot],
  );
  const [standbySlots, ours, others] = rows[0] ?? [];
  if (ours === null || ours === undefined) return NONE;
  const isMarked = ours === 't';
  const isSynchronised = standbySlots !== '' || others === 't';
  const shouldBe = wanted === 'on' || (wanted === 'auto' && (isMarked || isSynchronised));
  return {
    change: shouldBe === isMarked ? null : shouldBe,
    standbySlots: shouldBe && standbySlots !== '' ? (standbySlots ?? null) : null,
  };
}
