import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Mesh } from '../support/mesh.js';

export type Rows = (string | null)[][];

const RAW_TEXT = { getTypeParser: () => (value: unknown) => value };
const DRIFT_ORIGIN = 'history_drift';
const COMES_BACK_WITHIN_MS = 15_000;
const RETRY_MS = 20;
const CONNECTION_LOST = /terminat|ECONN|closed|not queryable|recovery|shutting down|starting up/i;

/** One session of one node that comes back after its server was restarted. */
export class Connection {
  readonly #mesh: Mesh;
  readonly #node: string;
  readonly #onConnect: readonly string[];
  #client: pg.Client | undefined;
  /** One statement at a time. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(mesh: Mesh, node: string, onConnect: readonly string[] = []) {
    this.#mesh = mesh;
    this.#node = node;
    this.#onConnect = onConnect;
  }

  /** Rows of raw text; of several statements one after another. A lost connection comes back. */
  async query(sql: string, params: readonly (string | null)[] = []): Promise<Rows> {
    const answer = this.#last.then(() => this.#queryAgain(sql, params));
    this.#last = answer.catch(() => undefined);
    return answer;
  }

  async #queryAgain(sql: string, params: readonly (string | null)[]): Promise<Rows> {
    const deadline = Date.now() + COMES_BACK_WITHIN_MS;
    for (;;) {
      try {
        return await this.#query(sql, params);
      } catch (error) {
        if (!(error instanceof Error) || !CONNECTION_LOST.test(error.message)) throw error;
        if (Date.now() > deadline) throw error;
        await this.close();
        await delay(RETRY_MS);
      }
    }
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => undefined);
  }

  async #query(sql: string, params: readonly (string | null)[]): Promise<Rows> {
    this.#client ??= await this.#connect();
    const text = {
      text: sql,
      values: [...params],
      rowMode: 'array' as const,
      types: RAW_TEXT,
    };
    const answer: unknown = await this.#client.query<(string | null)[]>(text);
    const results = (Array.isArray(answer) ? answer : [answer]) as { rows: Rows }[];
    return results.flatMap(({ rows }) => rows);
  }

  async #connect(): Promise<pg.Client> {
    const { host, port, superuser } = this.#mesh.node(this.#node);
    const { database } = this.#mesh;
    const client = new pg.Client({ host, port, database, user: superuser, ssl: false });
    client.on('error', () => undefined);
    await client.connect();
    for (const sql of this.#onConnect) await client.query(sql);
    return client;
  }
}

/** The sessions of one node that a history works through. */
export class NodeSessions {
  readonly main: Connection;
  /** Its changes carry an origin, so subscribers with `origin = none` leave them out. */
  readonly drift: Connection;
  /** For a transaction that stays open. */
  readonly open: Connection;
  /** Writes beside a diff. */
  readonly busy: Connection;
  isOpen = false;

  constructor(mesh: Mesh, node: string) {
    this.main = new Connection(mesh, node);
    this.open = new Connection(mesh, node);
    this.busy = new Connection(mesh, node);
    this.drift = new Connection(mesh, node, [
      `SELECT pg_replication_origin_create('${DRIFT_ORIGIN}')
        WHERE pg_replication_origin_oid('${DRIFT_ORIGIN}') IS NULL`,
      `SELECT pg_replication_origin_session_setup('${DRIFT_ORIGIN}')`,
    ]);
  }

  async close(): Promise<void> {
    await Promise.all([this.main, this.drift, this.open, this.busy].map((one) => one.close()));
  }
}
