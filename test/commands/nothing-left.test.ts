import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { CommandName, CommandParams, CommandResults } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { CUSTOMERS_DDL, customerRows } from '../support/customers.js';
import { startMesh, type Mesh } from '../support/mesh.js';

/** Names of all that can be made on a server, but for temporary things of other sessions. */
const CATALOGS: Readonly<Record<string, string>> = {
  namespace: "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'",
  class: `SELECT relnamespace::regnamespace::text, relname, relkind, relpersistence, relreplident,
                 reloptions, relacl FROM pg_class
           WHERE relnamespace::regnamespace::text !~ '^pg_(toast_)?temp_'`,
  attribute: `SELECT attrelid::regclass, attname, attoptions, attstattarget, attacl
                FROM pg_attribute WHERE attrelid >= 16384 AND attnum > 0`,
  proc: 'SELECT oid::regprocedure FROM pg_proc',
  type: 'SELECT oid::regtype FROM pg_type',
  constraint: 'SELECT conrelid::regclass, conname FROM pg_constraint',
  trigger: 'SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger',
  event_trigger: 'SELECT evtname FROM pg_event_trigger',
  rewrite: 'SELECT ev_class::regclass, rulename FROM pg_rewrite',
  policy: 'SELECT polrelid::regclass, polname FROM pg_policy',
  statistics: 'SELECT stxname FROM pg_statistic_ext',
  extension: 'SELECT extname FROM pg_extension',
  language: 'SELECT lanname FROM pg_language',
  foreign_server: 'SELECT srvname FROM pg_foreign_server',
  default_acl: 'SELECT defaclrole::regrole, defaclobjtype, defaclacl FROM pg_default_acl',
  database: 'SELECT datname, datacl FROM pg_database',
  roles: 'SELECT rolname, rolsuper, rolreplication, rolconfig FROM pg_roles',
  members: 'SELECT roleid::regrole, member::regrole FROM pg_auth_members',
  settings: 'SELECT setdatabase, setrole::regrole, setconfig FROM pg_db_role_setting',
  file_settings: 'SELECT sourcefile, name, setting FROM pg_file_settings',
  publication: 'SELECT pubname FROM pg_publication',
  publication_rel: `SELECT p.pubname, r.prrelid::regclass FROM pg_publication_rel r
                      JOIN pg_publication p ON p.oid = r.prpubid`,
  publication_namespace: 'SELECT pnnspid::regnamespace FROM pg_publication_namespace',
  subscription: 'SELECT subname FROM pg_subscription',
  slots: 'SELECT slot_name, plugin FROM pg_replication_slots',
  // That of the mesh's drift is the test's own.
  origin: "SELECT roname FROM pg_replication_origin WHERE roname <> 'mesh_drift'",
  origin_status: `SELECT external_id FROM pg_replication_origin_status
                   WHERE external_id IS DISTINCT FROM 'mesh_drift'`,
  description: 'SELECT classoid::regclass, objoid, description FROM pg_description',
  shared_description: 'SELECT classoid::regclass, objoid FROM pg_shdescription',
  seclabel: 'SELECT classoid::regclass, objoid, label FROM pg_seclabel',
  large_objects: 'SELECT oid FROM pg_largeobject_metadata',
  prepared: 'SELECT gid FROM pg_prepared_xacts',
  advisory: "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory'",
};

type Dump = Readonly<Record<string, readonly string[]>>;

describe('what aced leaves on a node', () => {
  let mesh: Mesh;
  let stateDir: string;
  let engine: Engine;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: CUSTOMERS_DDL });
    await mesh.query('n1', `INSERT INTO customers ${customerRows(1, 300)}`);
    await mesh.waitForReplication();
    stateDir = await scratchDirectory();
    engine = await Engine.open(mesh.config(stateDir), { log: silentLogger(), mode: 'daemon' });
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  async function run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    inputPath?: string,
  ): Promise<CommandResults[Name]> {
    const input = inputPath === undefined ? {} : { inputPath };
    return engine.run(name, params, testContext(stateDir, input));
  }

  async function dump(node: string): Promise<Dump> {
    const entries = Object.entries(CATALOGS).map(async ([name, sql]) => {
      const rows = await mesh.query(node, `SELECT t::text FROM (${sql}) t ORDER BY 1`);
      return [name, rows.map(([text]) => text ?? '')] as const;
    });
    return Object.fromEntries(await Promise.all(entries));
  }

  async function dumpAll(): Promise<Readonly<Record<string, Dump>>> {
    return Object.fromEntries(
      await Promise.all(mesh.names.map(async (name) => [name, await dump(name)] as const)),
    );
  }

  /** Init, build, drift, diff, repair: everything that makes anything. */
  async function work(): Promise<void> {
    await run('mtree-init', {});
    await run('mtree-build', { table: 'customers', analyse: true });
    await mesh.driftSql('n2', 'DELETE FROM customers WHERE id IN (3, 150)');
    const found = await run('mtree-table-diff', { table: 'customers', output: 'json' });
    assert.equal(found.verdict, 'drift');
    const repair = { table: 'customers', sourceOfTruth: 'n1' };
    const { nodes } = await run('table-repair', repair, join(stateDir, found.files[0] ?? ''));
    assert.equal(nodes['n2']?.upserted, 2);
    assert.equal((await run('mtree-table-diff', { table: 'customers' })).verdict, 'match');
  }

  it('nothing is left after a teardown: the catalogs are as they were', async () => {
    const before = await dumpAll();
    await work();
    const during = await dump('n2');
    const made = Object.keys(during).filter(
      (name) => String(during[name]) !== String(before['n2']?.[name]),
    );
    // Else the comparison below could not fail. The page on nodes lists what these are.
    for (const name of ['class', 'namespace', 'publication', 'publication_rel', 'slots', 'origin'])
      assert.ok(made.includes(name), `${name} is as it was; changed: ${made.join(', ')}`);
    await run('mtree-teardown', {});
    assert.deepEqual(await dumpAll(), before);
  });

  it('a teardown during a repair removes the rest, and can be repeated', async () => {
    await work();
    await mesh.node('n2').session(mesh.database, async (query) => {
      await query("SELECT pg_replication_origin_session_setup('aced_repair')");
      await assert.rejects(run('mtree-teardown', {}), {
        code: 'QUERY_FAILED',
        message: /not done on n2: another repair is running/,
      });
      const { slots, origin } = await dump('n2');
      assert.equal(
        slots?.some((text) => text.includes('aced')),
        false,
      );
      assert.equal(origin?.includes('(aced_repair)'), true);
      await query('SELECT pg_replication_origin_session_reset()');
    });
    await run('mtree-teardown', {});
    assert.equal((await dump('n2'))['origin']?.includes('(aced_repair)'), false);
  });
});
