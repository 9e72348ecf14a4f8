import { readReplication } from '../cluster/cluster-table.js';
import type { Cluster } from '../cluster/cluster.js';
import { Loop, tellsFailures } from '../base/loop.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { onEveryNode, withSessions } from '../postgres/every-node.js';
import { CANARY_TABLE } from '../mirror/mirror-schema.js';
import { missingSpockGrant } from '../replication/spock.js';
import { readTableEdges, type TableEdge } from '../replication/table-copies.js';
import type { Topology } from '../replication/topology.js';
import { CounterGrowth, readCounters } from './conflict-counters.js';
import { pairConditions, reachConditions, reachOf, type Reach } from './reach.js';
import type { Condition } from '../protocol/drift.js';

const INTERVAL_MS = 5_000;
/** A table that is new is looked at so soon. */
const POLL_MS = 100;
const GRACE_MS = 10_000;
/** At most so much of one connection's time on each node: a twentieth, a quarter while there are new tables. */
const REST_FACTOR = 19;
const NEW_TABLE_REST_FACTOR = 3;

/** The canary's table is replicated by nobody, and is to be the same everywhere all the same. */
const EVERYWHERE: Reach = new Map();

function isCanary({ config }: Cluster, { spec }: TrackedTable): boolean {
  return spec.schema === config.nodeSchema && spec.name === CANARY_TABLE;
}

/**
 * Looks now and then which nodes' rows of each table are meant to be equal, as the subscriptions'
 * publications and Spock's replication sets have it, and reports what is not.
 */
export class ReachWatch {
  readonly #cluster: Cluster;
  readonly #loop: Loop;
  #reach: ReadonlyMap<TrackedTable, Reach> = new Map();
  #lookAtMs = 0;
  #lookAtNewAtMs = 0;
  readonly #growth = new CounterGrowth();

  constructor(cluster: Cluster, intervalMs = INTERVAL_MS) {
    this.#cluster = cluster;
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'reach_watch_failed'),
      backoff: { firstMs: intervalMs, maxMs: intervalMs },
      round: async (signal) => {
        const startedAtMs = performance.now();
        const isNew = cluster.tables.some((table) => this.of(table) === null);
        const lookAtMs = isNew ? this.#lookAtNewAtMs : this.#lookAtMs;
        if (!cluster.isStreaming || startedAtMs < lookAtMs) return POLL_MS;
        await this.#look(signal);
        const tookMs = performance.now() - startedAtMs;
        this.#lookAtMs = startedAtMs + Math.max(intervalMs, tookMs * REST_FACTOR);
        this.#lookAtNewAtMs = performance.now() + tookMs * NEW_TABLE_REST_FACTOR;
        return POLL_MS;
      },
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** As last seen; null: nobody has looked yet. */
  of(table: TrackedTable): Reach | null {
    return isCanary(this.#cluster, table) ? EVERYWHERE : (this.#reach.get(table) ?? null);
  }

  /** Another object after each look. */
  get seen(): unknown {
    return this.#reach;
  }

  /** What the subscriptions had trouble with at that time, as far as has been read. */
  trouble(fromMs: number, toMs: number): string[] {
    return this.#growth.between(fromMs, toMs);
  }

  /** Reads the subscriptions' counters now. */
  async readCounters(signal: AbortSignal): Promise<void> {
    const counters = await onEveryNode(this.#cluster.pools, signal, (_, pool, either) =>
      pool.use((session) => readCounters(session, either), either),
    );
    const nowMs = Date.now();
    for (const [node, of] of counters) this.#growth.observe(node, of, nowMs);
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { pools, conditions } = this.#cluster;
    const tables = this.#cluster.tables.filter((table) => !isCanary(this.#cluster, table));
    const {
      pools: reached,
      topology,
      unreachable,
    } = await readReplication(pools, new Map(), signal);
    // Who cannot be asked says nothing of its subscriptions; what is known of them stays.
    if (unreachable.length > 0) return;
    const nodes = [...pools.keys()];
    const edges = await withSessions(reached, signal, (sessions) =>
      readTableEdges(
        sessions,
        topology,
        tables.map(({ spec }) => spec),
      ),
    );
    const ofTable = new Map<number, TableEdge[]>();
    for (const edge of edges) {
      const known = ofTable.get(edge.asked);
      if (known === undefined) ofTable.set(edge.asked, [edge]);
      else known.push(edge);
    }
    const reach = tables.map(
      (table, asked) => [table, reachOf(nodes, topology.edges, ofTable.get(asked) ?? [])] as const,
    );
    this.#reach = new Map(reach);
    await this.readCounters(signal);
    const hidden = await this.#hidden(topology, signal);
    const nowMs = Date.now();
    const ofTables = reach.flatMap(([{ label }, one]) => reachConditions(label, one));
    conditions.report(
      'reach',
      ofTables.filter(({ kind }) => kind === 'coverage'),
      { nowMs },
    );
    // A copy takes its time, and is told when it takes long.
    conditions.report(
      'copies',
      ofTables.filter(({ kind }) => kind !== 'coverage'),
      { nowMs, graceMs: GRACE_MS },
    );
    conditions.report('pairs', [...pairConditions(nodes, topology.edges), ...hidden], { nowMs });
  }

  /** Spock's rules that the role may not read: what they leave out would be taken for drift. */
  async #hidden(topology: Topology, signal: AbortSignal): Promise<Condition[]> {
    if (!topology.edges.some(({ kind }) => kind === 'spock')) return [];
    const grants = await onEveryNode(this.#cluster.pools, signal, (_, pool, either) =>
      pool.use((session) => missingSpockGrant(session), either),
    );
    return Array.from(grants).flatMap(([node, grant]): Condition[] =>
      grant === null
        ? []
        : [
            {
              kind: 'coverage',
              about: 'node',
              subject: node,
              reason: `this role may not read Spock's replication sets, so what they leave out counts as drift: ${grant}`,
              facts: { node },
            },
          ],
    );
  }
}
