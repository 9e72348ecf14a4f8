import { shownTime, steadyNowMs } from '../base/clock.js';
import { parseLsn, type Lsn } from '../base/lsn.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { Edge } from '../replication/topology.js';
import type { SubscriptionStatus } from '../protocol/commands.js';
import type { Condition } from '../protocol/drift.js';
import { readReplication } from './cluster-table.js';
import type { Cluster } from './cluster.js';
import { Loop, tellsFailures } from '../base/loop.js';
import { nextState, type SubscriptionKnown } from './subscription-state.js';

const CHECK_INTERVAL_MS = 5_000;

/**
 * Follows the subscriptions between the nodes, the users' own: while one stands still a difference
 * cannot be told from a change on its way. What stops and what goes on is told once each.
 */
export class SubscriptionWatch {
  readonly #cluster: Cluster;
  readonly #known = new Map<string, { readonly edge: Edge; readonly known: SubscriptionKnown }>();
  readonly #loop: Loop;

  constructor(cluster: Cluster, checkIntervalMs = CHECK_INTERVAL_MS) {
    this.#cluster = cluster;
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'subscription_watch_failed'),
      backoff: { firstMs: checkIntervalMs, maxMs: checkIntervalMs },
      round: async (signal) => {
        await this.#look(signal);
        return checkIntervalMs;
      },
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** As last seen; empty before the first look. */
  get subscriptions(): readonly SubscriptionStatus[] {
    return Array.from(this.#known.values(), ({ edge, known }) => ({
      name: edge.subscription,
      from: edge.from,
      to: edge.to,
      state: known.state,
      since: shownTime(known.sinceMs).toISOString(),
      behindBytes: known.behindBytes,
    }));
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { pools, topology, unreachable } = await readReplication(
      this.#cluster.pools,
      new Map(),
      signal,
    );
    const sights = await onEveryNode(pools, signal, (_, pool, either) =>
      pool.use(
        async (session) =>
          new Map(
            (await session.query(PROGRESS_QUERY, [], either)).map(([slot, confirmed, end]) => [
              slot ?? '',
              { confirmed: lsnOrNull(confirmed), end: lsnOrNull(end) },
            ]),
          ),
        either,
      ),
    );
    const nowMs = steadyNowMs();
    const seen = new Set<string>();
    for (const edge of topology.edges) {
      const id = JSON.stringify([edge.from, edge.to, edge.subscription]);
      seen.add(id);
      const progress = sights.get(edge.from)?.get(edge.slot);
      const before = this.#known.get(id)?.known;
      const known = nextState(before, {
        nowMs,
        isEnabled: edge.isEnabled,
        isActive: edge.isActive,
        confirmed: progress?.confirmed ?? null,
        end: progress?.end ?? null,
      });
      this.#known.set(id, { edge, known });
    }
    for (const [id, { edge }] of this.#known) {
      const isUnseen = unreachable.includes(edge.from) || unreachable.includes(edge.to);
      // Who cannot be asked says nothing of its subscriptions; they stay as they were.
      if (!seen.has(id) && !isUnseen) this.#known.delete(id);
    }
    this.#cluster.conditions.report('subscriptions', this.#conditions(), { nowMs: Date.now() });
  }

  #conditions(): Condition[] {
    return Array.from(this.#known.values()).flatMap(({ edge, known }): Condition[] => {
      if (known.state === 'running') return [];
      const { subscription, from, to } = edge;
      return [
        {
          kind: 'replication_starved',
          about: 'subscription',
          subject: `${from} -> ${to}`,
          reason: REASONS[known.state](subscription),
          facts: {
            subscription,
            from,
            node: to,
            state: known.state,
            stateSince: shownTime(known.sinceMs).toISOString(),
            behindBytes: known.behindBytes,
          },
        },
      ];
    });
  }
}

const REASONS = {
  down: (name: string) =>
    `subscription ${name} is disabled or not connected: changes are not delivered`,
  behind: (name: string) => `subscription ${name} runs, and what is committed does not arrive`,
};

const PROGRESS_QUERY = `
SELECT slot_name, confirmed_flush_lsn::text,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END::text
  FROM pg_catalog.pg_replication_slots
 WHERE slot_type = 'logical' AND database = pg_catalog.current_database()`;

function lsnOrNull(text: string | null | undefined): Lsn | null {
  return typeof text === 'string' ? parseLsn(text) : null;
}
