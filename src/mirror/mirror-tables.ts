import { formatLsn, type Lsn } from '../base/lsn.js';
import { quoteIdentifier } from '../base/quote.js';
import { arrayLiteral } from '../postgres/array-literal.js';
import type { Session } from '../postgres/session.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';
import { inTransaction } from '../postgres/transaction.js';

/** One leaf of a table's tree, as it stands on its node. */
export interface NodeLeaf {
  readonly id: number;
  /** Order of the blocks by key; has gaps. */
  readonly rank: number;
  /** Null: open below. */
  readonly lower: readonly string[] | null;
  readonly rows: number;
  /** Unsigned, below 2^64. */
  readonly sum: bigint;
  readonly isDirty: boolean;
}

export interface NodeRoot {
  readonly tableName: string;
  readonly root: string;
  readonly rows: number;
  readonly blocks: number;
  readonly dirtyBlocks: number;
}

export interface NodeTreeBatch {
  readonly node: string;
  /** The trees below contain the node's log up to here. */
  readonly position: Lsn;
  readonly tables: readonly NodeTableChange[];
  readonly roots: readonly NodeRoot[];
}

/** What is new in a table's leaves since they were written last. */
export interface NodeTableChange {
  readonly tableName: string;
  /** Leaves that are gone; `all`: those that are not given below. */
  readonly removedIds: readonly number[] | 'all';
  /** Taken one by one while they are written: a whole tree of objects is never in memory. */
  readonly leaves: Iterable<NodeLeaf>;
}

/** The tables are a copy that can be lost: no commit needs to wait for a disk. */
const SETTINGS = { synchronous_commit: 'off' };

const LEAVES_PER_STATEMENT = 2_000;

/** Updates leaves, roots and the position on their node, in one transaction. */
export async function writeTree(
  session: Session,
  schema: string,
  batch: NodeTreeBatch,
): Promise<void> {
  await inTransaction(session, SETTINGS, async () => {
    for (const { tableName, removedIds, leaves } of batch.tables) {
      await removeLeaves(session, schema, tableName, removedIds);
      await upsertLeaves(session, schema, tableName, leaves);
    }
    await upsertRoots(session, schema, batch.roots);
    await upsertPosition(session, schema, batch);
  });
}

/** Does nothing where somebody has dropped the schema. */
export async function removeTree(
  session: Session,
  schema: string,
  tableName: string,
): Promise<void> {
  const quoted = quoteIdentifier(schema);
  try {
    await inTransaction(session, SETTINGS, async () => {
      await session.query(`DELETE FROM ${quoted}.tree WHERE table_name = $1`, [tableName]);
      await session.query(`DELETE FROM ${quoted}.root WHERE table_name = $1`, [tableName]);
    });
  } catch (error) {
    if (!hasSqlState(error, SQLSTATE.undefinedTable)) throw error;
  }
}

async function removeLeaves(
  session: Session,
  schema: string,
  tableName: string,
  ids: readonly number[] | 'all',
): Promise<void> {
  if (ids !== 'all' && ids.length === 0) return;
  const condition = ids === 'all' ? '' : ' AND block_id = ANY ($2::bigint[])';
  await session.query(
    `DELETE FROM ${quoteIdentifier(schema)}.tree WHERE table_name = $1${condition}`,
    ids === 'all' ? [tableName] : [tableName, ids.map(String)],
  );
}

async function upsertLeaves(
  session: Session,
  schema: string,
  tableName: string,
  leaves: Iterable<NodeLeaf>,
): Promise<void> {
  let part: NodeLeaf[] = [];
  for (const leaf of leaves) {
    part.push(leaf);
    if (part.length < LEAVES_PER_STATEMENT) continue;
    await upsertPart(session, schema, tableName, part);
    part = [];
  }
  if (part.length > 0) await upsertPart(session, schema, tableName, part);
}

async function upsertPart(
  session: Session,
  schema: string,
  tableName: string,
  part: readonly NodeLeaf[],
): Promise<void> {
  await session.query(
    `INSERT INTO ${quoteIdentifier(schema)}.tree AS t
            (table_name, block_id, rank, lower_key, row_count, digest_sum, is_dirty, updated_at)
     SELECT $1, l.block_id, l.rank, l.lower_key::text[], l.row_count, l.digest_sum, l.is_dirty, pg_catalog.now()
       FROM ROWS FROM (
              pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::bigint[]), pg_catalog.unnest($4::text[]),
              pg_catalog.unnest($5::bigint[]), pg_catalog.unnest($6::numeric[]), pg_catalog.unnest($7::boolean[])
            ) AS l (block_id, rank, lower_key, row_count, digest_sum, is_dirty)
         ON CONFLICT (table_name, block_id) DO UPDATE
        SET rank = EXCLUDED.rank, lower_key = EXCLUDED.lower_key, row_count = EXCLUDED.row_count,
            digest_sum = EXCLUDED.digest_sum, is_dirty = EXCLUDED.is_dirty, updated_at = EXCLUDED.updated_at`,
    [
      tableName,
      part.map((leaf) => String(leaf.id)),
      part.map((leaf) => String(leaf.rank)),
      part.map((leaf) => (leaf.lower === null ? null : arrayLiteral(leaf.lower))),
      part.map((leaf) => String(leaf.rows)),
      part.map((leaf) => String(leaf.sum)),
      part.map((leaf) => (leaf.isDirty ? 't' : 'f')),
    ],
  );
}

async function upsertRoots(
  session: Session,
  schema: string,
  roots: readonly NodeRoot[],
): Promise<void> {
  if (roots.length === 0) return;
  await session.query(
    `INSERT INTO ${quoteIdentifier(schema)}.root (table_name, root, row_count, blocks, dirty_blocks, updated_at)
     SELECT r.*, pg_catalog.now()
       FROM ROWS FROM (
              pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bigint[]),
              pg_catalog.unnest($4::int[]), pg_catalog.unnest($5::int[])
            ) AS r (table_name, root, row_count, blocks, dirty_blocks)
         ON CONFLICT (table_name) DO UPDATE
        SET root = EXCLUDED.root, row_count = EXCLUDED.row_count, blocks = EXCLUDED.blocks,
            dirty_blocks = EXCLUDED.dirty_blocks, updated_at = EXCLUDED.updated_at`,
    [
      roots.map((one) => one.tableName),
      roots.map((one) => one.root),
      roots.map((one) => String(one.rows)),
      roots.map((one) => String(one.blocks)),
      roots.map((one) => String(one.dirtyBlocks)),
    ],
  );
}

async function upsertPosition(
  session: Session,
  schema: string,
  batch: NodeTreeBatch,
): Promise<void> {
  await session.query(
    `INSERT INTO ${quoteIdentifier(schema)}.position (node, lsn, updated_at)
     VALUES ($1, $2::pg_lsn, pg_catalog.now())
         ON CONFLICT (node) DO UPDATE SET lsn = EXCLUDED.lsn, updated_at = EXCLUDED.updated_at`,
    [batch.node, formatLsn(batch.position)],
  );
}
