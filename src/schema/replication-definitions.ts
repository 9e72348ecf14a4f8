import type { Session } from '../postgres/session.js';
import { readPublicationMembers } from '../replication/publication-members.js';
import { readSpockSettings, type SpockSettings } from '../replication/spock.js';
import type { Definition } from './definitions.js';

/** How one node replicates, as its catalog says. */
export interface ReplicationDefinitions {
  /** Publications, sets, what they hold, settings. */
  readonly definitions: readonly Definition[];
  /** Subscription -> its settings. */
  readonly subscriptions: ReadonlyMap<string, Readonly<Record<string, string | null>>>;
  /** Names of the publications and sets of this node: what a subscription may ask for. */
  readonly offers: ReadonlySet<string>;
  /** Tables whose first copy is not done, by subscription (native). */
  readonly copying: ReadonlyMap<string, number>;
  /** Logical slots of this database that are no subscription's of another node as far as this one can tell. */
  readonly slots: readonly SlotFacts[];
  readonly spock: SpockSettings | null;
}

export interface SlotFacts {
  readonly name: string;
  readonly isActive: boolean;
  /** `lost`, `unreserved` …; null: the server does not say. */
  readonly walStatus: string | null;
}

/** `ours`: the daemon's own publication is none of the user's. */
export async function readReplicationDefinitions(
  session: Session,
  ours: { readonly publication: string; readonly slot: string },
  signal?: AbortSignal,
): Promise<ReplicationDefinitions> {
  const publications = (await readPublications(session, signal)).filter(
    ({ name }) => name !== ours.publication,
  );
  const names = new Set(publications.map(({ name }) => name));
  const members = (await readPublicationMembers(session, null, signal)).filter(({ publication }) =>
    names.has(publication),
  );
  const spock = await readSpockSettings(session);
  const operations = new Map(
    publications.map(({ name, facts }) => [name, facts['publishes'] ?? '']),
  );
  const tables = new MemberFacts();
  for (const { schema, name, publication, filter, columns } of members) {
    const what = memberText(filter, columns);
    tables.add(quoted(schema, name), 'published', `${operations.get(publication) ?? ''}: ${what}`);
  }
  for (const { schema, name, set, filter, columns } of spock?.members ?? []) {
    tables.add(quoted(schema, name), `set ${set}`, memberText(filter, columns));
  }
  const native = await readNativeSubscriptions(session, signal);
  return {
    definitions: [
      ...publications.map(({ name, facts }) => definition('publication', name, facts)),
      ...Array.from(spock?.sets ?? [], ([name, lets]) =>
        definition('replication set', name, { replicates: lets }),
      ),
      ...(await withIdentities(session, tables.definitions())),
      definition('settings', 'server', await readSettings(session, spock !== null)),
    ],
    subscriptions: new Map([...native, ...(spock?.subscriptions ?? [])]),
    offers: new Set([...names, ...(spock?.sets.keys() ?? [])]),
    copying: await readCopying(session, signal),
    slots: (await readSlots(session, signal)).filter(({ name }) => name !== ours.slot),
    spock,
  };
}

function definition(
  kind: Definition['kind'],
  name: string,
  facts: Readonly<Record<string, string | null>>,
): Definition {
  return { kind, name, parent: null, facts, extension: null };
}

function quoted(schema: string, name: string): string {
  const quote = (part: string): string =>
    /^[a-z_][a-z0-9_]*$/.test(part) ? part : `"${part.replaceAll('"', '""')}"`;
  return `${quote(schema)}.${quote(name)}`;
}

function memberText(filter: string | null, columns: readonly string[] | null): string {
  const rows = filter === null ? 'all rows' : `rows where ${filter}`;
  return `${rows}, ${columns === null ? 'all columns' : `columns ${columns.join(', ')}`}`;
}

/** Table -> fact -> everything that was said of it, in an order of its own. */
class MemberFacts {
  readonly #tables = new Map<string, Map<string, string[]>>();

  add(table: string, fact: string, text: string): void {
    const facts = this.#tables.get(table) ?? new Map<string, string[]>();
    this.#tables.set(table, facts.set(fact, [...(facts.get(fact) ?? []), text]));
  }

  definitions(): Definition[] {
    return Array.from(this.#tables, ([table, facts]) => {
      const all = Array.from(facts, ([fact, texts]) => [fact, texts.toSorted().join(' | ')]);
      return definition('replicated table', table, Object.fromEntries(all) as Definition['facts']);
    });
  }
}

async function withIdentities(
  session: Session,
  tables: readonly Definition[],
): Promise<Definition[]> {
  const rows = await session.query(
    `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), CASE c.relreplident WHEN 'd' THEN 'default'
              WHEN 'n' THEN 'nothing' WHEN 'f' THEN 'full' ELSE 'index' END
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND pg_catalog.format('%I.%I', n.nspname, c.relname) = ANY ($1::text[])`,
    [tables.map(({ name }) => name)],
  );
  const identities = new Map(rows.map(([name, identity]) => [name ?? '', identity ?? null]));
  return tables.map((table) => ({
    ...table,
    facts: { ...table.facts, 'replica identity': identities.get(table.name) ?? null },
  }));
}

