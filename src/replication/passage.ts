import { randomUUID } from 'node:crypto';
import { sleep } from '../base/abort.js';
import type { Lsn } from '../base/lsn.js';
import { onEveryNode, withSessions, type NodePools } from '../postgres/every-node.js';
import { emitBarrier } from './positions.js';
import { waitForReplication } from './replication-wait.js';
import type { Topology } from './topology.js';

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
  readonly signal: AbortSignal;
  readonly onWarning: (message: string) => void;
}

/** Where no replication is visible, a row that stays the same for so long counts as settled. */
const BLIND_SETTLE_MS = 2000;

/**
 * `passed`: every node has applied what the others had committed when this was asked.
 * `stopped`: so it is on all paths that run, but some subscription does not run at all.
 * `behind`: a running path did not get there in time.
 */
export type Passage = 'passed' | 'stopped' | 'behind';

/** Lets replication pass over as many hops as the topology has. */
export async function letReplicationPass(
  options: PassageOptions,
  timeoutMs: number,
): Promise<Passage> {
  const { replication, signal } = options;
  const { pools, topology, unreachable } = replication;
  let passage: Passage = 'passed';
  for (const node of unreachable) {
    passage = 'stopped';
    options.onWarning(
      `node ${node} cannot be reached: differences may be changes of it that were not delivered yet`,
    );
  }
  // A node that cannot be reached may be the publisher; of its changes the warning is out already.
  for (const { name, node } of unreachable.length === 0 ? topology.fromOutside : []) {
    options.onWarning(
      `subscription ${name} on ${node} has its publisher outside the cluster: what it has not ` +
        'delivered yet cannot be told from drift',
    );
  }
  if (topology.edges.length === 0) {
    options.onWarning(
      'no replication between these nodes is visible to this role; a difference counts as drift ' +
        `when the row stays the same for ${BLIND_SETTLE_MS} ms`,
    );
    await sleep(BLIND_SETTLE_MS, signal);
    return passage;
  }
  const deadline = Date.now() + timeoutMs;
  for (let round = 0; round < topology.rounds; round++) {
    const fences = await onEveryNode<Lsn>(pools, signal, (_, pool, either) =>
      pool.use((session) => emitBarrier(session, randomUUID()), either),
    );
    const outcome = await withSessions(pools, signal, (sessions) =>
      waitForReplication({
        sessions,
        topology,
        fences,
        timeoutMs: Math.max(1, deadline - Date.now()),
        signal,
      }),
    );
    for (const { edge, missingBytes } of outcome.starved) {
      const isRunning = edge.isEnabled && edge.isActive;
      if (isRunning) passage = 'behind';
      else if (passage === 'passed') passage = 'stopped';
      options.onWarning(
        `subscription ${edge.subscription} (${edge.from} -> ${edge.to}) is ` +
          (isRunning ? 'behind' : 'not running') +
          `${missingBytes === null ? '' : ` by ${missingBytes} bytes`}: ` +
          'differences may be changes that were not delivered yet',
      );
    }
    if (passage === 'behind') return passage;
  }
  return passage;
}
