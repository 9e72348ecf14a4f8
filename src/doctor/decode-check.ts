import { AcedError, errorMessage } from '../base/errors.js';
import { quoteIdentifier } from '../base/quote.js';
import { PgoutputDecoder } from '../pgoutput/decoder.js';
import type { SessionPool } from '../postgres/session-pool.js';
import type { Session, TextRow } from '../postgres/session.js';
import { inDdlTransaction } from '../replication/spock.js';
import type { Finding } from '../protocol/doctor.js';
import { publicationsOfNewTables } from '../replication/publication-members.js';
import { createSlot, dropSlot } from '../replication/slot.js';
import type { TableName } from '../table/table-name.js';
import { compareDecodings, type Decodings } from './compare-decodings.js';

export interface DecodeOptions {
  readonly signal: AbortSignal;
  /** Absent: ours. Tests show that another one would be told apart. */
  readonly decoder?: Decodings['ours'];
}

const CHECK = 'decoding';
/** Of the slot, the publication and the schema; the session's number follows. */
const PREFIX = 'aced_doctor_';
/** What else runs may hold up the slot and the canary so long. */
const WAIT_MS = 10_000;
/** More columns than these may not fit into one row. */
const MAX_TYPES = 400;
/** Tables that are looked into for a value of a type, and how far, so that no table is read as a whole. */
const TABLES_PER_TYPE = 8;
const PAGES_PER_TABLE = 64;
const ROWS_PER_TABLE = 1_000;
const MAX_VALUE_BYTES = 2_000;

/** A type, and where values of it may be. */
interface UsedType {
  /** With its schema, unless it is PostgreSQL's own. */
  readonly name: string;
  readonly columns: readonly (TableName & { readonly column: string })[];
  /** The statement that lets the role use it in a table of its own; null: it may. */
  readonly grant: string | null;
}

/**
 * Whether our decoder, pg-logical-replication and the server agree about a row with a value of every type of
 * these tables. A temporary slot and an empty publication are made; within one transaction, so that nobody
 * ever sees it, a schema with one table, whose row is written and deleted. All of it is removed on every way
 * out; what a killed process leaves, an empty publication, the next call removes.
 */
export async function checkDecoding(
  pool: SessionPool,
  tables: readonly TableName[],
  options: DecodeOptions,
): Promise<Finding[]> {
  const subject = pool.node.name;
  const name = { of: '' };
  const found: Finding[] = [];
  try {
    found.push(
      ...(await pool.use(async (session) => {
        name.of = `${PREFIX}${session.backendPid}`;
        await requireRights(session);
        return checkOn(session, tables, name.of, options);
      }, options.signal)),
    );
  } catch (error) {
    if (error instanceof AcedError && error.code === 'CANCELLED') throw error;
    const remedy = error instanceof AcedError ? (error.hint ?? null) : null;
    found.push({ level: 'problem', check: CHECK, subject, evidence: errorMessage(error), remedy });
  } finally {
    try {
      await pool.use((session) => removePublications(session, name.of));
    } catch (error) {
      const evidence = `publication ${name.of}, which is empty, may be left: ${errorMessage(error)}`;
      const remedy = `DROP PUBLICATION IF EXISTS ${name.of}`;
      found.push({ level: 'warning', check: CHECK, subject, evidence, remedy });
    }
  }
  return found;
}