async function readPublications(
  session: Session,
  signal: AbortSignal | undefined,
): Promise<{ name: string; facts: Record<string, string | null> }[]> {
  const rows = await session.query(
    `SELECT p.pubname, pg_catalog.json_build_object(
              'publishes', pg_catalog.concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END,
                CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END,
                CASE WHEN p.pubtruncate THEN 'truncate' END),
              'of', CASE WHEN p.puballtables THEN 'all tables' ELSE COALESCE('schemas ' || (
                SELECT pg_catalog.string_agg(n.nspname, ', ' ORDER BY n.nspname)
                  FROM pg_catalog.pg_publication_namespace s JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid
                 WHERE s.pnpubid = p.oid), 'tables by name') END,
              'partitions as', CASE WHEN p.pubviaroot THEN 'their root' ELSE 'themselves' END,
              'generated columns', pg_catalog.to_jsonb(p) ->> 'pubgencols')::text
       FROM pg_catalog.pg_publication p`,
    [],
    signal,
  );
  return rows.map(([name, facts]) => ({
    name: name ?? '',
    facts: JSON.parse(facts ?? '{}') as Record<string, string | null>,
  }));
}

/** What a role may read of a subscription and that releases have; its publications are its own affair. */
const SUBSCRIPTION_COLUMNS: Readonly<Record<string, string>> = {
  subbinary: 'binary',
  substream: 'streaming',
  subtwophasestate: 'two phase',
  subdisableonerr: 'disable on error',
  subsynccommit: 'synchronous commit',
  suborigin: 'origin',
  subrunasowner: 'run as owner',
  subfailover: 'failover',
  subskiplsn: 'skip LSN',
};

async function readNativeSubscriptions(
  session: Session,
  signal: AbortSignal | undefined,
): Promise<Map<string, Record<string, string | null>>> {
  const known = await session.query(
    `SELECT a.attname FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = 'pg_catalog.pg_subscription'::pg_catalog.regclass AND a.attname = ANY ($1::name[])
        AND pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT')`,
    [Object.keys(SUBSCRIPTION_COLUMNS)],
    signal,
  );
  const facts = known.map(
    ([column = '']) => `'${SUBSCRIPTION_COLUMNS[column ?? ''] ?? ''}', s.${column ?? ''}::text`,
  );
  const rows = await session.query(
    `SELECT s.subname, pg_catalog.json_build_object(${facts.join(', ')})::text
       FROM pg_catalog.pg_subscription s
       JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database()`,
    [],
    signal,
  );
  return new Map(
    rows.map(([name, text]) => [
      name ?? '',
      JSON.parse(text ?? '{}') as Record<string, string | null>,
    ]),
  );
}

async function readCopying(
  session: Session,
  signal: AbortSignal | undefined,
): Promise<Map<string, number>> {
  const rows = await session.query(
    `SELECT s.subname, pg_catalog.count(*)
       FROM pg_catalog.pg_subscription_rel r
       JOIN pg_catalog.pg_subscription s ON s.oid = r.srsubid
       JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database()
      WHERE r.srsubstate NOT IN ('r', 's')
      GROUP BY s.subname`,
    [],
    signal,
  );
  return new Map(rows.map(([name, count]) => [name ?? '', Number(count)]));
}

async function readSlots(session: Session, signal: AbortSignal | undefined): Promise<SlotFacts[]> {
  const rows = await session.query(
    `SELECT s.slot_name, s.active, s.wal_status FROM pg_catalog.pg_replication_slots s
      WHERE s.slot_type = 'logical' AND NOT s.temporary AND s.database = pg_catalog.current_database()`,
    [],
    signal,
  );
  return rows.map(([name, isActive, walStatus]) => ({
    name: name ?? '',
    isActive: isActive === 't',
    walStatus: walStatus ?? null,
  }));
}

const SETTINGS = [
  ...['wal_level', 'track_commit_timestamp', 'max_replication_slots', 'max_wal_senders'],
  ...[
    'max_logical_replication_workers',
    'max_sync_workers_per_subscription',
    'max_worker_processes',
  ],
  ...['max_slot_wal_keep_size', 'wal_sender_timeout', 'wal_receiver_timeout'],
];

async function readSettings(
  session: Session,
  hasSpock: boolean,
): Promise<Record<string, string | null>> {
  const rows = await session.query(
    `SELECT s.name, s.setting FROM pg_catalog.pg_settings s
      WHERE s.name = ANY ($1::text[]) OR ($2::boolean AND s.name LIKE 'spock.%' AND s.source <> 'session')
      ORDER BY s.name`,
    [SETTINGS, hasSpock ? 't' : 'f'],
  );
  return Object.fromEntries(rows.map(([name, setting]) => [name ?? '', setting ?? null]));
}
