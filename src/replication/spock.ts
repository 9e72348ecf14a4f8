import type { Session } from '../postgres/session.js';
import { inTransaction, type ExtensionSettings } from '../postgres/transaction.js';
import { quoteIdentifier } from '../base/quote.js';
import { ASKED_MEMBERS } from './member-sql.js';
import type { TableName } from '../table/table-name.js';

/** All that we know of Spock's catalog. Measured on 5.0.11 and 6.0.0. */

/** Spock sends DDL to the other nodes, and takes new tables into its sets, where it is set to. */
const DDL_STAYS_HERE: ExtensionSettings = {
  schema: 'spock',
  settings: { 'spock.enable_ddl_replication': 'off', 'spock.include_ddl_repset': 'off' },
};

/** As inTransaction, for DDL of ours: no other node gets it. */
export async function inDdlTransaction<T>(
  session: Session,
  settings: Readonly<Record<string, string>>,
  work: () => Promise<T>,
): Promise<T> {
  return inTransaction(session, settings, work, DDL_STAYS_HERE);
}

export interface SpockSubscription {
  readonly name: string;
  /** On the provider; the subscriber's replication origin has the same name. */
  readonly slot: string;
  readonly isEnabled: boolean;
  /** Names of the provider's sets. */
  readonly sets: readonly string[];
  /** Forwards what its provider has from others. */
  readonly forwardsOthers: boolean;
}

export interface SpockCatalog {
  readonly subscriptions: readonly SpockSubscription[];
  /** This server's own node; null where it is none. */
  readonly localNode: string | null;
  /** Names of all nodes that the catalog knows. */
  readonly nodes: readonly string[];
  /** What the role lacks for reading the rest; null: nothing. */
  readonly missingGrant: string | null;
}

const NO_SPOCK: SpockCatalog = {
  subscriptions: [],
  localNode: null,
  nodes: [],
  missingGrant: null,
};

/** Reads what the role may read. Null: no Spock in this database. */
export async function readSpock(session: Session): Promise<SpockCatalog | null> {
  const tables = await readTables(session);
  const subscription = tables.get('subscription');
  if (subscription === undefined) return null;
  if (!subscription.isReadable) {
    return { ...NO_SPOCK, missingGrant: grantFor(session) };
  }
  const subscriptions = await readSubscriptions(session, subscription.columns);
  const canName = ['node', 'local_node'].every((name) => tables.get(name)?.isReadable === true);
  if (!canName) return { ...NO_SPOCK, subscriptions };
  const rows = await session.query(
    `SELECT n.node_name, l.node_id IS NOT NULL
       FROM spock.node n LEFT JOIN spock.local_node l ON l.node_id = n.node_id`,
  );
  const local = rows.find(([, isLocal]) => isLocal === 't');
  return {
    subscriptions,
    localNode: local?.[0] ?? null,
    nodes: rows.map(([name]) => name ?? ''),
    missingGrant: null,
  };
}

/**
 * Number, as a row's origin has it -> name, of Spock's nodes: rows carry the first writer's node id,
 * which is `hashtext(name) & 65535` on every node, also when the node's row is gone.
 */
export async function spockNodeIds(
  session: Session,
  names: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const rows = await session.query(
    'SELECT (pg_catalog.hashtext(name) & 65535)::text, name FROM unnest($1::text[]) AS name',
    [names],
  );
  return new Map(rows.map(([id, name]) => [id ?? '', name ?? '']));
}

/** A subscription with the number of its provider, which is also that of the provider's rows. */
export interface SpockProvider {
  readonly name: string;
  readonly slot: string;
  readonly provider: string;
  readonly isEnabled: boolean;
  readonly isReceiving: boolean;
}

/** Of whom this node gets changes, as far as the role may read it. Null: no Spock in this database. */
export async function readSpockProviders(session: Session): Promise<SpockProvider[] | null> {
  const known = (await readTables(session)).get('subscription');
  if (known === undefined) return null;
  if (!known.isReadable || !known.columns.has('sub_origin')) return [];
  const statuses = await readStatuses(session);
  const rows = await session.query(
    `SELECT s.sub_name, s.sub_slot_name, s.sub_origin::text, s.sub_enabled FROM spock.subscription s`,
  );
  return rows.map(([name, slot, provider, isEnabled]) => ({
    name: name ?? '',
    slot: slot ?? '',
    provider: provider ?? '',
    isEnabled: isEnabled === 't',
    isReceiving: statuses.get(name ?? '') === 'replicating',
  }));
}

