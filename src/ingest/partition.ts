import type { BlockSql } from '../merkle/block-sql.js';
import type { BlockRange } from '../merkle/layout.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { KeyText } from '../table/table-spec.js';

/** Pieces found by one statement: bounds how long one snapshot is held. */
const HOPS_PER_STATEMENT = 1000;

export interface PartitionOptions {
  readonly sql: BlockSql;
  readonly pool: SessionPool;
  readonly range: BlockRange;
  readonly blockRows: number;
  readonly signal: AbortSignal;
}

/** Keys that cut the range into blocks of `blockRows` rows, as one node has them now. */
export async function findBoundaries(options: PartitionOptions): Promise<KeyText[]> {
  const found: KeyText[] = [];
  for await (const batch of boundaryBatches(options)) found.push(...batch);
  return found;
}

/** The same, ascending, in batches as they are found. */
export async function* boundaryBatches(options: PartitionOptions): AsyncGenerator<KeyText[]> {
  const { sql, pool, range, blockRows, signal } = options;
  const limit = sql.walksIndex ? HOPS_PER_STATEMENT : Number.MAX_SAFE_INTEGER;
  let { lower } = range;
  for (;;) {
    const query = sql.boundaries({ lower, upper: range.upper }, blockRows, limit);
    const rows = await pool.use(
      (session) => session.query(query.text, query.params, signal),
      signal,
    );
    const batch = rows.map((row) => row.map((value) => value ?? ''));
    yield batch;
    if (rows.length < limit) return;
    lower = batch.at(-1) ?? lower;
  }
}
