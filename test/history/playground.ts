import { Mesh } from '../support/mesh.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import { NodeSessions } from './connections.js';
import { HistoryFailure } from './outcome.js';
import type { Shape } from './steps.js';
import { EXTENSIONS, setupSql } from './tables.js';

const CLUSTER = 'demo';
const QUIET_TIMEOUT_MS = 30_000;

/** Quick confirmations: a history waits for replication every few steps. */
const SETTINGS = {
  max_prepared_transactions: '20',
  wal_writer_delay: '5ms',
  wal_retrieve_retry_interval: '50ms',
  shared_buffers: '32MB',
  autovacuum: 'off',
};

/**
 * Large transactions leave memory while they are decoded. Not in 18, whose own subscribers do not get
 * over what it sends of those that are rolled back; ours does (test/pgoutput/rolled-back.test.ts).
 */
const LITTLE_MEMORY = { logical_decoding_work_mem: '64kB' };

/** Servers that many histories are played on, each in databases of its own. */
export class Servers {
  readonly shape: Shape;
  readonly #nodes: ReadonlyMap<string, TestServer>;
  #lastDatabase = 0;

  private constructor(shape: Shape, nodes: ReadonlyMap<string, TestServer>) {
    this.shape = shape;
    this.#nodes = nodes;
  }

  static async start(shape: Shape): Promise<Servers> {
    const { major } = shape;
    const settings = major === 18 ? SETTINGS : { ...SETTINGS, ...LITTLE_MEMORY };
    const servers = await Promise.all(
      Array.from({ length: shape.nodes }, () => startServer({ major, settings })),
    );
    const nodes = new Map(servers.map((server, index) => [`n${index + 1}`, server]));
    const extensions = EXTENSIONS.map((name) => `CREATE EXTENSION ${name}`).join('; ');
    await Promise.all(servers.map((server) => server.query('template1', extensions)));
    return new Servers(shape, nodes);
  }

  /** A mesh with these tables, all of them with the same rows everywhere. */
  async open(tables: readonly string[]): Promise<Playground> {
    this.#lastDatabase += 1;
    const mesh = new Mesh(this.#nodes, `app${this.#lastDatabase}`, CLUSTER);
    await mesh.connect(tables.map(setupSql).join(';\n'));
    return new Playground(mesh);
  }

  /** What the servers' logs say of processes that crashed. Servers that were killed say nothing. */
  async crashes(): Promise<string[]> {
    const logs = await Promise.all([...this.#nodes.values()].map((server) => server.readLog()));
    return logs.flatMap((log) =>
      log
        .split('\n')
        .filter((line) =>
          /terminated by signal [^9]|Failed process was running|PANIC|TRAP:/.test(line),
        ),
    );
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#nodes.values()].map((server) => server.stop('immediate')));
  }
}

/** One history's databases, and the sessions that it is played through. */
export class Playground {
  readonly mesh: Mesh;
  readonly sessions: ReadonlyMap<string, NodeSessions>;
  readonly #paused: { readonly from: string; readonly to: string }[] = [];

  constructor(mesh: Mesh) {
    this.mesh = mesh;
    this.sessions = new Map(mesh.names.map((node) => [node, new NodeSessions(mesh, node)]));
  }

  on(node: string): NodeSessions {
    const sessions = this.sessions.get(node);
    if (sessions === undefined) throw new RangeError(`no node ${node}`);
    return sessions;
  }

  get isPaused(): boolean {
    return this.#paused.length > 0;
  }

  async pause(from: string, to: string): Promise<void> {
    if (this.#paused.some((link) => link.from === from && link.to === to)) return;
    await this.mesh.pauseReplication(from, to);
    this.#paused.push({ from, to });
  }

  async resume(): Promise<void> {
    for (const { from, to } of this.#paused.splice(0)) await this.mesh.resumeReplication(from, to);
  }

  /** All that is committed is applied wherever replication is not paused. */
  async quiet(): Promise<void> {
    try {
      // An upper bound for one hop; changes take one hop in this mesh.
      await this.mesh.waitForReplication(QUIET_TIMEOUT_MS, (node, sql, params) =>
        this.on(node).main.query(sql, params),
      );
    } catch (error) {
      const logs = await Promise.all(
        this.mesh.names.map(async (node) => {
          const log = await this.mesh.node(node).readLog();
          return `${node}: ${log.split('\n').slice(-12).join('\n')}`;
        }),
      );
      throw new HistoryFailure('replication stuck', `${String(error)}\n${logs.join('\n')}`);
    }
  }

  /** Nothing is open, nothing is in flight. */
  async rest(): Promise<void> {
    await this.endOpen();
    await this.resume();
    await this.quiet();
  }

  /** Ends every transaction that was left open or prepared. */
  async endOpen(): Promise<void> {
    await Promise.all(
      [...this.sessions.values()].map(async (one) => {
        if (one.isOpen) {
          one.isOpen = false;
          await one.open.close();
        }
        const prepared = await one.main.query(
          'SELECT gid FROM pg_prepared_xacts WHERE database = current_database()',
        );
        for (const [gid] of prepared) await one.main.query(`ROLLBACK PREPARED '${gid ?? ''}'`);
      }),
    );
  }

  /** New partitions are replicated from here on. */
  async refreshSubscriptions(): Promise<void> {
    await this.rest();
    await Promise.all(
      [...this.sessions.values()].map(async ({ main }) => {
        const names = await main.query(
          `SELECT subname FROM pg_subscription
            WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        );
        for (const [name] of names) {
          await main.query(
            `ALTER SUBSCRIPTION "${name ?? ''}" REFRESH PUBLICATION WITH (copy_data = false)`,
          );
        }
      }),
    );
    await waitFor(
      async () => {
        const states = await Promise.all(
          [...this.sessions.values()].map(({ main }) =>
            main.query("SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r'"),
          ),
        );
        return states.every((rows) => rows.length === 0);
      },
      { what: 'the subscriptions to be ready', intervalMs: 5 },
    );
  }

  async close(): Promise<void> {
    await this.endOpen();
    await Promise.all([...this.sessions.values()].map((one) => one.close()));
    await this.mesh.disconnect();
  }
}
