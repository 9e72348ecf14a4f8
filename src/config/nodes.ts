import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { AcedError } from '../base/errors.js';
import type { IgnoredSetting, NodeConfig, PasswordFile, SslMode } from './config.js';
import { integer, oneOf, ratio } from './option-values.js';
import type { ValueKind } from './option-values.js';
import { badValue } from './settings.js';

export interface DraftSetting {
  /** A connection parameter of libpq. */
  readonly key: string;
  readonly value: string;
  /** For messages: file and line or path. */
  readonly where: string;
}

/** A node as a cluster definition has it; later settings win over earlier ones. */
export interface NodeDraft {
  readonly name: string;
  readonly where: string;
  readonly settings: readonly DraftSetting[];
}

export interface NodeContext {
  readonly env: NodeJS.ProcessEnv;
  readonly home: string;
  readonly passwordFiles: readonly PasswordFile[];
  /** The operating system's name for this user, libpq's last resort. */
  readonly osUser: string | undefined;
  readonly database: string | undefined;
  readonly connectTimeoutMs: number;
  readonly tcpUserTimeoutMs: number;
}

/** Parameters that we read, with libpq's environment variable for each. */
const PARAMETERS = {
  host: 'PGHOST',
  hostaddr: 'PGHOSTADDR',
  port: 'PGPORT',
  dbname: 'PGDATABASE',
  user: 'PGUSER',
  password: 'PGPASSWORD',
  sslmode: 'PGSSLMODE',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  sslrootcert: 'PGSSLROOTCERT',
  connect_timeout: 'PGCONNECT_TIMEOUT',
} as const;

type Parameter = keyof typeof PARAMETERS;

const PORT = integer({ min: 1, max: 65535 });
const SSL_MODE: ValueKind<SslMode> = oneOf([
  'disable',
  'allow',
  'prefer',
  'require',
  'verify-ca',
  'verify-full',
]);
/** Negative means no limit to libpq, as 0 does. */
const CONNECT_TIMEOUT_SECONDS = ratio({ min: -1e9, max: 1e6 });
const DEFAULT_PORT = 5432;
const DEFAULT_HOST = 'localhost';

/**
 * The definition's own settings win over libpq's environment variables, and those over libpq's
 * defaults (https://www.postgresql.org/docs/current/libpq-pgservice.html). Errors: BAD_CONFIG.
 */
export function buildNode(draft: NodeDraft, context: NodeContext): NodeConfig {
  const raw = (key: Parameter): DraftSetting | undefined => findParameter(draft, key, context.env);
  const read = <T>(key: Parameter, kind: ValueKind<T>): T | undefined => {
    const setting = raw(key);
    if (setting === undefined) return undefined;
    const value = kind.read(setting.value);
    if (value === undefined)
      throw badValue(`${setting.where}, ${key}`, setting.value, kind.accepts);
    return value;
  };
  const sslMode = read('sslmode', SSL_MODE) ?? 'prefer';
  const user = raw('user')?.value ?? context.osUser;
  if (user === undefined) {
    throw new AcedError('BAD_CONFIG', `${draft.where}: node ${draft.name} has no user`, {
      hint: 'Set user in the cluster definition, or PGUSER.',
    });
  }
  const password = raw('password')?.value;
  const timeoutSeconds = read('connect_timeout', CONNECT_TIMEOUT_SECONDS);
  return {
    name: draft.name,
    host: readHost(raw('host') ?? raw('hostaddr')),
    port: read('port', PORT) ?? DEFAULT_PORT,
    database: context.database ?? raw('dbname')?.value ?? user,
    user,
    ...(password === undefined ? { passwordFiles: context.passwordFiles } : { password }),
    sslMode,
    ...tlsFiles(raw, sslMode, context.home),
    connectTimeoutMs:
      timeoutSeconds === undefined
        ? context.connectTimeoutMs
        : Math.max(0, Math.round(timeoutSeconds * 1000)),
    tcpUserTimeoutMs: context.tcpUserTimeoutMs,
  };
}

/** Settings of the drafts that buildNode does not read. */
export function ignoredParameters(drafts: readonly NodeDraft[], file: string): IgnoredSetting[] {
  const keys = drafts.flatMap((draft) => {
    const hasHost = draft.settings.some(({ key }) => key === 'host');
    return draft.settings.flatMap(({ key }) =>
      Object.hasOwn(PARAMETERS, key) && !(key === 'hostaddr' && hasHost) ? [] : [key],
    );
  });
  return [...new Set(keys)].map((key) => ({ source: file, key }));
}

/** Errors: BAD_CONFIG when a name is there twice, or two names lead to one database. */
export function checkNodes(nodes: readonly NodeConfig[], where: string): void {
  const byName = new Set<string>();
  const byAddress = new Map<string, string>();
  for (const { name, host, port, database } of nodes) {
    if (byName.has(name)) {
      throw new AcedError('BAD_CONFIG', `${where}: node ${name} is there twice`);
    }
    byName.add(name);
    // `n1/n2` names a pair in diff files, `n1,n2` a choice of nodes.
    if (/[/,\s]/.test(name)) {
      throw badValue(`${where}, node name`, name, 'no blank, comma or slash');
    }
    const address = JSON.stringify([host, port, database]);
    const twin = byAddress.get(address);
    if (twin !== undefined) {
      // A database compared with itself would always match.
      throw new AcedError(
        'BAD_CONFIG',
        `${where}: nodes ${twin} and ${name} are the same database, ${database} at ${host} port ${port}`,
        { hint: 'Give each node its own host or port.' },
      );
    }
    byAddress.set(address, name);
  }
}

function findParameter(
  draft: NodeDraft,
  key: Parameter,
  env: NodeJS.ProcessEnv,
): DraftSetting | undefined {
  const own = draft.settings.findLast((setting) => setting.key === key);
  // An empty value is no value to libpq.
  if (own !== undefined && own.value !== '') return own;
  const variable = PARAMETERS[key];
  const value = env[variable];
  if (value === undefined || value === '') return undefined;
  return { key, value, where: `environment, ${variable}` };
}

function readHost(setting: DraftSetting | undefined): string {
  if (setting === undefined) return DEFAULT_HOST;
  const host = setting.value;
  if (host.includes(',')) {
    throw badValue(`${setting.where}, host`, host, 'one host; a list has no meaning for a node');
  }
  return /^\[(.*)\]$/.exec(host)?.[1] ?? host;
}

/** libpq's default files count where they exist: https://www.postgresql.org/docs/current/libpq-ssl.html. */
function tlsFiles(
  raw: (key: Parameter) => DraftSetting | undefined,
  sslMode: SslMode,
  home: string,
): Pick<NodeConfig, 'sslRootCert' | 'sslCert' | 'sslKey'> {
  if (sslMode === 'disable') return {};
  const file = (key: Parameter, fallback: string): string | undefined => {
    const given = raw(key)?.value;
    if (given !== undefined) return given;
    const path = join(home, '.postgresql', fallback);
    return existsSync(path) ? path : undefined;
  };
  const root = file('sslrootcert', 'root.crt');
  const cert = file('sslcert', 'postgresql.crt');
  const key = file('sslkey', 'postgresql.key');
  return {
    ...(root === undefined ? {} : { sslRootCert: root }),
    ...(cert === undefined || key === undefined ? {} : { sslCert: cert, sslKey: key }),
  };
}
