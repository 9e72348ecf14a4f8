import { AcedError } from '../base/errors.js';
import { quoteIdentifier } from '../base/quote.js';
import type { Session } from '../postgres/session.js';
import { REMOVAL_SETTINGS } from '../postgres/transaction.js';
import { inDdlTransaction } from '../replication/spock.js';

/** Written with `@` for the quoted schema. Only ever append: what has landed has run somewhere. */
interface Migration {
  readonly id: number;
  readonly statements: readonly string[];
}

const MIGRATIONS: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE UNLOGGED TABLE @.position (
         node text PRIMARY KEY,
         lsn pg_lsn NOT NULL,
         updated_at timestamptz NOT NULL
       )`,
      `CREATE UNLOGGED TABLE @.tree (
         table_name text NOT NULL,
         block_id bigint NOT NULL,
         rank bigint NOT NULL,
         lower_key text[],
         row_count bigint NOT NULL,
         digest_sum numeric(20) NOT NULL,
         is_dirty boolean NOT NULL,
         updated_at timestamptz NOT NULL,
         PRIMARY KEY (table_name, block_id)
       )`,
      `CREATE UNLOGGED TABLE @.root (
         table_name text PRIMARY KEY,
         root text NOT NULL,
         row_count bigint NOT NULL,
         blocks int NOT NULL,
         dirty_blocks int NOT NULL,
         updated_at timestamptz NOT NULL
       )`,
      `COMMENT ON TABLE @.position IS 'How far the write-ahead log of this node is contained in the tree'`,
      `COMMENT ON TABLE @.tree IS 'Leaves: blocks of primary keys in the order of rank'`,
      `COMMENT ON COLUMN @.tree.rank IS 'Ascends with the key; has gaps'`,
      `COMMENT ON COLUMN @.tree.lower_key IS 'First key of the block; null: open below'`,
      `COMMENT ON COLUMN @.tree.digest_sum IS 'Sum of the row digests modulo 2^64'`,
      `COMMENT ON COLUMN @.tree.is_dirty IS 'The block has changed since it was last read'`,
      `COMMENT ON TABLE @.root IS 'One line per table: the hash over all leaves'`,
    ],
  },
  {
    id: 2,
    statements: [
      `CREATE UNLOGGED TABLE @.leader (
         cluster text PRIMARY KEY,
         epoch bigint NOT NULL,
         holder text NOT NULL
       )`,
      `COMMENT ON TABLE @.leader IS 'Which aced may write here, where there are an active one and standbys'`,
    ],
  },
];

/** Logged, unlike the others, and there only where drift.canary is used. */
export const CANARY_TABLE = 'canary';

/** Also in the order in which they can be dropped. */
const TABLES = ['position', 'tree', 'root', 'leader', 'migration'] as const;

const LATEST = MIGRATIONS.at(-1)?.id ?? 0;

/**
 * Creates or migrates our tables on a node. They are unlogged: no publication can hold them, they
 * cost no write-ahead log, and a crash of the server empties them all at once, the list of
 * migrations too; they are then made anew. Errors: MISSING_PRIVILEGE (CREATE on the database),
 * UNSUPPORTED when a newer aced has migrated them.
 */
export async function ensureNodeSchema(
  session: Session,
  schema: string,
): Promise<'created' | 'migrated' | 'already_current'> {
  // Also the way in for a role that may read the schema but not create it.
  if ((await readVersion(session, schema)) === LATEST) return 'already_current';
  return inDdlTransaction(session, {}, async () => {
    await session.query(
      'SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))',
      [`aced schema ${schema}`],
    );
    const version = await readVersion(session, schema);
    if (version === LATEST) return 'already_current';
    if (version > LATEST) {
      throw new AcedError(
        'UNSUPPORTED',
        `schema ${schema} on node ${session.node.name} has version ${version}, this aced knows ${LATEST}`,
        { hint: 'Upgrade aced, or drop the schema: it holds nothing that cannot be rebuilt.' },
      );
    }
    if (version === 0) await createEmpty(session, schema);
    for (const migration of MIGRATIONS) {
      if (migration.id > version) await migrate(session, schema, migration);
    }
    return version === 0 ? 'created' : 'migrated';
  });
}

/** Drops our tables, and the schema if nothing else is in it. */
export async function dropNodeSchema(
  session: Session,
  schema: string,
): Promise<'dropped' | 'absent'> {
  return inDdlTransaction(session, REMOVAL_SETTINGS, async () => {
    const rows = await session.query('SELECT pg_catalog.to_regnamespace($1) IS NOT NULL', [
      quoteIdentifier(schema),
    ]);
    if (rows[0]?.[0] !== 't') return 'absent';
    await dropTables(session, schema);
    await session.query(`DROP TABLE IF EXISTS ${quoteIdentifier(schema)}.${CANARY_TABLE}`);
    const others = await session.query(
      'SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.to_regnamespace($1) LIMIT 1',
      [quoteIdentifier(schema)],
    );
    if (others.length === 0) await session.query(`DROP SCHEMA ${quoteIdentifier(schema)}`);
    return 'dropped';
  });
}

/** 0: not there, or emptied by a crash. */
async function readVersion(session: Session, schema: string): Promise<number> {
  // Not to_regclass(): it answers from a cache that waiting for an advisory lock does not refresh.
  const found = await session.query(
    `SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1::name AND c.relname = 'migration'`,
    [schema],
  );
  if (found.length === 0) return 0;
  const rows = await session.query(
    `SELECT pg_catalog.max(id) FROM ${quoteIdentifier(schema)}.migration`,
  );
  return Number(rows[0]?.[0] ?? 0);
}

async function createEmpty(session: Session, schema: string): Promise<void> {
  const quoted = quoteIdentifier(schema);
  await session.query(`CREATE SCHEMA IF NOT EXISTS ${quoted}`);
  await dropTables(session, schema);
  await session.query(
    `CREATE UNLOGGED TABLE ${quoted}.migration (id int PRIMARY KEY, applied_at timestamptz NOT NULL)`,
  );
}

/** The id goes first, so that two daemons cannot both run a migration even without the lock. */
async function migrate(session: Session, schema: string, migration: Migration): Promise<void> {
  const quoted = quoteIdentifier(schema);
  await session.query(
    `INSERT INTO ${quoted}.migration (id, applied_at) VALUES ($1::int, pg_catalog.now())`,
    [String(migration.id)],
  );
  for (const statement of migration.statements) {
    await session.query(statement.replaceAll('@', () => quoted));
  }
}

async function dropTables(session: Session, schema: string): Promise<void> {
  for (const table of TABLES) {
    await session.query(`DROP TABLE IF EXISTS ${quoteIdentifier(schema)}.${table}`);
  }
}
