import type pg from 'pg';
import { AcedError } from '../base/errors.js';
import { quoteLiteral } from '../base/quote.js';
import type { NodeConfig } from '../config/config.js';
import { address } from './connect-error.js';
import { NEWER_SETTINGS } from './session-settings.js';

/** What a new connection says of itself. */
export interface Greeting {
  readonly backendPid: number;
  /** As `server_version_num`, e.g. 180004. */
  readonly serverVersion: number;
  /** Of one database of one running server: copies of a server have another one. */
  readonly databaseId: string;
}

/** A physical copy has the same system identifier and OIDs, but was not started at the same microsecond. */
const DATABASE_ID = `pg_catalog.concat_ws('/',
  (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s), pg_catalog.pg_postmaster_start_time(),
  (SELECT d.oid FROM pg_catalog.pg_database d
    WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))`;

type Settings = Readonly<Record<string, string>>;

/**
 * One round trip: who answers, and every setting that we asked for as it is there. Operators carry
 * their schema: the path may be the user's.
 */
function greetingSql(settings: Settings): string {
  return `SELECT ${[
    'pg_catalog.pg_backend_pid()',
    "pg_catalog.current_setting('server_version_num')",
    DATABASE_ID,
    ...Object.keys(settings).map((name) => `pg_catalog.current_setting(${quoteLiteral(name)})`),
    ...Object.entries(NEWER_SETTINGS).map(([name, value]) => setWhereKnown(name, value, settings)),
  ].join(', ')}`;
}

/** Never in a session that is not ours alone: a pooler would hand it to others. */
function setWhereKnown(name: string, value: string, settings: Settings): string {
  const isPinned = Object.entries(settings)
    .map(([pinned, wanted]) => isSet(pinned, 'OPERATOR(pg_catalog.=)', wanted))
    .join(' AND ');
  return `CASE WHEN ${isPinned} AND ${isSet(name, 'OPERATOR(pg_catalog.<>)', value)}
    THEN pg_catalog.set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, false) END`;
}

function isSet(name: string, operator: string, value: string): string {
  return `pg_catalog.current_setting(${quoteLiteral(name)}, true) ${operator} ${quoteLiteral(value)}::pg_catalog.text`;
}

/**
 * Reads the pinned settings back. What passes connections on may drop a start-up packet's options
 * (PgBouncer with ignore_startup_parameters does); rows would then be hidden by policies, and values
 * have another text than in the stream. Errors: SETTING_NOT_TAKEN, and those of a query.
 */
export async function greet(
  client: pg.Client,
  node: NodeConfig,
  settings: Settings,
): Promise<Greeting> {
  const { rows } = await client.query<string[]>({ text: greetingSql(settings), rowMode: 'array' });
  const [backendPid, serverVersion, databaseId, ...values] = rows[0] ?? [];
  for (const [index, name] of Object.keys(settings).entries()) {
    if (values[index] === settings[name]) continue;
    throw new AcedError(
      'SETTING_NOT_TAKEN',
      `node ${node.name} (${address(node)}) did not take the setting ${name} = ` +
        `'${settings[name] ?? ''}' that aced connects with, it is '${values[index] ?? ''}' there`,
      {
        hint: "A pooler such as PgBouncer drops such settings: name the server's own host and port for this node.",
      },
    );
  }
  return {
    backendPid: Number(backendPid),
    serverVersion: Number(serverVersion),
    databaseId: databaseId ?? '',
  };
}
