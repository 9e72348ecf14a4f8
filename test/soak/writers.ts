import { setTimeout as delay } from 'node:timers/promises';
import type { Mesh } from '../support/mesh.js';
import type { QueryFunction } from '../support/postgres.js';

export const SOAK_DDL = `
  CREATE TABLE items (id bigint PRIMARY KEY, v int, pad text);
  CREATE TABLE notes (k text PRIMARY KEY, v int)`;
export const SOAK_TABLES = ['items', 'notes'];

/** Each node writes its own keys: those that leave its number modulo this. The last rest is everybody's. */
const SHARE = 4;
const ROWS = 40_000;
const BATCH = 800;
const RECONNECT_MS = 300;

export async function fillSoakTables(mesh: Mesh): Promise<void> {
  await mesh.query(
    'n1',
    `INSERT INTO items SELECT i, 0, repeat('p', (i % 60)::int) FROM generate_series(1, ${ROWS}) i`,
  );
  await mesh.query('n1', `INSERT INTO notes SELECT 'k' || i, 0 FROM generate_series(1, ${ROWS}) i`);
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
        for (; !isStopping(); turn++) await this.#turn(query, index, turn);
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
  }

  /** What a node that goes away breaks off is not counted, also where it was committed. */
  async #tryOn(node: string, work: (query: QueryFunction) => Promise<void>): Promise<void> {
    await this.#mesh
      .node(node)
      .session(this.#mesh.database, work)
      .catch(() => undefined);
  }
}
