import { AcedError, errorMessage } from '../base/errors.js';
import { quoteIdentifier } from '../base/quote.js';
import {
  publicationProblem,
  publicationProblems,
  publishedTable,
  publishedTables,
} from './published-tables.js';
import { waitForRunning } from './running-transactions.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';
import type { Session } from '../postgres/session.js';
import type { TableName } from '../table/table-name.js';
import { REMOVAL_SETTINGS } from '../postgres/transaction.js';
import { inDdlTransaction } from './spock.js';

/** `publish_via_partition_root`: rows of partitions come under the name of the table. */
const OPTIONS = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true";

/**
 * Since 18 the server refuses updates and deletes under REPLICA IDENTITY FULL where a stored generated
 * column is not published.
 */
const GENERATED_COLUMNS_SINCE = 180000;
const GENERATED_COLUMNS = 'publish_generated_columns = stored';

/**
 * Makes the daemon's publication, without any table, or brings an existing one's options in line.
 * Errors: MISSING_PRIVILEGE (CREATE on the database); UNSUPPORTED if it is FOR ALL TABLES, which
 * would make updates of tables without a key fail.
 */
export async function ensurePublication(
  session: Session,
  name: string,
): Promise<'created' | 'already_exists'> {
  const rows = await session.query(
    `SELECT puballtables, pubviaroot AND pubinsert AND pubupdate AND pubdelete AND pubtruncate
       FROM pg_catalog.pg_publication WHERE pubname = $1::name`,
    [name],
  );
  const [isForAll, isInLine] = rows[0] ?? [];
  if (isForAll === 't') {
    throw new AcedError(
      'UNSUPPORTED',
      `publication ${name} on node ${session.node.name} is FOR ALL TABLES`,
      { hint: 'Drop it, or choose another publication name for aced.' },
    );
  }
  if (isInLine === 't') return 'already_exists';
  const quoted = quoteIdentifier(name);
  const options =
    session.serverVersion >= GENERATED_COLUMNS_SINCE ? `${OPTIONS}, ${GENERATED_COLUMNS}` : OPTIONS;
  const statement =
    isInLine === undefined
      ? `CREATE PUBLICATION ${quoted} WITH (${options})`
      : `ALTER PUBLICATION ${quoted} SET (${options})`;
  try {
    await inDdlTransaction(session, {}, () => session.query(statement));
  } catch (error) {
    if (hasSqlState(error, SQLSTATE.duplicateObject)) return 'already_exists';
    throw withHint(
      error,
      `Grant CREATE on database ${session.node.database} to ${session.node.user}.`,
    );
  }
  return isInLine === undefined ? 'created' : 'already_exists';
}

export interface AddTableOptions {
  readonly signal?: AbortSignal;
  /** For the table's lock, and again for the transactions that were running. */
  readonly timeoutMs: number;
  /** Told who is waited for, whenever that changes. */
  readonly onWait?: (description: string) => void;
}

/**
 * Publishes a table and returns once every change from now on will be in the stream. pgoutput does
 * not send what a transaction wrote before its table was published, even if it commits afterwards,
 * so all transactions that were running when the change took effect are waited for. The lock is
 * SHARE UPDATE EXCLUSIVE: readers and writers do not queue behind it.
 * Errors: UNSUPPORTED when the user's own UPDATE or DELETE would then fail, or the table is not in
 * the write-ahead log; MISSING_PRIVILEGE; TIMEOUT naming who holds it up; CANCELLED.
 */
export async function addTableToPublication(
  session: Session,
  publication: string,
  schema: string,
  table: string,
  options: AddTableOptions,
): Promise<'added' | 'already_published'> {
  await requirePublishable(session, publication, { schema, name: table });
  const isPublished = (await publicationTables(session, publication)).some(
    (one) => one.schema === schema && one.name === table,
  );
  if (!isPublished) {
    const settings = { lock_timeout: `${Math.max(1, Math.ceil(options.timeoutMs))}ms` };
    const statement = `ALTER PUBLICATION ${quoteIdentifier(publication)} ADD TABLE ONLY ${qualify(schema, table)}`;
    try {
      await inDdlTransaction(session, settings, () => session.query(statement, [], options.signal));
    } catch (error) {
      if (!hasSqlState(error, SQLSTATE.duplicateObject)) {
        throw withHint(
          error,
          `Adding a table to a publication needs ownership of both: make ${session.node.user} a member of the table's owner.`,
        );
      }
    }
  }
  // Also when it was published already: whoever did that may not have waited.
  await waitForRunning(session, options);
  return isPublished ? 'already_published' : 'added';
}

/** Locks of one statement on many tables are not held while one of them is waited for. */
const MANY_LOCK_TIMEOUT_MS = 2_000;

/**
 * As addTableToPublication for many tables, in their order the error of each or null: one statement,
 * and one wait for running transactions. What goes wrong is tried again table by table, so that one
 * cannot keep the others out. Errors: CANCELLED, NODE_UNREACHABLE.
 */
