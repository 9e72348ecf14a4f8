import { runAll } from '../base/abort.js';
import type { Session } from './session.js';
import type { SessionPool } from './session-pool.js';

/** The nodes of one comparison, in the cluster's order, with their connections. */
export type NodePools = ReadonlyMap<string, SessionPool>;

/** Borrows one session of every node at once. */
export async function withSessions<T>(
  pools: NodePools,
  signal: AbortSignal,
  work: (sessions: ReadonlyMap<string, Session>) => Promise<T>,
): Promise<T> {
  const sessions = new Map<string, Session>();
  const names = [...pools.keys()];
  const borrow = async (index: number): Promise<T> => {
    const name = names[index];
    const pool = name === undefined ? undefined : pools.get(name);
    if (name === undefined || pool === undefined) return work(sessions);
    return pool.use(async (session) => {
      sessions.set(name, session);
      return borrow(index + 1);
    }, signal);
  };
  return borrow(0);
}

/** Runs the same work on every node at once; fails when one fails, once the others have given up. */
export async function onEveryNode<T>(
  pools: NodePools,
  signal: AbortSignal | undefined,
  work: (node: string, pool: SessionPool, signal: AbortSignal) => Promise<T>,
): Promise<Map<string, T>> {
  const entries = await runAll(
    pools,
    signal,
    async ([node, pool], either) => [node, await work(node, pool, either)] as const,
  );
  return new Map(entries);
}
