import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { after, before, describe, it } from 'node:test';
import { describeReplication } from '../../src/cli/replication-outcome.js';
import { silentLogger } from '../../src/base/log.js';
import type { Config } from '../../src/config/config.js';
import { Engine } from '../../src/commands/engine.js';
import type { CommandName, CommandParams, CommandResults } from '../../src/protocol/commands.js';
import type { ReplicationDiffResult } from '../../src/protocol/replication-diff.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const TABLES = `
  CREATE TABLE a (id int PRIMARY KEY, v int);
  CREATE TABLE b (id int PRIMARY KEY, v int);
  CREATE TABLE "C c" (id int PRIMARY KEY, v int);`;

/** Names and types as in Spock 5.0.11 and 6.0.0; ordinary tables, for no server here has Spock. */
const SPOCK = `
  CREATE SCHEMA spock;
  CREATE TABLE spock.node (node_id oid PRIMARY KEY, node_name name);
  CREATE TABLE spock.local_node (node_id oid PRIMARY KEY, node_local_interface oid);
  CREATE TABLE spock.subscription (sub_id oid PRIMARY KEY, sub_name name, sub_origin oid, sub_target oid,
    sub_enabled boolean, sub_slot_name name, sub_replication_sets text[], sub_forward_origins text[],
    sub_apply_delay interval, sub_force_text_transfer boolean, sub_skip_lsn pg_lsn);
  CREATE TABLE spock.replication_set (set_id oid PRIMARY KEY, set_nodeid oid, set_name name,
    replicate_insert boolean, replicate_update boolean, replicate_delete boolean, replicate_truncate boolean);
  CREATE TABLE spock.replication_set_table (set_id oid, set_reloid regclass, set_att_list text[],
    set_row_filter pg_node_tree);
  CREATE TABLE spock.replication_set_seq (set_id oid, set_seqoid regclass);
  CREATE TABLE spock.exception_log (error_message text);
  CREATE TABLE spock.resolutions (id int, relname name, conflict_type text, conflict_resolution text);
  CREATE TABLE spock.told (subscription_name text, status text);
  CREATE FUNCTION spock.sub_show_status() RETURNS SETOF spock.told LANGUAGE sql AS 'SELECT * FROM spock.told';
  INSERT INTO spock.replication_set VALUES (1, 1, 'default', true, true, true, true), (2, 1, 'rs_a', true, true, true, false);
  INSERT INTO spock.replication_set_table VALUES (1, 'a'), (1, 'b'), (2, 'a');`;

describe('how the nodes replicate', () => {
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;
  let engine: Engine;

  before(async () => {
    mesh = await startMesh({ nodes: 3, tables: TABLES });
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir, { drift: { isEnabled: false } });
    engine = await Engine.open(config, { log: silentLogger(), mode: 'command' });
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  async function run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
  ): Promise<CommandResults[Name]> {
    return engine.run(name, params, testContext(stateDir));
  }

  const replication = (): Promise<ReplicationDiffResult> => run('replication-diff', {});

  function told({ differences, problems }: ReplicationDiffResult): string[] {
    return [
      ...differences.map(({ kind, object, fact, rank }) =>
        [rank === 'cosmetic' ? 'cosmetic' : 'differs', kind, object, fact ?? '-'].join(' '),
      ),
      ...problems.map(({ subject, message }) => `${subject}: ${message}`),
    ];
  }

  /** A subscription that was altered connects again, and is down for that moment. */
  async function toldInTheEnd(
    expected: readonly string[],
    of: (result: ReplicationDiffResult) => string[] = told,
  ): Promise<ReplicationDiffResult> {
    let result = await replication();
    await waitFor(
      async () => {
        result = await replication();
        return isDeepStrictEqual(of(result), expected);
      },
      { what: 'what is told to be as expected' },
    ).catch(() => assert.deepEqual(of(result), expected));
    return result;
  }

  it('is alike, and runs, in a mesh; aced itself is none of it', async () => {
    await run('mtree-init', {});
    const result = await replication();
    assert.deepEqual(told(result), []);
    assert.equal(result.subscriptions.length, 6);
    assert.ok(result.subscriptions.every(({ state }) => state === 'running'));
    assert.equal(describeReplication(result).exitCode, 0);
    await run('mtree-teardown', {});
  });

  it('tells what is published otherwise, and by what rows, columns and identity', async () => {
    await mesh.query(
      'n2',
      `ALTER PUBLICATION mesh DROP TABLE b;
       ALTER PUBLICATION mesh SET TABLE a WHERE (id > 3), "C c" (id);
       ALTER TABLE a REPLICA IDENTITY FULL; ALTER PUBLICATION mesh SET (publish = 'insert, update')`,
    );
    const result = await replication();
    assert.deepEqual(told(result), [
      'differs replicated table public.b -',
      'differs publication mesh publishes',
      'differs replicated table public."C c" published',
      'differs replicated table public.a published',
      'differs replicated table public.a replica identity',
    ]);
    const [, , , a] = result.differences;
    assert.deepEqual(a?.values, {
      n1: 'insert, update, delete, truncate: all rows, all columns',
      n2: 'insert, update: rows where (id > 3), all columns',
      n3: 'insert, update, delete, truncate: all rows, all columns',
    });
    assert.equal(describeReplication(result).exitCode, 1);
    const sets = await run('table-diff-many', { repset: 'mesh' });
    assert.deepEqual(
      sets.tables.map(({ table, end }) => `${table} ${end}`),
      ['public.C c equal', 'public.a equal', 'public.b equal'],
    );
    assert.deepEqual(sets.warnings, [
      'public.b is in replication set or publication mesh on n1, n3, not on n2',
    ]);
    await mesh.query(
      'n2',
      `ALTER TABLE a REPLICA IDENTITY DEFAULT; ALTER PUBLICATION mesh SET (publish = 'insert, update, delete, truncate');
       ALTER PUBLICATION mesh SET TABLE a, b, "C c"`,
    );
    assert.deepEqual(told(await replication()), []);
  });

  it('a name that each node gives its publication is no matter', async () => {
    await mesh.query('n3', 'ALTER PUBLICATION mesh RENAME TO mesh_of_n3');
    const result = await replication();
    assert.deepEqual(told(result), [
      'cosmetic publication mesh name',
      'subscription mesh_n1_from_n3 (n3 → n1): it asks for mesh, which n3 does not have',
      'subscription mesh_n2_from_n3 (n3 → n2): it asks for mesh, which n3 does not have',
    ]);
    await mesh.query('n3', 'ALTER PUBLICATION mesh_of_n3 RENAME TO mesh');
  });

  it('subscriptions as they run: disabled in both directions, down, otherwise set up, gone', async () => {
    await mesh.pauseReplication('n1', 'n2');
    await mesh.pauseReplication('n2', 'n1');
    await mesh.query('n3', 'ALTER SUBSCRIPTION mesh_n3_from_n1 SET (binary = true)');
    const paused = await toldInTheEnd([
      'differs subscription native subscriptions binary',
      'subscription mesh_n1_from_n2 (n2 → n1): it is disabled',
      'subscription mesh_n2_from_n1 (n1 → n2): it is disabled',
    ]);
    assert.equal(paused.differences[0]?.values['n1 → n3'], 'true');
    await mesh.query('n3', 'ALTER SUBSCRIPTION mesh_n3_from_n1 SET (binary = false)');
    await mesh.resumeReplication('n1', 'n2');
    await mesh.resumeReplication('n2', 'n1');
    // A publisher that cannot be reached: enabled, and nothing streams.
    await mesh.query('n3', "ALTER SUBSCRIPTION mesh_n3_from_n2 CONNECTION 'host=127.0.0.1 port=1'");
    await mesh.query(
      'n2',
      "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'mesh_n3_from_n2'",
    );
    await mesh.query('n1', "SELECT pg_create_logical_replication_slot('orphan', 'pgoutput')");
    await mesh.query('n2', 'ALTER SUBSCRIPTION mesh_n2_from_n3 DISABLE');
    await mesh.query('n2', 'ALTER SUBSCRIPTION mesh_n2_from_n3 SET (slot_name = NONE)');
    await mesh.query('n2', 'DROP SUBSCRIPTION mesh_n2_from_n3');
    await waitFor(
      async () => {
        const sql =
          "SELECT FROM pg_replication_slots WHERE slot_name IN ('mesh_n3_from_n2', 'mesh_n2_from_n3') AND active";
        const [a, b] = await Promise.all([mesh.query('n2', sql), mesh.query('n3', sql)]);
        return a.length + b.length === 0;
      },
      { what: 'the slots to be let go' },
    );
    await toldInTheEnd([
      'subscription mesh_n3_from_n2 (n2 → n3): it is enabled and down: nothing streams from its slot',
      'n3 → n2: there is no subscription, though other nodes replicate both ways',
      'slot orphan on n1: no subscription of the nodes uses it, and nobody streams from it',
      'slot mesh_n2_from_n3 on n3: no subscription of the nodes uses it, and nobody streams from it',
    ]);
  });

  it('Spock: several sets a table, flags, filters, columns, statuses, what was not applied', async () => {
    await mesh.queryAll(SPOCK);
    const before = told(await replication());
    await mesh.query(
      'n2',
      `UPDATE spock.replication_set SET replicate_update = false WHERE set_id = 1;
       DELETE FROM spock.replication_set_table WHERE set_id = 2;
       INSERT INTO spock.replication_set VALUES (3, 1, 'empty', true, true, true, true);
       ALTER TABLE b ENABLE ROW LEVEL SECURITY;
       CREATE POLICY filter ON b USING (id > 7);
       UPDATE spock.replication_set_table SET set_att_list = '{v,id}',
              set_row_filter = (SELECT polqual FROM pg_policy WHERE polname = 'filter')
        WHERE set_reloid = 'b'::regclass;
       INSERT INTO spock.exception_log VALUES ('did not find row to be updated');
       INSERT INTO spock.resolutions VALUES (1, 'public.a', 'insert_exists', 'keep_local'),
         (2, 'public.a', 'insert_exists', 'apply_remote'), (3, 'public.b', 'delete_exists', 'keep_local');
       INSERT INTO spock.subscription VALUES (7, 'sub_n1_n2', 1, 2, true, 'mesh_n2_from_n1', '{default,gone}', '{}',
         '5 s', false, '0/0');
       INSERT INTO spock.told VALUES ('sub_n1_n2', 'down')`,
    );
    const result = await toldInTheEnd(
      [
        'differs replication set empty -',
        'differs replication set default replicates',
        'differs replicated table public.a set rs_a',
        'differs replicated table public.b set default',
        'subscription sub_n1_n2 (n1 → n2): Spock calls it down',
        'subscription sub_n1_n2 (n1 → n2): it asks for gone, which n1 does not have',
      ],
      (one) => told(one).filter((line) => !before.includes(line)),
    );
    const b = result.differences.find(({ object }) => object === 'public.b');
    assert.deepEqual(b?.values, {
      n1: 'all rows, all columns',
      n2: 'rows where (id > 7), columns id, v',
      n3: 'all rows, all columns',
    });
    assert.deepEqual(result.warnings, [
      '1 changes could not be applied on n2: see spock.exception_log there',
      'conflicts were resolved on n2 (1 apply_remote, 2 keep_local): see spock.resolutions there',
    ]);
    const spock = result.subscriptions.find(({ kind }) => kind === 'spock');
    assert.equal(spock?.settings['apply delay'], '00:00:05');
    // A set of Spock's comes before a publication of the name; each table once.
    const sets = await run('table-diff-many', { repset: 'default', skipTables: ['b'] });
    assert.deepEqual(
      sets.tables.map(({ table, end }) => `${table} ${end}`),
      ['public.a equal', 'public.b skipped'],
    );
    await assert.rejects(run('table-diff-many', { repset: 'nosuch' }), { code: 'NO_SUCH_TABLE' });
  });

  it('what may not be read is said with the grant, and nothing is called alike', async () => {
    await mesh.queryAll('CREATE ROLE reader LOGIN');
    const directory = await scratchDirectory();
    const nodes = config.nodes.map((node) => ({ ...node, user: 'reader' }));
    const options = { log: silentLogger(), mode: 'command' } as const;
    const reader = await Engine.open({ ...config, nodes, stateDir: directory }, options);
    try {
      const result = await reader.run('replication-diff', {}, testContext(directory));
      assert.deepEqual(
        result.hidden.map(({ node }) => node),
        ['n1', 'n2', 'n3'],
      );
      assert.match(result.hidden[0]?.grant ?? '', /GRANT USAGE ON SCHEMA spock TO "reader"/);
      assert.equal(describeReplication(result).exitCode, 2);
      await assert.rejects(
        reader.run('table-diff-many', { repset: 'default' }, testContext(directory)),
        { code: 'MISSING_PRIVILEGE', hint: /GRANT/ },
      );
    } finally {
      await reader.close();
      await removeDirectory(directory);
    }
  });
});
