import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import pg from 'pg';
import { steadyNowMs } from '../base/clock.js';
import { throwIfAborted } from '../base/abort.js';
import { AcedError, errorMessage } from '../base/errors.js';
import type { NodeConfig } from '../config/config.js';
import { passwordOf } from '../config/password-file.js';
import { address, isTlsError, sqlStateOf, toAcedError } from './connect-error.js';
import { greet, type Greeting } from './greeting.js';
import { SESSION_SETTINGS, startupOptions, USER_PATH_SETTINGS } from './session-settings.js';

export interface ConnectOptions {
  /** Seen in pg_stat_activity and pg_stat_replication. */
  readonly applicationName: string;
  /** A walsender that also runs SQL in the node's database. */
  readonly replication?: 'database';
  /** Makes the socket of a connection without TLS. */
  readonly createSocket?: () => Socket;
  /** Keeps the search path that other sessions of the role have. */
  readonly hasUserPath?: boolean;
  /** Ends the attempt with CANCELLED. */
  readonly signal?: AbortSignal;
}

export interface ServerConnection extends Greeting {
  readonly client: pg.Client;
}

/** The types of pg do not know the parameter. */
interface WalsenderConfig extends pg.ClientConfig {
  replication?: 'database';
}

/** Values never go through pg's type parsers: they would round, shift or reformat them. */
const RAW_TEXT = { getTypeParser: () => (value: unknown) => value };

/** The first probe of TCP keepalive; the operating system's default is two hours. */
const TCP_KEEPALIVE_DELAY_MS = 30_000;
/** pg_hba.conf has no line that fits: the other kind of encryption may have one. */
const NO_HBA_LINE = '28000';

/**
 * The settings of one connection, with libpq's meaning of `sslmode`. `allow` and `prefer` give the
 * first of their two attempts here; connectClient makes both. Errors: BAD_CONFIG for certificate
 * files that cannot be read.
 */
export function clientConfig(node: NodeConfig, applicationName: string): pg.ClientConfig {
  return configFor(node, { applicationName }, encryptionAttempts(node)[0] ?? 'plain');
}

/**
 * Connects, authenticates, and reads the pinned settings back. The client keeps a listener for
 * `error`, so a connection that is lost later never ends the process: its next query fails, and it
 * emits `end`. Errors: toAcedError's; SETTING_NOT_TAKEN; NODE_UNREACHABLE after `connectTimeoutMs`
 * (0: no limit), which covers both attempts of `allow` and `prefer`.
 */
export async function connectClient(
  node: NodeConfig,
  options: ConnectOptions,
): Promise<ServerConnection> {
  const deadlineMs = node.connectTimeoutMs === 0 ? Infinity : steadyNowMs() + node.connectTimeoutMs;
  const attempts = encryptionAttempts(node);
  for (const [index, encryption] of attempts.entries()) {
    try {
      return await connectOnce(node, options, { encryption, deadlineMs });
    } catch (error) {
      const isLast = index === attempts.length - 1;
      if (isLast || !mayTryOther(error)) throw toAcedError(error, node, 'connecting');
    }
  }
  throw new AcedError('INTERNAL', `node ${node.name}: no way to connect`);
}

type Encryption = 'tls' | 'plain';

function encryptionAttempts({ host, sslMode }: NodeConfig): readonly Encryption[] {
  // libpq never uses TLS on a unix socket, whatever the mode.
  if (host.startsWith('/')) return ['plain'];
  switch (sslMode) {
    case 'disable':
      return ['plain'];
    case 'allow':
      return ['plain', 'tls'];
    case 'prefer':
      return ['tls', 'plain'];
    case 'require':
    case 'verify-ca':
    case 'verify-full':
      return ['tls'];
  }
}

/** Never after a wrong password: that one must not be sent again, and then in the clear. */
function mayTryOther(error: unknown): boolean {
  return error instanceof TlsRefused || isTlsError(error) || sqlStateOf(error) === NO_HBA_LINE;
}

class TlsRefused extends AcedError {
  constructor(node: NodeConfig) {
    super('BAD_CONFIG', `node ${node.name} (${address(node)}) does not offer TLS`, {
      hint: `Turn ssl on in its postgresql.conf, or choose another sslmode than ${node.sslMode}.`,
    });
  }
}

interface Attempt {
  readonly encryption: Encryption;
  readonly deadlineMs: number;
}

