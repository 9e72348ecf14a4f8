import { AcedError } from '../base/errors.js';
import { quoteIdentifier } from '../base/quote.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import type { Session } from '../postgres/session.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';
import { sameAddress, type ServerAddress } from '../protocol/servers.js';
import { serversOfConnection } from './connection-string.js';
import type { Replication } from './passage.js';
import { readSpockProviders, spockNodeIds } from './spock.js';
import { originNodes } from './topology.js';

/** A subscription whose publisher is the node that is asked about. */
export interface OriginStream {
  readonly subscription: string;
  /** The replication origin of the same, whose progress is what was applied. */
  readonly origin: string;
  readonly isEnabled: boolean;
  /** It gets something from its publisher right now. */
  readonly isReceiving: boolean;
}

/** What stands for one node on another one. */
export interface NodeOrigins {
  /** As rows carry them; `0`: written there. */
  readonly ids: readonly string[];
  /** Some of them is in a catalog there, not merely given or computed. */
  readonly isKnown: boolean;
  readonly streams: readonly OriginStream[];
  /** Subscriptions whose publisher is none of the nodes that can be asked. */
  readonly fromOutside: readonly string[];
}

/** How a person names an origin: alike on all nodes, or on some by another name. */
export interface OriginWish {
  readonly name: string | null;
  readonly onNode: ReadonlyMap<string, string>;
}

/** `n3`, `n3,n1=pg_16401,n2=sub_n2_n3`. Errors: BAD_USAGE. */
export function parseOriginWish(text: string): OriginWish {
  const items = text.split(',').map((item) => item.trim());
  const general = items.filter((item) => !item.includes('='));
  const pairs = items.filter((item) => item.includes('=')).map((item) => item.split('='));
  const onNode = new Map(pairs.map(([node = '', name = '']) => [node, name]));
  const isWrong = pairs.some((pair) => pair.length !== 2 || pair.includes(''));
  if (isWrong || general.includes('') || general.length > 1 || onNode.size < pairs.length) {
    throw new AcedError('BAD_USAGE', `--against-origin: ${text} does not name one origin`, {
      hint: 'Write n3, or where the nodes have other names for it n3,n1=<subscription>,n2=<subscription>.',
    });
  }
  return { name: general[0] ?? null, onNode };
}

export interface NodeOriginsOptions {
  /** See parseOriginWish. */
  readonly wanted: string;
  readonly pools: NodePools;
  readonly replication: Replication;
  /** As the cluster's definition has them. */
  readonly nodes: readonly (ServerAddress & { readonly name: string })[];
  readonly signal: AbortSignal;
}

/**
 * Which origins on each node stand for the one that a person names: a node of the cluster or of Spock,
 * also one that is gone; a subscription; a replication origin; or its number. Errors: BAD_USAGE for what
 * is no such name at all, see requireOrigins.
 */
export async function findOrigins(
  options: NodeOriginsOptions,
): Promise<ReadonlyMap<string, NodeOrigins>> {
  const { pools, signal } = options;
  const wish = parseOriginWish(options.wanted);
  const stranger = [...wish.onNode.keys()].find((node) => !pools.has(node));
  if (stranger !== undefined) {
    throw new AcedError('BAD_USAGE', `--against-origin: ${stranger} is not a compared node`, {
      hint: `The compared nodes are ${[...pools.keys()].join(', ')}.`,
    });
  }
  return onEveryNode(pools, signal, (node, pool, either) =>
    pool.use(async (session) => {
      const own = wish.onNode.get(node) ?? wish.name;
      return own === null
        ? { ids: [], isKnown: false, streams: [], fromOutside: [] }
        : originsOn(session, { ...options, node, own, name: wish.name });
    }, either),
  );
}

/** Errors: BAD_USAGE where no node has an origin that could be meant. */
export function requireOrigins(wanted: string, origins: ReadonlyMap<string, NodeOrigins>): void {
  if ([...origins.values()].some(({ ids }) => ids.length > 0)) return;
  const others = [...origins].flatMap(([node, { fromOutside }]) =>
    fromOutside.length === 0 ? [] : [`${node}=${fromOutside.join(' or ')}`],
  );
  throw new AcedError('BAD_USAGE', `--against-origin: no compared node knows an origin ${wanted}`, {
    hint:
      others.length === 0
        ? 'Name a node, a subscription, a replication origin or its number; rows keep them with track_commit_timestamp = on.'
        : `Name the subscriptions that had it as their publisher, of those whose publisher is none of the nodes: ${others.join(', ')}.`,
  });
}

interface OriginsOnOptions extends NodeOriginsOptions {
  readonly node: string;
  /** What the origin is called on this node. */
  readonly own: string;
  /** And everywhere. */
  readonly name: string | null;
}

