import { allOrCause } from '../base/abort.js';
import type { Session } from '../postgres/session.js';

/** One subscription: changes of `from` are applied on `to`. */
export interface Edge {
  readonly from: string;
  readonly to: string;
  readonly subscription: string;
  /** The slot on `from`. */
  readonly slot: string;
  /** The replication origin on `to` that the applied changes carry. */
  readonly origin: string;
  readonly isEnabled: boolean;
  /** The slot is being streamed from. */
  readonly isActive: boolean;
  /** `none`: only changes made on `from` itself are forwarded. */
  readonly originMode: 'none' | 'any';
  readonly kind: 'native' | 'spock';
  /** Names on `from`; empty for Spock, whose replication sets are something else. */
  readonly publications: readonly string[];
}

export interface Topology {
  readonly edges: readonly Edge[];
  /**
   * Longest shortest path: a change needs at most so many hops to be everywhere it can reach.
   * At least 1.
   */
  readonly rounds: number;
  /** Subscriptions whose publisher is none of the nodes: nobody here can tell what is on its way. */
  readonly fromOutside: readonly Pick<SubscriptionRow, 'node' | 'name'>[];
}

export interface SubscriptionRow {
  readonly node: string;
  readonly name: string;
  readonly slot: string;
  readonly origin: string;
  readonly isEnabled: boolean;
  readonly originMode: 'none' | 'any';
  readonly kind: 'native' | 'spock';
  readonly publications: readonly string[];
}

export interface SlotRow {
  readonly node: string;
  readonly slot: string;
  readonly isActive: boolean;
}

/**
 * Who replicates to whom among these nodes (name -> session). Connection strings of subscriptions
 * are for superusers only, so publishers are found by the name of the slot.
 */
export async function readTopology(sessions: ReadonlyMap<string, Session>): Promise<Topology> {
  const perNode = await allOrCause(
    [...sessions].map(async ([node, session]) => ({
      subscriptions: [
        ...(await nativeSubscriptions(node, session)),
        ...(await spockSubscriptions(node, session)),
      ],
      slots: await logicalSlots(node, session),
    })),
  );
  return buildTopology(
    perNode.flatMap(({ subscriptions }) => subscriptions),
    perNode.flatMap(({ slots }) => slots),
  );
}

/**
 * Joins subscriptions with slots of the same name on other nodes. Pure. Where several nodes have a
 * slot of that name each of them may be the publisher; an edge too many only means a wait.
 */
export function buildTopology(
  subscriptions: readonly SubscriptionRow[],
  slots: readonly SlotRow[],
): Topology {
  const edges: Edge[] = [];
  const fromOutside: SubscriptionRow[] = [];
  for (const subscription of subscriptions) {
    const known = edges.length;
    for (const { node, slot, isActive } of slots) {
      if (slot !== subscription.slot || node === subscription.node) continue;
      edges.push({
        from: node,
        to: subscription.node,
        subscription: subscription.name,
        slot,
        origin: subscription.origin,
        isEnabled: subscription.isEnabled,
        isActive,
        originMode: subscription.originMode,
        kind: subscription.kind,
        publications: subscription.publications,
      });
    }
    if (edges.length === known) fromOutside.push(subscription);
  }
  return { edges, rounds: Math.max(1, diameter(edges)), fromOutside };
}

/**
 * Replication origins on a node -> the node that changes with them come from. Origins that could
 * be of several publishers are left out.
 */
export function originNodes(edges: readonly Edge[], node: string): ReadonlyMap<string, string> {
  const incoming = edges.filter(({ to }) => to === node);
  const isCertain = ({ origin }: Edge): boolean =>
    incoming.filter((other) => other.origin === origin).length === 1;
  return new Map(incoming.filter(isCertain).map(({ origin, from }) => [origin, from]));
}

