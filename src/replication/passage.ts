import { randomUUID } from 'node:crypto';
import { steadyNowMs } from '../base/clock.js';
import { allOrCause, sleep } from '../base/abort.js';
import type { Lsn } from '../base/lsn.js';
import { onEveryNode, withSessions, type NodePools } from '../postgres/every-node.js';
import type { TableName } from '../table/table-name.js';
import { waitForHalfCommittedWriters } from './half-committed.js';
import { emitBarrier } from './positions.js';
import { waitForReplication, type StarvedEdge } from './replication-wait.js';
import { readPendingCopies, replicates, type PendingCopy } from './table-copies.js';
import { laggingNodes, type Edge, type Topology } from './topology.js';

/** How changes travel between the nodes of a cluster. */
export interface Replication {
  /** Nodes that can be asked, those that are not compared too: changes also come from them. */
  readonly pools: NodePools;
  readonly topology: Topology;
  /** Nodes whose changes nobody can tell the arrival of. */
  readonly unreachable: readonly string[];
}

export interface PassageOptions {
  readonly replication: Replication;
  readonly table: TableName;
  readonly signal: AbortSignal;
  /** `about` names what the warning is about: once is enough for each. */
  readonly onWarning: (message: string, about: string) => unknown;
}

/** What passages have warned of, each matter once: its figures change with every look. */
export class PassageWarnings {
  readonly #texts = new Map<string, string>();

