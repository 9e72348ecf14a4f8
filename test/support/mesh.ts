import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import type { Config, NodeConfig } from '../../src/config/config.js';
import type { PostgresMajor } from './binaries.js';
import { startServer, type TestServer } from './postgres.js';
import { waitFor } from './wait.js';

export interface MeshOptions {
  /** How many; they are named n1, n2, ... */
  readonly nodes: number;
  /** Default 18. Below 16 there is no `origin = none`: then n1 alone publishes, to all others. */
  readonly major?: PostgresMajor;
  /** Default `app`. */
  readonly database?: string;
  /** The cluster's name in the service file and the Config. Default `demo`. */
  readonly cluster?: string;
  /** DDL that runs on every node; tables with a primary key are then replicated. */
  readonly tables?: string;
  /** postgresql.conf of every node. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface ConfigOverrides extends Partial<
  Omit<
    Config,
    'tree' | 'scrub' | 'diff' | 'stream' | 'drift' | 'metrics' | 'hooks' | 'track' | 'canary'
  >
> {
  readonly scrub?: Partial<Config['scrub']>;
  readonly tree?: Partial<Config['tree']>;
  readonly diff?: Partial<Config['diff']>;
  readonly stream?: Partial<Config['stream']>;
  readonly drift?: Partial<Config['drift']>;
  readonly metrics?: Partial<Config['metrics']>;
  readonly hooks?: Partial<Config['hooks']>;
  readonly track?: Partial<Config['track']>;
  readonly canary?: Partial<Config['canary']>;
}

const PUBLICATION = 'mesh';
export const DRIFT_ORIGIN = 'mesh_drift';
const FIRST_MAJOR_WITH_ORIGIN_FILTER = 16;
const REPLICATION_INTERVAL_MS = 5;

interface Link {
  readonly from: string;
  readonly to: string;
}

/** A cluster with native logical replication in both directions between all nodes, all running. */
export async function startMesh(options: MeshOptions): Promise<Mesh> {
  const major = options.major ?? 18;
  const names = Array.from({ length: options.nodes }, (_, index) => `n${index + 1}`);
  const settings = options.settings ?? {};
  const started = await Promise.allSettled(names.map(() => startServer({ major, settings })));
  const nodes = new Map<string, TestServer>();
  for (const [index, outcome] of started.entries()) {
    if (outcome.status === 'fulfilled') nodes.set(names[index] ?? '', outcome.value);
  }
  const mesh = new Mesh(nodes, options.database ?? 'app', options.cluster ?? 'demo');
  try {
    const failed = started.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    await mesh.connect(options.tables ?? '');
    return mesh;
  } catch (error) {
    await mesh.stop();
    throw error;
  }
}

export class Mesh {
  readonly nodes: ReadonlyMap<string, TestServer>;
  readonly names: readonly string[];
  readonly database: string;
  readonly cluster: string;
  readonly #links: readonly Link[];
  readonly #pausedSlots = new Set<string>();

