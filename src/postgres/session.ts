import type pg from 'pg';
import { sleep, throwIfAborted } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { NodeConfig } from '../config/config.js';
import { connectClient } from './client-config.js';
import { toAcedError } from './connect-error.js';
import type { Greeting } from './greeting.js';

/** One row as the server sent it: every value in its text form, SQL NULL as null. */
export type TextRow = readonly (string | null)[];

/** A text parameter; an array becomes a PostgreSQL array of text; bytes are a value's binary form. */
export type Param = string | null | readonly (string | null)[] | Buffer;

export interface SessionOptions {
  /** Seen in pg_stat_activity. */
  readonly applicationName: string;
  /** See ConnectOptions. */
  readonly hasUserPath?: boolean;
  /** Ends the attempt to connect with CANCELLED. */
  readonly signal?: AbortSignal;
}

/** Values never go through pg's type parsers: they would round, shift or reformat them. */
const RAW_TEXT = { getTypeParser: () => (value: unknown) => value };

/** How long the server may take to see a connection off. */
const CLOSE_GRACE_MS = 1_000;

/** How long a cancelled query may take to stop before its connection is given up. */
const CANCEL_GRACE_MS = 5_000;

/**
 * A statement that a session prepares once: for one whose planning costs more than its work. The server
 * plans it again when what it reads was changed.
 */
export interface PreparedSql {
  /** Unique among them. */
  readonly name: string;
  readonly text: string;
}

/** One connection with pinned settings, whose results are raw text. Queries run one at a time. */
export class Session {
  readonly node: NodeConfig;
  readonly client: pg.Client;
  readonly backendPid: number;
  /** As `server_version_num`, e.g. 180004. */
  readonly serverVersion: number;
  /** See Greeting. */
  readonly databaseId: string;
  #isBroken = false;
  #lastQuery: Promise<unknown> = Promise.resolve();

  private constructor(node: NodeConfig, client: pg.Client, identity: Greeting) {
    this.node = node;
    this.client = client;
    this.backendPid = identity.backendPid;
    this.serverVersion = identity.serverVersion;
    this.databaseId = identity.databaseId;
    client.on('error', () => {
      this.#isBroken = true;
    });
    client.on('end', () => {
      this.#isBroken = true;
    });
  }

  /** Errors: those of connectClient (NODE_UNREACHABLE, AUTH_FAILED, SETTING_NOT_TAKEN, ...). */
  static async connect(node: NodeConfig, options: SessionOptions): Promise<Session> {
    const { client, ...identity } = await connectClient(node, options);
    return new Session(node, client, identity);
  }

  /** The connection is gone, or its state is unknown; no further query will succeed. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Outside any transaction block: safe to hand to somebody else. */
  get isIdle(): boolean {
    return !this.#isBroken && this.client.getTransactionStatus() === 'I';
  }

  /**
   * Runs one statement, with `params` by the extended protocol. Without params several statements
   * may be given; their rows come back one after another. Errors: toAcedError's; CANCELLED once
   * `signal` aborts, after the server has stopped working on the query.
   */
  async query(
    sql: string | PreparedSql,
    params: readonly Param[] = [],
    signal?: AbortSignal,
  ): Promise<TextRow[]> {
    throwIfAborted(signal);
    // pg deprecates queueing inside its client; an earlier query's failure is its own caller's.
    const turn = this.#lastQuery.then(() => this.#run(sql, params, signal));
    this.#lastQuery = turn.catch(() => undefined);
    return turn;
  }

  /** Never fails: a connection that is already gone counts as closed. */
  async close(): Promise<void> {
    this.#isBroken = true;
    // A server that is out of reach never answers, and must not hold up our own end.
    const timer = setTimeout(() => this.destroy(), CLOSE_GRACE_MS);
    await this.client.end().catch(() => undefined);
    clearTimeout(timer);
  }

  /** Gives the connection up without waiting for the server. */
  destroy(): void {
    this.#isBroken = true;
    this.client.connection.stream.destroy();
  }

  async #run(
    sql: string | PreparedSql,
    params: readonly Param[],
    signal: AbortSignal | undefined,
  ): Promise<TextRow[]> {
    throwIfAborted(signal);
    if (this.#isBroken) {
      throw new AcedError('NODE_UNREACHABLE', `connection to node ${this.node.name} was lost`);
    }
    const answer = this.client.query<(string | null)[]>({
      ...(typeof sql === 'string' ? { text: sql } : sql),
      values: [...params],
      rowMode: 'array',
      types: RAW_TEXT,
    });
    let cancelling: Promise<void> | undefined;
    const onAbort = (): void => {
      cancelling = this.#cancel(answer);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const result: unknown = await answer;
      return collectRows(result);
    } catch (error) {
      if (signal?.aborted === true) {
        throw new AcedError('CANCELLED', 'cancelled', { cause: error });
      }
      const known = toAcedError(error, this.node, 'running a query');
      // The server tells that it ends the session before the connection closes.
      if (known.code === 'NODE_UNREACHABLE') this.#isBroken = true;
      throw known;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      // A cancel request that is still under way could hit the next query of this session.
      await cancelling;
    }
  }

  /**
   * Asks the server to stop the running query, through a second connection so that it works over
   * TLS too. A server that does not stop in time loses the connection.
   */
  async #cancel(answer: Promise<unknown>): Promise<void> {
    const done = new AbortController();
    const ended = answer.then(
      () => done.abort(),
      () => done.abort(),
    );
    const giveUp = sleep(CANCEL_GRACE_MS, done.signal).then(
      () => this.destroy(),
      () => undefined,
    );
    try {
      const { client } = await connectClient(this.node, { applicationName: 'aced cancel' });
      try {
        await client.query('SELECT pg_catalog.pg_cancel_backend($1)', [this.backendPid]);
      } finally {
        await client.end();
      }
    } catch {
      // No second connection: only closing this one stops the wait.
      this.destroy();
    }
    await Promise.all([ended, giveUp]);
  }
}

/** pg gives one result, or an array of them for several statements. */
function collectRows(result: unknown): TextRow[] {
  const results = (Array.isArray(result) ? result : [result]) as { rows: TextRow[] }[];
  const [first] = results;
  if (results.length === 1 && first !== undefined) return first.rows;
  return results.flatMap((one) => one.rows);
}
