import { AcedError } from '../base/errors.js';
import { findBoundaries } from '../ingest/partition.js';
import type { BlockRange } from '../merkle/layout.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import { originNodes } from '../replication/topology.js';
import type { Replication } from '../replication/passage.js';
import type { KeyText } from '../table/table-spec.js';
import type { ComparedTable } from './compared-table.js';
import { keyId } from './row-difference.js';

/** Rows of the reference node whose origins are looked at by one statement. */
const ROWS_PER_STATEMENT = 20_000;

/** Node -> ids of the replication origins there, `0` for its own writes, that stand for one node. */
export type OriginIds = ReadonlyMap<string, readonly string[]>;

/**
 * Which origins on each compared node stand for the one that a person names: a node of the cluster or
 * of Spock, also one that is gone; the name of a replication origin; or its number. Errors: BAD_USAGE.
 */
export async function findOrigins(
  name: string,
  pools: NodePools,
  { topology }: Replication,
  signal: AbortSignal,
): Promise<OriginIds> {
  const perNode = await onEveryNode(pools, signal, async (node, pool, either) => {
    const rows = await pool.use(
      (session) =>
        session.query(
          'SELECT roident::text, roname FROM pg_catalog.pg_replication_origin',
          [],
          either,
        ),
      either,
    );
    const stands = originNodes(topology.edges, node);
    const ids = new Set<string>();
    if (node === name) ids.add('0');
    for (const [id, origin] of rows) {
      if (id == null || origin == null) continue;
      if (origin === name || id === name || stands.get(origin) === name) ids.add(id);
    }
    for (const [id, spockNode] of topology.spockNodes) {
      if (spockNode === name || id === name) ids.add(id);
    }
    return [...ids];
  });
  if ([...perNode.values()].some((ids) => ids.length > 0)) return perNode;
  throw new AcedError('BAD_USAGE', `--against-origin: no compared node knows an origin ${name}`, {
    hint: 'name a node, a replication origin or its number; rows keep them with track_commit_timestamp = on',
  });
}

/** Rows of one range, in the opinion of all nodes together. */
export interface OriginBatch {
  /** Keys whose row has the origin on some node. */
  readonly keys: readonly KeyText[];
  /** Node -> rows that are too old for the server to know where they came from. */
  readonly unknown: Readonly<Record<string, number>>;
}

/** Looks through the whole table on every node, in key order, a range at a time. */
export async function* keysOfOrigin(
  table: ComparedTable,
  origins: OriginIds,
  signal: AbortSignal,
): AsyncGenerator<OriginBatch> {
  for (const range of await pieces(table, signal)) {
    const found = new Map<string, KeyText>();
    const unknown: Record<string, number> = {};
    const byNode = await onEveryNode(table.pools, signal, (node, pool, either) =>
      pool.use((session) => {
        const query = table.sql.keysByOrigin(range, origins.get(node) ?? []);
        return session.query(query.text, query.params, either);
      }, either),
    );
    for (const [node, rows] of byNode) {
      for (const [isUnknown, count, ...texts] of rows) {
        if (isUnknown === 't') unknown[node] = Number(count);
        else {
          const key = texts.map((text) => text ?? '');
          found.set(keyId(key), key);
        }
      }
    }
    yield { keys: [...found.values()], unknown };
  }
}

async function pieces(table: ComparedTable, signal: AbortSignal): Promise<BlockRange[]> {
  const [reference] = [...table.infos].sort(([, a], [, b]) => b.estimatedRows - a.estimatedRows);
  const pool = table.pools.get(reference?.[0] ?? '');
  if (pool === undefined) throw new AcedError('INTERNAL', 'no node to compare');
  const boundaries = await findBoundaries({
    ...{ sql: table.sql, pool, signal, blockRows: ROWS_PER_STATEMENT },
    range: { lower: null, upper: null },
  });
  const lowers = [null, ...boundaries];
  return lowers.map((lower, i) => ({ lower, upper: boundaries[i] ?? null }));
}
