import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { build } from '../../src/commands/build.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { repair } from '../../src/commands/repair.js';
import { teardown } from '../../src/commands/teardown.js';
import type {
  DiffResult,
  RepairParams,
  RepairResult,
  TableDiffParams,
} from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';

/** Records the DDL that Spock's automatic DDL replication would send to every peer. */
const DDL_QUEUE = `
CREATE TABLE spock.queue (message text);
CREATE FUNCTION spock.enqueue() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  IF coalesce(current_setting('spock.enable_ddl_replication', true), '') IS DISTINCT FROM 'off' THEN
    INSERT INTO spock.queue VALUES (tg_tag || ': ' || current_query());
  END IF;
END $$;
CREATE EVENT TRIGGER spock_ddl ON ddl_command_start EXECUTE FUNCTION spock.enqueue()`;

/** Names and types as in Spock 5.0.11 and 6.0.0; ordinary tables, for no server here has Spock. */
const CATALOG = `
CREATE SCHEMA spock;
CREATE TABLE spock.node (node_id oid PRIMARY KEY, node_name name, location text, country text, info jsonb);
CREATE TABLE spock.local_node (node_id oid PRIMARY KEY, node_local_interface oid);
CREATE TABLE spock.subscription (sub_id oid PRIMARY KEY, sub_name name, sub_origin oid, sub_target oid,
  sub_enabled boolean, sub_slot_name name, sub_replication_sets text[], sub_forward_origins text[])`;