export interface SpockSetTable extends TableName {
  readonly set: string;
}

export interface SpockSets {
  /** Names of this node's replication sets, of those that were asked for. */
  readonly names: readonly string[];
  readonly tables: readonly SpockSetTable[];
  /** What the role lacks for reading them; null: nothing. */
  readonly missingGrant: string | null;
}

/** The tables of a node's own replication sets. Without Spock there are none. */
export async function readSpockSets(
  session: Session,
  names: readonly string[],
): Promise<SpockSets> {
  const none = { names: [], tables: [], missingGrant: null };
  if (names.length === 0) return none;
  const tables = await readTables(session);
  const needed = ['replication_set', 'replication_set_table'].map((name) => tables.get(name));
  if (needed.includes(undefined)) return none;
  if (needed.some((table) => table?.isReadable !== true)) {
    return { ...none, missingGrant: grantFor(session) };
  }
  const rows = await session.query(
    `SELECT s.set_name, n.nspname, c.relname
       FROM spock.replication_set s
       LEFT JOIN spock.replication_set_table t ON t.set_id = s.set_id
       LEFT JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid
       LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE s.set_name = ANY ($1::name[])`,
    [[...names]],
  );
  return {
    names: [...new Set(rows.map(([set]) => set ?? ''))],
    tables: rows.flatMap(([set, schema, name]) =>
      typeof schema === 'string' ? [{ set: set ?? '', schema, name: name ?? '' }] : [],
    ),
    missingGrant: null,
  };
}

/** What one of a node's sets lets through of a relation. */
export interface SpockRule {
  /** Index of the table, among those that were asked for, that it is or is a partition of. */
  readonly asked: number;
  readonly table: TableName;
  readonly set: string;
  readonly operations: readonly string[];
  readonly hasRowFilter: boolean;
  readonly hasColumnList: boolean;
}

/** The rules of a node's own sets for these tables. Null: the role may not read them. */
export async function readSpockRules(
  session: Session,
  tables: readonly TableName[],
): Promise<SpockRule[] | null> {
  const known = await readTables(session);
  const isReadable = ['replication_set', 'replication_set_table'].every(
    (name) => known.get(name)?.isReadable === true,
  );
  if (!isReadable) return null;
  const rows = await session.query(RULES_QUERY, [
    tables.map(({ schema }) => schema),
    tables.map(({ name }) => name),
  ]);
  return rows.map(([asked, schema, name, set, operations, hasRowFilter, hasColumnList]) => ({
    asked: Number(asked) - 1,
    table: { schema: schema ?? '', name: name ?? '' },
    set: set ?? '',
    operations: (operations ?? '').split(' '),
    hasRowFilter: hasRowFilter === 't',
    hasColumnList: hasColumnList === 't',
  }));
}

/** The statements that let the role read which tables the sets hold; null: it may, or there is no Spock. */
export async function missingSpockGrant(session: Session): Promise<string | null> {
  const known = await readTables(session);
  const needed = ['replication_set', 'replication_set_table', 'local_sync_status'];
  const isHidden = needed.some((name) => known.get(name)?.isReadable === false);
  return isHidden ? grantFor(session) : null;
}

/** Synchronised and ready; others are steps of the first copy. */
const COPIED = "('r', 'y')";

/** Tables whose first copy by the subscription is not done; null among them: the whole one. */
export async function readSpockCopies(
  session: Session,
  subscription: string,
): Promise<(TableName | null)[]> {
  if ((await readTables(session)).get('local_sync_status')?.isReadable !== true) return [];
  const rows = await session.query(
    `SELECT l.sync_nspname, l.sync_relname
       FROM spock.local_sync_status l JOIN spock.subscription s ON s.sub_id = l.sync_subid
      WHERE s.sub_name = $1 AND l.sync_status::text NOT IN ${COPIED}`,
    [subscription],
  );
  return rows.map(([schema, name]) =>
    typeof schema === 'string' ? { schema, name: name ?? '' } : null,
  );
}

/** A table, or a sequence, in one of a node's own sets. */
export interface SpockMember extends SpockSetTable {
  /** The row filter as the server prints it; null: all rows. */
  readonly filter: string | null;
  readonly columns: readonly string[] | null;
}

