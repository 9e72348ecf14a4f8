import { formatLsn } from '../base/lsn.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import { currentInsertLsn } from '../replication/positions.js';

/** Node -> where its write-ahead log is now: all that was committed before is seen by what is read later. */
export async function readPositions(
  pools: NodePools,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const positions = await onEveryNode(pools, signal, async (_, pool, either) =>
    formatLsn(await pool.use((session) => currentInsertLsn(session), either)),
  );
  return Object.fromEntries(positions);
}