async function checkOn(
  session: Session,
  tables: readonly TableName[],
  name: string,
  { signal, decoder = new PgoutputDecoder() }: DecodeOptions,
): Promise<Finding[]> {
  const tell = (
    level: Finding['level'],
    evidence: string,
    remedy: string | null = null,
  ): Finding => ({ level, check: CHECK, subject: session.node.name, evidence, remedy });
  const all = await readUsedTypes(session, tables, signal);
  const types = all.filter(({ grant }) => grant === null).slice(0, MAX_TYPES);
  const found = all.flatMap(({ name: type, grant }) =>
    grant === null ? [] : [tell('warning', `the role may not use type ${type}`, grant)],
  );
  if (types.length === 0) return [...found, tell('ok', 'there is no column to look at')];
  // Loaded for this alone.
  const { PgoutputPlugin } = await import('pg-logical-replication');
  const theirs = new PgoutputPlugin({ protoVersion: 1, publicationNames: [name] });
  const columns = types.map((_, i) => `c${i + 1}`);
  const { messages, row } = await showCanary(session, name, { types, columns, signal });
  const wrong = compareDecodings({ messages, columns, row, ours: decoder, theirs });
  for (const { column, text } of wrong) {
    const type = column === null ? undefined : types[column];
    const what = type === undefined ? text : `type ${type.name}, ${text}`;
    found.push(tell('problem', what, NOT_ALIKE_HINT));
  }
  const left = all.length - types.length;
  const valueless = types.filter((_, i) => row[i] === null).map((type) => type.name);
  if (wrong.length === 0) {
    const alike = types.length - valueless.length;
    found.push(
      tell(
        'ok',
        `${alike} types are read alike by aced, pg-logical-replication and the server; written and removed ` +
          `again: slot, publication, schema and table ${name}`,
      ),
    );
  }
  if (valueless.length > 0) {
    found.push(tell('ok', `no value was found of ${valueless.join(', ')}: only NULL was read`));
  }
  if (left > 0 && types.length === MAX_TYPES) {
    found.push(tell('warning', `${left} types were not looked at`, 'ask table by table'));
  }
  return found;
}

const NOT_ALIKE_HINT =
  'Do not trust what aced says of tables with it, and report it; mtree verify reads their rows with SQL.';

/** Errors: MISSING_PRIVILEGE with the statement that grants it, UNSUPPORTED. */
async function requireRights(session: Session): Promise<void> {
  const { name, user } = session.node;
  const rows = await session.query(
    `SELECT pg_catalog.has_database_privilege(d.oid, 'CREATE'),
            pg_catalog.format('GRANT CREATE ON DATABASE %I TO %I', d.datname, current_user)
       FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`,
  );
  const [may, grant] = rows[0] ?? [];
  if (may !== 't') {
    throw new AcedError(
      'MISSING_PRIVILEGE',
      `role ${user} may make no canary on node ${name}: nothing was written`,
      { hint: grant ?? '' },
    );
  }
  const [publication] = await publicationsOfNewTables(session, null);
  if (publication === undefined) return;
  throw new AcedError(
    'UNSUPPORTED',
    `publication ${publication} on node ${name} has every table and would send the canary to others: nothing was written`,
    { hint: 'Name the other nodes as --nodes: they can be looked at.' },
  );
}

interface Canary {
  readonly messages: readonly Buffer[];
  readonly row: readonly (string | null)[];
}

interface CanaryOptions {
  readonly types: readonly UsedType[];
  readonly columns: readonly string[];
  readonly signal: AbortSignal;
}

/** Writes the canary and returns what a slot shows of it; removes everything but the publication. */
async function showCanary(
  session: Session,
  name: string,
  { types, columns, signal }: CanaryOptions,
): Promise<Canary> {
  await removePublications(session, name);
  // Before the slot: a slot that starts earlier than its publication cannot be read.
  await inDdlTransaction(session, {}, () =>
    session.query(`CREATE PUBLICATION ${name}`, [], signal),
  );
  try {
    await createSlot(session, name, { isTemporary: true, lockTimeoutMs: WAIT_MS, signal });
    const table = `${name}.canary`;
    const values = types.map((type, i) => `${valueOf(type)} AS ${columns[i] ?? ''}`).join(', ');
    const row = await inDdlTransaction(session, { lock_timeout: `${WAIT_MS}ms` }, async () => {
      const run = (sql: string): Promise<TextRow[]> => session.query(sql, [], signal);
      await run(`CREATE SCHEMA ${name}`);
      await run(`CREATE TABLE ${table} AS SELECT ${values} WITH NO DATA`);
      await run(`ALTER TABLE ${table} REPLICA IDENTITY FULL`);
      await run(`ALTER PUBLICATION ${name} ADD TABLE ${table}`);
      await run(`INSERT INTO ${table} SELECT ${values}`);
      const [inserted = []] = await run(`SELECT * FROM ${table}`);
      await run(`UPDATE ${table} SET c1 = c1`);
      await run(`DELETE FROM ${table}`);
      // Not DEFAULT VALUES: that would run what a domain checks.
      await run(
        `INSERT INTO ${table} SELECT t.* FROM (SELECT) AS one LEFT JOIN ${table} t ON true`,
      );
      await run(`DROP TABLE ${table}`);
      await run(`DROP SCHEMA ${name}`);
      return inserted;
    });
    const rows = await session.query(
      `SELECT pg_catalog.encode(data, 'hex') FROM pg_catalog.pg_logical_slot_get_binary_changes(
         '${name}', pg_catalog.pg_current_wal_insert_lsn(), NULL, 'proto_version', '1', 'publication_names', '${name}')`,
      [],
      signal,
    );
    return { row, messages: rows.map(([hex]) => Buffer.from(hex ?? '', 'hex')) };
  } finally {
    // A slot that cannot be dropped goes with its session.
    await dropSlot(session, name).catch(() => session.destroy());
  }
}

