import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import type { Config } from '../../src/config/config.js';
import { Engine } from '../../src/commands/engine.js';
import type { CommandName, CommandParams, CommandResults } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import type { PostgresMajor } from '../support/postgres.js';

const TABLE = `CREATE TABLE items (
  id bigint PRIMARY KEY, name text, price numeric, at timestamptz, tags text[], data jsonb)`;
const ROWS = `SELECT i, 'n' || i, i / 8.0, timestamptz '2024-01-01 00:00Z' + i * interval '1 min',
  ARRAY['a', NULL, i::text], jsonb_build_object('i', i)`;

/** The main job on every release that we support, in short: most other tests run on 18 alone. */
for (const major of [15, 16, 17, 18] satisfies PostgresMajor[]) {
  describe(`PostgreSQL ${major}`, () => {
    let mesh: Mesh;
    let stateDir: string;
    let config: Config;
    let engine: Engine;

    before(async () => {
      mesh = await startMesh({ nodes: 2, major, tables: TABLE });
      stateDir = await scratchDirectory();
      config = mesh.config(stateDir);
      await mesh.query('n1', `INSERT INTO items ${ROWS} FROM generate_series(1, 1000) i`);
      await mesh.waitForReplication();
      engine = await Engine.open(config, { log: silentLogger(), mode: 'daemon' });
    });

    after(async () => {
      await engine.close();
      await mesh.stop();
      await removeDirectory(stateDir);
    });

    async function run<Name extends CommandName>(
      name: Name,
      params: CommandParams[Name],
      file?: string,
    ): Promise<CommandResults[Name]> {
      const input = file === undefined ? {} : { inputPath: join(stateDir, file) };
      return engine.run(name, params, testContext(stateDir, input));
    }

    it('publishes a table while it is written, and no writer waits for that', async () => {
      await run('mtree-init', {});
      await mesh.node('n2').session('app', async (holder) => {
        await holder('BEGIN; LOCK TABLE items IN SHARE UPDATE EXCLUSIVE MODE');
        const building = run('mtree-build', { table: 'items', blockRows: 50 });
        await mesh.node('n2').session('app', async (query) => {
          const waiting =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'items'::regclass";
          while ((await query(waiting))[0]?.[0] === '0') await query('SELECT pg_sleep(0.01)');
          await query("SET statement_timeout = '5s'");
          await query('UPDATE items SET price = price WHERE id = 1');
        });
        await holder('COMMIT');
        assert.equal((await building).blocks, 20);
      });
    });

    it('follows changes of every kind', async () => {
      await mesh.query(
        'n1',
        `UPDATE items SET price = price + 0.01, data = NULL WHERE id % 100 = 0;
         UPDATE items SET id = id + 5000 WHERE id = 7;
         DELETE FROM items WHERE id % 90 = 80;
         INSERT INTO items ${ROWS} FROM generate_series(2001, 2200) i`,
      );
      await mesh.waitForReplication();
      assert.equal((await run('mtree-table-diff', { table: 'items' })).verdict, 'match');
      assert.equal((await run('table-diff', { table: 'items' })).verdict, 'match');
    });

    it('finds drift by both diffs and repairs it', async () => {
      await mesh.driftSql(
        'n2',
        `UPDATE items SET tags = '{x}' WHERE id <= 3; DELETE FROM items WHERE id = 500`,
      );
      const table = await run('table-diff', { table: 'items' });
      const tree = await run('mtree-table-diff', { table: 'items' });
      for (const { verdict, differences } of [table, tree]) {
        assert.deepEqual([verdict, differences], ['drift', { 'n1/n2': 4 }]);
      }
      const repair = { table: 'items', sourceOfTruth: 'n1' };
      const { nodes } = await run('table-repair', repair, tree.files[0]);
      assert.deepEqual([nodes['n2']?.upserted, nodes['n2']?.failed], [4, 0]);
      assert.equal((await run('mtree-table-diff', { table: 'items' })).verdict, 'match');
    });

    it('leaves nothing behind', async () => {
      await run('mtree-teardown', {});
      for (const name of mesh.names) {
        const rows = await mesh.query(
          name,
          `SELECT slot_name::text FROM pg_replication_slots WHERE slot_name LIKE 'aced%'
            UNION ALL SELECT pubname::text FROM pg_publication WHERE pubname LIKE 'aced%'
            UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname = 'aced'`,
        );
        assert.deepEqual(rows, []);
      }
    });
  });
}
