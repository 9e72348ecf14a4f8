import { spawn, type ChildProcess } from 'node:child_process';
import {
  appendFile,
  chmod,
  chown,
  cp,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { NodeConfig } from '../../src/config/config.js';
import { binDirectory, serverUser, type PostgresMajor } from './binaries.js';
import { Guardian } from './guardian.js';
import { waitFor } from './wait.js';

export type { PostgresMajor };

export interface ServerOptions {
  /** Default 18. */
  readonly major?: PostgresMajor;
  /** Lines of postgresql.conf; they win over the harness's own. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Further arguments of initdb; they win over the harness's own. */
  readonly initdbArgs?: readonly string[];
}

export type StopMode = 'fast' | 'immediate';

const SUPERUSER = 'postgres';
const START_TIMEOUT_MS = 30_000;
const START_ATTEMPTS = 8;
const START_RETRY_MS = 50;
const LOG_TAIL_LINES = 8;
/** A fast shutdown waits for stream consumers, and a test's consumer may never read again. */
const FAST_STOP_TIMEOUT_MS = 5_000;
/** The line of postmaster.pid that says `ready`; see PostgreSQL's miscadmin.h. */
const STATUS_LINE = 7;
const STOP_SIGNALS = { fast: 'SIGINT', immediate: 'SIGQUIT' } as const;

const BASE_SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  fsync: 'off',
  full_page_writes: 'off',
  shared_buffers: '64MB',
  max_connections: '100',
  wal_level: 'logical',
  max_replication_slots: '20',
  max_wal_senders: '20',
  max_worker_processes: '24',
  max_logical_replication_workers: '16',
  wal_receiver_status_interval: '1s',
  wal_retrieve_retry_interval: '100ms',
};

const INITDB_ARGS = [
  ...['-U', SUPERUSER, '-A', 'trust', '-E', 'UTF8', '--no-sync', '--no-instructions'],
  ...['--locale=C', '--locale-provider=icu', '--icu-locale=en-US'],
];

const RAW_TEXT = { getTypeParser: () => (value: unknown) => value };

/**
 * A PostgreSQL server of its own: own data directory, own system identifier, a free port on
 * 127.0.0.1. It ends with this process, however this process ends.
 */
export async function startServer(options: ServerOptions = {}): Promise<TestServer> {
  const major = options.major ?? 18;
  const binDir = await binDirectory(major);
  const user = serverUser();
  const directory = await mkdtemp(join(tmpdir(), `aced-pg${major}-`));
  await chmod(directory, 0o700);
  if (user !== undefined) await chown(directory, user.uid, user.gid);
  const guardian = new Guardian(directory, user);
  const server = new TestServer({ major, binDir, directory, guardian });
  unstopped.add(server);
  try {
    await server.initialise(options.initdbArgs ?? [], { ...BASE_SETTINGS, ...options.settings });
    await server.start();
    return server;
  } catch (error) {
    await server.stop('immediate');
    throw error;
  }
}

/**
 * A physical standby of `primary`, streaming from a slot `standby` that is made for it; hot, and its slots
 * follow the primary's where `settings` say so. `promote` makes it a primary of its own.
 */
export async function startStandby(
  primary: TestServer,
  settings: Readonly<Record<string, string>> = {},
): Promise<TestServer> {
  const { major } = primary;
  const user = serverUser();
  const directory = await mkdtemp(join(tmpdir(), `aced-pg${major}-`));
  await chmod(directory, 0o700);
  if (user !== undefined) await chown(directory, user.uid, user.gid);
  const guardian = new Guardian(directory, user);
  const binDir = await binDirectory(major);
  const server = new TestServer({ major, binDir, directory, guardian });
  unstopped.add(server);
  try {
    await primary.query(
      'postgres',
      `SELECT pg_create_physical_replication_slot('${STANDBY_SLOT}', true)`,
    );
    await server.copyFrom(primary, {
      primary_conninfo: `host=${primary.host} port=${primary.port} user=${SUPERUSER} dbname=postgres`,
      primary_slot_name: STANDBY_SLOT,
      hot_standby: 'on',
      ...settings,
    });
    await server.start();
    return server;
  } catch (error) {
    await server.stop('immediate');
    throw error;
  }
}

export const STANDBY_SLOT = 'standby';

const unstopped = new Set<TestServer>();

/** Ends every server of this process, those that are still starting too. */
export async function stopAllServers(): Promise<void> {
  await Promise.all([...unstopped].map((server) => server.stop('immediate')));
}

interface ServerParts {
  readonly major: PostgresMajor;
  readonly binDir: string;
  readonly directory: string;
  readonly guardian: Guardian;
}

export class TestServer {
  readonly major: PostgresMajor;
  readonly host = '127.0.0.1';
  readonly superuser = SUPERUSER;
  readonly dataDir: string;
  readonly #parts: ServerParts;
  #port = 0;
  #process: ServerProcess | undefined;
  #isStopped = false;