/** The first value that a look into a few tables finds. */
function valueOf({ columns }: UsedType): string {
  const looks = columns.map(({ schema, name, column }) => {
    const value = quoteIdentifier(column);
    return (
      `(SELECT s.v FROM (SELECT t.${value} AS v FROM ${quoteIdentifier(schema)}.${quoteIdentifier(name)} t ` +
      `WHERE t.ctid OPERATOR(pg_catalog.<) '(${PAGES_PER_TABLE},0)'::pg_catalog.tid LIMIT ${ROWS_PER_TABLE}) s ` +
      `WHERE s.v IS NOT NULL AND pg_catalog.pg_column_size(s.v) OPERATOR(pg_catalog.<) ${MAX_VALUE_BYTES} LIMIT 1)`
    );
  });
  return `COALESCE(${looks.join(', ')})`;
}

async function readUsedTypes(
  session: Session,
  tables: readonly TableName[],
  signal: AbortSignal,
): Promise<UsedType[]> {
  const rows = await session.query(
    TYPES_QUERY,
    [tables.map(({ schema }) => schema), tables.map(({ name }) => name)],
    signal,
  );
  return rows.map(([name, columns, grant]) => ({
    name: name ?? '',
    columns: JSON.parse(columns ?? '[]') as UsedType['columns'],
    grant: grant ?? null,
  }));
}

/** What a virtual generated column computes is the owner's code: it is not run. */
const TYPES_QUERY = `
WITH column_of AS (
  SELECT a.atttypid, n.nspname, c.relname, a.attname,
         pg_catalog.row_number() OVER (PARTITION BY a.atttypid ORDER BY c.reltuples DESC, c.oid, a.attnum) AS place
    FROM ROWS FROM (pg_catalog.unnest($1::name[]), pg_catalog.unnest($2::name[])) AS w (schema, name)
    JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
   WHERE a.attgenerated <> 'v' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
     AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') AND NOT pg_catalog.row_security_active(c.oid)
)
SELECT pg_catalog.concat(CASE WHEN s.nspname <> 'pg_catalog' THEN s.nspname || '.' END, y.typname),
       pg_catalog.json_agg(pg_catalog.json_build_object('schema', o.nspname, 'name', o.relname, 'column', o.attname)
                           ORDER BY o.place)::text,
       CASE WHEN NOT pg_catalog.has_type_privilege(y.oid, 'USAGE')
            THEN pg_catalog.format('GRANT USAGE ON TYPE %I.%I TO %I', s.nspname, y.typname, current_user) END
  FROM column_of o
  JOIN pg_catalog.pg_type y ON y.oid = o.atttypid
  JOIN pg_catalog.pg_namespace s ON s.oid = y.typnamespace
 WHERE o.place <= ${TABLES_PER_TYPE}
 GROUP BY y.oid, y.typname, s.nspname
 ORDER BY 1`;

/** This session's own, and those of sessions that are gone: a killed process leaves one. */
async function removePublications(session: Session, name: string): Promise<void> {
  const rows = await session.query(
    `SELECT p.pubname FROM pg_catalog.pg_publication p
      WHERE p.pubname ~ '^${PREFIX}[0-9]+$' AND pg_catalog.pg_has_role(p.pubowner, 'USAGE')
        AND (p.pubname = $1::name OR NOT EXISTS (
              SELECT FROM pg_catalog.pg_stat_activity a WHERE p.pubname = '${PREFIX}' || a.pid))`,
    [name],
  );
  for (const [publication] of rows) {
    await inDdlTransaction(session, {}, () =>
      session.query(`DROP PUBLICATION IF EXISTS ${publication ?? ''}`),
    );
  }
}