export interface SpockSettings {
  /** Set -> the operations that it lets through. */
  readonly sets: ReadonlyMap<string, string>;
  readonly members: readonly SpockMember[];
  /** Subscription -> its settings, and `status` as the server tells it. */
  readonly subscriptions: ReadonlyMap<string, Readonly<Record<string, string | null>>>;
  /** Changes that could not be applied, ever; null: it cannot be told. */
  readonly exceptions: number | null;
  /** How conflicts were resolved, such as `keep_local` -> how often, as far as the node keeps them. */
  readonly resolutions: ReadonlyMap<string, number>;
  readonly missingGrant: string | null;
}

/** How a node replicates by Spock, in full. Null: no Spock in this database. */
export async function readSpockSettings(session: Session): Promise<SpockSettings | null> {
  const known = await readTables(session);
  if (!known.has('subscription')) return null;
  const needed = ['subscription', 'replication_set', 'replication_set_table'];
  if (needed.some((name) => known.get(name)?.isReadable !== true)) {
    const nothing = { sets: new Map(), members: [], subscriptions: new Map(), exceptions: null };
    return { ...nothing, resolutions: new Map(), missingGrant: grantFor(session) };
  }
  const sets = await session.query(
    `SELECT s.set_name, pg_catalog.concat_ws(', ', CASE WHEN s.replicate_insert THEN 'insert' END,
              CASE WHEN s.replicate_update THEN 'update' END, CASE WHEN s.replicate_delete THEN 'delete' END,
              CASE WHEN s.replicate_truncate THEN 'truncate' END)
       FROM spock.replication_set s`,
  );
  const canCount = known.get('exception_log')?.isReadable === true;
  const [[exceptions] = []] = canCount
    ? await session.query('SELECT pg_catalog.count(*) FROM spock.exception_log')
    : [];
  const resolutions =
    known.get('resolutions')?.isReadable === true
      ? await session.query(
          'SELECT r.conflict_resolution, pg_catalog.count(*) FROM spock.resolutions r GROUP BY 1 ORDER BY 1',
        )
      : [];
  return {
    sets: new Map(sets.map(([name, operations]) => [name ?? '', operations ?? ''])),
    members: await readMembers(session, known.get('replication_set_seq')?.isReadable === true),
    subscriptions: await readSubscriptionSettings(session),
    exceptions: exceptions == null ? null : Number(exceptions),
    resolutions: new Map(resolutions.map(([how, count]) => [how ?? '', Number(count)])),
    missingGrant: null,
  };
}

async function readMembers(session: Session, hasSequences: boolean): Promise<SpockMember[]> {
  const ofSequences = `
     UNION ALL
    SELECT s.set_name, n.nspname, c.relname, NULL, NULL
      FROM spock.replication_set_seq q
      JOIN spock.replication_set s ON s.set_id = q.set_id
      JOIN pg_catalog.pg_class c ON c.oid = q.set_seqoid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`;
  const rows = await session.query(`
    SELECT s.set_name, n.nspname, c.relname, pg_catalog.pg_get_expr(t.set_row_filter, t.set_reloid),
           pg_catalog.array_to_json(t.set_att_list)::text
      FROM spock.replication_set_table t
      JOIN spock.replication_set s ON s.set_id = t.set_id
      JOIN pg_catalog.pg_class c ON c.oid = t.set_reloid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    ${hasSequences ? ofSequences : ''}`);
  return rows.map(([set, schema, name, filter, columns]) => ({
    set: set ?? '',
    schema: schema ?? '',
    name: name ?? '',
    filter: filter ?? null,
    columns: columns == null ? null : (JSON.parse(columns) as string[]).toSorted(),
  }));
}

const SUBSCRIPTION_SETTINGS: Readonly<Record<string, string>> = {
  sets: 'sub_replication_sets',
  'forward origins': 'sub_forward_origins',
  'apply delay': 'sub_apply_delay',
  'text transfer': 'sub_force_text_transfer',
  'skip LSN': 'sub_skip_lsn',
  'skip schema': 'sub_skip_schema',
};

/** By the row as JSON: columns came with releases. */
async function readSubscriptionSettings(
  session: Session,
): Promise<Map<string, Record<string, string | null>>> {
  const rows = await session.query(
    'SELECT s.sub_name, pg_catalog.to_jsonb(s)::text FROM spock.subscription s',
  );
  const statuses = await readStatuses(session);
  return new Map(
    rows.map(([name, text]) => {
      const row = JSON.parse(text ?? '{}') as Readonly<Record<string, unknown>>;
      const settings = Object.entries(SUBSCRIPTION_SETTINGS).map(([fact, column]) => [
        fact,
        settingText(row[column]),
      ]);
      const status = statuses.get(name ?? '') ?? null;
      return [name ?? '', { ...Object.fromEntries(settings), status }];
    }),
  );
}

