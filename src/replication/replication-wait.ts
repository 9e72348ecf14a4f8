import { steadyNowMs } from '../base/clock.js';
import { allOrCause, runAll, sleep } from '../base/abort.js';
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
  /**
   * Subscriptions that have confirmed more than their publisher has written: they followed another
   * history of it, before a failover perhaps, and skip for good what it commits below that position.
   */
  readonly ahead: readonly Edge[];
}

const FIRST_PAUSE_MS = 5;
const LAST_PAUSE_MS = 100;

/**
 * Waits until each subscription has applied all that its publisher had committed at the fence, so that
 * it is visible. Disabled and disconnected subscriptions are reported at once and not waited for; one
 * that disconnects meanwhile is given up. CANCELLED when the signal aborts.
 */
export async function waitForReplication(
  options: WaitForReplicationOptions,
): Promise<WaitForReplicationResult> {
  const deadline = steadyNowMs() + options.timeoutMs;
  const nodes = new Set(options.topology.edges.map(({ from }) => from));
  const perNode = await runAll(nodes, options.signal, (node, signal) =>
    waitOnNode(node, { ...options, signal }, deadline),
  );
  const starved = perNode.flatMap((one) => one.starved);
  const ahead = perNode.flatMap((one) => one.ahead);
  return { passed: starved.length === 0, starved, ahead };
}

async function waitOnNode(
  node: string,
  options: WaitForReplicationOptions,
  deadline: number,
): Promise<{ starved: StarvedEdge[]; ahead: Edge[] }> {
  const { sessions, topology, fences, signal } = options;
  const session = sessions.get(node);
  const fence = fences.get(node);
  const edges = topology.edges.filter(({ from }) => from === node);
  const starved: StarvedEdge[] = [];
  const ahead: Edge[] = [];
  if (fence === undefined) return { starved, ahead };
  if (session === undefined) {
    return { starved: edges.map((edge) => ({ edge, missingBytes: null })), ahead };
  }
  let waiting = edges;
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    const slots = await readProgress(session, waiting, signal);
    const isOpen = (edge: Edge): boolean => {
      const slot = slots.get(edge.slot);
      return slot?.isActive === true && (slot.confirmed ?? 0n) < fence;
    };
    const applied = await readApplied(waiting.filter(isOpen), options);
    const stillWaiting: Edge[] = [];
    const isLate = steadyNowMs() >= deadline;
    for (const edge of waiting) {
      const slot = slots.get(edge.slot);
      if (slot?.isAhead === true) ahead.push(edge);
      const confirmed = slot?.confirmed ?? null;
      const hasPassed = [confirmed, applied.get(edge) ?? null].some(
        (position) => position !== null && position >= fence,
      );
      if (hasPassed) continue;
      if (isLate || !edge.isEnabled || slot?.isActive !== true) {
        starved.push({ edge, missingBytes: confirmed === null ? null : fence - confirmed });
      } else {
        stillWaiting.push(edge);
      }
    }
    waiting = stillWaiting;
    if (waiting.length === 0) return { starved, ahead };
    await sleep(Math.min(pauseMs, Math.max(1, deadline - steadyNowMs())), signal);
    pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS);
  }
}

interface SlotProgress {
  readonly confirmed: Lsn | null;
  readonly isActive: boolean;
  readonly isAhead: boolean;
}

async function readProgress(
  session: Session,
  edges: readonly Edge[],
  signal: AbortSignal | undefined,
): Promise<Map<string, SlotProgress>> {
  const rows = await session.query(
    `SELECT s.slot_name, s.confirmed_flush_lsn::text, s.active,
            CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                 THEN s.confirmed_flush_lsn > pg_catalog.pg_current_wal_insert_lsn() END
       FROM pg_catalog.pg_replication_slots s
      WHERE s.slot_name = ANY ($1::name[])`,
    [edges.map(({ slot }) => slot)],
    signal,
  );
  return new Map(
    rows.map(([slot, confirmed, isActive, isAhead]) => [
      slot ?? '',
      {
        confirmed: lsnOrNull(confirmed),
        isActive: isActive === 't',
        isAhead: isAhead === 't',
      },
    ]),
  );
}

/**
 * What a native subscriber has last confirmed, from its own end. It comes after what it confirms is
 * visible, as does the slot's position, which waits for the subscriber's flush too: 200 ms later with
 * asynchronous commit. Never ask the replication origin's progress or what was received: they come
 * before. Null after the worker's start, until the first keepalive.
 */
async function readApplied(
  edges: readonly Edge[],
  { sessions, signal }: WaitForReplicationOptions,
): Promise<Map<Edge, Lsn | null>> {
  const native = edges.filter(({ kind }) => kind === 'native');
  const read = async (edge: Edge): Promise<readonly [Edge, Lsn | null]> => {
    const session = sessions.get(edge.to);
    // Before 16 no other worker applies for the subscription.
    const isLeader =
      session !== undefined && session.serverVersion >= 160_000 ? ' AND p.leader_pid IS NULL' : '';
    const rows = await session?.query(
      `SELECT p.latest_end_lsn::text
         FROM pg_catalog.pg_stat_subscription p
         JOIN pg_catalog.pg_subscription s ON s.oid = p.subid
         JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
        WHERE s.subname = $1 AND p.relid IS NULL${isLeader}
          AND d.datname = pg_catalog.current_database()`,
      [edge.subscription],
      signal,
    );
    return [edge, lsnOrNull(rows?.[0]?.[0])];
  };
  return new Map(await allOrCause(native.map(read)));
}

function lsnOrNull(text: string | null | undefined): Lsn | null {
  return typeof text === 'string' ? parseLsn(text) : null;
}