  constructor(nodes: ReadonlyMap<string, TestServer>, database: string, cluster: string) {
    this.nodes = nodes;
    this.names = [...nodes.keys()];
    this.database = database;
    this.cluster = cluster;
    this.#links = this.names
      .flatMap((from) => this.names.map((to) => ({ from, to })))
      .filter(({ from, to }) => from !== to && (this.#filtersOrigin || from === 'n1'));
  }

  node(name: string): TestServer {
    const server = this.nodes.get(name);
    if (server === undefined) throw new Error(`the mesh has no node ${name}`);
    return server;
  }

  nodeConfigs(): NodeConfig[] {
    return this.names.map((name) => this.node(name).nodeConfig(this.database, name));
  }

  /** See TestServer.query. */
  async query(
    node: string,
    sql: string,
    params: readonly (string | null)[] = [],
  ): Promise<(string | null)[][]> {
    return this.node(node).query(this.database, sql, params);
  }

  /** The same statements on every node, at once. They replicate too, unless they are DDL. */
  async queryAll(sql: string): Promise<void> {
    await Promise.all(this.names.map((name) => this.query(name, sql)));
  }

  /** Creates the database, the tables and the replication; startMesh has done it. */
  async connect(tables: string): Promise<void> {
    await this.#each((name) => this.node(name).createDatabase(this.database));
    await this.#each(async (name) => {
      if (tables !== '') await this.query(name, tables);
      await this.query(name, `CREATE PUBLICATION ${PUBLICATION}`);
      await this.#publishNewTables(name);
    });
    // Slots apart from subscriptions: a slot waits for running transactions to end, so two nodes
    // that create subscriptions to each other at once would wait for ever.
    for (const { from, to } of this.#links) {
      await this.query(
        from,
        `SELECT pg_catalog.pg_create_logical_replication_slot('${slotName(from, to)}', 'pgoutput')`,
      );
    }
    for (const { from, to } of this.#links) {
      const { host, port, superuser } = this.node(from);
      const source = `host=${host} port=${port} user=${superuser} dbname=${this.database}`;
      const origin = this.#filtersOrigin ? ', origin = none' : '';
      const slot = slotName(from, to);
      await this.query(
        to,
        `CREATE SUBSCRIPTION ${slot} CONNECTION ${pg.escapeLiteral(source)} PUBLICATION ${PUBLICATION}
         WITH (create_slot = false, slot_name = '${slot}', copy_data = false${origin})`,
      );
    }
    await this.#waitForStreams();
  }

  /** Runs DDL everywhere and replicates the tables with a primary key that it made. */
  async addTables(ddl: string): Promise<void> {
    await this.queryAll(ddl);
    await this.#each((name) => this.#publishNewTables(name));
    for (const { from, to } of this.#links) {
      await this.query(
        to,
        `ALTER SUBSCRIPTION ${slotName(from, to)} REFRESH PUBLICATION WITH (copy_data = false)`,
      );
    }
    await this.#waitForStreams();
  }

  /**
   * Everything committed on any node before the call is then applied on all others, those with
   * paused replication excepted. Further writes meanwhile do not prolong the wait. `ask`: on sessions
   * of the caller's, which spares a connection for each question.
   */
  async waitForReplication(
    timeoutMs = 30_000,
    ask: Mesh['query'] = (node, sql, params) => this.query(node, sql, params),
  ): Promise<void> {
    await this.#each(async (from) => {
      const slots = this.#links
        .filter((link) => link.from === from)
        .map((link) => slotName(from, link.to))
        .filter((slot) => !this.#pausedSlots.has(slot));
      const [[target] = []] = await ask(from, 'SELECT pg_catalog.pg_current_wal_insert_lsn()');
      // A later commit: the walsender's position may otherwise end a page header short of the target.
      await ask(from, "SELECT pg_catalog.pg_logical_emit_message(true, 'mesh', '')");
      const sql = `SELECT count(*) FROM pg_catalog.pg_replication_slots
        WHERE slot_name = ANY ($1::text[]) AND confirmed_flush_lsn >= $2::pg_lsn`;
      const params = [`{${slots.join(',')}}`, target ?? null];
      const reached = async (): Promise<number> => Number((await ask(from, sql, params))[0]?.[0]);
      await waitFor(async () => (await reached()) === slots.length, {
        what: `the subscribers of ${from} to reach ${target ?? '?'}`,
        timeoutMs,
        intervalMs: REPLICATION_INTERVAL_MS,
      });
    });
  }

  /**
   * Writes that stay on this node, in one transaction: they carry a replication origin, which
   * `origin = none` subscribers leave out. Below 16 only n1 publishes, and would publish these.
   */
  async driftSql(node: string, sql: string): Promise<void> {
    await this.node(node).session(this.database, async (query) => {
      // An origin has one user at a time.
      await query("SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtext('mesh_drift'))");
      await query(`SELECT pg_catalog.pg_replication_origin_create('${DRIFT_ORIGIN}')
        WHERE pg_catalog.pg_replication_origin_oid('${DRIFT_ORIGIN}') IS NULL`);
      await query(`SELECT pg_catalog.pg_replication_origin_session_setup('${DRIFT_ORIGIN}')`);
      await query(sql);
      await query('SELECT pg_catalog.pg_replication_origin_session_reset()');
    });
  }

