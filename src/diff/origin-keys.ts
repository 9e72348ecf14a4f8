import { AcedError } from '../base/errors.js';
import { findBoundaries } from '../ingest/partition.js';
import type { BlockRange } from '../merkle/layout.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { NodeOrigins } from '../replication/node-origins.js';
import type { KeyText } from '../table/table-spec.js';
import type { ComparedTable } from './compared-table.js';
import { keyId } from './row-difference.js';

/** Rows of the reference node whose origins are looked at by one statement. */
const ROWS_PER_STATEMENT = 20_000;

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
  origins: ReadonlyMap<string, NodeOrigins>,
  signal: AbortSignal,
): AsyncGenerator<OriginBatch> {
  for (const range of await pieces(table, signal)) {
    const found = new Map<string, KeyText>();
    const unknown: Record<string, number> = {};
    const byNode = await onEveryNode(table.pools, signal, (node, pool, either) =>
      pool.use((session) => {
        const query = table.sql.keysByOrigin(range, origins.get(node)?.ids ?? []);
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