async function connectOnce(
  node: NodeConfig,
  options: ConnectOptions,
  { encryption, deadlineMs }: Attempt,
): Promise<ServerConnection> {
  const { signal } = options;
  throwIfAborted(signal);
  const client = new pg.Client(configFor(node, options, encryption));
  client.on('error', () => undefined);
  const progress = { isAuthenticating: false };
  const { connection } = client;
  connection.once('authenticationSASL', () => {
    progress.isAuthenticating = true;
  });
  let giveUp: (error: AcedError) => void = () => undefined;
  const givenUp = new Promise<never>((_resolve, reject) => {
    giveUp = reject;
  });
  const onAbort = (): void => giveUp(new AcedError('CANCELLED', 'cancelled'));
  const timer =
    deadlineMs === Infinity
      ? undefined
      : setTimeout(() => giveUp(timedOut(node)), Math.max(0, deadlineMs - steadyNowMs()));
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const connecting = client.connect();
    if (encryption === 'tls') {
      // pg tells a refusal only by its message; the answer is one byte, before any TLS. First in
      // line, or pg's error would win.
      connection.stream.prependOnceListener('data', (answer: Buffer) => {
        if (answer[0] === TLS_REFUSAL) giveUp(new TlsRefused(node));
      });
    }
    await Promise.race([connecting, givenUp]);
    progress.isAuthenticating = false;
    const greeting = await Promise.race([greet(client, node, pinnedBy(options)), givenUp]);
    return { client, ...greeting };
  } catch (error) {
    connection.stream.destroy();
    const isPlainError = error instanceof Error && error.constructor === Error;
    if (progress.isAuthenticating && isPlainError && !('code' in error)) {
      throw new AcedError('AUTH_FAILED', `node ${node.name}: ${error.message}`, {
        hint: 'Server and client did not agree on a password exchange.',
        cause: error,
      });
    }
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}

/** 'N' */
const TLS_REFUSAL = 0x4e;

function timedOut(node: NodeConfig): AcedError {
  return new AcedError(
    'NODE_UNREACHABLE',
    `node ${node.name} (${address(node)}) did not answer in ${node.connectTimeoutMs} ms`,
    { hint: 'Check host, port and firewall, or raise the connect timeout.' },
  );
}

function pinnedBy({ hasUserPath }: ConnectOptions): Readonly<Record<string, string>> {
  return hasUserPath === true ? USER_PATH_SETTINGS : SESSION_SETTINGS;
}

function configFor(
  node: NodeConfig,
  options: ConnectOptions,
  encryption: Encryption,
): WalsenderConfig {
  const { applicationName, replication, createSocket } = options;
  return {
    host: node.host,
    port: node.port,
    database: node.database,
    user: node.user,
    password: () => findPassword(node),
    ssl: encryption === 'tls' ? tlsOptions(node) : false,
    application_name: applicationName,
    // A server's process that sends to a client which has stopped reading waits for ever otherwise,
    // and keeps rows and log from being cleaned away meanwhile.
    options: startupOptions({
      ...pinnedBy(options),
      tcp_user_timeout: String(node.tcpUserTimeoutMs),
    }),
    keepAlive: true,
    keepAliveInitialDelayMillis: TCP_KEEPALIVE_DELAY_MS,
    types: RAW_TEXT,
    ...(replication === undefined ? {} : { replication }),
    // Under TLS node takes the socket's bytes below the socket.
    ...(createSocket === undefined || encryption === 'tls' ? {} : { stream: createSocket }),
  };
}

/** Asked for by pg only when the server wants a password. */
async function findPassword(node: NodeConfig): Promise<string> {
  const password = await passwordOf(node);
  if (password !== undefined) return password;
  throw new AcedError(
    'AUTH_FAILED',
    `node ${node.name} (${address(node)}) wants a password for user ${node.user}`,
    { hint: 'Give one in the cluster definition, PGPASSWORD or the password file (mode 0600).' },
  );
}

function tlsOptions(node: NodeConfig): ConnectionOptions {
  const { sslRootCert: rootCert, sslCert: cert, sslKey: key } = node;
  const isVerified = node.sslMode === 'verify-ca' || node.sslMode === 'verify-full';
  if (isVerified && rootCert === undefined) {
    throw new AcedError(
      'BAD_CONFIG',
      `node ${node.name}: sslmode ${node.sslMode} needs a root certificate`,
      { hint: 'Set sslrootcert to a file, or to "system" for the certificates of this machine.' },
    );
  }
  const options: ConnectionOptions = {
    // libpq checks the chain in every mode once it has a root certificate.
    rejectUnauthorized: rootCert !== undefined,
    ...(node.sslMode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
  };
  // Without `ca` node trusts its built-in list.
  if (rootCert !== undefined && rootCert !== 'system') options.ca = readPem(node, rootCert);
  if (cert !== undefined && key !== undefined) {
    options.cert = readPem(node, cert);
    options.key = readPem(node, key);
  }
  return options;
}

function readPem(node: NodeConfig, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new AcedError(
      'BAD_CONFIG',
      `node ${node.name}: cannot read ${file}: ${errorMessage(error)}`,
      { hint: 'Check sslrootcert, sslcert and sslkey of this node.', cause: error },
    );
  }
}
