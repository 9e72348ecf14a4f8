import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { silentLogger } from '../../src/base/log.js';
import { NO_LSN, parseLsn } from '../../src/base/lsn.js';
import type { Config } from '../../src/config/config.js';
import { build } from '../../src/commands/build.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import type { DiffResult } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { CUSTOMERS_DDL, customerRows } from '../support/customers.js';
import { CUSTOMERS_LOAD, startLoad, type Load } from '../support/load.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import { differingKeys } from '../support/verdict.js';

const ROWS = 4000;
const KINDS = ['mtree table-diff', 'table-diff'] as const;
type Kind = (typeof KINDS)[number];

/** Applying a change to these tables takes a while on n3, so that some are always in flight. */
const SLOW_APPLY = `
  CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_catalog.pg_sleep(0.005); RETURN coalesce(NEW, OLD); END $$;
  CREATE TRIGGER dawdle BEFORE INSERT OR UPDATE OR DELETE ON customers
    FOR EACH ROW EXECUTE FUNCTION dawdle();
  CREATE TRIGGER dawdle BEFORE INSERT OR UPDATE OR DELETE ON hot
    FOR EACH ROW EXECUTE FUNCTION dawdle();
  ALTER TABLE customers ENABLE REPLICA TRIGGER dawdle;
  ALTER TABLE hot ENABLE REPLICA TRIGGER dawdle`;