  /** Changes on `from` no longer reach `to`, until resumeReplication. */
  async pauseReplication(from: string, to: string): Promise<void> {
    const slot = slotName(from, to);
    this.#pausedSlots.add(slot);
    await this.query(to, `ALTER SUBSCRIPTION ${slot} DISABLE`);
    const sql = 'SELECT active FROM pg_catalog.pg_replication_slots WHERE slot_name = $1';
    await waitFor(async () => (await this.#one(from, sql, [slot]))[0] === 'f', {
      what: `replication from ${from} to ${to} to pause`,
    });
  }

  async resumeReplication(from: string, to: string): Promise<void> {
    const slot = slotName(from, to);
    await this.query(to, `ALTER SUBSCRIPTION ${slot} ENABLE`);
    this.#pausedSlots.delete(slot);
  }

  /** ACE's form: `[cluster]` with what is shared, `[cluster.node]` with the rest. Returns the path. */
  async writeServiceFile(directory: string): Promise<string> {
    const path = join(directory, 'pg_service.conf');
    const [first] = this.nodeConfigs();
    const sections = this.nodeConfigs().map(
      ({ name, host, port }) => `[${this.cluster}.${name}]\nhost=${host}\nport=${port}\n`,
    );
    const shared = `[${this.cluster}]\ndbname=${this.database}\nuser=${first?.user ?? ''}\nsslmode=disable\n`;
    await writeFile(path, [shared, ...sections].join('\n'));
    return path;
  }

  /** A complete Config with small, quick values, for engines in the test's own process. */
  config(stateDir: string, overrides: ConfigOverrides = {}): Config {
    const { tree, scrub, diff, stream, drift, metrics, hooks, track, canary, ...rest } = overrides;
    return Object.freeze({
      cluster: this.cluster,
      nodes: Object.freeze(this.nodeConfigs().map((node) => Object.freeze(node))),
      stateDir,
      socketPath: join(stateDir, 'aced.sock'),
      maxCommands: 32,
      logLevel: 'silent',
      publicationName: `aced_${this.cluster}`,
      slotName: `aced_${this.cluster}`,
      nodeSchema: 'aced',
      tables: [],
      standby: null,
      schedule: Object.freeze({ jobs: [], left: [], reportDir: join(stateDir, 'reports') }),
      api: Object.freeze({
        port: null,
        host: '127.0.0.1',
        certFile: null,
        keyFile: null,
        clientCaFile: null,
        clientCrlFile: null,
        allowedNames: [],
      }),
      ...rest,
      tree: Object.freeze({
        blockRows: 100,
        maxBlocks: 200_000,
        maxCpuRatio: 0.5,
        refreshQuietMs: 100,
        refreshBudget: 0.5,
        rowDigestBytes: 64 * 1024 ** 2,
        catalogWatchMs: 1_000,
        ...tree,
      }),
      // Off, unless a test is about it.
      scrub: Object.freeze({
        budget: 0,
        intervalMs: 86_400_000,
        maxActiveBackends: 8,
        ...scrub,
      }),
      diff: Object.freeze({
        maxDiffRows: 1_000_000,
        compareUnitSize: 1_000,
        concurrencyFactor: 0.5,
        settleTimeoutMs: 5_000,
        ...diff,
      }),
      stream: Object.freeze({
        flushIntervalMs: 50,
        connectTimeoutMs: 5_000,
        tcpUserTimeoutMs: 30_000,
        fenceTimeoutMs: 10_000,
        maxSlotWalBytes: 1_073_741_824,
        failoverSlot: 'auto',
        ...stream,
      }),
      drift: Object.freeze({
        isEnabled: true,
        openRowsBytes: 16 * 1024 ** 2,
        eventsFile: null,
        eventsHaveKeys: false,
        ...drift,
      }),
      hooks: Object.freeze({ webhook: null, authorization: null, command: null, ...hooks }),
      metrics: Object.freeze({ port: null, host: '127.0.0.1', perTable: 'auto', ...metrics }),
      canary: Object.freeze({ intervalMs: 0, timeoutMs: 30_000, ...canary }),
      track: Object.freeze({
        include: [],
        exclude: [],
        publications: [],
        replicationSets: [],
        budget: 1,
        intervalMs: 100,
        ...track,
      }),
    });
  }

