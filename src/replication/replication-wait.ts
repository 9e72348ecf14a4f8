import { runAll, sleep } from '../base/abort.js';
import { parseLsn, type Lsn } from '../base/lsn.js';
import type { Session } from '../postgres/session.js';
import type { Edge, Topology } from './topology.js';

export interface WaitForReplicationOptions {
  /** Node -> session; edges from nodes that are not here count as starved. */
  readonly sessions: ReadonlyMap<string, Session>;
  readonly topology: Topology;
  /** Node -> position in that node's log that its subscribers must have confirmed. */
  readonly fences: ReadonlyMap<string, Lsn>;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface StarvedEdge {
  readonly edge: Edge;
  /** Log between the subscriber's confirmed position and the fence; null: unknown. */
  readonly missingBytes: bigint | null;
}

export interface WaitForReplicationResult {
  readonly passed: boolean;
  readonly starved: readonly StarvedEdge[];
}

const FIRST_PAUSE_MS = 5;
const LAST_PAUSE_MS = 100;

/**
 * Waits until each subscription has confirmed its publisher's fence; what a subscriber confirms it
 * has applied and flushed. Disabled and disconnected subscriptions are reported at once and not
 * waited for; one that disconnects meanwhile is given up. CANCELLED when the signal aborts.
 */
export async function waitForReplication(
  options: WaitForReplicationOptions,
): Promise<WaitForReplicationResult> {
  const deadline = Date.now() + options.timeoutMs;
  const nodes = new Set(options.topology.edges.map(({ from }) => from));
  const perNode = await runAll(nodes, options.signal, (node, signal) =>
    waitOnNode(node, { ...options, signal }, deadline),
  );
  const starved = perNode.flat();
  return { passed: starved.length === 0, starved };
}

async function waitOnNode(
  node: string,
  options: WaitForReplicationOptions,
  deadline: number,
): Promise<StarvedEdge[]> {
  const { sessions, topology, fences, signal } = options;
  const session = sessions.get(node);
  const fence = fences.get(node);
  const edges = topology.edges.filter(({ from }) => from === node);
  if (fence === undefined) return [];
  if (session === undefined) return edges.map((edge) => ({ edge, missingBytes: null }));
  const starved: StarvedEdge[] = [];
  let waiting = edges;
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    const slots = await readProgress(session, waiting, signal);
    const stillWaiting: Edge[] = [];
    const isLate = Date.now() >= deadline;
    for (const edge of waiting) {
      const slot = slots.get(edge.slot);
      const confirmed = slot?.confirmed ?? null;
      if (confirmed !== null && confirmed >= fence) continue;
      if (isLate || !edge.isEnabled || slot?.isActive !== true) {
        starved.push({ edge, missingBytes: confirmed === null ? null : fence - confirmed });
      } else {
        stillWaiting.push(edge);
      }
    }
    waiting = stillWaiting;
    if (waiting.length === 0) return starved;
    await sleep(Math.min(pauseMs, Math.max(1, deadline - Date.now())), signal);
    pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS);
  }
}

interface SlotProgress {
  readonly confirmed: Lsn | null;
  readonly isActive: boolean;
}

async function readProgress(
  session: Session,
  edges: readonly Edge[],
  signal: AbortSignal | undefined,
): Promise<Map<string, SlotProgress>> {
  const rows = await session.query(
    `SELECT slot_name, confirmed_flush_lsn::text, active
       FROM pg_catalog.pg_replication_slots WHERE slot_name = ANY ($1::name[])`,
    [edges.map(({ slot }) => slot)],
    signal,
  );
  return new Map(
    rows.map(([slot, confirmed, isActive]) => [
      slot ?? '',
      {
        confirmed: typeof confirmed === 'string' ? parseLsn(confirmed) : null,
        isActive: isActive === 't',
      },
    ]),
  );
}
