import type { Condition } from '../protocol/drift.js';
import type { TableEdge } from '../replication/table-copies.js';
import { laggingNodes, type Edge } from '../replication/topology.js';

/**
 * Why a node's rows of a table cannot be compared with the others':
 * - `restricted`: some changes are kept from it on purpose.
 * - `apart`: no subscription carries the table to or from the nodes that are compared.
 * - `copying`: a first copy is not done, or the subscription does not know the table.
 */
export type OutOfReach = 'restricted' | 'apart' | 'copying';

export interface NodeOutOfReach {
  readonly why: OutOfReach;
  readonly reason: string;
}

/** Node -> why it is not compared; the others are. */
export type Reach = ReadonlyMap<string, NodeOutOfReach>;

/**
 * Which nodes' rows of one table are meant to be equal. Pure.
 *
 * @param edges of the whole topology; none: nobody knows how changes travel, and all are compared
 * @param ofTable the subscriptions that carry the table
 */
export function reachOf(
  nodes: readonly string[],
  edges: readonly Edge[],
  ofTable: readonly Omit<TableEdge, 'asked'>[],
): Reach {
  const out = new Map<string, NodeOutOfReach>();
  if (edges.length === 0) return out;
  const carrying = [...new Set(ofTable.map(({ edge }) => edge))];
  const exclude = (
    why: OutOfReach,
    reasonOf: (one: Omit<TableEdge, 'asked'>) => string | null,
  ): void => {
    for (const broken of ofTable) {
      const reason = reasonOf(broken);
      if (reason === null) continue;
      for (const node of laggingNodes(carrying, (edge) => edge === broken.edge)) {
        if (!out.has(node)) out.set(node, { why, reason });
      }
    }
  };
  exclude('restricted', ({ edge, restriction }) =>
    restriction === ''
      ? null
      : `${edge.subscription} (${edge.from} -> ${edge.to}) leaves out on purpose: ${restriction}`,
  );
  exclude('copying', ({ edge, state }) => {
    const { subscription, from, to } = edge;
    if (state === 'applied') return null;
    return state === 'copying'
      ? `the first copy by ${subscription} (${from} -> ${to}) is not done`
      : `${subscription} (${from} -> ${to}) does not know the table: ALTER SUBSCRIPTION … REFRESH PUBLICATION`;
  });
  const together = largestPart(nodes, carrying);
  for (const node of nodes) {
    if (together.has(node) || out.has(node)) continue;
    const others = [...together].join(', ');
    const reason =
      carrying.length === 0
        ? 'no subscription between the nodes carries the table'
        : `no subscription carries the table between ${node} and ${others}`;
    out.set(node, { why: 'apart', reason });
  }
  return out;
}

/** What of it is to be told: copies that are not done are replication's. */
export function reachConditions(label: string, reach: Reach): Condition[] {
  const reasons = [...new Set([...reach.values()].map(({ reason }) => reason))];
  if (reasons.length === 0) return [];
  const onPurpose = [...reach.values()].every(({ why }) => why !== 'copying');
  return [
    {
      kind: onPurpose ? 'coverage' : 'replication_starved',
      about: 'table',
      subject: label,
      reason: `not compared on ${[...reach.keys()].join(', ')}: ${reasons.join('; ')}`,
      facts: { table: label },
    },
  ];
}

/** Nodes that changes travel between in any direction, the most there are; first ones first. */
export function largestPart(nodes: readonly string[], edges: readonly Edge[]): Set<string> {
  let largest = new Set<string>();
  for (const start of nodes) {
    if (largest.has(start)) continue;
    const part = new Set([start]);
    for (const node of part) {
      for (const { from, to } of edges) {
        if (from === node) part.add(to);
        if (to === node) part.add(from);
      }
    }
    const size = (some: ReadonlySet<string>): number => nodes.filter((n) => some.has(n)).length;
    if (size(part) > 1 && size(part) > size(largest)) largest = part;
  }
  return largest;
}

/** Nodes of a cluster that no subscription links with the rest. */
export function pairConditions(nodes: readonly string[], edges: readonly Edge[]): Condition[] {
  if (edges.length === 0) return [];
  const together = largestPart(nodes, edges);
  return nodes
    .filter((node) => !together.has(node))
    .map((node) => ({
      kind: 'coverage',
      about: 'pair',
      subject: `${node} and ${[...together].join(', ')}`,
      reason: 'no subscription carries changes between them, in any direction',
      facts: { node },
    }));
}
