import type { Session } from '../postgres/session.js';

/** What one server, and our role there, are like. */
export interface ServerFacts {
  readonly version: number;
  readonly isStandby: boolean;
  /** `effective_wal_level` from 19 on. */
  readonly walLevel: string;
  readonly freeSlots: number;
  readonly freeSenders: number;
  readonly maxSlotWalKeep: string;
  readonly isSuperuser: boolean;
  readonly mayReplicate: boolean;
  readonly mayCreateInDatabase: boolean;
  readonly mayUseSchema: boolean | null;
  readonly mayWriteSchema: boolean | null;
  /** Null: there is none yet. */
  readonly ownsPublication: boolean | null;
  readonly hasSlot: boolean;
  readonly keepsCommitTimes: boolean;
  /** Prepared transactions, and the age of the oldest in seconds. */
  readonly prepared: number;
  readonly oldestPreparedSeconds: number;
  /** The oldest open transaction that is seen; others' are hidden without pg_monitor. */
  readonly oldestOpenSeconds: number;
  readonly encoding: string;
  readonly collation: string;
  readonly collationVersion: string | null;
  /** By the server's clock, in ms since the Unix epoch. */
  readonly clockMs: number;
  /** By ours: when the question went out and when the answer was there. */
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
}

export interface OurNames {
  readonly schema: string;
  readonly publication: string;
  readonly slot: string;
}

/** One round trip, pg_catalog only; any role may ask. */
export async function readServerFacts(
  session: Session,
  { schema, publication, slot }: OurNames,
  signal: AbortSignal,
): Promise<ServerFacts> {
  const askedAtMs = Date.now();
  const rows = await session.query(FACTS_QUERY, [schema, publication, slot], signal);
  const answeredAtMs = Date.now();
  const facts = JSON.parse(rows[0]?.[0] ?? '{}') as Omit<
    ServerFacts,
    'version' | 'askedAtMs' | 'answeredAtMs'
  >;
  return { ...facts, version: session.serverVersion, askedAtMs, answeredAtMs };
}

const FACTS_QUERY = `
SELECT pg_catalog.json_build_object(
  'isStandby', pg_catalog.pg_is_in_recovery(),
  'walLevel', coalesce(pg_catalog.current_setting('effective_wal_level', true), pg_catalog.current_setting('wal_level')),
  'freeSlots', pg_catalog.current_setting('max_replication_slots')::int
    - (SELECT count(*) FROM pg_catalog.pg_replication_slots),
  'freeSenders', pg_catalog.current_setting('max_wal_senders')::int
    - (SELECT count(*) FROM pg_catalog.pg_stat_replication),
  'maxSlotWalKeep', pg_catalog.current_setting('max_slot_wal_keep_size'),
  'isSuperuser', r.rolsuper,
  'mayReplicate', r.rolreplication OR r.rolsuper,
  'mayCreateInDatabase', pg_catalog.has_database_privilege(d.oid, 'CREATE'),
  'mayUseSchema', (SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
                     FROM pg_catalog.pg_namespace n WHERE n.nspname = $1::name),
  'mayWriteSchema', (SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(c.oid, 'INSERT'))
                       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                      WHERE n.nspname = $1::name AND c.relkind = 'r'),
  'ownsPublication', (SELECT pg_catalog.pg_has_role(p.pubowner, 'USAGE')
                        FROM pg_catalog.pg_publication p WHERE p.pubname = $2::name),
  'hasSlot', EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $3::name),
  'keepsCommitTimes', pg_catalog.current_setting('track_commit_timestamp') = 'on',
  'prepared', (SELECT count(*) FROM pg_catalog.pg_prepared_xacts),
  'oldestPreparedSeconds', (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - x.prepared)), 0)::int8
                              FROM pg_catalog.pg_prepared_xacts x),
  'oldestOpenSeconds', (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)), 0)::int8
                          FROM pg_catalog.pg_stat_activity a
                         WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()),
  'encoding', pg_catalog.pg_encoding_to_char(d.encoding),
  'collation', coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale', d.datcollate),
  'collationVersion', d.datcollversion,
  'clockMs', (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000)::int8
)::text
  FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
 WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()`;