/** Who wrote a row: `local`, the node its origin stands for, else the origin's name; null: unknown. */
export function writerOf(
  origin: string | null,
  origins: ReadonlyMap<string, string> | undefined,
): string | null {
  if (origin === null) return null;
  return origin === '' ? 'local' : (origins?.get(origin) ?? origin);
}

function diameter(edges: readonly Edge[]): number {
  const targets = new Map<string, Set<string>>();
  for (const { from, to } of edges) {
    const known = targets.get(from) ?? new Set();
    targets.set(from, known.add(to));
  }
  let longest = 0;
  for (const start of targets.keys()) {
    const distances = new Map([[start, 0]]);
    // A Map's iteration includes what is added meanwhile: this is a breadth-first search.
    for (const [node, distance] of distances) {
      longest = Math.max(longest, distance);
      for (const next of targets.get(node) ?? []) {
        if (!distances.has(next)) distances.set(next, distance + 1);
      }
    }
  }
  return longest;
}

async function nativeSubscriptions(node: string, session: Session): Promise<SubscriptionRow[]> {
  // Before 16 a subscription forwards whatever its publisher has. Only some columns are public.
  const origin = session.serverVersion >= 160_000 ? 's.suborigin' : "'any'";
  const rows = await session.query(
    `SELECT s.subname, s.subslotname, s.subenabled, ${origin}, s.oid::text,
            pg_catalog.array_to_json(s.subpublications)::text
       FROM pg_catalog.pg_subscription s
       JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
      WHERE d.datname = pg_catalog.current_database() AND s.subslotname IS NOT NULL`,
  );
  return rows.map(([name, slot, isEnabled, originMode, oid, publications]) => ({
    node,
    name: name ?? '',
    slot: slot ?? '',
    // The name that the server gives it: ReplicationOriginNameForLogicalRep in worker.c.
    origin: `pg_${oid ?? ''}`,
    isEnabled: isEnabled === 't',
    originMode: originMode === 'none' ? 'none' : 'any',
    kind: 'native',
    publications: JSON.parse(publications ?? '[]') as string[],
  }));
}

/**
 * Spock's own table, by the columns that its extension scripts declare. Not tried on a real Spock:
 * what is missing there is taken as absent rather than as an error.
 */
async function spockSubscriptions(node: string, session: Session): Promise<SubscriptionRow[]> {
  const found = await session.query(
    `SELECT pg_catalog.count(*) FILTER (WHERE a.attname IN ('sub_name', 'sub_slot_name', 'sub_enabled')) = 3,
            pg_catalog.count(*) FILTER (WHERE a.attname = 'sub_forward_origins') = 1
       FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = pg_catalog.to_regclass('spock.subscription') AND NOT a.attisdropped
        AND pg_catalog.has_table_privilege(a.attrelid, 'SELECT')
        AND pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('spock'), 'USAGE')`,
  );
  const [isReadable, hasForwarding] = found[0] ?? [];
  if (isReadable !== 't') return [];
  const forwards =
    hasForwarding === 't' ? "COALESCE(s.sub_forward_origins, '{}') <> '{}'" : 'false';
  const rows = await session.query(
    `SELECT s.sub_name, s.sub_slot_name, s.sub_enabled, ${forwards} FROM spock.subscription s`,
  );
  return rows.map(([name, slot, isEnabled, forwardsOthers]) => ({
    node,
    name: name ?? '',
    slot: slot ?? '',
    // Spock names the origin like the slot.
    origin: slot ?? '',
    isEnabled: isEnabled === 't',
    originMode: forwardsOthers === 't' ? 'any' : 'none',
    kind: 'spock',
    publications: [],
  }));
}

async function logicalSlots(node: string, session: Session): Promise<SlotRow[]> {
  const rows = await session.query(
    `SELECT slot_name, active FROM pg_catalog.pg_replication_slots
      WHERE slot_type = 'logical' AND NOT temporary
        AND database = pg_catalog.current_database()`,
  );
  return rows.map(([slot, isActive]) => ({ node, slot: slot ?? '', isActive: isActive === 't' }));
}
