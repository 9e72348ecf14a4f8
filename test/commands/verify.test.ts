import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { Config } from '../../src/config/config.js';
import type {
  CommandName,
  CommandParams,
  CommandResults,
  TableStatus,
} from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { editState } from '../support/state-file.js';

/** Narrow, wide with a key that only the server can order, and one whose old rows are streamed. */
const TABLES = `
  CREATE TABLE narrow (id bigint PRIMARY KEY, v int);
  CREATE TABLE wide (region text, name text, note text, amount numeric, at timestamptz,
    PRIMARY KEY (region, name));
  CREATE TABLE exact (id bigint PRIMARY KEY, v text);
  ALTER TABLE exact REPLICA IDENTITY FULL;
  CREATE EXTENSION pg_surgery;
`;
const ROWS = 2_000;
/** Another length would not fit into the page that a test writes it into. */
const MARK = 'mark-before-0123456789';
const FORGED = 'mark-behind-0123456789';

/** 17: its data pages have no checksums unless asked for. */
describe('leaves against tables', () => {
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;
  let engine: Engine;
  let lines: string[];

  before(async () => {
    mesh = await startMesh({ nodes: 2, major: 17, tables: TABLES });
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir, {
      tree: { blockRows: 50, refreshQuietMs: 0 },
      // Judging a whole table finds wrong leaves too.
      drift: { isEnabled: false },
    });
    await mesh.query(
      'n1',
      `INSERT INTO narrow SELECT i, i FROM generate_series(1, ${ROWS}) i;
       INSERT INTO wide SELECT 'r' || i % 7, 'Name' || i, repeat('x', i % 90), i / 3.0, now()
         FROM generate_series(1, ${ROWS}) i;
       INSERT INTO exact SELECT i, 'v' || i FROM generate_series(1, ${ROWS}) i;
       INSERT INTO exact VALUES (100000, '${MARK}')`,
    );
    await mesh.waitForReplication();
    await start();
    await run('mtree-init', {});
    for (const table of ['narrow', 'wide', 'exact']) {
      await run('mtree-build', { table: `public.${table}`, blockRows: 50 });
    }
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  async function start(): Promise<void> {
    lines = [];
    const log = createLogger('info', { write: (line: string) => void lines.push(line) });
    engine = await Engine.open(config, { log, mode: 'daemon' });
  }

  async function run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
  ): Promise<CommandResults[Name]> {
    return engine.run(name, params, testContext(stateDir));
  }

  function mismatches(): Record<string, unknown>[] {
    return lines
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ event }) => event === 'leaf_mismatch');
  }

  async function statusOf(table: string): Promise<TableStatus> {
    const { tables } = await run('status', {});
    return tables.find((one) => one.table === table) ?? assert.fail(`no ${table}`);
  }

  /** A verify of one table that finds nothing. */
  async function assertAllProved(table: string): Promise<void> {
    const result = await run('mtree-verify', { table });
    const one = result.tables[0] ?? assert.fail('no table');
    assert.equal(one.wrongLeaves, 0);
    assert.equal(one.provedLeaves + one.rereadLeaves, one.blocks * 2);
  }

  it('a tree that was just built is proved, on all tables or one, on all nodes or some', async () => {
    const { tables } = await run('mtree-verify', {});
    assert.deepEqual(
      tables.map(({ table }) => table),
      ['public.narrow', 'public.wide', 'public.exact'],
    );
    for (const { blocks, provedLeaves, rereadLeaves, wrongLeaves, error } of tables) {
      assert.deepEqual([provedLeaves, rereadLeaves, wrongLeaves, error], [blocks * 2, 0, 0, null]);
    }
    const [one] = (await run('mtree-verify', { table: 'public.wide', nodes: ['n2'] })).tables;
    assert.deepEqual([one?.nodes, one?.provedLeaves], [['n2'], one?.blocks]);
    await assert.rejects(run('mtree-verify', { table: 'public.none' }), { code: 'NOT_TRACKED' });
    assert.deepEqual(mismatches(), []);
  });

  it('proofs have a time that outlives the engine, and a verify renews it', async () => {
    const before = (await statusOf('public.wide')).oldestProof ?? assert.fail('never proved');
    await engine.close();
    await start();
    assert.equal((await statusOf('public.wide')).oldestProof, before);
    const startedAt = new Date().toISOString();
    await run('mtree-verify', { table: 'public.wide' });
    const renewed = (await statusOf('public.wide')).oldestProof ?? '';
    assert.ok(renewed >= startedAt, `${renewed} is before ${startedAt}`);
  });

  it('leaves that a defect of ours would leave wrong are found, told and mended', async () => {
    const right = (await statusOf('public.narrow')).nodes['n2']?.root;
    await engine.close();
    const leaf = `WHERE node = 'n2' AND table_id = (SELECT id FROM tracked_table WHERE name = ?)
      AND block_id = (SELECT max(block_id) FROM block b JOIN leaf l ON l.block_id = b.id
        AND l.table_id = b.table_id WHERE b.table_id = leaf.table_id)`;
    editState(stateDir, `UPDATE leaf SET sum_low = sum_low + 1 ${leaf}`, 'narrow');
    editState(stateDir, `UPDATE leaf SET row_count = row_count - 3 ${leaf}`, 'wide');
    await start();
    const { tables } = await run('mtree-verify', {});
    assert.deepEqual(
      tables.map(({ wrongLeaves }) => wrongLeaves),
      [1, 1, 0],
    );
    const [found] = tables[1]?.wrong ?? [];
    assert.equal(found?.node, 'n2');
    assert.equal(found.read.rows - found.leaf.rows, 3);
    assert.equal(found.read.sum, found.leaf.sum);
    assert.deepEqual(
      mismatches().map(({ level, node, table, foundBy }) => [level, node, table, foundBy]),
      ['public.narrow', 'public.wide'].map((table) => ['error', 'n2', table, 'verify']),
    );
    assert.deepEqual(mismatches()[1]?.['read'], found.read);
    assert.equal((await statusOf('public.narrow')).nodes['n2']?.root, right);
    assert.equal((await statusOf('public.narrow')).wrongLeaves, 1);
    await assertAllProved('public.narrow');
    await assertAllProved('public.wide');
  });

  it('leaves that differ over equal rows are no match: unverified, told, and mended', async () => {
    await engine.close();
    const leaf = `WHERE node = 'n1' AND table_id = (SELECT id FROM tracked_table WHERE name = 'narrow')
      AND block_id = (SELECT id FROM block b WHERE b.table_id = leaf.table_id ORDER BY rank LIMIT 1 OFFSET 3)`;
    editState(stateDir, `UPDATE leaf SET sum_high = sum_high + 5 ${leaf}`);
    await start();
    const diff = await run('mtree-table-diff', { table: 'public.narrow' });
    assert.equal(diff.verdict, 'unverified');
    assert.deepEqual([diff.differences, diff.files], [{}, []]);
    assert.equal(diff.unverifiedBlocks?.length, 1);
    assert.deepEqual(diff.unverifiedBlocks[0]?.lower, ['151']);
    assert.match(diff.warnings.join(), /\(151\).*leaf on n1 was not what the table says/);
    const [found, ...others] = mismatches();
    assert.deepEqual([found?.['node'], found?.['foundBy'], others], ['n1', 'mtree-table-diff', []]);
    // No field that could hold the key of a row.
    for (const sums of [found?.['leaf'], found?.['read']]) {
      assert.deepEqual(Object.keys(sums ?? {}), ['rows', 'sum']);
    }
    const rest = { ...found, time: null, leaf: null, read: null };
    assert.doesNotMatch(JSON.stringify(rest), /151/);
    assert.equal((await statusOf('public.narrow')).wrongLeaves, 2);
    assert.equal((await run('mtree-table-diff', { table: 'public.narrow' })).verdict, 'match');
    await assertAllProved('public.narrow');
  });

  it('a table-diff that finds rows different under equal leaves doubts the tree', async () => {
    await mesh.query(
      'n2',
      "SELECT heap_force_kill('narrow'::regclass, ARRAY[(SELECT ctid FROM narrow WHERE id = 1234)])",
    );
    assert.equal((await run('mtree-table-diff', { table: 'public.narrow' })).verdict, 'match');
    const diff = await run('table-diff', { table: 'public.narrow' });
    assert.deepEqual([diff.verdict, diff.differences], ['drift', { 'n1/n2': 1 }]);
    assert.match(diff.warnings.join(), /1 leaves of the tree of public\.narrow were wrong/);
    const found = mismatches().at(-1);
    assert.deepEqual([found?.['node'], found?.['foundBy']], ['n2', 'table-diff']);
    const tree = await run('mtree-table-diff', { table: 'public.narrow' });
    assert.deepEqual([tree.verdict, tree.differences], ['drift', { 'n1/n2': 1 }]);
    await mesh.driftSql('n2', 'INSERT INTO narrow VALUES (1234, 1234)');
    assert.equal((await run('mtree-table-diff', { table: 'public.narrow' })).verdict, 'match');
  });

  it('a row that went below the log is found', async () => {
    await mesh.query(
      'n1',
      "SELECT heap_force_kill('narrow'::regclass, ARRAY[(SELECT ctid FROM narrow WHERE id = 777)])",
    );
    const result = await run('mtree-verify', { table: 'public.narrow' });
    const [found, ...others] = result.tables[0]?.wrong ?? [];
    assert.deepEqual(others, []);
    assert.deepEqual([found?.node, found?.leaf.rows, found?.read.rows], ['n1', 50, 49]);
    await assertAllProved('public.narrow');
    const diff = await run('mtree-table-diff', { table: 'public.narrow' });
    assert.deepEqual([diff.verdict, diff.differences], ['drift', { 'n1/n2': 1 }]);
  });

  it('a page that changed on disk is found', async () => {
    const server = mesh.node('n2');
    const [row] = await mesh.query('n2', "SELECT pg_relation_filepath('exact')");
    await mesh.query('n2', 'CHECKPOINT');
    await server.kill();
    const file = await open(join(server.dataDir, row?.[0] ?? ''), 'r+');
    const at = (await file.readFile()).indexOf(MARK);
    assert.ok(at > 0, 'the row is not in its file');
    await file.write(Buffer.from(FORGED), 0, FORGED.length, at);
    await file.close();
    await server.start();
    const result = await run('mtree-verify', { table: 'public.exact' });
    const [found, ...others] = result.tables[0]?.wrong ?? [];
    assert.deepEqual(others, []);
    assert.deepEqual([found?.node, found?.leaf.rows], ['n2', found?.read.rows]);
    await assertAllProved('public.exact');
    assert.equal((await run('mtree-table-diff', { table: 'public.exact' })).verdict, 'drift');
  });

  it('DDL that sends no rows is no wrong leaf: the tree is built again', async () => {
    const before = mismatches().length;
    await mesh.queryAll("ALTER TABLE wide ALTER COLUMN amount TYPE text USING amount::text || '!'");
    const [one] = (await run('mtree-verify', { table: 'public.wide' })).tables;
    assert.deepEqual([one?.isRebuilt, one?.wrongLeaves, one?.error], [true, 0, null]);
    assert.equal(mismatches().length, before);
  });

  it('of several tables, one that cannot be read does not keep the others from it', async () => {
    await mesh.query('n1', 'DROP TABLE wide');
    const { tables } = await run('mtree-verify', {});
    const failed = tables.filter(({ error }) => error !== null);
    assert.deepEqual([tables.length, failed.map(({ table }) => table)], [3, ['public.wide']]);
    assert.match(failed[0]?.error ?? '', /wide/);
    await assert.rejects(run('mtree-verify', { table: 'public.wide' }), { code: 'NO_SUCH_TABLE' });
  });
});
