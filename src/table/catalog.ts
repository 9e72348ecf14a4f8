import { AcedError } from '../base/errors.js';
import { TABLE_QUERY } from './catalog-query.js';
import { readCatalog, type CatalogReading } from './fingerprint.js';
import type { Session } from '../postgres/session.js';
import type { CollationInfo, ColumnInfo, TableInfo } from './table-info.js';
import type { KeyOperators } from './table-spec.js';
import { parseTableName, possibleTables, type TableName } from './table-name.js';

export { parseTableName, type TableName };

const HINT_OF_SPELLING =
  'Check the schema and the spelling; quote names with upper-case letters or dots.';
/** Of a name that was found on a node, or is tracked: it is not the spelling. */
const HINT_OF_ONE_NODE =
  'If other nodes have it: create it on this one, or leave this node out with --nodes.';

/**
 * Finds the table that a person typed: the name as typed if there is such a table, else, for parts
 * that were not quoted, its lower-case form as PostgreSQL would fold it, else the text as a name that
 * has dots or quotes in it. NO_SUCH_TABLE, BAD_USAGE.
 */
export async function resolveTable(session: Session, text: string): Promise<TableName> {
  const possible = possibleTables(text);
  const [found] =
    possible.length === 0
      ? []
      : await session.query(
          `SELECT n.nspname, c.relname
             FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS p (schema, name, rank)
             JOIN pg_catalog.pg_namespace n ON n.nspname = p.schema
             JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = p.name
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
            ORDER BY p.rank LIMIT 1`,
          [possible.map(({ schema }) => schema), possible.map(({ name }) => name)],
        );
  const [schema, name] = found ?? [];
  if (typeof schema === 'string' && typeof name === 'string') return { schema, name };
  const typed = parseTableName(text);
  throw noSuchTable(session, typed, HINT_OF_SPELLING);
}

/**
 * Reads what one node's catalog says of a table: pg_catalog only, so that a role without any rights on the table sees its keys too. Errors: NO_SUCH_TABLE; UNSUPPORTED for what
 * is not a plain or partitioned table with all its rows in the write-ahead log of this node.
 */
export async function readTable(
  session: Session,
  schema: string,
  name: string,
  signal?: AbortSignal,
): Promise<TableInfo> {
  const [table] = await readTables(session, [{ schema, name }], signal);
  if (table === undefined) throw new AcedError('INTERNAL', 'no answer about a table');
  if (table instanceof AcedError) throw table;
  return table;
}

/**
 * All tables at once, in the order of `names`; readTable's error in the place of one that has it. `key`: columns of a
 * unique key that stands for the primary key, where the table has such a one.
 */
export async function readTables(
  session: Session,
  names: readonly TableName[],
  signal?: AbortSignal,
  key?: readonly string[],
): Promise<(TableInfo | AcedError)[]> {
  // First: DDL between the two is then newer than the fingerprint, and will be noticed.
  const readings = await readCatalog(session, names, signal);
  const rows = await session.query(
    { name: 'aced_tables', text: TABLE_QUERY },
    [
      names.map(({ schema }) => schema),
      names.map(({ name }) => name),
      key === undefined ? null : byBytes(key),
    ],
    signal,
  );
  const found = new Map(rows.map(([number, text]) => [Number(number) - 1, text ?? '']));
  return names.map((table, index) => {
    const text = found.get(index);
    const reading = readings[index] ?? null;
    if (text === undefined || reading === null) {
      return noSuchTable(session, table, HINT_OF_ONE_NODE);
    }
    const facts = JSON.parse(text) as CatalogTable;
    return unsupported(session, table, facts) ?? toTableInfo(table, facts, reading);
  });
}

