import { setTimeout as delay } from 'node:timers/promises';
import { customerRows } from './customers.js';
import type { Mesh } from './mesh.js';
import type { QueryFunction } from './postgres.js';

export type LoadKind = 'insert' | 'update' | 'delete';

/** One statement per kind; `$1` is the row's bigint key. */
export type LoadStatements = Readonly<Partial<Record<LoadKind, string>>>;

export interface LoadOptions {
  readonly mesh: Mesh;
  readonly statements: LoadStatements;
  /** Rows with keys 1 to this are there already; only those are updated, none of them is deleted. */
  readonly existingRows: number;
  /** Over all nodes together. */
  readonly ratePerSecond: number;
}

export interface Load {
  /** Committed so far, on all nodes. */
  readonly writes: number;
  /** A statement failed and the load has ended; `stop` tells why. */
  readonly hasFailed: boolean;
  /** Ends the load after the statements that run; rejects if any statement failed. */
  stop(): Promise<{ readonly writes: number }>;
}

export const CUSTOMERS_LOAD: LoadStatements = {
  insert: `INSERT INTO customers ${customerRows('$1', '$1')}`,
  update: 'UPDATE customers SET balance = balance + 1, updated_at = now() WHERE id = $1',
  delete: 'DELETE FROM customers WHERE id = $1',
};

/** Spreads updates over the table: coprime to any table size that is not a multiple of it. */
const STRIDE = 7_919;

/**
 * Writes to all nodes at once without conflicts: with N nodes, node number i (from 0) touches only
 * keys that leave the rest i modulo N + 1. Keys with the rest N are nobody's: `isLoadKey` says no.
 */
export function startLoad(options: LoadOptions): Load {
  const stopping = new AbortController();
  const count = { writes: 0 };
  let hasFailed = false;
  const running = options.mesh.names.map(async (name, index) => {
    const { database } = options.mesh;
    try {
      await options.mesh.node(name).session(database, async (query) => {
        await writeUntil(stopping.signal, { ...options, index, query, count });
      });
    } catch (error) {
      hasFailed = true;
      stopping.abort();
      throw error;
    }
  });
  const finished = Promise.allSettled(running);
  return {
    get writes() {
      return count.writes;
    },
    get hasFailed() {
      return hasFailed;
    },
    async stop() {
      stopping.abort();
      const failed = (await finished).find((outcome) => outcome.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      return { writes: count.writes };
    },
  };
}

/** Whether a load on `mesh` may ever touch the row. */
export function isLoadKey(mesh: Mesh, key: number): boolean {
  return key % (mesh.names.length + 1) !== mesh.names.length;
}

interface WriterOptions extends LoadOptions {
  readonly index: number;
  readonly query: QueryFunction;
  readonly count: { writes: number };
}

async function writeUntil(stop: AbortSignal, options: WriterOptions): Promise<void> {
  const { mesh, statements, query, count } = options;
  const pauseMs = (1_000 * mesh.names.length) / options.ratePerSecond;
  const kinds = Object.keys(statements) as LoadKind[];
  const keys = new LoadKeys(options);
  const startedAt = performance.now();
  for (let turn = 0; !stop.aborted; turn += 1) {
    const kind = kinds[turn % kinds.length] ?? 'update';
    const key = keys.take(kind);
    const sql = statements[kind];
    if (key !== undefined && sql !== undefined) {
      await query(sql, [String(key)]);
      count.writes += 1;
    }
    const aheadMs = startedAt + (turn + 1) * pauseMs - performance.now();
    if (aheadMs > 0) await delay(aheadMs, undefined, { signal: stop }).catch(() => undefined);
  }
}

/** The keys that one node's writer may touch. */
class LoadKeys {
  readonly #modulus: number;
  readonly #rest: number;
  readonly #existing: number;
  readonly #inserted: number[] = [];
  #nextInsert: number;
  #updates = 0;

  constructor({ mesh, index, existingRows }: WriterOptions) {
    this.#modulus = mesh.names.length + 1;
    this.#rest = index;
    this.#existing = Math.floor(existingRows / this.#modulus);
    this.#nextInsert = (this.#existing + 1) * this.#modulus + index;
  }

  /** Undefined: there is no row to do that to. Only rows of this load are deleted, oldest first. */
  take(kind: LoadKind): number | undefined {
    switch (kind) {
      case 'insert': {
        const key = this.#nextInsert;
        this.#nextInsert += this.#modulus;
        this.#inserted.push(key);
        return key;
      }
      case 'update': {
        if (this.#existing === 0) return undefined;
        this.#updates += 1;
        return ((this.#updates * STRIDE) % this.#existing) * this.#modulus + this.#rest;
      }
      case 'delete':
        return this.#inserted.shift();
    }
  }
}
