import { steadyNowMs } from '../base/clock.js';
import type { Cluster } from '../cluster/cluster.js';
import { readClusterTopology } from '../cluster/cluster-table.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { CommandContext, CommonParams } from '../protocol/commands.js';
import type { ReplicationDiffResult, SubscriptionFacts } from '../protocol/replication-diff.js';
import type { StructureDifference } from '../protocol/schema-diff.js';
import type { Edge, Topology } from '../replication/topology.js';
import { compareDefinitions } from '../schema/compare-definitions.js';
import type { Definition } from '../schema/definitions.js';
import {
  readReplicationDefinitions,
  type ReplicationDefinitions,
} from '../schema/replication-definitions.js';
import { tellLeftOut } from './diff-table.js';

type OnNodes = ReadonlyMap<string, ReplicationDefinitions>;
type Problem = ReplicationDiffResult['problems'][number];

/** `replication-diff`, `spock-diff`: whether the nodes replicate alike, and whether they do. */
export async function replicationDiff(
  cluster: Cluster,
  params: CommonParams,
  context: CommandContext,
): Promise<ReplicationDiffResult> {
  const startedAtMs = steadyNowMs();
  const { config } = cluster;
  const nodes = cluster.selectNodes(params.nodes, 2);
  tellLeftOut(cluster, nodes, context);
  const pools = cluster.poolsOf(nodes);
  const ours = { publication: config.publicationName, slot: config.slotName };
  const onNodes = await onEveryNode(pools, context.signal, (_, pool, signal) =>
    pool.use((session) => readReplicationDefinitions(session, ours, signal), signal),
  );
  const topology = await readClusterTopology(pools, context.signal);
  const subscriptions = topology.edges.map((edge) => factsOf(edge, onNodes));
  const outside = topology.fromOutside.map(({ node, name }) => ({
    subject: `subscription ${name} on ${node}`,
    message: 'none of the nodes has its slot: it is from elsewhere, or its slot is gone',
  }));
  return {
    nodes,
    subscriptions,
    differences: [...nodeDifferences(onNodes), ...subscriptionDifferences(subscriptions)],
    problems: [
      ...topology.edges.flatMap((edge) => edgeProblems(edge, onNodes)),
      ...missingDirections(nodes, topology.edges),
      ...outside,
      ...slotProblems(onNodes, topology),
    ],
    hidden: hiddenOf(onNodes, topology),
    warnings: conflictWarnings(onNodes),
    timeTakenMs: steadyNowMs() - startedAtMs,
  };
}

function factsOf(edge: Edge, onNodes: OnNodes): SubscriptionFacts {
  const { subscription: name, kind, from, to, isEnabled, isActive } = edge;
  const running = isActive ? 'running' : 'down';
  return {
    ...{ name, kind, from, to },
    state: isEnabled ? running : 'disabled',
    settings: onNodes.get(to)?.subscriptions.get(name) ?? {},
  };
}

/** Between nodes that publish: one that only receives has nothing to be compared. */
function nodeDifferences(onNodes: OnNodes): StructureDifference[] {
  const publishes = ({ definitions }: ReplicationDefinitions): boolean =>
    definitions.some(({ kind }) => kind === 'replicated table');
  const all = new Map(Array.from(onNodes, ([node, { definitions }]) => [node, definitions]));
  const isSetting = ({ kind }: Definition): boolean => kind === 'settings';
  const publishers = new Map(
    [...all].filter(([node]) => {
      const found = onNodes.get(node);
      return found !== undefined && publishes(found);
    }),
  );
  const of = (
    nodes: ReadonlyMap<string, readonly Definition[]>,
    wanted: (one: Definition) => boolean,
  ): StructureDifference[] =>
    compareDefinitions(
      new Map(Array.from(nodes, ([node, definitions]) => [node, definitions.filter(wanted)])),
    );
  return [...of(publishers, (one) => !isSetting(one)), ...of(all, isSetting)];
}

/** How a subscription is set up, over all of a kind. */
function subscriptionDifferences(
  subscriptions: readonly SubscriptionFacts[],
): StructureDifference[] {
  return (['native', 'spock'] as const).flatMap((kind) => {
    const edges = subscriptions.filter((one) => one.kind === kind);
    return compareDefinitions(
      new Map(
        edges.map(({ from, to, settings }) => {
          const told = Object.entries(settings).filter(([fact]) => fact !== 'status');
          const facts = Object.fromEntries(told);
          const definition: Definition = {
            ...{ kind: 'subscription', name: `${kind} subscriptions`, parent: null },
            ...{ facts, extension: null },
          };
          return [`${from} → ${to}`, [definition]];
        }),
      ),
    );
  });
}

