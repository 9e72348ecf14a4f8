import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { build } from '../../src/commands/build.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import type { DiffResult } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { TABLE_SHAPES, type TableShape } from './table-shapes.js';

/** Everything that changes how a value is written, set differently on the two nodes, three ways. */
const N1_SETTINGS = `
  ALTER SYSTEM SET timezone = 'Asia/Tokyo';
  ALTER SYSTEM SET datestyle = 'German, DMY';
  ALTER SYSTEM SET extra_float_digits = 0;
  ALTER SYSTEM SET quote_all_identifiers = on;
  ALTER SYSTEM SET bytea_output = 'escape'`;
const N2_SETTINGS = `
  ALTER DATABASE app SET timezone = 'America/New_York';
  ALTER DATABASE app SET datestyle = 'SQL, MDY';
  ALTER ROLE postgres SET intervalstyle = 'iso_8601';
  ALTER ROLE postgres SET xmloption = 'document';
  ALTER ROLE postgres IN DATABASE app SET extra_float_digits = -5;
  ALTER ROLE postgres IN DATABASE app SET search_path = 'nowhere'`;

describe('tables of every shape, on nodes with different settings', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let stateDir: string;

  before(async () => {
    mesh = await startMesh({ nodes: 2 });
    for (const statement of N1_SETTINGS.split(';')) await mesh.query('n1', statement);
    for (const statement of N2_SETTINGS.split(';')) await mesh.query('n2', statement);
    await mesh.query('n1', 'SELECT pg_reload_conf()');
    stateDir = await scratchDirectory();
    const tables = [{ name: 'public.configured', excludeColumns: ['note'] }];
    const config = mesh.config(stateDir, { tree: { blockRows: 30 }, tables });
    cluster = new Cluster(config, silentLogger());
    await initialise(cluster, testContext(stateDir));
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  /** Statements that see the schema `public`, whatever the node's settings say. */
  const onN2 = (sql: string): string => `SET search_path = public; ${sql}`;

  async function create(ddl: string, ddlOnN2 = ddl): Promise<void> {
    await mesh.query('n1', ddl);
    await mesh.query('n2', onN2(ddlOnN2));
    await mesh.addTables('SELECT 1');
  }

  async function buildTree(table: string): Promise<void> {
    await build(cluster, { table, blockRows: 30 }, testContext(stateDir));
  }

  async function bothDiffs(
    table: string,
    excludeColumns: readonly string[] = [],
  ): Promise<DiffResult[]> {
    return [
      await diffTree(cluster, { table }, testContext(stateDir)),
      await diffTable(cluster, { table, excludeColumns }, testContext(stateDir)),
    ];
  }

  async function assertMatch(table: string, excludeColumns?: readonly string[]): Promise<void> {
    await mesh.waitForReplication();
    for (const { verdict, differences } of await bothDiffs(table, excludeColumns)) {
      assert.equal(verdict, 'match', JSON.stringify(differences));
    }
    await catchUp(cluster);
    await assertLeavesMatchServer(cluster, cluster.requireTable(table));
  }

  async function assertDrift(table: string, differences: number): Promise<void> {
    for (const result of await bothDiffs(table)) {
      assert.equal(result.verdict, 'drift');
      assert.deepEqual(result.differences, { 'n1/n2': differences });
    }
  }

  async function check(shape: TableShape): Promise<void> {
    const { table } = shape;
    await create(shape.ddl, shape.ddlOnN2);
    await mesh.query('n1', shape.fill);
    await mesh.waitForReplication();
    await buildTree(table);
    await assertMatch(table);
    await mesh.query('n2', onN2(shape.change));
    await assertMatch(table);
    await mesh.driftSql('n2', onN2(shape.drift));
    await assertDrift(table, shape.differences);
  }

  for (const shape of TABLE_SHAPES) it(shape.title, () => check(shape));

  it('an empty table matches', async () => {
    await create('CREATE TABLE empty (id int PRIMARY KEY)');
    await buildTree('empty');
    await assertMatch('empty');
  });

  it('defect 6: partitions, truncated, detached and attached', async () => {
    const ddl = `CREATE TABLE parted (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
      CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu');
      CREATE TABLE parted_us PARTITION OF parted FOR VALUES IN ('us')`;
    await create(ddl);
    await mesh.query(
      'n1',
      `INSERT INTO parted SELECT i, CASE i % 2 WHEN 0 THEN 'eu' ELSE 'us' END, i FROM generate_series(1, 400) i`,
    );
    await mesh.waitForReplication();
    await buildTree('parted');
    await assertMatch('parted');
    await mesh.query(
      'n2',
      onN2(`UPDATE parted SET region = 'us' WHERE id < 20; DELETE FROM parted WHERE id = 77`),
    );
    await assertMatch('parted');
    await mesh.driftSql('n2', onN2('UPDATE parted SET v = 0 WHERE id = 100'));
    await assertDrift('parted', 1);
    await mesh.driftSql('n2', onN2('UPDATE parted SET v = 100 WHERE id = 100'));

    await mesh.query('n1', 'TRUNCATE parted_us');
    await assertMatch('parted');
    const [[eu] = []] = await mesh.query('n1', 'SELECT count(*) FROM parted');
    await mesh.query('n2', onN2('ALTER TABLE parted DETACH PARTITION parted_eu'));
    await assertDrift('parted', Number(eu));
    await mesh.query(
      'n2',
      onN2(`ALTER TABLE parted ATTACH PARTITION parted_eu FOR VALUES IN ('eu')`),
    );
    await assertMatch('parted');
    await mesh.driftSql('n2', onN2('TRUNCATE parted_eu'));
    await assertDrift('parted', Number(eu));
  });

  it('TRUNCATE of several tables, on one node alone and everywhere', async () => {
    await create(
      'CREATE TABLE cut (id int PRIMARY KEY); CREATE TABLE cut_too (id int PRIMARY KEY)',
    );
    await mesh.query(
      'n1',
      `INSERT INTO cut SELECT generate_series(1, 100); INSERT INTO cut_too SELECT generate_series(1, 100)`,
    );
    await mesh.waitForReplication();
    for (const table of ['cut', 'cut_too']) await buildTree(table);
    await mesh.driftSql('n2', onN2('TRUNCATE cut, cut_too; INSERT INTO cut VALUES (5)'));
    await assertDrift('cut', 99);
    await assertDrift('cut_too', 100);
    await mesh.query('n1', 'TRUNCATE cut, cut_too');
    await assertMatch('cut');
    await assertMatch('cut_too');
  });

  describe('defect 5: DDL while the stream runs', () => {
    const both = (sql: string): Promise<void> =>
      mesh.query('n1', sql).then(async () => {
        await mesh.query('n2', onN2(sql));
      });

    before(async () => {
      await create('CREATE TABLE evolving (id int PRIMARY KEY, v int, w int, x text)');
      await mesh.query(
        'n1',
        `INSERT INTO evolving SELECT i, i, i, 'x' FROM generate_series(1, 300) i`,
      );
      await mesh.waitForReplication();
      await buildTree('evolving');
      await assertMatch('evolving');
    });

    it('ADD COLUMN with a default, the same and not the same', async () => {
      await both('ALTER TABLE evolving ADD COLUMN added int DEFAULT 1');
      await mesh.query('n2', onN2('UPDATE evolving SET v = 0 WHERE id < 10'));
      await assertMatch('evolving');
      await mesh.query('n1', 'ALTER TABLE evolving ADD COLUMN uneven int DEFAULT 1');
      await mesh.query('n2', onN2('ALTER TABLE evolving ADD COLUMN uneven int DEFAULT 2'));
      await assertDrift('evolving', 300);
      await both('ALTER TABLE evolving DROP COLUMN uneven');
      await assertMatch('evolving');
    });

    it('a rewrite that keeps the type', async () => {
      await mesh.query('n2', onN2('ALTER TABLE evolving ALTER w TYPE int USING w + 1'));
      await assertDrift('evolving', 300);
      await mesh.query('n2', onN2('ALTER TABLE evolving ALTER w TYPE int USING w - 1'));
      await assertMatch('evolving');
    });

    it('ALTER TYPE on one node, then on both', async () => {
      await mesh.query('n2', onN2('ALTER TABLE evolving ALTER v TYPE text USING v::text'));
      await assert.rejects(bothDiffs('evolving'), { code: 'SCHEMA_MISMATCH' });
      await assert.rejects(diffTable(cluster, { table: 'evolving' }, testContext(stateDir)), {
        code: 'SCHEMA_MISMATCH',
      });
      await mesh.query('n1', 'ALTER TABLE evolving ALTER v TYPE text USING v::text');
      await mesh.query('n1', `UPDATE evolving SET v = 'text' WHERE id = 8`);
      await assertMatch('evolving');
    });

    it('RENAME and DROP COLUMN, on one node, then on both', async () => {
      await mesh.query('n1', 'ALTER TABLE evolving RENAME COLUMN x TO y');
      for (const result of await bothDiffs('evolving')) {
        assert.equal(result.verdict, 'schema_mismatch');
        assert.deepEqual(result.excludedColumns.map(({ name }) => name).sort(), ['x', 'y']);
        assert.match(result.warnings.join(), /Not proved equal: x, y/);
      }
      const excludeColumns = ['x', 'y'];
      const params = { table: 'evolving', excludeColumns };
      const { verdict } = await diffTable(cluster, params, testContext(stateDir));
      assert.equal(verdict, 'match');
      await build(cluster, { ...params, blockRows: 30 }, testContext(stateDir));
      await assertMatch('evolving', excludeColumns);
      await assert.rejects(
        diffTable(cluster, { ...params, excludeColumns: ['X'] }, testContext(stateDir)),
        { code: 'BAD_USAGE' },
      );
      await mesh.query('n2', onN2('ALTER TABLE evolving RENAME COLUMN x TO y'));
      await buildTree('evolving');
      await mesh.query('n1', `UPDATE evolving SET y = 'renamed' WHERE id < 50`);
      await assertMatch('evolving');
      await mesh.driftSql('n2', onN2(`UPDATE evolving SET y = 'drifted' WHERE id = 70`));
      await assertDrift('evolving', 1);
      await both('ALTER TABLE evolving DROP COLUMN y');
      await assertMatch('evolving');
    });

    it('the table dropped and made again', async () => {
      await both('DROP TABLE evolving');
      await assert.rejects(diffTree(cluster, { table: 'evolving' }, testContext(stateDir)), {
        code: 'NO_SUCH_TABLE',
      });
      await both('CREATE TABLE evolving (id int PRIMARY KEY)');
      await mesh.query('n1', 'INSERT INTO evolving VALUES (1)');
      await assertDrift('evolving', 1);
    });
  });

  it('columns whose text other objects change are in no tree, and so not proved by one', async () => {
    await create(`CREATE TABLE target_of (id int);
      CREATE TYPE pointer AS (what regclass, n int);
      CREATE TABLE pointing (id int PRIMARY KEY, at regclass, more pointer[], v int)`);
    await mesh.query(
      'n1',
      `INSERT INTO pointing SELECT i, 'target_of', ARRAY[('target_of', i)::pointer], i FROM generate_series(1, 50) i`,
    );
    await mesh.waitForReplication();
    await buildTree('pointing');
    const [tree, whole] = await bothDiffs('pointing');
    assert.deepEqual([tree?.verdict, whole?.verdict], ['unverified', 'match']);
    assert.deepEqual(
      tree?.excludedColumns.map(({ name }) => name),
      ['at', 'more'],
    );
    await mesh.query('n2', onN2('ALTER TABLE target_of RENAME TO renamed'));
    const [, renamed] = await bothDiffs('pointing');
    assert.deepEqual(renamed?.differences, { 'n1/n2': 50 });
    const params = { table: 'pointing', excludeColumns: ['at', 'more'], blockRows: 30 };
    await build(cluster, params, testContext(stateDir));
    await assertMatch('pointing', params.excludeColumns);
    await mesh.driftSql('n2', onN2('UPDATE pointing SET v = 0 WHERE id = 7'));
    const { verdict } = await diffTree(cluster, { table: 'pointing' }, testContext(stateDir));
    assert.equal(verdict, 'drift');
  });

  it('a column that aced.yaml leaves out is in no digest, of a tree neither', async () => {
    await create('CREATE TABLE configured (id int PRIMARY KEY, v int, note text)');
    await mesh.query('n1', "INSERT INTO configured SELECT i, i, 'x' FROM generate_series(1, 90) i");
    await mesh.waitForReplication();
    await buildTree('configured');
    await mesh.driftSql('n2', onN2("UPDATE configured SET note = 'y' WHERE id = 7"));
    await assertMatch('configured');
    for (const { excludedColumns } of await bothDiffs('configured')) {
      assert.deepEqual(
        excludedColumns.map(({ name }) => name),
        ['note'],
      );
    }
    await mesh.driftSql('n2', onN2('UPDATE configured SET v = 0 WHERE id = 7'));
    await assertDrift('configured', 1);
  });

  it('a database that is LATIN1 is compared', async () => {
    const latinDir = await scratchDirectory();
    for (const name of mesh.names) {
      await mesh.query(
        name,
        `CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'`,
      );
      await mesh.node(name).query('latin', 'CREATE TABLE t (id int PRIMARY KEY)');
    }
    const config = mesh.config(latinDir, {
      nodes: mesh.names.map((name) => mesh.node(name).nodeConfig('latin', name)),
    });
    const latin = new Cluster(config, silentLogger());
    const { verdict } = await diffTable(latin, { table: 't' }, testContext(latinDir));
    assert.equal(verdict, 'match');
    await latin.close();
    await removeDirectory(latinDir);
  });
});