function settingText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (Array.isArray(value)) return value.map(String).toSorted().join(', ');
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** `replicating`, `down`, `disabled` …, where the role may ask. */
async function readStatuses(session: Session): Promise<Map<string, string>> {
  const found = await session.query(
    `SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname = 'spock' AND p.proname = 'sub_show_status'
        AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')`,
  );
  if (found.length === 0) return new Map();
  const rows = await session.query(
    'SELECT s.subscription_name, s.status FROM spock.sub_show_status() AS s',
  );
  return new Map(rows.map(([name, status]) => [name ?? '', status ?? '']));
}

const RULES_QUERY = `
WITH RECURSIVE ${ASKED_MEMBERS}
SELECT m.asked::text, n.nspname, c.relname, s.set_name,
       pg_catalog.concat_ws(' ', CASE WHEN s.replicate_insert THEN 'insert' END,
         CASE WHEN s.replicate_update THEN 'update' END, CASE WHEN s.replicate_delete THEN 'delete' END),
       t.set_row_filter IS NOT NULL, t.set_att_list IS NOT NULL
  FROM member m
  JOIN pg_catalog.pg_class c ON c.oid = m.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN spock.replication_set_table t ON t.set_reloid = m.oid
  JOIN spock.replication_set s ON s.set_id = t.set_id`;

interface SpockTable {
  readonly columns: ReadonlySet<string>;
  readonly isReadable: boolean;
}

const READ_TABLES = [
  'subscription',
  'node',
  'local_node',
  'local_sync_status',
  'replication_set',
  'replication_set_table',
];

/** Looked at where they are there and may be read. */
const OTHER_TABLES = ['replication_set_seq', 'exception_log', 'resolutions'];

/** By the catalog's own tables: to_regclass fails for a role without USAGE on the schema. */
async function readTables(session: Session): Promise<Map<string, SpockTable>> {
  const rows = await session.query(
    `SELECT c.relname, pg_catalog.array_to_json(pg_catalog.array_agg(a.attname::text))::text,
            pg_catalog.bool_and(pg_catalog.has_schema_privilege(n.oid, 'USAGE')
              AND pg_catalog.has_table_privilege(c.oid, 'SELECT'))
       FROM pg_catalog.pg_namespace n
       JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
       JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      WHERE n.nspname = 'spock' AND c.relname = ANY ($1::name[])
      GROUP BY c.relname`,
    [[...READ_TABLES, ...OTHER_TABLES]],
  );
  return new Map(
    rows.map(([name, columns, isReadable]) => [
      name ?? '',
      { columns: new Set(JSON.parse(columns ?? '[]') as string[]), isReadable: isReadable === 't' },
    ]),
  );
}

async function readSubscriptions(
  session: Session,
  columns: ReadonlySet<string>,
): Promise<SpockSubscription[]> {
  if (!['sub_name', 'sub_slot_name', 'sub_enabled'].every((name) => columns.has(name))) return [];
  const forwards = columns.has('sub_forward_origins')
    ? "COALESCE(s.sub_forward_origins, '{}') <> '{}'"
    : 'false';
  const sets = columns.has('sub_replication_sets')
    ? 'pg_catalog.array_to_json(s.sub_replication_sets)::text'
    : 'NULL::text';
  const rows = await session.query(
    `SELECT s.sub_name, s.sub_slot_name, s.sub_enabled, ${forwards}, ${sets}
       FROM spock.subscription s`,
  );
  return rows.map(([name, slot, isEnabled, forwardsOthers, ofSets]) => ({
    sets: JSON.parse(ofSets ?? '[]') as string[],
    name: name ?? '',
    slot: slot ?? '',
    isEnabled: isEnabled === 't',
    forwardsOthers: forwardsOthers === 't',
  }));
}

function grantFor({ node }: Session): string {
  const role = quoteIdentifier(node.user);
  return (
    `GRANT USAGE ON SCHEMA spock TO ${role}; ` +
    `GRANT SELECT ON ${READ_TABLES.map((name) => `spock.${name}`).join(', ')} TO ${role};`
  );
}
