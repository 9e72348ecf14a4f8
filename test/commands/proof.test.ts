import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { repair } from '../../src/commands/repair.js';
import type { DiffResult, RepairParams, RepairResult } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const TABLES = `
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE TABLE other (id int PRIMARY KEY, v text);
CREATE TABLE wide (id int, region text, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE wide_a PARTITION OF wide FOR VALUES IN ('a');
CREATE TABLE wide_b PARTITION OF wide DEFAULT;
`;

/** What nobody has proved is neither drift nor repaired. */
describe('what is not proved', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  /** As a role that may read the tables and nothing else. */
  let reader: Cluster;
  let directory: string;
  let readerDirectory: string;

  before(async () => {
    mesh = await startMesh({
      nodes: 3,
      tables: TABLES,
      settings: { max_prepared_transactions: '5' },
    });
    await mesh.query('n1', "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 300) i");
    await mesh.query('n1', "INSERT INTO other SELECT i, 'v' || i FROM generate_series(1, 10) i");
    await mesh.query('n1', "INSERT INTO wide SELECT i, 'a', 'v' FROM generate_series(1, 10) i");
    await mesh.waitForReplication();
    await mesh.queryAll(
      'CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader',
    );
    directory = await scratchDirectory();
    readerDirectory = await scratchDirectory();
    const config = mesh.config(directory, { diff: { settleTimeoutMs: 1_000 } });
    cluster = new Cluster(config, silentLogger());
    const nodes = config.nodes.map((node) => ({ ...node, user: 'reader' }));
    reader = new Cluster({ ...config, stateDir: readerDirectory, nodes }, silentLogger());
  });

  after(async () => {
    await cluster.close();
    await reader.close();
    await mesh.stop();
    await removeDirectory(directory);
    await removeDirectory(readerDirectory);
  });

  const diff = (table: string, as = cluster): Promise<DiffResult> =>
    diffTable(as, { table }, testContext(directory));

  const repairFrom = (
    file: string | undefined,
    params: RepairParams & { sourceOfTruth: string },
  ): Promise<RepairResult> =>
    repair(cluster, params, testContext(directory, { inputPath: join(directory, file ?? '') }));

  async function assertMatch(table: string): Promise<void> {
    await mesh.waitForReplication();
    assert.equal((await diff(table)).verdict, 'match');
  }

  /** Makes commits of clients on n1 wait for a standby that is not there, while `work` runs. */
  async function withoutStandby(work: () => Promise<void>): Promise<void> {
    const set = (names: string): Promise<unknown> =>
      mesh
        .query('n1', `ALTER SYSTEM SET synchronous_standby_names = '${names}'`)
        .then(() => mesh.query('n1', 'SELECT pg_reload_conf()'));
    await set('not_there');
    try {
      await work();
    } finally {
      await set('');
    }
  }

  /** A client of n1 whose commit waits, and whose rows n2 and n3 show already. */
  async function halfCommit(sql: string, seen: string): Promise<{ client: Promise<unknown> }> {
    const client = mesh.query('n1', sql);
    client.catch(() => undefined);
    const isSeen = async (node: string): Promise<boolean> =>
      (await mesh.query(node, seen)).length > 0;
    for (const node of ['n2', 'n3']) {
      await waitFor(() => isSeen(node), { what: `the change on ${node}` });
    }
    assert.equal(await isSeen('n1'), false, 'it is not visible where it was made');
    return { client };
  }

  it('A15: rows of a commit that waits for a synchronous standby are in flight', async () => {
    const shapes = [
      ["INSERT INTO t VALUES (1001, 'new')", "SELECT FROM t WHERE id = 1001 AND v = 'new'"],
      ["UPDATE t SET v = 'changed' WHERE id = 7", "SELECT FROM t WHERE id = 7 AND v = 'changed'"],
      ['DELETE FROM t WHERE id = 8', 'SELECT WHERE NOT EXISTS (SELECT FROM t WHERE id = 8)'],
    ] as const;
    for (const [sql, seen] of shapes) {
      let client: Promise<unknown> = Promise.resolve();
      await withoutStandby(async () => {
        ({ client } = await halfCommit(sql, seen));
        for (const as of [cluster, reader]) {
          const result = await diff('t', as);
          assert.equal(result.verdict, 'in_flight', sql);
          assert.equal(result.inFlightRows, 1);
          assert.deepEqual(result.files, []);
          assert.match(result.warnings.join(), /node n1 .* synchronous standby/);
        }
        // Nothing of it is in another table: what differs there is proved.
        await mesh.driftSql('n2', "UPDATE other SET v = 'drift' WHERE id = 1");
        assert.equal((await diff('other')).verdict, 'drift');
        await mesh.driftSql('n2', "UPDATE other SET v = 'v1' WHERE id = 1");
      });
      await client;
      await assertMatch('t');
    }
  });

  it('A15: so are those of a prepared transaction whose commit waits, and of partitions', async () => {
    await mesh.query('n1', "BEGIN; INSERT INTO t VALUES (1002, 'p'); PREPARE TRANSACTION 'one'");
    let client: Promise<unknown> = Promise.resolve();
    await withoutStandby(async () => {
      ({ client } = await halfCommit("COMMIT PREPARED 'one'", 'SELECT FROM t WHERE id = 1002'));
      for (const as of [cluster, reader]) assert.equal((await diff('t', as)).verdict, 'in_flight');
    });
    await client;
    await assertMatch('t');
    await withoutStandby(async () => {
      ({ client } = await halfCommit(
        "INSERT INTO wide VALUES (99, 'b', 'new')",
        'SELECT FROM wide WHERE id = 99',
      ));
      for (const as of [cluster, reader]) {
        assert.equal((await diff('wide', as)).verdict, 'in_flight');
      }
    });
    await client;
    await assertMatch('wide');
  });

  it('A15: a transaction that is open or prepared, and does not commit, holds nothing up', async () => {
    await mesh.query('n1', "BEGIN; INSERT INTO t VALUES (1003, 'p'); PREPARE TRANSACTION 'two'");
    await mesh.driftSql('n2', "UPDATE t SET v = 'drift' WHERE id = 1");
    await mesh.node('n1').session(mesh.database, async (query) => {
      await query("BEGIN; INSERT INTO t VALUES (1004, 'open')");
      for (const as of [cluster, reader]) {
        const result = await diff('t', as);
        assert.equal(result.verdict, 'drift');
        assert.deepEqual(result.differences, { 'n1/n2': 1, 'n2/n3': 1 });
      }
      await query('ROLLBACK');
    });
    await mesh.query('n1', "ROLLBACK PREPARED 'two'");
    await mesh.driftSql('n2', "UPDATE t SET v = 'v1' WHERE id = 1");
    await assertMatch('t');
  });

  it('A15: a repair is refused while a commit waits, and a diff after it is right', async () => {
    await mesh.driftSql('n2', "UPDATE t SET v = 'drift' WHERE id = 2");
    const { files } = await diff('t');
    let client: Promise<unknown> = Promise.resolve();
    await withoutStandby(async () => {
      ({ client } = await halfCommit(
        "INSERT INTO t VALUES (1005, 'x')",
        'SELECT FROM t WHERE id = 1005',
      ));
      await assert.rejects(repairFrom(files[0], { table: 't', sourceOfTruth: 'n1' }), {
        code: 'NOT_PROVED',
        message: /synchronous standby/,
      });
    });
    await client;
    await mesh.waitForReplication();
    const { nodes } = await repairFrom(files[0], { table: 't', sourceOfTruth: 'n1' });
    assert.equal(nodes['n2']?.upserted, 1);
    await assertMatch('t');
  });

  it('A13: a file about other servers than those of this cluster', async () => {
    await mesh.driftSql('n2', "UPDATE t SET v = 'drift' WHERE id = 3");
    const { files } = await diff('t');
    await mesh.driftSql('n3', "UPDATE t SET v = 'drift' WHERE id = 3");
    // The same names of nodes, and of the cluster; n2 is what the file calls n3.
    const config = mesh.config(await scratchDirectory());
    const [n1, n2, n3] = config.nodes;
    assert.ok(n1 !== undefined && n2 !== undefined && n3 !== undefined);
    const other = new Cluster({ ...config, nodes: [n1, { ...n3, name: 'n2' }] }, silentLogger());
    const inputPath = join(directory, files[0] ?? '');
    const context = { ...testContext(directory, { inputPath }), inputName: 'given.json' };
    const request = { table: 't', sourceOfTruth: 'n1' };
    const isNamed = new RegExp(
      `given.json is about another server: its n2 is app at .*:${n2.port}, here it is app at .*:${n3.port}`,
    );
    try {
      await assert.rejects(repair(other, request, context), {
        code: 'OTHER_SERVERS',
        message: isNamed,
      });
      const row = 'SELECT v FROM t WHERE id = 3';
      assert.deepEqual(await mesh.query('n3', row), [['drift']]);
      const dry = await repair(other, { ...request, dryRun: true }, context);
      assert.match(dry.warnings.join(), isNamed);
      assert.deepEqual(await mesh.query('n3', row), [['drift']]);
      const insisted = await repair(other, { ...request, allowUnproved: true }, context);
      assert.match(insisted.warnings.join(), isNamed);
      assert.deepEqual(await mesh.query('n3', row), [['v3']]);
      const { nodes } = await repairFrom(files[0], request);
      assert.equal(nodes['n2']?.upserted, 1, 'the servers of the file');
    } finally {
      await other.close();
      await removeDirectory(config.stateDir);
    }
    await assertMatch('t');
  });

  it('A16: a table that a subscription does not know, and one whose first copy goes on', async () => {
    await mesh.queryAll('CREATE TABLE late (id int PRIMARY KEY, v text)');
    await mesh.queryAll('GRANT SELECT ON late TO reader');
    await mesh.query('n1', "INSERT INTO late SELECT i, 'v' FROM generate_series(1, 50) i");
    await mesh.query('n3', "INSERT INTO late SELECT i, 'v' FROM generate_series(1, 50) i");
    await mesh.query('n1', 'ALTER PUBLICATION mesh ADD TABLE late');
    let { files } = await diff('late');
    for (const as of [cluster, reader]) {
      const result = await diff('late', as);
      assert.equal(result.verdict, 'starved');
      assert.match(
        result.warnings.join(),
        /n1 publishes public.late, but subscription mesh_n2_from_n1 on n2 does not know it/,
      );
      assert.deepEqual(result.differences, { 'n1/n2': 50, 'n2/n3': 50 });
      files = result.files;
    }
    const request = { table: 'late', sourceOfTruth: 'n1' };
    await assert.rejects(repairFrom(files[0], request), { code: 'NOT_PROVED' });

    const blocked = mesh.node('n2').session(mesh.database, async (query) => {
      // Lets reading go on, and the copy wait.
      await query('BEGIN; LOCK TABLE late IN SHARE MODE');
      await mesh.query('n2', 'ALTER SUBSCRIPTION mesh_n2_from_n1 REFRESH PUBLICATION');
      await mesh.query(
        'n3',
        'ALTER SUBSCRIPTION mesh_n3_from_n1 REFRESH PUBLICATION WITH (copy_data = false)',
      );
      for (const as of [cluster, reader]) {
        const result = await diff('late', as);
        assert.equal(result.verdict, 'in_flight');
        assert.equal(result.inFlightRows, 50);
        assert.match(
          result.warnings.join(),
          /first copy of public.late by subscription mesh_n2_from_n1/,
        );
      }
      await assert.rejects(repairFrom(files[0], { ...request, allowUnproved: false }), {
        code: 'NOT_PROVED',
        message: /first copy of public.late/,
      });
      await query('ROLLBACK');
    });
    await blocked;
    await waitFor(async () => (await diff('late')).verdict === 'match', { what: 'the copy' });
  });

  it('A16: partitions, published as leaves or as their root', async () => {
    for (const viaRoot of ['false', 'true']) {
      const name = `late_${viaRoot}`;
      await mesh.queryAll(`
        CREATE TABLE ${name} (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE ${name}_low PARTITION OF ${name} FOR VALUES FROM (0) TO (10);
        CREATE TABLE ${name}_high PARTITION OF ${name} FOR VALUES FROM (10) TO (1000)`);
      await mesh.query(
        'n1',
        `CREATE PUBLICATION ${name} FOR TABLE ${name} WITH (publish_via_partition_root = ${viaRoot})`,
      );
      for (const to of ['n2', 'n3']) {
        await mesh.query(
          to,
          `ALTER SUBSCRIPTION mesh_${to}_from_n1 ADD PUBLICATION ${name} WITH (copy_data = false)`,
        );
      }
      await mesh.query('n1', `INSERT INTO ${name} SELECT i, 'v' FROM generate_series(1, 20) i`);
      await assertMatch(name);
      // n2 and n3 never learn of the new partition when it is published under its own name.
      await mesh.queryAll(
        `CREATE TABLE ${name}_top PARTITION OF ${name} FOR VALUES FROM (1000) TO (2000)`,
      );
      await mesh.query('n1', `INSERT INTO ${name} VALUES (1001, 'v')`);
      await mesh.waitForReplication();
      const result = await diff(name);
      assert.equal(result.verdict, viaRoot === 'true' ? 'match' : 'starved');
      if (viaRoot === 'false') assert.match(result.warnings.join(), /public.late_false_top/);
    }
  });

  it('A12: a file whose verdict is not drift is not repaired from, unless the user insists', async () => {
    await mesh.pauseReplication('n1', 'n2');
    await mesh.query('n1', "UPDATE t SET v = 'paid' WHERE id IN (10, 11)");
    await mesh.waitForReplication();
    const { verdict, files, warnings } = await diff('t');
    assert.equal(verdict, 'starved');
    assert.equal(warnings.length, 1);
    assert.match(
      warnings[0] ?? '',
      /^subscription mesh_n2_from_n1 \(n1 -> n2\) is not running, and \d+ bytes behind: /,
    );
    const request = { table: 't', sourceOfTruth: 'n2' };
    await mesh.query('n1', "UPDATE t SET v = 'paid' WHERE id IN (10, 11)");
    // Once, though it lacks more now than the file says.
    await assert.rejects(repairFrom(files[0], request), {
      code: 'NOT_PROVED',
      message:
        /is starved, not drift; subscription mesh_n2_from_n1 \(n1 -> n2\) is not running, and \d+ bytes behind: [^;]*$/,
    });
    const dry = await repairFrom(files[0], { ...request, dryRun: true });
    assert.match(dry.warnings.join(), /Not proved to be drift: .* is starved/);
    assert.equal(dry.warnings.join().split('mesh_n2_from_n1').length, 2);
    assert.equal(dry.nodes['n1']?.upserted, 2);

    await mesh.resumeReplication('n1', 'n2');
    await mesh.waitForReplication();
    // Everything runs again: the file alone is the reason.
    await assert.rejects(repairFrom(files[0], request), {
      code: 'NOT_PROVED',
      message: /is starved, not drift \(subscription mesh_n2_from_n1 .*\)$/,
    });
    const insisted = await repairFrom(files[0], { ...request, allowUnproved: true });
    assert.deepEqual([insisted.nodes['n1']?.upserted, insisted.nodes['n1']?.alreadyEqual], [0, 2]);
    assert.match(insisted.warnings.join(), /Not proved to be drift/);
    await assertMatch('t');
  });

  it('D21: the topology is looked at again, after a diff that was proved', async () => {
    await mesh.driftSql('n2', "UPDATE t SET v = 'drift' WHERE id IN (20, 21)");
    const { verdict, files } = await diff('t');
    assert.equal(verdict, 'drift');
    const request = { table: 't', sourceOfTruth: 'n2' };
    await mesh.pauseReplication('n3', 'n2');
    await assert.rejects(repairFrom(files[0], request), {
      code: 'NOT_PROVED',
      message: /subscription mesh_n2_from_n3 \(n3 -> n2\) is not running/,
    });
    await mesh.resumeReplication('n3', 'n2');
    await mesh.waitForReplication();
    const { nodes, warnings } = await repairFrom(files[0], request);
    assert.deepEqual(warnings, []);
    assert.equal(nodes['n1']?.upserted, 2);
    await assertMatch('t');
  });

  it('what a publication leaves out on purpose is said, and copied by no repair unasked', async () => {
    const shapes = [
      ["(id, v) WHERE (v = 'eu')", 'insert, update, delete', /rows by a filter, columns;/],
      ["WHERE (v = 'eu')", 'insert, update, delete', /rows by a filter;/],
      ['', 'insert, update', /some operations;/],
    ] as const;
    for (const [index, [rule, operations, said]] of shapes.entries()) {
      const table = `ruled_${index}`;
      await mesh.queryAll(
        `CREATE TABLE ${table} (id int, v text, secret text, PRIMARY KEY (id, v))`,
      );
      await mesh.query(
        'n1',
        `CREATE PUBLICATION ${table} FOR TABLE ${table} ${rule} WITH (publish = '${operations}')`,
      );
      await mesh.query(
        'n2',
        `ALTER SUBSCRIPTION mesh_n2_from_n1 ADD PUBLICATION ${table} WITH (copy_data = false)`,
      );
      await mesh.query('n1', `INSERT INTO ${table} VALUES (1, 'eu', 's'), (2, 'us', 's')`);
      await mesh.query('n1', `DELETE FROM ${table} WHERE id = 1`);
      await mesh.query('n1', `INSERT INTO ${table} VALUES (3, 'us', 's')`);
      await mesh.driftSql('n1', `INSERT INTO ${table} VALUES (4, 'us', 's')`);
      await mesh.waitForReplication();
      const nodes = ['n1', 'n2'];
      const result = await diffTable(cluster, { table, nodes }, testContext(directory));
      assert.equal(result.verdict, 'drift');
      assert.match(result.warnings.join(), said);
      const request = { table, nodes, sourceOfTruth: 'n1' };
      await assert.rejects(repairFrom(result.files[0], request), {
        code: 'NOT_PROVED',
        message: /leave out on purpose/,
      });
    }
  });
});