describe('a catalog of Spock', () => {
  let mesh: Mesh;
  let superuser: Cluster;
  /** May read the table, and nothing else. */
  let reader: Cluster;
  const directories: string[] = [];

  before(async () => {
    mesh = await startMesh({ nodes: 2, settings: { track_commit_timestamp: 'on' } });
    await mesh.queryAll('CREATE TABLE t (id int PRIMARY KEY, v text); CREATE ROLE reader LOGIN');
    await mesh.queryAll("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 10) i");
    await mesh.queryAll('GRANT SELECT ON t TO reader');
    directories.push(await scratchDirectory(), await scratchDirectory());
    const config = mesh.config(directories[0] ?? '', { diff: { settleTimeoutMs: 1_000 } });
    const nodes = config.nodes.map((node) => ({ ...node, user: 'reader' }));
    superuser = new Cluster(config, silentLogger());
    reader = new Cluster({ ...config, stateDir: directories[1] ?? '', nodes }, silentLogger());
  });

  after(async () => {
    await superuser.close();
    await reader.close();
    await mesh.stop();
    for (const directory of directories) await removeDirectory(directory);
  });

  const diff = (as: Cluster, params: Partial<TableDiffParams> = {}): Promise<DiffResult> =>
    diffTable(as, { table: 't', ...params }, testContext(directories[0] ?? ''));

  const recover = (file: string, params: Partial<RepairParams> = {}): Promise<RepairResult> =>
    repair(
      superuser,
      { table: 't', recoveryMode: true, ...params },
      testContext(directories[0] ?? '', { inputPath: file }),
    );

  /** As Spock does: the commit carries a node's id, for which there is no replication origin. */
  async function writeAs(nodeId: number, on: string, sql: string): Promise<void> {
    await mesh.node(on).session(mesh.database, async (query) => {
      await query('SET allow_system_table_mods = on');
      await query(`INSERT INTO pg_catalog.pg_replication_origin VALUES (${nodeId}, 'for_a_while')`);
      await query("SELECT pg_replication_origin_session_setup('for_a_while')");
      await query("BEGIN; SELECT pg_replication_origin_xact_setup('0/1', now())");
      await query(sql);
      await query('COMMIT; SELECT pg_replication_origin_session_reset()');
      await query(`DELETE FROM pg_catalog.pg_replication_origin WHERE roident = ${nodeId}`);
    });
  }

  it('A4: names the first writer by the id of its Spock node', async () => {
    await mesh.queryAll(CATALOG);
    // n2 calls itself other than we do, and knows of a node that is gone from n1.
    await mesh.query(
      'n1',
      `INSERT INTO spock.node VALUES (49708, 'n1'), (26863, 'n2');
       INSERT INTO spock.local_node VALUES (49708, 1)`,
    );
    await mesh.query(
      'n2',
      `INSERT INTO spock.node VALUES (26863, 'n2'), (9057, 'n3'), (hashtext('east') & 65535, 'east');
       INSERT INTO spock.local_node VALUES ((hashtext('east') & 65535)::oid, 1)`,
    );
    const [[east] = []] = await mesh.query('n1', "SELECT (hashtext('east') & 65535)::text");
    await writeAs(9057, 'n1', "UPDATE t SET v = 'from n3' WHERE id = 1");
    await writeAs(Number(east), 'n1', "UPDATE t SET v = 'from n2' WHERE id = 2");
    await writeAs(777, 'n1', "UPDATE t SET v = 'from nobody' WHERE id = 3");
    const { files } = await diff(superuser);
    const text = await readFile(join(directories[0] ?? '', files[0] ?? ''), 'utf8');
    const { diffs } = JSON.parse(text) as {
      diffs: Record<
        string,
        { rows: Record<string, { id: number; _spock_metadata_: { node_origin: string } }[]> }
      >;
    };
    assert.deepEqual(
      diffs['n1/n2']?.rows['n1']?.map((row) => [row.id, row._spock_metadata_.node_origin]),
      [
        [1, 'n3'],
        [2, 'n2'],
        [3, '777'],
      ],
    );
  });

  it('B7: a lost node is recovered from the survivor that has applied most of it, also after its subscription', async () => {
    await mesh.queryAll('UPDATE t SET v = id');
    for (const [node, position] of [
      ['n1', '0/2000'],
      ['n2', '0/1000'],
    ] as const) {
      const slot = `spk_app_n3_sub_${node}_n3`;
      await mesh.query(
        node,
        `INSERT INTO spock.subscription VALUES (7, 'sub_${node}_n3', 9057, 1, true, '${slot}', '{default}', '{}');
         SELECT pg_replication_origin_create('${slot}');
         SELECT pg_replication_origin_advance('${slot}', '${position}')`,
      );
    }
    // Of n1's rows from n3 the first has reached n2 by another way.
    await writeAs(9057, 'n1', "UPDATE t SET v = 'from n3' WHERE id IN (1, 5)");
    await mesh.query('n2', "UPDATE t SET v = 'from n3' WHERE id = 1");
    await mesh.query('n2', "UPDATE t SET v = 'not of n3' WHERE id = 8");
    const againstOrigin = 'n3';
    const found = await diff(superuser, { againstOrigin });
    assert.deepEqual(found.differences, { 'n1/n2': 1 });
    assert.ok(found.files[0] !== undefined);
    const file = join(directories[0] ?? '', found.files[0]);
    await assert.rejects(recover(file, { recoveryMode: false, sourceOfTruth: 'n1' }), {
      code: 'BAD_USAGE',
      hint: /--recovery-mode if n3 is lost/,
    });
    const planned = await recover(file, { dryRun: true });
    assert.deepEqual(planned.recovery, {
      ...{ lost: 'n3', applied: { n1: '0/2000', n2: '0/1000' }, source: 'n1' },
    });
    assert.match(planned.warnings.join(), /sub_n1_n3 on n1 is still enabled.*sub_n2_n3 on n2/);
    // As Spock's guide has it: the subscriptions go first, and the node's row with them.
    for (const node of ['n1', 'n2']) {
      await mesh.query(
        node,
        `DELETE FROM spock.subscription; DELETE FROM spock.node WHERE node_name = 'n3';
         SELECT pg_replication_origin_drop('spk_app_n3_sub_${node}_n3')`,
      );
    }
    for (const name of ['n3', '9057']) {
      const again = await diff(superuser, { againstOrigin: name });
      assert.deepEqual(again.differences, { 'n1/n2': 1 }, name);
    }
    await assert.rejects(recover(file), {
      code: 'BAD_USAGE',
      message: /how far n3 was applied is not known on n1, n2/,
      hint: /--source-of-truth <n1\|n2>/,
    });
    const done = await recover(file, { sourceOfTruth: 'n1' });
    assert.deepEqual([done.nodes['n2']?.upserted, done.recovery?.source], [1, 'n1']);
    assert.equal((await diff(superuser, { againstOrigin })).verdict, 'match');
    // A name that nobody knows has a number too: that no row has it proves nothing.
    const misspelt = await diff(superuser, { againstOrigin: 'n33' });
    assert.equal(misspelt.verdict, 'unverified');
    assert.match(misspelt.warnings.join(), /no compared node knows such an origin/);
  });

  it('A3: a role that may not read it gets the GRANT, and no drift from blindness', async () => {
    const blind = await diff(reader);
    assert.equal(blind.verdict, 'starved');
    assert.match(
      blind.warnings.join(),
      /GRANT USAGE ON SCHEMA spock TO "reader"; GRANT SELECT ON spock.subscription/,
    );
    await mesh.queryAll('GRANT USAGE ON SCHEMA spock TO reader');
    assert.equal((await diff(reader)).verdict, 'starved');
    await mesh.queryAll('GRANT SELECT ON spock.subscription TO reader');
    assert.equal((await diff(reader)).verdict, 'drift');
    await mesh.query(
      'n2',
      `INSERT INTO spock.subscription VALUES (1, 'sub_n2_n1', 49708, 26863, false, 'spk_app_n1_sub', '{default}', '{}')`,
    );
    await mesh.query(
      'n1',
      "SELECT pg_create_logical_replication_slot('spk_app_n1_sub', 'pgoutput')",
    );
    const stopped = await diff(reader);
    assert.equal(stopped.verdict, 'starved');
    // A9: of each subscription one warning, however many rounds there were.
    assert.deepEqual(
      stopped.warnings.filter((text) => text.includes('sub_n2_n1')).length,
      1,
      stopped.warnings.join('; '),
    );
    assert.match(stopped.warnings.join(), /subscription sub_n2_n1 \(n1 -> n2\) is not running/);
  });

  it('A2, C5: none of our DDL would be replicated: init, build, diffs, repair, teardown', async () => {
    await mesh.queryAll('DELETE FROM spock.subscription; UPDATE t SET v = id');
    await mesh.queryAll(
      "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'spk_%'",
    );
    await mesh.waitForReplication();
    await mesh.queryAll(DDL_QUEUE);
    await mesh.queryAll(
      'CREATE FUNCTION spock.repair_mode(boolean) RETURNS pg_lsn LANGUAGE sql AS $$ SELECT NULL::pg_lsn $$',
    );
    const context = testContext(directories[0] ?? '');
    await initialise(superuser, context);
    superuser.startStreaming();
    await build(superuser, { table: 't' }, context);
    await mesh.driftSql('n2', "UPDATE t SET v = 'drifted' WHERE id = 4");
    assert.equal((await diffTree(superuser, { table: 't' }, context)).verdict, 'drift');
    const { files } = await diff(superuser);
    const file = join(directories[0] ?? '', files[0] ?? '');
    const { nodes } = await repair(
      superuser,
      { table: 't', sourceOfTruth: 'n1' },
      testContext(directories[0] ?? '', { inputPath: file }),
    );
    assert.equal(nodes['n2']?.upserted, 1);
    await teardown(superuser);
    // What the test did itself is there: the trigger works.
    const own = [['CREATE FUNCTION: CREATE FUNCTION spock.repair_mode']];
    for (const node of mesh.names) {
      const rows = await mesh.query(node, "SELECT split_part(message, '(', 1) FROM spock.queue");
      assert.deepEqual(rows, own, node);
    }
    await mesh.queryAll('DROP EVENT TRIGGER spock_ddl');
  });
});
