import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { Config } from '../../src/config/config.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

type Line = Readonly<Record<string, unknown>>;

/** A role that may do what following tables takes, and nothing that a superuser may. */
describe('a role of its own', () => {
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;
  let engine: Engine;
  const lines: Line[] = [];

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    // As the docs have it: publishing a table takes its owner's rights.
    await mesh.queryAll(`
      CREATE ROLE owner; CREATE ROLE keeper LOGIN REPLICATION;
      GRANT owner TO keeper; ALTER TABLE t OWNER TO owner;
      GRANT CREATE ON DATABASE app TO keeper; GRANT CREATE, USAGE ON SCHEMA public TO owner`);
    await mesh.query('n1', "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) i");
    await mesh.waitForReplication();
    stateDir = await scratchDirectory();
    const base = mesh.config(stateDir, { tree: { catalogWatchMs: 100 } });
    config = { ...base, nodes: base.nodes.map((node) => ({ ...node, user: 'keeper' })) };
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as Line),
    });
    engine = await Engine.open(config, { log, mode: 'daemon' });
    await engine.run('mtree-init', {}, testContext(stateDir));
    await engine.run('mtree-build', { table: 't' }, testContext(stateDir));
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  it('follows and compares the table', async () => {
    await mesh.query('n1', "UPDATE t SET v = 'new' WHERE id = 1");
    const { verdict } = await engine.run('mtree-table-diff', { table: 't' }, testContext(stateDir));
    assert.equal(verdict, 'match');
  });

  it('that may no longer take a harmful table out of its publication says so once, with the way out', async () => {
    await mesh.query('n1', 'REVOKE owner FROM keeper; ALTER PUBLICATION aced_demo OWNER TO owner');
    await mesh.query('n1', 'ALTER TABLE t REPLICA IDENTITY NOTHING');
    const stuck = (): Line[] => lines.filter(({ event }) => event === 'table_stuck');
    await waitFor(() => stuck().length > 0, { what: 'the event' });
    assert.deepEqual([stuck()[0]?.['table'], stuck()[0]?.['level']], ['public.t', 'error']);
    assert.match(String(stuck()[0]?.['msg']), /cannot be taken out of publication aced_demo/);
    // Every look since has met it again.
    const looks = lines.length;
    await mesh.query('n1', 'ALTER TABLE t REPLICA IDENTITY DEFAULT');
    await mesh.query('n1', 'GRANT owner TO keeper');
    await waitFor(
      () =>
        lines
          .slice(looks)
          .some(({ event }) => event === 'schema_change' || event === 'table_state'),
      {
        what: 'that the table is as it was',
      },
    );
    assert.equal(stuck().length, 1);
  });

  it('tears down all it may, and ends well with what is left', async () => {
    await mesh.queryAll("SELECT pg_replication_origin_create('aced_repair')");
    const { nodes } = await engine.run('mtree-teardown', {}, testContext(stateDir));
    for (const node of mesh.names) {
      assert.match(nodes[node] ?? '', /^removed, all but one: .* aced_repair/);
      assert.match(
        nodes[node] ?? '',
        /as a superuser: SELECT pg_catalog.pg_replication_origin_drop/,
      );
      const [[left] = []] = await mesh.query(
        node,
        `SELECT (SELECT count(*) FROM pg_publication WHERE pubname LIKE 'aced%')
              + (SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'aced%')
              + (SELECT count(*) FROM pg_namespace WHERE nspname = 'aced')`,
      );
      assert.equal(left, '0');
    }
    // Again: nothing to do, and no failure.
    await engine.run('mtree-teardown', {}, testContext(stateDir));
  });
});