  constructor(parts: ServerParts) {
    this.#parts = parts;
    this.major = parts.major;
    this.dataDir = join(parts.directory, 'data');
  }

  /** Stays the same over restarts. */
  get port(): number {
    return this.#port;
  }

  /** The postmaster's; undefined while the server is down. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  nodeConfig(database: string, name = 'n1'): NodeConfig {
    return {
      name,
      host: this.host,
      port: this.port,
      database,
      user: SUPERUSER,
      sslMode: 'disable',
      connectTimeoutMs: 5_000,
      tcpUserTimeoutMs: 30_000,
    };
  }

  async createDatabase(name: string): Promise<void> {
    await this.query('postgres', `CREATE DATABASE ${pg.escapeIdentifier(name)}`);
  }

  /**
   * Rows of raw text on a connection of its own. Without params `sql` may be several statements,
   * in one transaction; their rows come one after another.
   */
  async query(
    database: string,
    sql: string,
    params: readonly (string | null)[] = [],
  ): Promise<(string | null)[][]> {
    return this.session(database, (query) => query(sql, params));
  }

  /** Several statements on one connection, which is closed when `work` ends. */
  async session<T>(database: string, work: (query: QueryFunction) => Promise<T>): Promise<T> {
    const { host, port } = this;
    const client = new pg.Client({ host, port, database, user: SUPERUSER, ssl: false });
    // A server that is killed in the middle is the query's failure, not the process's.
    client.on('error', () => undefined);
    await client.connect();
    try {
      return await work(async (sql, params = []) => {
        const text = { text: sql, values: [...params], rowMode: 'array' as const, types: RAW_TEXT };
        const answer: unknown = await client.query<(string | null)[]>(text);
        const results = (Array.isArray(answer) ? answer : [answer]) as {
          rows: (string | null)[][];
        }[];
        return results.flatMap((result) => result.rows);
      });
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** Creates the data directory; startServer has done it. */
  async initialise(
    initdbArgs: readonly string[],
    settings: Readonly<Record<string, string>>,
  ): Promise<void> {
    const args = ['-D', this.dataDir, ...INITDB_ARGS, ...initdbArgs];
    const initdb = await this.#spawn('initdb', args);
    await initdb.waitForExit();
    this.#forget();
    if (initdb.exitCode !== 0) throw new Error(`initdb failed:\n${await this.#logTail()}`);
    await appendFile(join(this.dataDir, 'postgresql.conf'), formatSettings(settings));
  }

  /** A data directory out of a running server's, as a base backup makes it; startStandby has done it. */
  async copyFrom(primary: TestServer, settings: Readonly<Record<string, string>>): Promise<void> {
    const label = await primary.session('postgres', async (query) => {
      await query("SELECT pg_backup_start('standby', true)");
      await cp(primary.dataDir, this.dataDir, {
        recursive: true,
        filter: (path) => !/\/(postmaster\.(pid|opts)|pg_replslot\/.+|pg_wal\/.+)$/.test(path),
      });
      const [row] = await query('SELECT labelfile FROM pg_backup_stop(false)');
      return row?.[0] ?? '';
    });
    await mkdir(join(this.dataDir, 'pg_wal', 'archive_status'), { recursive: true });
    await writeFile(join(this.dataDir, 'backup_label'), label);
    await writeFile(join(this.dataDir, 'standby.signal'), '');
    await appendFile(join(this.dataDir, 'postgresql.conf'), formatSettings(settings));
    const user = serverUser();
    if (user !== undefined) await chownAll(this.dataDir, user);
    await chmod(this.dataDir, 0o700);
  }

  /** Makes a standby a primary; returns when it takes writes. */
  async promote(): Promise<void> {
    await this.query('postgres', 'SELECT pg_promote(true, 60)');
  }

  /**
   * Starts a server that was killed or is not up yet. Retries: the port may be taken meanwhile, and
   * backends of a killed server take a moment to notice.
   */
  async start(): Promise<void> {
    if (this.#process !== undefined) return;
    for (let attempt = 1; ; attempt += 1) {
      const port = this.#port === 0 ? await freePort() : this.#port;
      try {
        await this.#launch(port);
        this.#port = port;
        return;
      } catch (error) {
        if (attempt >= START_ATTEMPTS || this.#isStopped) throw error;
        await delay(attempt * START_RETRY_MS);
      }
    }
  }

  /** Ends the server and removes its files. May be called twice. */
  async stop(mode: StopMode = 'fast'): Promise<void> {
    this.#isStopped = true;
    await this.#end(mode);
    await rm(this.#parts.directory, { recursive: true, force: true });
    this.#parts.guardian.release();
    unstopped.delete(this);
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    await this.#end(mode);
    await this.start();
  }

  /** SIGKILL, as in a crash. `start` brings the server back on the same port. */
  async kill(): Promise<void> {
    const running = this.#process;
    if (running === undefined) return;
    running.signal('SIGKILL');
    await running.waitForExit();
    this.#forget();
  }

  /** Lets the server live on after this process; returns the directory with all its files. */
  detach(): string {
    unstopped.delete(this);
    this.#parts.guardian.release();
    return this.#parts.directory;
  }

  /** The server's own log so far. */
  async readLog(): Promise<string> {
    return readFile(this.#logPath, 'utf8').catch(() => '');
  }

  get #logPath(): string {
    return join(this.#parts.directory, 'server.log');
  }

  async #launch(port: number): Promise<void> {
    const launched = await this.#spawn('postgres', ['-D', this.dataDir, '-p', String(port)]);
    try {
      await waitFor(async () => launched.hasExited || (await this.#isReady(launched.pid)), {
        timeoutMs: START_TIMEOUT_MS,
        intervalMs: 10,
        what: `PostgreSQL ${this.major} on port ${port} to be ready`,
      });
      if (launched.hasExited) {
        throw new Error(
          `PostgreSQL ${this.major} did not start on port ${port}:\n${await this.#logTail()}`,
        );
      }
    } catch (error) {
      await this.#end('immediate');
      throw error;
    }
  }

  /** Leads a process group of its own, so that neither Ctrl-C nor its own children are missed. */
  async #spawn(program: string, args: readonly string[]): Promise<ServerProcess> {
    const log = await open(this.#logPath, 'a', 0o644);
    try {
      if (this.#isStopped) throw new Error(`PostgreSQL ${this.major} was stopped`);
      this.#process = new ServerProcess(
        spawn(join(this.#parts.binDir, program), args, {
          ...serverUser(),
          cwd: this.#parts.directory,
          env: serverEnvironment(),
          detached: true,
          stdio: ['ignore', log.fd, log.fd],
        }),
      );
      this.#parts.guardian.watch(this.#process.pid);
      return this.#process;
    } finally {
      await log.close();
    }
  }

  async #logTail(): Promise<string> {
    return (await this.readLog()).trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
  }

  async #isReady(pid: number): Promise<boolean> {
    const text = await readFile(join(this.dataDir, 'postmaster.pid'), 'utf8').catch(() => '');
    const lines = text.split('\n');
    // After a crash the file of the previous run is still there.
    return Number(lines[0]) === pid && lines[STATUS_LINE]?.trim() === 'ready';
  }

  async #end(mode: StopMode): Promise<void> {
    const running = this.#process;
    if (running === undefined) return;
    running.signal(STOP_SIGNALS[mode]);
    if (!(await running.waitForExit(FAST_STOP_TIMEOUT_MS))) {
      running.signal('SIGQUIT');
      if (!(await running.waitForExit(FAST_STOP_TIMEOUT_MS))) {
        running.signal('SIGKILL');
        await running.waitForExit();
      }
    }
    this.#forget();
  }

  #forget(): void {
    this.#process = undefined;
    this.#parts.guardian.watch(undefined);
  }
}

export type QueryFunction = (
  sql: string,
  params?: readonly (string | null)[],
) => Promise<(string | null)[][]>;

/** A running postmaster or initdb. It does not keep this process alive by itself. */
class ServerProcess {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  #hasExited = false;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.#exited = new Promise((resolve) => {
      const done = (): void => {
        this.#hasExited = true;
        resolve();
      };
      child.once('exit', done);
      child.once('error', done);
    });
    child.unref();
  }

  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  get hasExited(): boolean {
    return this.#hasExited;
  }

  /** To the group: for initdb that includes the server it has started. */
  signal(signal: NodeJS.Signals): void {
    if (this.#hasExited) return;
    try {
      process.kill(-this.pid, signal);
    } catch {
      // It has just gone.
    }
  }

  /** False when `timeoutMs` were not enough. */
  async waitForExit(timeoutMs?: number): Promise<boolean> {
    this.#child.ref();
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      if (timeoutMs !== undefined) timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([this.#exited, timeout]);
    clearTimeout(timer);
    this.#child.unref();
    return this.#hasExited;
  }
}

async function chownAll(directory: string, user: { uid: number; gid: number }): Promise<void> {
  await chown(directory, user.uid, user.gid);
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    await chown(join(entry.parentPath, entry.name), user.uid, user.gid);
  }
}

function serverEnvironment(): NodeJS.ProcessEnv {
  // PG* variables of the person who runs the tests must not reach the servers.
  return { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC' };
}

function formatSettings(settings: Readonly<Record<string, string>>): string {
  const lines = Object.entries(settings).map(
    ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`,
  );
  return `\n${lines.join('')}`;
}

async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (address !== null && typeof address === 'object') resolve(address.port);
        else reject(new Error('no free port'));
      });
    });
  });
}