function edgeProblems(edge: Edge, onNodes: OnNodes): Problem[] {
  const { subscription, from, to, isEnabled, isActive } = edge;
  const target = onNodes.get(to);
  const settings = target?.subscriptions.get(subscription) ?? {};
  const messages: string[] = [];
  if (!isEnabled) messages.push('it is disabled');
  else if (!isActive) messages.push('it is enabled and down: nothing streams from its slot');
  const status = settings['status'] ?? null;
  const isTold = status === null || status === 'replicating' || !isEnabled || !isActive;
  if (!isTold) messages.push(`Spock calls it ${status}`);
  const skipped = settings['skip LSN'] ?? null;
  if (skipped !== null && !/^0\/0+$/.test(skipped))
    messages.push(`it skips what ends at ${skipped}`);
  const copying = target?.copying.get(subscription) ?? 0;
  if (copying > 0) messages.push(`the first copy of ${copying} tables is not done`);
  const asked = edge.kind === 'spock' ? (settings['sets'] ?? '').split(', ') : edge.publications;
  for (const name of asked) {
    if (name === '' || onNodes.get(from)?.offers.has(name) !== false) continue;
    messages.push(`it asks for ${name}, which ${from} does not have`);
  }
  const subject = `subscription ${subscription} (${from} → ${to})`;
  return messages.map((message) => ({ subject, message }));
}

/** Where some two nodes replicate both ways, all are meant to. */
function missingDirections(nodes: readonly string[], edges: readonly Edge[]): Problem[] {
  const has = (from: string, to: string): boolean =>
    edges.some((edge) => edge.from === from && edge.to === to);
  const pairs = nodes.flatMap((from) => nodes.map((to) => ({ from, to })));
  const isBothWays = edges.some(({ from, to }) => has(to, from));
  return pairs
    .filter(({ from, to }) => from !== to && isBothWays && !has(from, to))
    .map(({ from, to }) => ({
      subject: `${from} → ${to}`,
      message: 'there is no subscription, though other nodes replicate both ways',
    }));
}

/** A slot that nobody reads holds back the write-ahead log of its node. */
function slotProblems(onNodes: OnNodes, { edges }: Topology): Problem[] {
  return Array.from(onNodes).flatMap(([node, { slots }]) =>
    slots.flatMap(({ name, isActive, walStatus }) => {
      const isUsed = edges.some((edge) => edge.from === node && edge.slot === name);
      const messages: string[] = [];
      if (!isUsed && !isActive) {
        messages.push('no subscription of the nodes uses it, and nobody streams from it');
      }
      if (walStatus === 'lost' || walStatus === 'unreserved') {
        messages.push(`the log that it needs is ${walStatus}`);
      }
      return messages.map((message) => ({ subject: `slot ${name} on ${node}`, message }));
    }),
  );
}

function hiddenOf(onNodes: OnNodes, { hidden }: Topology): ReplicationDiffResult['hidden'] {
  const grants = new Map(hidden.map(({ node, grant }) => [node, grant]));
  for (const [node, { spock }] of onNodes) {
    if (typeof spock?.missingGrant === 'string') grants.set(node, spock.missingGrant);
  }
  return Array.from(grants, ([node, grant]) => ({ node, grant }));
}

/** What was not applied as it came: counted, for what became of the rows a diff tells. */
function conflictWarnings(onNodes: OnNodes): string[] {
  return Array.from(onNodes).flatMap(([node, { spock }]) => {
    const exceptions = spock?.exceptions ?? 0;
    const resolutions = Array.from(spock?.resolutions ?? [], ([how, count]) => `${count} ${how}`);
    return [
      ...(exceptions === 0
        ? []
        : [`${exceptions} changes could not be applied on ${node}: see spock.exception_log there`]),
      ...(resolutions.length === 0
        ? []
        : [
            `conflicts were resolved on ${node} (${resolutions.join(', ')}): see spock.resolutions there`,
          ]),
    ];
  });
}
