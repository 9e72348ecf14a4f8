import { allOrCause } from '../base/abort.js';
import type { Session } from '../postgres/session.js';
import { readSpock, spockNodeIds, type SpockCatalog, type SpockSubscription } from './spock.js';

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
  /** Names on `from`; Spock's are its replication sets. */
  readonly publications: readonly string[];
}

export interface Topology {
  readonly edges: readonly Edge[];
  /**
   * Longest shortest path: a change needs at most so many hops to be everywhere it can reach.
   * At least 1.
   */
  readonly rounds: number;
  /** Nodes whose subscriptions this role may not read, with the statements that would let it. */
  readonly hidden: readonly { readonly node: string; readonly grant: string }[];
  /** Number of an origin -> the node whose rows carry it on every node: Spock's. */
  readonly spockNodes: ReadonlyMap<string, string>;
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
    [...sessions].map(async ([node, session]) => {
      const spock = await readSpock(session);
      return {
        node,
        spock,
        subscriptions: [
          ...(await nativeSubscriptions(node, session)),
          ...(spock?.subscriptions ?? []).map((one) => spockRow(node, one)),
        ],
        slots: await logicalSlots(node, session),
      };
    }),
  );
  const topology = buildTopology(
    perNode.flatMap(({ subscriptions }) => subscriptions),
    perNode.flatMap(({ slots }) => slots),
  );
  const hidden = perNode.flatMap(({ node, spock }) =>
    typeof spock?.missingGrant === 'string' ? [{ node, grant: spock.missingGrant }] : [],
  );
  return { ...topology, hidden, spockNodes: await namesOfSpockNodes(perNode, sessions) };
}

/** Under our names where a Spock node is one of ours: the two need not agree. */
async function namesOfSpockNodes(
  perNode: readonly { readonly node: string; readonly spock: SpockCatalog | null }[],
  sessions: ReadonlyMap<string, Session>,
): Promise<ReadonlyMap<string, string>> {
  const ours = new Map<string, string>();
  for (const { node, spock } of perNode) {
    for (const name of spock?.nodes ?? []) if (!ours.has(name)) ours.set(name, name);
    if (typeof spock?.localNode === 'string') ours.set(spock.localNode, node);
  }
  const [session] = sessions.values();
  if (ours.size === 0 || session === undefined) return new Map();
  const ids = await spockNodeIds(session, [...ours.keys()]);
  return new Map(Array.from(ids, ([id, name]) => [id, ours.get(name) ?? name]));
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
  return {
    edges,
    rounds: Math.max(1, diameter(edges)),
    fromOutside,
    hidden: [],
    spockNodes: new Map(),
  };
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

/**
 * Nodes that may lack changes because one of these subscriptions does not deliver, itself or over
 * nodes that forward what they get. What the others have can be compared with each other.
 */
export function laggingNodes(
  edges: readonly Edge[],
  isBroken: (edge: Edge) => boolean,
): Set<string> {
  const lagging = new Set(edges.filter(isBroken).map(({ to }) => to));
  // A Set's iteration includes what is added meanwhile.
  for (const node of lagging) {
    for (const { from, to, originMode } of edges) {
      if (from === node && originMode === 'any') lagging.add(to);
    }
  }
  return lagging;
}

/** The part of a topology that brings changes to these nodes. */
export function towards(topology: Topology, nodes: ReadonlySet<string>): Topology {
  return {
    ...topology,
    edges: topology.edges.filter(({ to }) => nodes.has(to)),
    hidden: topology.hidden.filter(({ node }) => nodes.has(node)),
    fromOutside: topology.fromOutside.filter(({ node }) => nodes.has(node)),
  };
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

function spockRow(node: string, one: SpockSubscription): SubscriptionRow {
  const { name, slot, isEnabled, forwardsOthers, sets } = one;
  return {
    node,
    name,
    slot,
    // Spock names the origin like the slot.
    origin: slot,
    isEnabled,
    originMode: forwardsOthers ? 'any' : 'none',
    kind: 'spock',
    publications: sets,
  };
}

async function logicalSlots(node: string, session: Session): Promise<SlotRow[]> {
  const rows = await session.query(
    `SELECT slot_name, active FROM pg_catalog.pg_replication_slots
      WHERE slot_type = 'logical' AND NOT temporary
        AND database = pg_catalog.current_database()`,
  );
  return rows.map(([slot, isActive]) => ({ node, slot: slot ?? '', isActive: isActive === 't' }));
}
