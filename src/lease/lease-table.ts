import { quoteIdentifier } from '../base/quote.js';
import type { Session } from '../postgres/session.js';
import { inTransaction } from '../postgres/transaction.js';

/** Who holds a cluster's lease. */
export interface LeaseRow {
  readonly holder: string;
  /** Grows by one whenever another holder takes over. */
  readonly epoch: number;
  /** By the server's clock; not above 0: it has run out. */
  readonly remainingMs: number;
}

/** What must be known to use a cluster's lease. */
export interface LeaseKey {
  readonly schema: string;
  readonly cluster: string;
  readonly holder: string;
}

/**
 * Makes the tables of the lease where they are missing, and lets the session write: it is for nothing
 * else. They are logged, unlike those on the nodes. Errors: MISSING_PRIVILEGE.
 */
export async function prepareLeaseSession(
  session: Session,
  schema: string,
  timeoutMs: number,
): Promise<void> {
  const quoted = quoteIdentifier(schema);
  const [found] = await session.query(
    `SELECT pg_catalog.to_regclass($1) IS NOT NULL AND pg_catalog.to_regclass($2) IS NOT NULL`,
    [`${quoted}.lease`, `${quoted}.handover`],
  );
  if (found?.[0] !== 't') await createTables(session, schema);
  await session.query(
    `SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;
     SET synchronous_commit = on; SET statement_timeout = ${timeoutMs}; SET lock_timeout = ${timeoutMs}`,
  );
}

async function createTables(session: Session, schema: string): Promise<void> {
  const quoted = quoteIdentifier(schema);
  await inTransaction(session, {}, async () => {
    await session.query(
      'SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))',
      [`aced lease ${schema}`],
    );
    await session.query(`CREATE SCHEMA IF NOT EXISTS ${quoted}`);
    await session.query(`CREATE TABLE IF NOT EXISTS ${quoted}.lease (
      cluster text PRIMARY KEY,
      holder text NOT NULL,
      epoch bigint NOT NULL,
      expires_at timestamptz NOT NULL
    )`);
    await session.query(`CREATE TABLE IF NOT EXISTS ${quoted}.handover (
      cluster text NOT NULL,
      name text NOT NULL,
      epoch bigint NOT NULL,
      body text NOT NULL,
      PRIMARY KEY (cluster, name)
    )`);
  });
}

/** Null: nobody has ever held it. */
export async function readLease(session: Session, key: LeaseKey): Promise<LeaseRow | null> {
  const [row] = await session.query(
    `SELECT holder, epoch, pg_catalog.ceil(EXTRACT(EPOCH FROM expires_at - pg_catalog.clock_timestamp()) * 1000)
       FROM ${quoteIdentifier(key.schema)}.lease WHERE cluster = $1`,
    [key.cluster],
  );
  if (row === undefined) return null;
  return { holder: row[0] ?? '', epoch: Number(row[1]), remainingMs: Number(row[2]) };
}

/**
 * Takes the lease when it has run out, and renews it when it is the holder's, in one statement: two
 * that ask at once wait for each other's row. Returns the epoch; null: somebody else holds it.
 */
export async function claimLease(
  session: Session,
  key: LeaseKey,
  termMs: number,
): Promise<number | null> {
  const [row] = await session.query(
    `INSERT INTO ${quoteIdentifier(key.schema)}.lease AS l (cluster, holder, epoch, expires_at)
     VALUES ($1, $2, 1, pg_catalog.clock_timestamp() + $3::interval)
         ON CONFLICT (cluster) DO UPDATE
        SET holder = EXCLUDED.holder,
            epoch = CASE WHEN l.holder = EXCLUDED.holder THEN l.epoch ELSE l.epoch + 1 END,
            expires_at = pg_catalog.clock_timestamp() + $3::interval
      WHERE l.holder = EXCLUDED.holder OR l.expires_at <= pg_catalog.clock_timestamp()
     RETURNING epoch`,
    [key.cluster, key.holder, `${termMs} milliseconds`],
  );
  return row === undefined ? null : Number(row[0]);
}

/** The holder ends: the next one need not wait for the term's end. */
export async function releaseLease(session: Session, key: LeaseKey): Promise<void> {
  await session.query(
    `UPDATE ${quoteIdentifier(key.schema)}.lease SET expires_at = pg_catalog.clock_timestamp()
      WHERE cluster = $1 AND holder = $2`,
    [key.cluster, key.holder],
  );
}

/** What the active one leaves to whoever comes after it: name -> JSON. */
export async function readHandover(
  session: Session,
  { schema, cluster }: Omit<LeaseKey, 'holder'>,
): Promise<ReadonlyMap<string, string>> {
  const rows = await session.query(
    `SELECT name, body FROM ${quoteIdentifier(schema)}.handover WHERE cluster = $1`,
    [cluster],
  );
  return new Map(rows.map(([name, body]) => [name ?? '', body ?? '']));
}

/**
 * Writes and removes (null) parts of the handover, unless the lease has another holder or epoch by
 * now: one statement, so that a process that is stopped in between holds no lock. False: it has.
 */
export async function writeHandover(
  session: Session,
  { schema, cluster, holder, epoch }: LeaseKey & { readonly epoch: number },
  changes: ReadonlyMap<string, string | null>,
): Promise<boolean> {
  const quoted = quoteIdentifier(schema);
  const kept = [...changes].filter(([, body]) => body !== null);
  const removed = [...changes].flatMap(([name, body]) => (body === null ? [name] : []));
  const [row] = await session.query(
    `WITH held AS MATERIALIZED (
       SELECT epoch FROM ${quoted}.lease
        WHERE cluster = $1 AND holder = $2 AND epoch = $3::bigint FOR SHARE
     ), removed AS (
       DELETE FROM ${quoted}.handover USING held WHERE cluster = $1 AND name = ANY ($6::text[])
     ), kept AS (
       INSERT INTO ${quoted}.handover (cluster, name, epoch, body)
       SELECT $1, c.name, held.epoch, c.body
         FROM held, ROWS FROM (pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[])) AS c (name, body)
           ON CONFLICT (cluster, name) DO UPDATE SET epoch = EXCLUDED.epoch, body = EXCLUDED.body
     )
     SELECT pg_catalog.count(*) FROM held`,
    [
      cluster,
      holder,
      String(epoch),
      kept.map(([name]) => name),
      kept.map(([, body]) => body),
      removed,
    ],
  );
  return row?.[0] === '1';
}