async function originsOn(session: Session, options: OriginsOnOptions): Promise<NodeOrigins> {
  const { node, own, replication } = options;
  const { topology } = replication;
  const numbers = await session.query(
    'SELECT roident::text, roname FROM pg_catalog.pg_replication_origin',
  );
  const stands = originNodes(topology.edges, node);
  const addressed = await addressedBy(session, options);
  const subscriptions = await readSubscriptions(session);
  const spock = await spockOrigins(session, own);
  const isWanted = ({ name, slot, origin, provider }: FoundSubscription): boolean =>
    [name, slot, origin].includes(own) ||
    stands.get(origin) === own ||
    addressed.has(name) ||
    (provider !== null && spock.ids.has(provider));
  const all = [...subscriptions, ...spock.subscriptions];
  const streams = all.filter(isWanted);
  const ids = new Set(node === own ? ['0'] : []);
  for (const [id, origin] of numbers) {
    if (id == null || origin == null) continue;
    const isOfStream = streams.some((stream) => stream.origin === origin);
    // Spock's rows carry the number of the node, not that of the subscription's origin.
    const isNative = !spock.subscriptions.some((stream) => stream.origin === origin);
    if (origin === own || id === own || (isOfStream && isNative)) ids.add(id);
  }
  for (const [id, spockNode] of topology.spockNodes) {
    if (spockNode === own || id === own) ids.add(id);
  }
  const isKnown = ids.size > 0;
  for (const id of spock.ids) ids.add(id);
  if (/^\d+$/.test(own)) ids.add(own);
  return {
    ids: [...ids],
    isKnown,
    streams: streams.map(({ name, origin, isEnabled, isReceiving }) => ({
      ...{ subscription: name, origin, isEnabled, isReceiving },
    })),
    fromOutside: topology.fromOutside.flatMap((one) => (one.node === node ? [one.name] : [])),
  };
}

interface FoundSubscription {
  readonly name: string;
  readonly slot: string | null;
  readonly origin: string;
  readonly isEnabled: boolean;
  readonly isReceiving: boolean;
  /** Number of a Spock node; null: a native subscription. */
  readonly provider: string | null;
}

/** Native ones, those without a slot too: a person who has lost the publisher takes it off. */
async function readSubscriptions(session: Session): Promise<FoundSubscription[]> {
  const rows = await session.query(
    `SELECT s.subname, s.subslotname, 'pg_' || s.oid::text, s.subenabled,
            EXISTS (SELECT FROM pg_catalog.pg_stat_subscription w
                     WHERE w.subid = s.oid AND w.pid IS NOT NULL AND w.received_lsn IS NOT NULL)
       FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
      WHERE d.datname = pg_catalog.current_database()`,
  );
  return rows.map(([name, slot, origin, isEnabled, isReceiving]) => ({
    name: name ?? '',
    slot: slot ?? null,
    origin: origin ?? '',
    isEnabled: isEnabled === 't',
    isReceiving: isReceiving === 't',
    provider: null,
  }));
}

/**
 * Names of the subscriptions whose connection leads to the address of the node in the cluster's definition,
 * where the role may read it: a publisher that is lost cannot be found by its slots.
 */
async function addressedBy(
  session: Session,
  { own, name, nodes }: OriginsOnOptions,
): Promise<ReadonlySet<string>> {
  const address = nodes.find((one) => one.name === own || one.name === name);
  if (address === undefined) return new Set();
  const [[mayRead] = []] = await session.query(
    "SELECT pg_catalog.has_column_privilege('pg_catalog.pg_subscription', 'subconninfo', 'SELECT')",
  );
  if (mayRead !== 't') return new Set();
  const rows = await session.query(
    `SELECT s.subname, s.subconninfo FROM pg_catalog.pg_subscription s
       JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
      WHERE d.datname = pg_catalog.current_database()`,
  );
  return new Set(
    rows.flatMap(([subscription, text]) =>
      serversOfConnection(text ?? '').some((server) => sameAddress(server, address))
        ? [subscription ?? '']
        : [],
    ),
  );
}

/** Numbers that Spock gives the rows of a node of that name, though nothing there knows it any more. */
async function spockOrigins(
  session: Session,
  own: string,
): Promise<{
  readonly ids: ReadonlySet<string>;
  readonly subscriptions: readonly FoundSubscription[];
}> {
  const providers = await readSpockProviders(session);
  if (providers === null) return { ids: new Set(), subscriptions: [] };
  const computed = await spockNodeIds(session, [own]);
  return {
    ids: new Set(/^\d+$/.test(own) ? [own] : computed.keys()),
    subscriptions: providers.map((one) => ({ ...one, origin: one.slot })),
  };
}

/**
 * How far each stream has been applied on the session's node; null: nothing is known of it. Errors:
 * MISSING_PRIVILEGE with the statement that helps.
 */
export async function appliedPositions(
  session: Session,
  streams: readonly OriginStream[],
): Promise<(string | null)[]> {
  if (streams.length === 0) return [];
  try {
    const rows = await session.query(
      `SELECT CASE WHEN o.roname IS NULL THEN NULL
                   ELSE pg_catalog.pg_replication_origin_progress(o.roname, false)::text END
         FROM unnest($1::text[]) WITH ORDINALITY w(name, place)
         LEFT JOIN pg_catalog.pg_replication_origin o ON o.roname = w.name
        ORDER BY w.place`,
      [streams.map(({ origin }) => origin)],
    );
    return rows.map(([position]) => position ?? null);
  } catch (error) {
    if (!hasSqlState(error, SQLSTATE.insufficientPrivilege)) throw error;
    const { name, user } = session.node;
    throw new AcedError(
      'MISSING_PRIVILEGE',
      `role ${user} may not read how far replication was applied on node ${name}`,
      {
        hint: `In this database on ${name}, as a superuser: GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_progress(text, boolean) TO ${quoteIdentifier(user)}; or name the --source-of-truth.`,
        cause: error,
      },
    );
  }
}