  /** Takes replication, all slots and the database away: the servers are free for another mesh. */
  async disconnect(): Promise<void> {
    await this.#each(async (to) => {
      for (const link of this.#links.filter((one) => one.to === to)) {
        const slot = slotName(link.from, to);
        await this.query(to, `ALTER SUBSCRIPTION ${slot} DISABLE`);
        await this.query(to, `ALTER SUBSCRIPTION ${slot} SET (slot_name = NONE)`);
        await this.query(to, `DROP SUBSCRIPTION ${slot}`);
      }
    });
    await this.#each(async (name) => {
      const server = this.node(name);
      const ofDatabase = 'FROM pg_catalog.pg_replication_slots WHERE database = $1';
      await waitFor(
        async () => {
          const active = await server.query(
            'postgres',
            `SELECT pg_catalog.pg_terminate_backend(active_pid) ${ofDatabase} AND active`,
            [this.database],
          );
          return active.length === 0;
        },
        { what: `the slots of ${name} to be let go`, intervalMs: REPLICATION_INTERVAL_MS },
      );
      await server.query(
        'postgres',
        `SELECT pg_catalog.pg_drop_replication_slot(slot_name) ${ofDatabase}`,
        [this.database],
      );
      await server.query(
        'postgres',
        `DROP DATABASE ${pg.escapeIdentifier(this.database)} WITH (FORCE)`,
      );
    });
  }

  /** Lets all servers live on after this process; returns their directories. */
  detach(): string[] {
    return [...this.nodes.values()].map((server) => server.detach());
  }

  /** Ends all servers and removes their files. May be called twice. */
  async stop(): Promise<void> {
    // Fast shutdowns would wait for each other's apply workers.
    await Promise.all([...this.nodes.values()].map((server) => server.stop('immediate')));
  }

  get #filtersOrigin(): boolean {
    return [...this.nodes.values()].every(({ major }) => major >= FIRST_MAJOR_WITH_ORIGIN_FILTER);
  }

  async #publishNewTables(node: string): Promise<void> {
    const rows = await this.query(
      node,
      `SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
       FROM pg_catalog.pg_class c
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
         AND n.nspname NOT IN ('pg_catalog', 'information_schema')
         AND EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
           JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
           WHERE r.prrelid = c.oid AND p.pubname = '${PUBLICATION}')
       ORDER BY 1`,
    );
    if (rows.length === 0) return;
    const list = rows.map(([table]) => table).join(', ');
    await this.query(node, `ALTER PUBLICATION ${PUBLICATION} ADD TABLE ${list}`);
  }

  /** Until then an early write waits for a worker that has not started. */
  async #waitForStreams(): Promise<void> {
    await this.#each(async (from) => {
      const expected = this.#links.filter((link) => link.from === from).length;
      const sql =
        "SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE slot_name LIKE 'mesh\\_%' AND active";
      await waitFor(async () => Number((await this.#one(from, sql))[0]) === expected, {
        what: `all subscribers of ${from} to connect`,
      });
    });
    await this.#each(async (to) => {
      const sql = "SELECT count(*) FROM pg_catalog.pg_subscription_rel WHERE srsubstate <> 'r'";
      await waitFor(async () => Number((await this.#one(to, sql))[0]) === 0, {
        what: `the subscribed tables of ${to} to be ready`,
      });
    });
  }

  async #one(
    node: string,
    sql: string,
    params: readonly (string | null)[] = [],
  ): Promise<(string | null)[]> {
    return (await this.query(node, sql, params))[0] ?? [];
  }

  async #each(work: (name: string) => Promise<void>): Promise<void> {
    await Promise.all(this.names.map(work));
  }
}

/** Also the subscription's name. */
function slotName(from: string, to: string): string {
  return `mesh_${to}_from_${from}`;
}
