import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger, silentLogger } from '../../src/base/log.js';
import type { Config } from '../../src/config/config.js';
import { Engine } from '../../src/commands/engine.js';
import type { CommandName, CommandParams, CommandResults } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const SLOT = 'aced_demo';
const TABLES =
  'CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY, v int); ' +
  'CREATE TABLE w (id int PRIMARY KEY, v int)';

describe('setting up and tearing down', () => {
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;
  let engine: Engine;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: TABLES });
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir, {
      tree: { refreshBudget: 0, refreshQuietMs: 0 },
      // Judging a table reads its dirty blocks too.
      drift: { isEnabled: false },
    });
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
  ): Promise<CommandResults[Name]> {
    return engine.run(name, params, testContext(stateDir));
  }

  /** Publications, slots and schemas of ours on a node. */
  async function ours(node: string): Promise<string[]> {
    const rows = await mesh.query(
      node,
      `SELECT 'publication' FROM pg_publication WHERE pubname = '${SLOT}'
        UNION ALL SELECT 'slot' FROM pg_replication_slots WHERE slot_name = '${SLOT}'
        UNION ALL SELECT 'schema' FROM pg_namespace WHERE nspname = 'aced' ORDER BY 1`,
    );
    return rows.map(([what]) => what ?? '');
  }

  it('a first init that fails takes back what it has made, and only that', async () => {
    await mesh.query('n1', `CREATE PUBLICATION ${SLOT}`);
    await mesh.query('n2', 'CREATE ROLE aced LOGIN');
    await mesh.query('n2', 'GRANT CREATE ON DATABASE app TO aced');
    const nodes = config.nodes.map((node) =>
      node.name === 'n2' ? { ...node, user: 'aced' } : node,
    );
    const other = await scratchDirectory();
    const poor = await Engine.open(
      { ...config, nodes, stateDir: other },
      { log: silentLogger(), mode: 'command' },
    );
    try {
      await assert.rejects(poor.run('mtree-init', {}, testContext(other)), {
        code: 'MISSING_PRIVILEGE',
        message: /aced/,
      });
    } finally {
      await poor.close();
      await removeDirectory(other);
    }
    assert.deepEqual([await ours('n1'), await ours('n2')], [['publication'], []]);
    await mesh.query('n1', `DROP PUBLICATION ${SLOT}`);
  });

  it('commands of the whole cluster refuse a choice of nodes', async () => {
    for (const name of ['mtree-init', 'mtree-teardown'] as const) {
      await assert.rejects(run(name, { nodes: ['n1'] }), { code: 'UNSUPPORTED', message: /n1/ });
    }
    for (const name of ['mtree-build', 'mtree-update', 'mtree-teardown-table'] as const) {
      await assert.rejects(run(name, { table: 't', nodes: ['n2'] }), { code: 'UNSUPPORTED' });
    }
    await assert.rejects(run('mtree-init', { nodes: ['n9'] }), { code: 'UNKNOWN_NODE' });
    await run('mtree-init', { nodes: ['n2', 'n1'] });
    await run('mtree-build', { table: 't', blockRows: 10 });
    const status = await run('status', { nodes: ['n2'] });
    assert.deepEqual(
      status.nodes.map(({ name }) => name),
      ['n2'],
    );
    assert.deepEqual(Object.keys(status.tables[0]?.nodes ?? {}), ['n2']);
  });

  it('defect 10: a second init changes nothing, and every tree is followed as before', async () => {
    const before = (await run('status', {})).tables[0]?.nodes;
    await run('mtree-init', {});
    await mesh.driftSql('n2', 'INSERT INTO t VALUES (100, 1)');
    const found = await run('mtree-table-diff', { table: 't' });
    assert.deepEqual([found.verdict, found.differences], ['drift', { 'n1/n2': 1 }]);
    await mesh.driftSql('n2', 'DELETE FROM t WHERE id = 100');
    assert.equal((await run('mtree-table-diff', { table: 't' })).verdict, 'match');
    assert.deepEqual((await run('status', {})).tables[0]?.nodes['n1']?.root, before?.['n1']?.root);
  });

  it('splits and merges the first block, one in the middle and the last, and loses no row', async () => {
    const compare = async () => (await run('mtree-table-diff', { table: 'w' })).differences;
    await mesh.query('n1', 'INSERT INTO w SELECT i * 1000, 0 FROM generate_series(1, 100) i');
    await mesh.waitForReplication();
    await run('mtree-build', { table: 'w', blockRows: 10 });
    for (const first of [-500, 50_001, 200_000]) {
      const these = `id BETWEEN ${first} AND ${first + 59}`;
      await mesh.query('n1', `INSERT INTO w SELECT ${first} + i, 1 FROM generate_series(0, 59) i`);
      await mesh.waitForReplication();
      const grown = await run('mtree-update', { table: 'w', rebalance: true });
      assert.ok(grown.splitBlocks > 0, these);
      await mesh.driftSql('n2', `UPDATE w SET v = 2 WHERE id = ${first + 30}`);
      assert.deepEqual(await compare(), { 'n1/n2': 1 }, these);
      assert.deepEqual(
        (await run('table-diff', { table: 'w' })).differences,
        { 'n1/n2': 1 },
        these,
      );
      await mesh.driftSql('n2', `UPDATE w SET v = 1 WHERE id = ${first + 30}`);
      await mesh.query('n1', `DELETE FROM w WHERE ${these}`);
      await mesh.waitForReplication();
      const shrunk = await run('mtree-update', { table: 'w', rebalance: true });
      assert.ok(shrunk.mergedBlocks > 0, these);
      assert.deepEqual(await compare(), {}, these);
    }
    assert.equal((await run('mtree-verify', { table: 'w' })).tables[0]?.wrongLeaves, 0);
    await run('mtree-teardown-table', { table: 'w' });
  });

  it('an update catches up first, unless it is told not to', async () => {
    await mesh.query('n1', 'INSERT INTO t SELECT i, 0 FROM generate_series(1, 5) i');
    await run('mtree-update', { table: 't', cdcTimeoutMs: 10_000 });
    const [table] = (await run('status', {})).tables;
    assert.equal(table?.nodes['n1']?.rows, 5);
    await mesh.waitForReplication();
    await run('mtree-update', { table: 't' });
  });

  it('without a budget dirty blocks stay, and a changed table is built again all the same', async () => {
    const nodeOf = async (name: string) => {
      const { tables } = await run('status', {});
      return tables.find(({ table }) => table === name)?.nodes['n1'];
    };
    await mesh.query('n1', 'INSERT INTO u VALUES (1, 1)');
    await run('mtree-build', { table: 'u', blockRows: 10 });
    await mesh.query('n1', 'UPDATE t SET v = 1 WHERE id = 1; UPDATE u SET v = 2');
    for (const name of ['public.t', 'public.u']) {
      await waitFor(async () => (await nodeOf(name))?.dirtyBlocks === 1, { what: 'a dirty block' });
    }
    const before = (await nodeOf('public.t'))?.root;
    await mesh.queryAll('ALTER TABLE t ADD COLUMN w int DEFAULT 7');
    // A Relation message comes with the next row only.
    await mesh.query('n1', 'INSERT INTO t VALUES (6, 0, 0)');
    await waitFor(
      async () => {
        const node = await nodeOf('public.t');
        return node?.root !== before && node?.rows === 6 && node.dirtyBlocks === 0;
      },
      { what: 'the tree to be built again' },
    );
    assert.equal((await nodeOf('public.u'))?.dirtyBlocks, 1);
  });

  it('a start names the nodes that are no longer there', async () => {
    await engine.close();
    const lines: string[] = [];
    const log = createLogger('warn', { write: (line: string) => void lines.push(line) });
    const less = await Engine.open(
      { ...config, nodes: config.nodes.slice(0, 1) },
      { log, mode: 'daemon' },
    );
    await less.close();
    const named = lines.filter((line) => /"node_removed","node":"n2",.*aced_demo/.test(line));
    assert.equal(named.length, 1, lines.join(''));
    engine = await Engine.open(config, { log: silentLogger(), mode: 'daemon' });
  });

  it('a table is torn down where somebody has dropped our schema', async () => {
    await mesh.query('n1', 'DROP SCHEMA aced CASCADE');
    const { nodes } = await run('mtree-teardown-table', { table: 'u' });
    assert.deepEqual(nodes, { n1: 'removed', n2: 'removed' });
    await run('mtree-build', { table: 'u', recreateObjects: true });
  });

  it('a teardown cleans the nodes that it can reach, says which not, and can be repeated', async () => {
    await mesh.node('n2').kill();
    await assert.rejects(run('mtree-teardown-table', { table: 't' }), {
      code: 'NODE_UNREACHABLE',
      hint: /Run it again/,
    });
    assert.equal((await run('status', {})).tables.length, 2);
    await assert.rejects(run('mtree-teardown', {}), {
      code: 'NODE_UNREACHABLE',
      message: /^not done on n2: /,
      hint: /Run it again.*n2.*slot aced_demo/,
    });
    assert.deepEqual(await ours('n1'), []);
    await mesh.node('n2').start();
    assert.deepEqual(await ours('n2'), ['publication', 'schema', 'slot']);
    await assert.rejects(run('mtree-build', { table: 't' }), { code: 'NOT_INITIALISED' });
    assert.deepEqual((await run('mtree-teardown', {})).nodes, { n1: 'removed', n2: 'removed' });
    assert.deepEqual(await ours('n2'), []);
  });

  it('a teardown lets no build go on behind it', async () => {
    await run('mtree-init', {});
    const context = testContext(stateDir);
    let building: Promise<unknown> = Promise.resolve();
    let tearing: Promise<unknown> = Promise.resolve();
    await mesh.node('n1').session(mesh.database, async (query) => {
      // Publishing a table waits for the transactions that run.
      await query('BEGIN; INSERT INTO t VALUES (1000, 0)');
      building = engine.run('mtree-build', { table: 'u' }, context);
      building.catch(() => undefined);
      await waitFor(() => context.messages().some((text) => text.startsWith('n1: ')), {
        what: 'the build to wait',
      });
      tearing = run('mtree-teardown', {});
      await assert.rejects(run('mtree-build', { table: 't' }), { code: 'NOT_INITIALISED' });
      await query('ROLLBACK');
    });
    await assert.rejects(building, { code: 'NOT_INITIALISED' });
    await tearing;
    assert.deepEqual([await ours('n1'), await ours('n2')], [[], []]);
    assert.deepEqual((await run('status', {})).tables, []);
  });

  it('a teardown ends an init that waits for its slots', async () => {
    const context = testContext(stateDir);
    let starting: Promise<unknown> = Promise.resolve();
    await mesh.node('n1').session(mesh.database, async (query) => {
      // A new slot waits for the transactions that run.
      await query('BEGIN; INSERT INTO t VALUES (1001, 0)');
      starting = engine.run('mtree-init', {}, context);
      starting.catch(() => undefined);
      await waitFor(
        () => context.messages().some((text) => text.startsWith('still waiting for node n1')),
        { what: 'the init to wait' },
      );
      const tearing = run('mtree-teardown', {});
      await assert.rejects(starting, { code: 'NOT_INITIALISED' });
      assert.deepEqual((await tearing).nodes, { n1: 'removed', n2: 'removed' });
      await query('ROLLBACK');
    });
    assert.deepEqual([await ours('n1'), await ours('n2')], [[], []]);
    await run('mtree-init', {});
    await run('mtree-teardown', {});
  });
});
