import type { BlockSql } from '../merkle/block-sql.js';
import {
  MIN_BLOCKS_FOR_PASS,
  readingOrder,
  type ReadingFacts,
  type ReadingOrder,
} from '../merkle/reading-order.js';
import type { PreparedSql, Session } from '../postgres/session.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { isOrderIndexed, type TableSpec } from '../table/table-spec.js';

/**
 * Sizes as the last VACUUM or ANALYZE has left them: what asks the files of a table locks it, and would
 * wait behind DDL.
 */
const FACTS: PreparedSql = {
  name: 'reading_facts',
  text: `
  WITH RECURSIVE asked AS MATERIALIZED (
    SELECT w.number, w.key, n.nspname, c.oid, c.relname, c.relkind
      FROM ROWS FROM (pg_catalog.unnest($1::name[]), pg_catalog.unnest($2::name[]), pg_catalog.unnest($3::name[]))
           WITH ORDINALITY AS w (schema, name, key, number)
      JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
  ), member AS (
    SELECT a.number, a.oid, a.relkind FROM asked a
     UNION ALL
    SELECT m.number, c.oid, c.relkind
      FROM member m
      JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid AND m.relkind = 'p'
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
  ), size AS (
    SELECT m.number, pg_catalog.sum(GREATEST(c.relpages, 0) + COALESCE(o.relpages, 0))
             * pg_catalog.current_setting('block_size')::int8 AS bytes
      FROM member m
      JOIN pg_catalog.pg_class c ON c.oid = m.oid
      LEFT JOIN pg_catalog.pg_class o ON o.oid = c.reltoastrelid
     GROUP BY m.number
  )
  SELECT a.number, s.bytes,
         (SELECT s.correlation FROM pg_catalog.pg_stats s
           WHERE s.schemaname = a.nspname AND s.tablename = a.relname AND s.attname = a.key
             AND s.inherited = (a.relkind = 'p')),
         pg_catalog.pg_size_bytes(pg_catalog.current_setting('effective_cache_size')),
         pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem'))
           * pg_catalog.current_setting('hash_mem_multiplier')::float8
    FROM asked a JOIN size s USING (number)`,
};

/** Blocks of a table that are to be read, of so many in all. */
export interface BlocksToRead {
  readonly spec: TableSpec;
  readonly sql: BlockSql;
  readonly blocks: number;
  readonly allBlocks: number;
}

export interface OrderQuestion extends BlocksToRead {
  readonly pool: SessionPool;
  readonly signal: AbortSignal;
}

/** How so many blocks of a table are best read on one node, as its statistics are now. */
export async function chooseReadingOrder(question: OrderQuestion): Promise<ReadingOrder> {
  const { pool, signal } = question;
  const ask = (session: Session): Promise<ReadingOrder[]> =>
    chooseReadingOrders(session, [question], signal);
  const [order = GONE] = isAsked(question) ? await pool.use(ask, signal) : [orderOf(question)];
  return order;
}

/** The same of many tables, by one statement. */
export async function chooseReadingOrders(
  session: Session,
  questions: readonly BlocksToRead[],
  signal?: AbortSignal,
): Promise<ReadingOrder[]> {
  const asked = questions.filter(isAsked);
  const facts = new Map<BlocksToRead, ReadingFacts>();
  if (asked.length > 0) {
    const schemas = asked.map(({ spec }) => spec.schema);
    const names = asked.map(({ spec }) => spec.name);
    const keys = asked.map(({ spec }) => spec.key[0]?.name ?? '');
    const rows = await session.query(FACTS, [schemas, names, keys], signal);
    for (const [number, tableBytes, correlation, cacheBytes, hashBytes] of rows) {
      const question = asked[Number(number) - 1];
      if (question === undefined) continue;
      facts.set(question, {
        tableBytes: Number(tableBytes),
        correlation: correlation == null ? null : Number(correlation),
        cacheBytes: Number(cacheBytes),
        hashBytes: Number(hashBytes),
      });
    }
  }
  return questions.map((question) => orderOf(question, facts.get(question)));
}

const GONE: ReadingOrder = { by: 'key', reason: 'the table is gone' };

/** The answer depends on what the server knows of the table. */
function isAsked({ sql, blocks }: BlocksToRead): boolean {
  return blocks >= MIN_BLOCKS_FOR_PASS && sql.assignment !== null;
}

function orderOf(
  { spec, sql, blocks, allBlocks }: BlocksToRead,
  facts?: ReadingFacts,
): ReadingOrder {
  const { assignment } = sql;
  if (blocks < MIN_BLOCKS_FOR_PASS) return { by: 'key', reason: `${blocks} blocks are few` };
  if (assignment === null)
    return { by: 'key', reason: 'its key is of a kind that only its index knows' };
  if (facts === undefined) return GONE;
  return readingOrder({ blocks, allBlocks, isIndexed: isOrderIndexed(spec), assignment }, facts);
}