export async function addTablesToPublication(
  session: Session,
  publication: string,
  tables: readonly TableName[],
  options: AddTableOptions,
): Promise<(AcedError | null)[]> {
  const [problems, published] = [
    await publicationProblems(session, publication, tables),
    await publishedTables(session, publication, tables),
  ];
  const isPlain = tables.map((_, i) => problems[i] === null && published[i]?.isRestricted !== true);
  const names = tables.filter((_, i) => isPlain[i] === true && published[i] === null);
  const isDone = names.length === 0 || (await addTogether(session, publication, names, options));
  if (isDone && isPlain.includes(true)) await waitForRunning(session, options);
  const outcomes: (AcedError | null)[] = [];
  for (const [index, table] of tables.entries()) {
    const isOpen = !isDone || isPlain[index] !== true;
    outcomes.push(isOpen ? await publishWhole(session, publication, table, options) : null);
  }
  return outcomes;
}

/** False: they have to be added one by one. */
async function addTogether(
  session: Session,
  publication: string,
  tables: readonly TableName[],
  { signal }: AddTableOptions,
): Promise<boolean> {
  const list = tables.map(({ schema, name }) => `ONLY ${qualify(schema, name)}`).join(', ');
  const statement = `ALTER PUBLICATION ${quoteIdentifier(publication)} ADD TABLE ${list}`;
  try {
    await inDdlTransaction(session, { lock_timeout: `${MANY_LOCK_TIMEOUT_MS}ms` }, () =>
      session.query(statement, [], signal),
    );
    return true;
  } catch (error) {
    if (!isOfOneTable(error)) throw error;
    return false;
  }
}

function isOfOneTable(error: unknown): error is AcedError {
  return (
    error instanceof AcedError && error.code !== 'CANCELLED' && error.code !== 'NODE_UNREACHABLE'
  );
}

async function publishWhole(
  session: Session,
  publication: string,
  table: TableName,
  options: AddTableOptions,
): Promise<AcedError | null> {
  try {
    await publishTableWhole(session, publication, table, options);
    return null;
  } catch (error) {
    if (!isOfOneTable(error)) throw error;
    return error;
  }
}

/** Publishes all rows and columns of a table; somebody may have restricted what is published. */
export async function publishTableWhole(
  session: Session,
  publication: string,
  table: TableName,
  options: AddTableOptions,
): Promise<void> {
  const published = await publishedTable(session, publication, table);
  if (published?.isRestricted === true) {
    await removeTableFromPublication(session, publication, table.schema, table.name);
  }
  await addTableToPublication(session, publication, table.schema, table.name, options);
}

export async function removeTableFromPublication(
  session: Session,
  publication: string,
  schema: string,
  table: string,
): Promise<'removed' | 'not_published'> {
  const published = await publicationTables(session, publication);
  if (!published.some((one) => one.schema === schema && one.name === table)) return 'not_published';
  await inDdlTransaction(session, REMOVAL_SETTINGS, () =>
    session.query(
      `ALTER PUBLICATION ${quoteIdentifier(publication)} DROP TABLE ONLY ${qualify(schema, table)}`,
    ),
  );
  return 'removed';
}

export async function dropPublication(
  session: Session,
  name: string,
): Promise<'dropped' | 'absent'> {
  const rows = await session.query(
    'SELECT FROM pg_catalog.pg_publication WHERE pubname = $1::name',
    [name],
  );
  if (rows.length === 0) return 'absent';
  await inDdlTransaction(session, REMOVAL_SETTINGS, () =>
    session.query(`DROP PUBLICATION IF EXISTS ${quoteIdentifier(name)}`),
  );
  return 'dropped';
}

/** The tables that were added by name, by schema and name. */
export async function publicationTables(
  session: Session,
  name: string,
): Promise<(TableName & { readonly oid: number })[]> {
  const rows = await session.query(
    `SELECT n.nspname, c.relname, c.oid
       FROM pg_catalog.pg_publication p
       JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
       JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE p.pubname = $1::name
      ORDER BY n.nspname, c.relname`,
    [name],
  );
  return rows.map(([schema, table, oid]) => ({
    schema: schema ?? '',
    name: table ?? '',
    oid: Number(oid),
  }));
}

async function requirePublishable(
  session: Session,
  publication: string,
  table: TableName,
): Promise<void> {
  let problem = await publicationProblem(session, publication, table);
  if (problem?.kind === 'stored') {
    await publishGeneratedColumns(session, publication);
    problem = await publicationProblem(session, publication, table);
  }
  if (problem === null) return;
  const what = `${table.schema}.${table.name} on node ${session.node.name}`;
  throw new AcedError('UNSUPPORTED', `cannot publish ${what}: ${problem.why}`, {
    hint: problem.hint,
  });
}

/** A publication of an administrator, or of an earlier version of aced, may not have the option yet. */
async function publishGeneratedColumns(session: Session, publication: string): Promise<void> {
  const statement = `ALTER PUBLICATION ${quoteIdentifier(publication)} SET (${GENERATED_COLUMNS})`;
  try {
    await inDdlTransaction(session, {}, () => session.query(statement));
  } catch (error) {
    // Who may not: the table's problem stays, and its hint says who can help.
    if (!hasSqlState(error, SQLSTATE.insufficientPrivilege)) throw error;
  }
}

function qualify(schema: string, table: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(table)}`;
}

/** Missing privileges get the remedy that only the caller's context can name. */
function withHint(error: unknown, hint: string): unknown {
  if (!(error instanceof AcedError) || error.code !== 'MISSING_PRIVILEGE') return error;
  return new AcedError('MISSING_PRIVILEGE', errorMessage(error), { hint, cause: error.cause });
}