  /** As PassageOptions takes it. Returns whether it is news. */
  readonly add = (message: string, about: string): boolean => {
    if (this.#texts.has(about)) return false;
    this.#texts.set(about, message);
    return true;
  };

  get texts(): readonly string[] {
    return [...this.#texts.values()];
  }
}

/** Where no replication is visible, a row that stays the same for so long counts as settled. */
const BLIND_SETTLE_MS = 2000;
const COPY_PAUSE_MS = 100;

/** What has become of the changes that were committed, anywhere, when it was asked for. */
export interface Passage {
  /**
   * They are visible on every node that they can get to on the paths that run: a row that differs
   * and is not written any more will stay so.
   */
  readonly hasPassed: boolean;
  /** Every path that is known of runs, and in time. */
  readonly isWhole: boolean;
  /** Nodes that may lack changes: what the others have can be compared with each other. */
  readonly lagging: ReadonlySet<string>;
  /** Some path leaves out some of the table's changes on purpose. */
  readonly isRestricted: boolean;
}

/**
 * Lets replication pass over as many hops as the topology has. What it cannot vouch for it gives as
 * warnings. The changes that count are those of one table: of others nobody asks.
 */
export async function letReplicationPass(
  options: PassageOptions,
  timeoutMs: number,
): Promise<Passage> {
  const deadline = steadyNowMs() + timeoutMs;
  // A transaction that is half committed later has nothing on other nodes yet, or passes the fences.
  const [isVisible, isDelivered] = await allOrCause([
    waitUntilVisible(options, timeoutMs),
    waitUntilDelivered(options, deadline),
  ]);
  // After the positions: they pass while a copy is being made.
  const copies = await waitForCopies(options, deadline);
  const blind = await blindNodes(options);
  return {
    hasPassed: isVisible && isDelivered.hasPassed && copies.hasPassed,
    isWhole: isDelivered.isWhole && copies.isWhole && blind.size === 0,
    lagging: new Set([...isDelivered.lagging, ...copies.lagging, ...blind]),
    isRestricted: copies.isRestricted,
  };
}

/**
 * A node may have sent a commit that it does not show itself yet, because a synchronous standby has
 * not answered: the others are then ahead of it, and no position tells.
 */
async function waitUntilVisible(options: PassageOptions, timeoutMs: number): Promise<boolean> {
  const { replication, table, signal } = options;
  const waiting = await onEveryNode(replication.pools, signal, (_, pool, either) =>
    pool.use(
      (session) => waitForHalfCommittedWriters(session, table, { timeoutMs, signal: either }),
      either,
    ),
  );
  let isVisible = true;
  for (const [node, who] of waiting) {
    if (who === null) continue;
    isVisible = false;
    options.onWarning(
      `node ${node} may have committed what it does not show yet, while it waits for a synchronous ` +
        `standby: ${who}; what differs may be its changes`,
      `half committed on ${node}`,
    );
  }
  return isVisible;
}

/**
 * The part that does not depend on the table: the subscriptions that run have confirmed all that was
 * committed anywhere. Enough to tell when a row is worth a look, not for a verdict.
 */
export async function letChangesArrive(
  options: Omit<PassageOptions, 'table'>,
  timeoutMs: number,
): Promise<Omit<Passage, 'isRestricted'>> {
  return waitUntilDelivered(options, steadyNowMs() + timeoutMs);
}

async function waitUntilDelivered(
  options: Omit<PassageOptions, 'table'>,
  deadline: number,
): Promise<Omit<Passage, 'isRestricted'>> {
  const { replication, signal } = options;
  const { pools, topology, unreachable } = replication;
  let isWhole = true;
  let hasPassed = true;
  /** Running, and not there in time: not waited for again. */
  const stuck = new Set<Edge>();
  // A node that cannot be reached may publish to all others.
  const lagging = new Set(unreachable.length > 0 ? pools.keys() : []);
  for (const node of unreachable) {
    isWhole = false;
    options.onWarning(
      `node ${node} cannot be reached: differences may be changes of it that were not delivered yet`,
      `node ${node}`,
    );
  }
  // A node that cannot be reached may be the publisher; of its changes the warning is out already.
  for (const { name, node } of unreachable.length === 0 ? topology.fromOutside : []) {
    options.onWarning(
      `subscription ${name} on ${node} has its publisher outside the cluster: what it has not ` +
        'delivered yet cannot be told from drift',
      `subscription ${name} on ${node}`,
    );
  }
  for (const { node, grant } of topology.hidden) {
    isWhole = false;
    lagging.add(node);
    options.onWarning(
      `this role may not read Spock's subscriptions on node ${node}: what they have not delivered ` +
        `yet cannot be told from drift; on ${node}: ${grant}`,
      `spock on ${node}`,
    );
  }
  if (topology.edges.length === 0) {
    options.onWarning(
      'no replication between these nodes is visible to this role; a difference counts as drift ' +
        `when the row stays the same for ${BLIND_SETTLE_MS} ms`,
      'no replication',
    );
    await sleep(BLIND_SETTLE_MS, signal);
    return { hasPassed, isWhole, lagging };
  }
  for (let round = 0; round < topology.rounds; round++) {
    const fences = await onEveryNode<Lsn>(pools, signal, (_, pool, either) =>
      pool.use((session) => emitBarrier(session, randomUUID()), either),
    );
    const outcome = await withSessions(pools, signal, (sessions) =>
      waitForReplication({
        sessions,
        topology: { ...topology, edges: topology.edges.filter((edge) => !stuck.has(edge)) },
        fences,
        timeoutMs: Math.max(1, deadline - steadyNowMs()),
        signal,
      }),
    );
    if (outcome.starved.length > 0) isWhole = false;
    for (const edge of outcome.ahead) warnOfAhead(edge, options);
    for (const starved of outcome.starved) warnOfStarved(starved, options);
    const starved = new Set(outcome.starved.map(({ edge }) => edge));
    for (const edge of starved) if (edge.isEnabled && edge.isActive) stuck.add(edge);
    if (stuck.size > 0) hasPassed = false;
    for (const node of laggingNodes(topology.edges, (edge) => starved.has(edge))) lagging.add(node);
  }
  return { hasPassed, isWhole, lagging };
}

/**
 * The table's rows also come from a publisher that nobody here can ask: a node on the way between two of
 * ours, a standby that one of them publishes from, or a common source. How far it is, no position tells.
 */
async function blindNodes({
  replication,
  table,
  signal,
  onWarning,
}: PassageOptions): Promise<ReadonlySet<string>> {
  const { pools, topology } = replication;
  const blind = new Set<string>();
  for (const { node, name } of topology.fromOutside) {
    const isOurs = await pools
      .get(node)
      ?.use((session) => replicates(session, name, table), signal);
    if (isOurs !== true) continue;
    blind.add(node);
    onWarning(
      `subscription ${name} on ${node} replicates ${table.schema}.${table.name} from a publisher outside ` +
        "the cluster, so nothing is proved to be drift: name that publisher in the cluster's definition too",
      `table of subscription ${name} on ${node}`,
    );
  }
  return blind;
}

function warnOfAhead(edge: Edge, options: Pick<PassageOptions, 'onWarning'>): void {
  const { subscription, from, to } = edge;
  options.onWarning(
    `subscription ${subscription} (${from} -> ${to}) has confirmed more than ${from} has written, as ` +
      `after a failover to a server that was behind: what ${from} commits below that position ${to} skips`,
    `history of subscription ${subscription} on ${to}`,
  );
}

function warnOfStarved(
  { edge, missingBytes }: StarvedEdge,
  options: Pick<PassageOptions, 'onWarning'>,
): void {
  const isRunning = edge.isEnabled && edge.isActive;
  const bytes = missingBytes === null ? '' : `${missingBytes} bytes behind`;
  const state = isRunning
    ? bytes || 'behind'
    : `not running${bytes === '' ? '' : `, and ${bytes}`}`;
  options.onWarning(
    `subscription ${edge.subscription} (${edge.from} -> ${edge.to}) is ${state}: ` +
      'differences may be changes that were not delivered yet',
    `subscription ${edge.subscription} on ${edge.to}`,
  );
}

async function waitForCopies(options: PassageOptions, deadline: number): Promise<Passage> {
  const { replication, table, signal } = options;
  const { pools, topology } = replication;
  if (topology.edges.length === 0) {
    return { hasPassed: true, isWhole: true, lagging: new Set(), isRestricted: false };
  }
  for (;;) {
    const copies = await withSessions(pools, signal, (sessions) =>
      readPendingCopies(sessions, topology, table),
    );
    const mayEnd = copies.some(
      ({ edge, state }) => state === 'copying' && edge.isEnabled && edge.isActive,
    );
    if (mayEnd && steadyNowMs() < deadline) {
      await sleep(Math.min(COPY_PAUSE_MS, Math.max(1, deadline - steadyNowMs())), signal);
      continue;
    }
    for (const copy of copies) warnOfCopy(copy, options);
    const missing = new Set(
      copies.flatMap(({ edge, state }) => (state === 'restricted' ? [] : [edge])),
    );
    return {
      lagging: laggingNodes(topology.edges, (edge) => missing.has(edge)),
      hasPassed: !copies.some(({ state }) => state === 'copying'),
      isWhole: !copies.some(({ state }) => state === 'unknown'),
      isRestricted: copies.some(({ restriction }) => restriction !== ''),
    };
  }
}

function warnOfCopy(
  { edge, table, state, restriction }: PendingCopy,
  options: PassageOptions,
): void {
  const { subscription, from, to } = edge;
  if (restriction !== '') {
    options.onWarning(
      `the publications of subscription ${subscription} (${from} -> ${to}) leave out on purpose, of ${table}: ` +
        `${restriction}; what differs for that is not drift`,
      `restriction of ${table} of subscription ${subscription} on ${to}`,
    );
  }
  if (state === 'restricted') return;
  options.onWarning(
    state === 'copying'
      ? `the first copy of ${table} by subscription ${subscription} (${from} -> ${to}) is not done: ` +
          'its changes are not applied yet'
      : `${from} publishes ${table}, but subscription ${subscription} on ${to} does not know it: ` +
          `its changes are not applied before ALTER SUBSCRIPTION ${subscription} REFRESH PUBLICATION on ${to}`,
    `table ${table} of subscription ${subscription} on ${to}`,
  );
}
