import { setTimeout as delay } from 'node:timers/promises';
import type { Mesh } from '../support/mesh.js';
import type { QueryFunction } from '../support/postgres.js';

export const SOAK_DDL = `
  CREATE TABLE items (id bigint PRIMARY KEY, v int, pad text);
  CREATE TABLE notes (k text PRIMARY KEY, v int);
  CREATE TABLE disputed (id int PRIMARY KEY, v int, at bigint NOT NULL);
  CREATE FUNCTION newer_wins() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RETURN CASE WHEN new.at > old.at THEN new END; END $$;
  CREATE TRIGGER newer_wins BEFORE UPDATE ON disputed FOR EACH ROW EXECUTE FUNCTION newer_wins();
  ALTER TABLE disputed ENABLE REPLICA TRIGGER newer_wins`;
export const SOAK_TABLES = ['items', 'notes', 'disputed'];

/** Each node writes its own keys: those that leave its number modulo this. The last rest is everybody's. */
const SHARE = 4;
const ROWS = 40_000;
const BATCH = 800;
const RECONNECT_MS = 300;
/** Between two turns of a node: a daemon that is always minutes behind judges nothing. */
const REST_MS = 50;
const DISPUTED_ROWS = 500;
/** Rows of the table that all nodes write, a turn. */
const DISPUTED_BATCH = 20;

export async function fillSoakTables(mesh: Mesh): Promise<void> {
  await mesh.query(
    'n1',
    `INSERT INTO items SELECT i, 0, repeat('p', (i % 60)::int) FROM generate_series(1, ${ROWS}) i`,
  );
  await mesh.query('n1', `INSERT INTO notes SELECT 'k' || i, 0 FROM generate_series(1, ${ROWS}) i`);
  await mesh.query(
    'n1',
    `INSERT INTO disputed SELECT i, 0, 0 FROM generate_series(1, ${DISPUTED_ROWS}) i`,
  );
}

/** A row that nobody writes, of so many. */
export function idleRow(number: number): number {
  return ROWS / 2 + SHARE * (number % 1_000) + SHARE - 1;
}

/** Writes on all nodes at once; a node that restarts is written to again when it is back. */
export class SoakWriters {
  readonly #mesh: Mesh;
  readonly #stopping = new AbortController();
  readonly #running: Promise<unknown>;
  #changes = 0;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
    this.#running = Promise.all(mesh.names.map((node, index) => this.#write(node, index)));
  }

  /** Rows changed by transactions that are known to be committed. */
  get changes(): number {
    return this.#changes;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async writeLarge(node: string, rows: number): Promise<void> {
    const index = this.#mesh.names.indexOf(node);
    await this.#tryOn(node, async (query) => {
      await query(
        `UPDATE items SET v = v + 1 WHERE id % ${SHARE} = ${index} AND id <= ${rows * SHARE}`,
      );
      this.#changes += Math.min(rows, ROWS / SHARE);
    });
  }

  async writeAlike(nodes: readonly string[], value: number): Promise<void> {
    await Promise.all(
      nodes.map((node) =>
        this.#tryOn(node, async (query) => {
          await query(
            `UPDATE items SET v = ${value} WHERE id % ${SHARE} = ${SHARE - 1} AND id < 2000`,
          );
          this.#changes += 2000 / SHARE;
        }),
      ),
    );
  }

  async #write(node: string, index: number): Promise<void> {
    const isStopping = (): boolean => this.#stopping.signal.aborted;
    let turn = 0;
    while (!isStopping()) {
      await this.#tryOn(node, async (query) => {
        for (; !isStopping(); turn++) {
          await this.#turn(query, index, turn);
          await delay(REST_MS);
        }
      });
      if (!isStopping()) await delay(RECONNECT_MS);
    }
  }

  async #turn(query: QueryFunction, index: number, turn: number): Promise<void> {
    const from = ((turn * 7) % (ROWS / BATCH)) * BATCH;
    const own = `id % ${SHARE} = ${index}`;
    const range = `BETWEEN ${from + 1} AND ${from + BATCH}`;
    await query(`UPDATE items SET v = v + 1 WHERE id ${range} AND ${own}`);
    await query(
      `UPDATE notes SET v = v + 1 WHERE k IN
         (SELECT 'k' || i FROM generate_series(${from + 1}, ${from + BATCH}) i WHERE i % ${SHARE} = ${index})`,
    );
    this.#changes += (2 * BATCH) / SHARE;
    // Rows that come and go, too: they are there at even turns.
    const base = 1_000_000 + from;
    if (turn % 2 === 0) {
      await query(
        `INSERT INTO items SELECT i, ${turn}, 'new' FROM generate_series(${base}, ${base + 99}) i
          WHERE i % ${SHARE} = ${index} ON CONFLICT (id) DO NOTHING`,
      );
    } else {
      await query(`DELETE FROM items WHERE id BETWEEN 1000000 AND 1900000 AND ${own}`);
    }
    this.#changes += 100 / SHARE;
    await this.#dispute(query, index, turn);
  }

  /** Whoever wrote last wins, on every node: no two writes have the same time. */
  async #dispute(query: QueryFunction, index: number, turn: number): Promise<void> {
    const from = (turn * DISPUTED_BATCH) % DISPUTED_ROWS;
    await query(
      `UPDATE disputed SET v = ${turn}, at = (extract(epoch FROM clock_timestamp()) * 1e6)::bigint * 4 + ${index}
        WHERE id BETWEEN ${from + 1} AND ${from + DISPUTED_BATCH}`,
    );
    this.#changes += DISPUTED_BATCH;
  }

  /** What a node that goes away breaks off is not counted, also where it was committed. */
  async #tryOn(node: string, work: (query: QueryFunction) => Promise<void>): Promise<void> {
    await this.#mesh
      .node(node)
      .session(this.#mesh.database, work)
      .catch(() => undefined);
  }
}
