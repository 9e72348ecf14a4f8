import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { digestExpression } from '../../src/digest/digest-sql.js';
import { readClusterTable } from '../../src/cluster/cluster-table.js';
import { SessionPool } from '../../src/postgres/session-pool.js';
import type { Mesh } from '../support/mesh.js';

const SEED = { seed: 0x1234_5678_9abc_def0n, nullToken: '0123456789abcdef'.repeat(2) };

/** What the server alone needs for a job: the measures are held against it. */
export class Floors {
  readonly #mesh: Mesh;
  readonly #pools: ReadonlyMap<string, SessionPool>;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
    this.#pools = new Map(
      mesh
        .nodeConfigs()
        .map((node) => [
          node.name,
          new SessionPool(node, { max: 1, applicationName: 'bench', idleMs: 3_600_000 }),
        ]),
    );
  }

  /** Milliseconds of one pass of the digest over the table or some rows of it, on all nodes at once. */
  async digestPass(table: string, where = 'true'): Promise<number> {
    const signal = new AbortController().signal;
    const { spec } = await readClusterTable(this.#pools, { schema: 'public', name: table }, signal);
    const digest = digestExpression(spec.columns, SEED, 't');
    const sql = `SELECT count(*)::text, sum(${digest})::text FROM public."${table}" t WHERE ${where}`;
    const startedAt = performance.now();
    await Promise.all(
      Array.from(this.#pools.values(), (pool) => pool.use((session) => session.query(sql))),
    );
    return performance.now() - startedAt;
  }

  /**
   * Milliseconds of writing the rows that `where` selects on `source` over those of `target`: COPY
   * into a temporary table, then one INSERT ... ON CONFLICT. Nothing of it replicates. Reading them
   * is not counted.
   */
  async copyAndUpsert(source: string, target: string, where: string): Promise<number> {
    const rows = await this.#copyOut(source, `SELECT * FROM customers WHERE ${where}`);
    const assignments = await this.#mesh.query(
      target,
      `SELECT pg_catalog.string_agg(format('%1$I = excluded.%1$I', attname), ', ')
       FROM pg_catalog.pg_attribute WHERE attrelid = 'customers'::regclass AND attnum > 1 AND NOT attisdropped`,
    );
    return this.#copyAnd(target, {
      ...{ rows, incoming: 'LIKE public.customers' },
      statement: `INSERT INTO public.customers SELECT * FROM pg_temp.incoming
        ON CONFLICT (id) DO UPDATE SET ${assignments[0]?.[0] ?? ''}`,
    });
  }

  /** Milliseconds of deleting rows: COPY of their keys, then one DELETE ... USING. */
  async copyAndDelete(target: string, where: string): Promise<number> {
    const rows = await this.#copyOut(target, `SELECT id FROM customers WHERE ${where}`);
    return this.#copyAnd(target, {
      ...{ rows, incoming: 'id bigint' },
      statement: 'DELETE FROM public.customers t USING pg_temp.incoming i WHERE t.id = i.id',
    });
  }

  async #copyAnd(
    target: string,
    work: { readonly rows: Buffer[]; readonly incoming: string; readonly statement: string },
  ): Promise<number> {
    return this.#pool(target).use(async ({ client }) => {
      await client.query(`SELECT pg_catalog.pg_replication_origin_create('bench_floor')
        WHERE pg_catalog.pg_replication_origin_oid('bench_floor') IS NULL`);
      await client.query(`SELECT pg_catalog.pg_replication_origin_session_setup('bench_floor')`);
      const startedAt = performance.now();
      await client.query('BEGIN READ WRITE; SET LOCAL session_replication_role = replica');
      await client.query(`CREATE TEMPORARY TABLE incoming (${work.incoming}) ON COMMIT DROP`);
      await pipeline(
        Readable.from(work.rows),
        client.query(copyFrom('COPY pg_temp.incoming FROM STDIN')),
      );
      await client.query(work.statement);
      await client.query('COMMIT');
      const ms = performance.now() - startedAt;
      await client.query('SELECT pg_catalog.pg_replication_origin_session_reset()');
      return ms;
    });
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.#pools.values(), (pool) => pool.close()));
  }

  async #copyOut(node: string, select: string): Promise<Buffer[]> {
    const chunks: Buffer[] = [];
    await this.#pool(node).use(async ({ client }) => {
      const stream = client.query(
        copyTo(`COPY (${select.replace(' customers ', ' public.customers ')}) TO STDOUT`),
      );
      for await (const chunk of stream) chunks.push(chunk as Buffer);
    });
    return chunks;
  }

  #pool(node: string): SessionPool {
    const pool = this.#pools.get(node);
    if (pool === undefined) throw new Error(`no node ${node}`);
    return pool;
  }
}