function byBytes(names: readonly string[]): string[] {
  return names.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

function toTableInfo(name: TableName, table: CatalogTable, reading: CatalogReading): TableInfo {
  return {
    oid: reading.oid,
    schema: name.schema,
    name: name.name,
    isPartitioned: table.kind === 'p',
    databaseEncoding: table.encoding,
    databaseLocale: table.locale,
    columns: table.columns.map(toColumn),
    primaryKey: table.primaryKey,
    keyOperators: table.keyOperators.map(toOperators),
    isKeyOrdered: table.isKeyOrdered,
    replicaIdentity: REPLICA_IDENTITIES[table.replicaIdentity],
    estimatedRows: table.estimatedRows,
    keyCorrelation: table.keyCorrelation,
    leaves: reading.leaves,
    fingerprint: reading.fingerprint,
  };
}

const REPLICA_IDENTITIES = { d: 'default', n: 'nothing', f: 'full', i: 'index' } as const;

interface CatalogCollation {
  readonly name: string;
  readonly provider: string;
  readonly locale: string;
  readonly rules: string | null;
  readonly version: string | null;
  readonly isDeterministic: boolean;
}

interface CatalogColumn {
  readonly name: string;
  readonly attnum: number;
  readonly typeOid: number;
  readonly typeName: string;
  readonly declaredType: string;
  readonly storedType: string;
  readonly typeModifier: number;
  readonly baseTypeOid: number;
  readonly baseTypeName: string;
  readonly baseTypeSql: string;
  readonly baseTypeCategory: string;
  readonly baseTypeKind: string;
  readonly enumLabels: string[] | null;
  readonly hasTextCast: boolean;
  readonly foreignText: string | null;
  readonly isGenerated: boolean;
  readonly generatedAs: string | null;
  readonly identity: '' | 'a' | 'd';
  readonly isNullable: boolean;
  readonly collation: CatalogCollation | null;
}

interface CatalogTable {
  readonly kind: string;
  readonly persistence: string;
  readonly replicaIdentity: 'd' | 'n' | 'f' | 'i';
  readonly encoding: string;
  readonly locale: string;
  readonly estimatedRows: number;
  readonly keyCorrelation: number | null;
  readonly primaryKey: string[];
  /** Per key column: B-tree strategy number -> operator. */
  readonly keyOperators: Readonly<Record<string, string>>[];
  readonly isKeyOrdered: boolean;
  /** relkinds of all descendants, leaves and inner ones. */
  readonly childKinds: string[];
  readonly columns: CatalogColumn[];
}

/** By the strategy numbers of B-trees: https://www.postgresql.org/docs/current/xindex.html */
function toOperators(byStrategy: Readonly<Record<string, string>>): KeyOperators {
  const operator = (strategy: number): string => {
    const text = byStrategy[strategy];
    if (text === undefined) throw new AcedError('INTERNAL', 'a key column without its operators');
    return text;
  };
  return { less: operator(1), equal: operator(3), atLeast: operator(4), greater: operator(5) };
}

function toColumn(column: CatalogColumn): ColumnInfo {
  const { identity, collation, ...rest } = column;
  return {
    ...rest,
    identity: identity === 'a' ? 'always' : identity === 'd' ? 'by default' : null,
    collation: collation === null ? null : toCollation(collation),
  };
}

function toCollation(collation: CatalogCollation): CollationInfo {
  const { rules, ...rest } = collation;
  return {
    ...rest,
    // Tailored rules change the order like another locale does.
    locale: rules === null ? rest.locale : `${rest.locale} rules ${rules}`,
    isByteOrder: rest.isDeterministic && isByteOrder(rest.provider, rest.locale),
  };
}

const BYTE_ORDER_LOCALES: Readonly<Record<string, readonly string[]>> = {
  c: ['C', 'POSIX'],
  // The builtin provider compares code points under every locale that it has (PostgreSQL 17, 18).
  b: ['C', 'C.UTF-8', 'C.UTF8', 'PG_UNICODE_FAST'],
};

function isByteOrder(provider: string, locale: string): boolean {
  return BYTE_ORDER_LOCALES[provider]?.includes(locale) === true;
}

const KIND_NAMES: Readonly<Record<string, string>> = {
  v: 'a view',
  m: 'a materialized view',
  f: 'a foreign table',
};

/** Null: it can be compared. */
function unsupported(
  session: Session,
  { schema, name }: TableName,
  table: CatalogTable,
): AcedError | null {
  const refuse = (why: string, hint: string): AcedError => {
    const what = `${JSON.stringify(schema)}.${JSON.stringify(name)} on node ${session.node.name}`;
    return new AcedError('UNSUPPORTED', `${what} ${why}`, { hint });
  };
  if (table.kind !== 'r' && table.kind !== 'p') {
    return refuse(
      `is ${KIND_NAMES[table.kind] ?? 'not a table'}`,
      'Only plain and partitioned tables can be compared.',
    );
  }
  if (table.persistence === 't') {
    return refuse('is a temporary table', 'Temporary tables belong to one session.');
  }
  if (schema === 'pg_catalog' || schema === 'information_schema' || schema === 'pg_toast') {
    return refuse('is a system table', 'System tables are never replicated.');
  }
  if (table.kind === 'r' && table.childKinds.length > 0) {
    return refuse(
      'has tables that inherit from it',
      'Compare the inheriting tables one by one, or use declarative partitioning.',
    );
  }
  if (table.childKinds.includes('f')) {
    return refuse('has foreign tables as partitions', 'Compare the local partitions one by one.');
  }
  return null;
}

function noSuchTable(session: Session, { schema, name }: TableName, hint: string): AcedError {
  return new AcedError(
    'NO_SUCH_TABLE',
    `no table ${JSON.stringify(name)} in schema ${JSON.stringify(schema)} on node ${session.node.name}`,
    { hint },
  );
}