describe('verdicts on a mesh of three nodes', () => {
  let mesh: Mesh;
  let config: Config;
  let cluster: Cluster;
  let stateDir: string;
  /** Runs that found blocks or rows to differ at first. */
  let surprises = 0;

  before(async () => {
    mesh = await startMesh({
      nodes: 3,
      tables: `${CUSTOMERS_DDL}; CREATE TABLE hot (id int PRIMARY KEY, flag boolean NOT NULL)`,
    });
    await mesh.query('n1', `INSERT INTO customers ${customerRows(1, ROWS)}`);
    await mesh.query('n1', 'INSERT INTO hot SELECT i, false FROM generate_series(1, 4) i');
    await mesh.waitForReplication();
    await mesh.query('n3', SLOW_APPLY);
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir, { diff: { settleTimeoutMs: 1_500 } });
    cluster = new Cluster(config, silentLogger());
    await initialise(cluster, testContext(stateDir));
    for (const table of ['customers', 'hot'])
      await build(cluster, { table }, testContext(stateDir));
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  async function diff(kind: Kind, table: string, nodes?: readonly string[]): Promise<DiffResult> {
    const params = { table, ...(nodes === undefined ? {} : { nodes }) };
    const context = testContext(stateDir);
    const run = kind === 'table-diff' ? diffTable : diffTree;
    const result = await run(cluster, params, context);
    const isSurprised = context.events.some(
      (event) => event.type === 'progress' && event.phase === 'Analysing mismatches',
    );
    if (isSurprised) surprises += 1;
    return result;
  }

  /** How many runs meet changes in flight is the machine's affair: as many runs as it takes for six. */
  async function verdictsWhileInFlight(table: string): Promise<string[]> {
    const verdicts: string[] = [];
    surprises = 0;
    for (let round = 0; round < 6 || (surprises < 6 && round < 100); round++) {
      for (const kind of KINDS) verdicts.push((await diff(kind, table)).verdict);
    }
    assert.ok(surprises >= 6, `${surprises} runs saw changes in flight`);
    return verdicts;
  }

  function startCustomersLoad(): Load {
    return startLoad({ mesh, statements: CUSTOMERS_LOAD, existingRows: ROWS, ratePerSecond: 200 });
  }

  /** Ends a load and takes away what it inserted, for the next one inserts the same keys. */
  async function stopCustomersLoad(load: Load): Promise<void> {
    await load.stop();
    await mesh.waitForReplication();
    await mesh.query('n1', `DELETE FROM customers WHERE id > ${ROWS}`);
    await mesh.waitForReplication();
  }

  async function assertAllMatch(): Promise<void> {
    await mesh.waitForReplication();
    for (const kind of KINDS) assert.equal((await diff(kind, 'customers')).verdict, 'match', kind);
  }

  it('never takes replication in flight for drift', async () => {
    const load = startCustomersLoad();
    const verdicts = await verdictsWhileInFlight('customers');
    await stopCustomersLoad(load);
    const wrong = verdicts.filter((verdict) => verdict !== 'match' && verdict !== 'in_flight');
    assert.deepEqual(wrong, []);
    assert.ok(verdicts.includes('match'), verdicts.join());
    await assertAllMatch();
  });

  it('never takes rows for drift that go to and fro between the same values', async () => {
    let isWriting = true;
    const writer = mesh.node('n1').session(mesh.database, async (query) => {
      // As fast as n3 applies them.
      while (isWriting) {
        await query('UPDATE hot SET flag = NOT flag WHERE id < 4; SELECT pg_sleep(0.01)');
        await query('DELETE FROM hot WHERE id = 4; SELECT pg_sleep(0.01)');
        await query('INSERT INTO hot VALUES (4, true); SELECT pg_sleep(0.01)');
      }
    });
    const verdicts = await verdictsWhileInFlight('hot');
    isWriting = false;
    await writer;
    // Where n3 falls behind for longer than the settle time it is told as that.
    assert.equal(verdicts.includes('drift'), false, verdicts.join());
    assert.ok(verdicts.includes('match') || verdicts.includes('in_flight'), verdicts.join());
    await mesh.waitForReplication();
    for (const kind of KINDS) assert.equal((await diff(kind, 'hot')).verdict, 'match');
  });

  it('finds exactly the rows that drifted while the load goes on', async () => {
    const load = startCustomersLoad();
    // Keys that no load touches: they leave the rest 3 modulo 4.
    const updated = [3, 1003, 1007, 3999];
    const deleted = [7, 2003];
    const inserted = [4 * 50_000 + 3, 4 * 60_000 + 3];
    await mesh.driftSql(
      'n2',
      `UPDATE customers SET email = NULL WHERE id IN (${updated.join()});
       DELETE FROM customers WHERE id IN (${deleted.join()});
       INSERT INTO customers ${customerRows(inserted[0] ?? 0, inserted[0] ?? 0)};
       INSERT INTO customers ${customerRows(inserted[1] ?? 0, inserted[1] ?? 0)}`,
    );
    const here = [...updated, ...deleted].sort((a, b) => a - b);
    const there = [...updated, ...inserted].sort((a, b) => a - b);
    for (const kind of KINDS) {
      const result = await diff(kind, 'customers');
      assert.equal(result.verdict, 'drift', kind);
      assert.deepEqual(await differingKeys(stateDir, result, 'id'), {
        'n1/n2': { n1: here, n2: there },
        'n2/n3': { n2: there, n3: here },
      });
      assert.deepEqual(result.differences, { 'n1/n2': 8, 'n2/n3': 8 });
    }
    await load.stop();
    await mesh.driftSql(
      'n2',
      `DELETE FROM customers WHERE id IN (${[...updated, ...inserted].join()});
       ${here.map((id) => `INSERT INTO customers ${customerRows(id, id)}`).join(';')}`,
    );
    await stopCustomersLoad(load);
    await assertAllMatch();
  });

  it('finds a row that was changed on two nodes', async () => {
    await mesh.driftSql('n1', 'UPDATE customers SET credit = -1 WHERE id = 11');
    await mesh.driftSql('n3', 'UPDATE customers SET credit = -3 WHERE id = 11');
    for (const kind of KINDS) {
      const result = await diff(kind, 'customers');
      assert.equal(result.verdict, 'drift');
      assert.deepEqual(result.differences, { 'n1/n2': 1, 'n1/n3': 1, 'n2/n3': 1 });
    }
    await mesh.driftSql('n1', `UPDATE customers SET credit = 11 WHERE id = 11`);
    await mesh.driftSql('n3', `UPDATE customers SET credit = 11 WHERE id = 11`);
    await assertAllMatch();
  });

  it('says what cannot be told from drift: changes that come from outside the cluster', async () => {
    await mesh.query(
      'n2',
      `CREATE SUBSCRIPTION outside CONNECTION '' PUBLICATION p
         WITH (connect = false, slot_name = 'not_here')`,
    );
    await mesh.driftSql('n1', 'UPDATE customers SET credit = -1 WHERE id = 11');
    for (const kind of KINDS) {
      const result = await diff(kind, 'customers');
      assert.equal(result.verdict, 'drift', kind);
      assert.deepEqual(
        result.warnings.map((text) =>
          /^subscription outside on n2 .* outside the cluster/.test(text),
        ),
        [true],
      );
    }
    await mesh.query('n2', 'ALTER SUBSCRIPTION outside SET (slot_name = NONE)');
    await mesh.query('n2', 'DROP SUBSCRIPTION outside');
    await mesh.driftSql('n1', 'UPDATE customers SET credit = 11 WHERE id = 11');
    await assertAllMatch();
  });

  it('never takes for drift what is on its way through a node that the cluster does not name', async () => {
    const between = await startServer();
    try {
      const table = 'CREATE TABLE far (id int PRIMARY KEY, v int)';
      await between.createDatabase(mesh.database);
      await between.query(mesh.database, table);
      await mesh.queryAll(table);
      const follow = async (to: TestServer, from: TestServer): Promise<void> => {
        const source = `host=${from.host} port=${from.port} user=${from.superuser} dbname=${mesh.database}`;
        await from.query(mesh.database, 'CREATE PUBLICATION far FOR TABLE far');
        await to.query(
          mesh.database,
          `CREATE SUBSCRIPTION far_${to.port} CONNECTION '${source}' PUBLICATION far`,
        );
      };
      await follow(between, mesh.node('n1'));
      await follow(mesh.node('n2'), between);
      await mesh.query('n1', 'INSERT INTO far SELECT i, 0 FROM generate_series(1, 9) i');
      const hasArrived = async (): Promise<boolean> =>
        (await mesh.query('n2', 'SELECT count(*) FROM far'))[0]?.[0] === '9';
      await waitFor(hasArrived, { what: 'the rows to arrive over two subscriptions' });
      await build(cluster, { table: 'far' }, testContext(stateDir));
      await between.query(mesh.database, `ALTER SUBSCRIPTION far_${between.port} DISABLE`);
      await mesh.query('n1', 'UPDATE far SET v = 1 WHERE id = 5');
      for (const kind of KINDS) {
        const { verdict, warnings } = await diff(kind, 'far', ['n1', 'n2']);
        assert.equal(verdict, 'starved', kind);
        assert.match(warnings.join(), /replicates public.far from a publisher outside the cluster/);
      }
      for (const server of [mesh.node('n2'), between]) {
        const name = `far_${server.port}`;
        await server.query(mesh.database, `ALTER SUBSCRIPTION ${name} DISABLE`);
        await server.query(mesh.database, `ALTER SUBSCRIPTION ${name} SET (slot_name = NONE)`);
        await server.query(mesh.database, `DROP SUBSCRIPTION ${name}`);
      }
    } finally {
      await between.stop('immediate');
    }
  });

  it('defect 2: a NULL is not an empty string, and a missing row is missing', async () => {
    await mesh.driftSql('n2', `UPDATE customers SET notes = '' WHERE id = 15`);
    await mesh.driftSql('n3', `UPDATE customers SET notes = NULL WHERE id = 15`);
    for (const kind of KINDS) {
      const result = await diff(kind, 'customers', ['n2', 'n3']);
      assert.equal(result.verdict, 'drift');
      assert.deepEqual(result.differences, { 'n2/n3': 1 });
    }
    for (const node of ['n2', 'n3']) {
      await mesh.driftSql(node, `UPDATE customers SET notes = 'note ' || md5('15') WHERE id = 15`);
    }
    await assertAllMatch();
  });

  it('reports a position that a block which is written again was read up to', async () => {
    const table = cluster.requireTable('hot');
    for (const node of mesh.names) table.leaves(node).markAllDirty();
    const context = testContext(stateDir);
    let running: Promise<DiffResult> | undefined;
    let before = NO_LSN;
    await mesh.node('n3').session(mesh.database, async (query) => {
      // The diff has read n1 and n2 and waits for n3.
      await query('BEGIN; LOCK TABLE hot');
      running = diffTree(cluster, { table: 'hot' }, context);
      running.catch(() => undefined);
      const hasReadTwo = (): boolean =>
        context.events.some((event) => event.type === 'progress' && event.done === 2);
      await waitFor(hasReadTwo, { what: 'two nodes to be read' });
      const [row] = await mesh.query('n1', 'SELECT pg_current_wal_insert_lsn()');
      before = parseLsn(row?.[0] ?? '');
      await mesh.query('n1', 'UPDATE hot SET flag = flag WHERE id = 1');
      await waitFor(() => cluster.pipeline('n1').position > before, { what: 'the change' });
      // As it is when the rows were not kept.
      table.leaves('n1').markAllDirty();
      await query('ROLLBACK');
    });
    const result = await running;
    assert.equal(result?.verdict, 'match');
    assert.ok(parseLsn(result.positions['n1'] ?? '') <= before);
  });

  it('a paused subscription: starved, neither drift nor match', async () => {
    await mesh.pauseReplication('n1', 'n2');
    await mesh.query('n1', 'UPDATE customers SET credit = credit + 1 WHERE id < 20');
    for (const kind of KINDS) {
      const result = await diff(kind, 'customers');
      assert.equal(result.verdict, 'starved', kind);
      assert.match(result.warnings.join(), /n1 -> n2/);
    }
    await mesh.resumeReplication('n1', 'n2');
    await assertAllMatch();
  });

  it('a paused subscription outranks drift: the file holds undelivered changes as well', async () => {
    await mesh.driftSql('n2', 'UPDATE customers SET credit = -9 WHERE id = 1001');
    await mesh.pauseReplication('n1', 'n3');
    await mesh.query('n1', 'UPDATE customers SET credit = credit + 1 WHERE id = 2001');
    for (const kind of KINDS) {
      const result = await diff(kind, 'customers');
      assert.equal(result.verdict, 'starved', kind);
      assert.deepEqual(result.differences, { 'n1/n2': 1, 'n1/n3': 1, 'n2/n3': 2 });
      const text = await readFile(join(stateDir, result.files[0] ?? ''), 'utf8');
      assert.match(text, /"verdict": "starved"/);
      assert.match(text, /n1 -\\u003e n3/);
    }
    await mesh.resumeReplication('n1', 'n3');
    await mesh.waitForReplication();
    for (const kind of KINDS) {
      const result = await diff(kind, 'customers');
      assert.equal(result.verdict, 'drift', kind);
      assert.deepEqual(result.differences, { 'n1/n2': 1, 'n2/n3': 1 });
    }
    await mesh.driftSql('n2', 'UPDATE customers SET credit = 1001 % 850 WHERE id = 1001');
    await assertAllMatch();
  });

  it('a change that comes from a node that is not compared is in flight too', async () => {
    await mesh.pauseReplication('n3', 'n1');
    await mesh.query('n3', 'UPDATE customers SET credit = credit + 1 WHERE id < 20');
    // Before n2 has it there is nothing that differs.
    await mesh.waitForReplication();
    for (const kind of KINDS) {
      const result = await diff(kind, 'customers', ['n1', 'n2']);
      assert.equal(result.verdict, 'starved', kind);
      assert.match(result.warnings.join(), /n3 -> n1/);
    }
    await mesh.resumeReplication('n3', 'n1');
    await assertAllMatch();
  });

  it('a filter is one condition, or the command is refused before it begins', async () => {
    const filtered = (tableFilter: string): Promise<DiffResult> =>
      diffTable(cluster, { table: 'customers', tableFilter }, testContext(stateDir));
    const wrong = [
      'id < 100) OR (1=1',
      'id < 100) or (true',
      'nope < 100',
      'credit',
      'count(*) > 5',
      'id < 100 ORDER BY id',
      'true; DROP TABLE hot',
      'id < 100 /*',
      'id = $2',
      "id < 'x'",
      '',
    ];
    for (const filter of wrong) {
      await assert.rejects(filtered(filter), { code: 'BAD_USAGE', message: /^--table-filter / });
    }
    assert.equal((await filtered('id < 100 -- the first ones')).verdict, 'match');
    assert.equal((await filtered('id < 100 OR id > 200')).verdict, 'match');
    assert.equal((await mesh.query('n1', 'SELECT FROM hot LIMIT 1')).length, 1);
  });

  it('defect 3: a statement that fails on one node fails the whole command', async () => {
    await mesh.queryAll('CREATE ROLE reader LOGIN; GRANT SELECT ON customers TO reader');
    const readerDir = await scratchDirectory();
    const reader = new Cluster(
      {
        ...config,
        stateDir: readerDir,
        nodes: config.nodes.map((node) => ({ ...node, user: 'reader' })),
      },
      silentLogger(),
    );
    const asReader = (tableFilter?: string): Promise<DiffResult> =>
      diffTable(
        reader,
        { table: 'customers', ...(tableFilter === undefined ? {} : { tableFilter }) },
        testContext(readerDir),
      );
    const isRefused = async (work: Promise<DiffResult>): Promise<void> => {
      await assert.rejects(
        work,
        (error) => error instanceof AcedError && error.code !== 'CANCELLED',
      );
    };
    try {
      assert.equal((await asReader()).verdict, 'match', 'SELECT is all that table-diff needs');
      // A row of one node alone makes the filter fail, in the middle of its pass.
      await mesh.driftSql('n3', 'UPDATE customers SET credit = -77 WHERE id = 2003');
      await isRefused(asReader('1 / (credit + 77) IS NOT NULL'));
      await mesh.driftSql('n3', 'UPDATE customers SET credit = 2003 % 850 WHERE id = 2003');
      assert.equal((await asReader('1 / (credit + 77) IS NOT NULL')).verdict, 'match');

      await mesh.query('n2', 'REVOKE SELECT ON customers FROM reader');
      await isRefused(asReader());
      await mesh.query('n2', 'GRANT SELECT ON customers TO reader');

      await mesh.query('n2', 'ALTER TABLE customers ENABLE ROW LEVEL SECURITY');
      await isRefused(asReader());
      await mesh.query('n2', 'ALTER TABLE customers DISABLE ROW LEVEL SECURITY');
    } finally {
      await reader.close();
      await removeDirectory(readerDir);
    }
  });

  it('a node that is down: an error, never a result', async () => {
    await mesh.driftSql('n2', 'UPDATE customers SET credit = -5 WHERE id = 3003');
    await mesh.node('n3').kill();
    const short = { cdcTimeoutMs: 500 };
    await assert.rejects(
      diffTree(cluster, { table: 'customers', ...short }, testContext(stateDir)),
      {
        code: /^(NODE_UNREACHABLE|STREAM_LOST|STARVED)$/,
      },
    );
    await assert.rejects(diff('table-diff', 'customers'), { code: 'NODE_UNREACHABLE' });
    // The others can be compared; but what the third one sent to only one of them may be on its way.
    const result = await diff('table-diff', 'customers', ['n1', 'n2']);
    assert.equal(result.verdict, 'starved');
    assert.match(result.warnings.join(), /n3/);
    // D6: by their trees too, though n3's catalog cannot be read.
    const two = { nodes: ['n1', 'n2'] };
    const context = testContext(stateDir);
    const byTree = await diffTree(cluster, { table: 'customers', ...two }, context);
    assert.equal(byTree.verdict, 'starved');
    assert.deepEqual(byTree.differences, { 'n1/n2': 1 });
    assert.ok(context.messages().includes('Not compared: n3'), context.messages().join());
    assert.equal((await diff('mtree table-diff', 'hot', two.nodes)).verdict, 'match');
    // A new tree needs all of them.
    for (const node of two.nodes) await mesh.query(node, 'ALTER TABLE hot ADD extra int');
    await assert.rejects(diffTree(cluster, { table: 'hot', ...two }, testContext(stateDir)), {
      code: 'NODE_UNREACHABLE',
      message: /tree of public.hot must be built again .* on every node/,
      hint: /table-diff --nodes/,
    });
    assert.equal((await diff('table-diff', 'hot', two.nodes)).verdict, 'match');
    await mesh.node('n3').start();
    await mesh.query('n3', 'ALTER TABLE hot ADD extra int');
    await mesh.driftSql('n2', 'UPDATE customers SET credit = 3003 % 850 WHERE id = 3003');
    await assertAllMatch();
  });
});
