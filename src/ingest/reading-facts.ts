import type { BlockSql } from '../merkle/block-sql.js';
import {
  MIN_BLOCKS_FOR_PASS,
  readingOrder,
  type ReadingFacts,
  type ReadingOrder,
} from '../merkle/reading-order.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { isOrderIndexed, type TableSpec } from '../table/table-spec.js';

const FACTS_QUERY = `
  SELECT COALESCE((SELECT pg_catalog.sum(pg_catalog.pg_table_size(p.relid))
                     FROM pg_catalog.pg_partition_tree(c.oid) p), pg_catalog.pg_table_size(c.oid)),
         (SELECT s.correlation FROM pg_catalog.pg_stats s
           WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = $3::name
             AND s.inherited = (c.relkind = 'p')),
         pg_catalog.pg_size_bytes(pg_catalog.current_setting('effective_cache_size')),
         pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem'))
           * pg_catalog.current_setting('hash_mem_multiplier')::float8
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1::name AND c.relname = $2::name`;

export interface OrderQuestion {
  readonly spec: TableSpec;
  readonly sql: BlockSql;
  readonly pool: SessionPool;
  readonly blocks: number;
  readonly allBlocks: number;
  readonly signal: AbortSignal;
}

/** How so many blocks of a table are best read on one node, as its statistics are now. */
export async function chooseReadingOrder(question: OrderQuestion): Promise<ReadingOrder> {
  const { spec, sql, pool, blocks, allBlocks, signal } = question;
  if (blocks < MIN_BLOCKS_FOR_PASS) return { by: 'key', reason: `${blocks} blocks are few` };
  if (!sql.canAssign)
    return { by: 'key', reason: 'its key is of a kind that only its index knows' };
  const [row] = await pool.use(
    (session) =>
      session.query(FACTS_QUERY, [spec.schema, spec.name, spec.key[0]?.name ?? ''], signal),
    signal,
  );
  if (row === undefined) return { by: 'key', reason: 'the table is gone' };
  const [tableBytes, correlation, cacheBytes, hashBytes] = row;
  const facts: ReadingFacts = {
    tableBytes: Number(tableBytes),
    correlation: correlation == null ? null : Number(correlation),
    cacheBytes: Number(cacheBytes),
    hashBytes: Number(hashBytes),
  };
  return readingOrder({ blocks, allBlocks, isIndexed: isOrderIndexed(spec) }, facts);
}
