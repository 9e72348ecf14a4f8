import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type {
  CommandName,
  CommandParams,
  CommandResults,
  ProgressEvent,
} from '../../src/protocol/commands.js';
import type { ManyTablesResult, TableEnd } from '../../src/protocol/many-tables.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const TABLES = `
  CREATE TABLE a (id int PRIMARY KEY, v int);
  CREATE TABLE b (k text PRIMARY KEY, v numeric, w timestamptz DEFAULT now());
  CREATE TABLE parts (id int, region text, v int, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
  CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
  CREATE TABLE parts_us PARTITION OF parts FOR VALUES IN ('us');
  CREATE TABLE nokey (v int);
  CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
  CREATE TABLE owned (id int PRIMARY KEY);
  ALTER EXTENSION plpgsql ADD TABLE owned;
  CREATE VIEW seen AS SELECT * FROM a;
  CREATE SCHEMA "Odd.Schema";
  CREATE TABLE "Odd.Schema"."Ta ""ble*" ("Id" uuid PRIMARY KEY, v int);
  CREATE TABLE "Odd.Schema".plain (id int PRIMARY KEY, v int);
  INSERT INTO a SELECT g, g FROM generate_series(1, 500) g;
  INSERT INTO b SELECT 'k' || g, g / 3.0 FROM generate_series(1, 50) g;
  INSERT INTO parts SELECT g, CASE g % 2 WHEN 0 THEN 'eu' ELSE 'us' END, g FROM generate_series(1, 90) g;
  INSERT INTO "Odd.Schema"."Ta ""ble*" VALUES ('6f1c1a7e-0000-4000-8000-000000000001', 1);`;
const ODD = 'Odd.Schema.Ta "ble*';

/** Ends and reasons by table. */
function ends(result: ManyTablesResult<unknown>): Record<string, string> {
  return Object.fromEntries(
    result.tables.map(({ table, end, reason }) => [
      table,
      reason === null ? end : `${end}: ${reason}`,
    ]),
  );
}

function withEnd(result: ManyTablesResult<unknown>, end: TableEnd): string[] {
  return result.tables.filter((table) => table.end === end).map(({ table }) => table);
}

describe('commands on many tables', () => {
  let mesh: Mesh;
  let stateDir: string;
  let engine: Engine;

  before(async () => {
    mesh = await startMesh({ nodes: 2 });
    // The same rows on both, written before they are replicated.
    await mesh.queryAll(TABLES);
    await mesh.queryAll('UPDATE b SET w = $$2026-01-01 00:00:00Z$$');
    await mesh.addTables('');
    await mesh.query('n1', 'CREATE TABLE only_here (id int PRIMARY KEY)');
    stateDir = await scratchDirectory();
    const config = mesh.config(stateDir, {
      tree: { refreshBudget: 0 },
      drift: { isEnabled: false },
    });
    engine = await Engine.open(config, { log: silentLogger(), mode: 'daemon' });
    await run('mtree-init', {});
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  async function run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    context = testContext(stateDir),
  ): Promise<CommandResults[Name]> {
    return engine.run(name, params, context);
  }

  const LEFT = {
    'public.nokey': 'failed: table public.nokey has no primary key on n1',
    'public.only_here': 'failed: found on n1, missing on n2',
    'public.owned': 'skipped: belongs to extension plpgsql',
    'public.parts_eu': 'skipped: a partition of public.parts',
    'public.parts_us': 'skipped: a partition of public.parts',
    'public.scratch': 'skipped: unlogged, so it is not replicated',
  };

  it('a build that is interrupted goes on where it was', async () => {
    const stop = new AbortController();
    const events: ProgressEvent[] = [];
    const interrupted = run(
      'mtree-build-many',
      { tables: ['public.*'] },
      {
        ...testContext(stateDir),
        signal: stop.signal,
        emit: (event) => {
          events.push(event);
          if (event.type === 'progress') stop.abort();
        },
      },
    );
    await assert.rejects(interrupted, { code: 'CANCELLED' });
    const [first] = events.filter(({ type }) => type === 'progress');
    assert.deepEqual(first, { type: 'progress', phase: 'Building trees', done: 1, total: 4 });
    const again = await run('mtree-build-many', { tables: ['public.*'], blockRows: 20 });
    assert.deepEqual(withEnd(again, 'done').length + again.counts.skipped, 3 + 4);
    const live = again.tables.filter(({ reason }) => reason === 'it has a live tree already');
    assert.ok(live.length >= 1, JSON.stringify(ends(again)));
    const { tables } = await run('status', {});
    assert.deepEqual(tables.map(({ table, state }) => `${table} ${state}`).sort(), [
      'public.a live',
      'public.b live',
      'public.parts live',
    ]);
  });

  it('builds every table that can be, and says of each other one why not', async () => {
    const all = await run('mtree-build-many', { all: true, rebuild: true, blockRows: 20 });
    assert.deepEqual(ends(all), {
      ...LEFT,
      'public.a': 'done',
      'public.b': 'done',
      'public.parts': 'done',
      [ODD]: 'done',
      'Odd.Schema.plain': 'done',
      ...Object.fromEntries(
        all.tables
          .filter(({ table }) => table.startsWith('aced.'))
          .map(({ table }) => [table, "skipped: aced's own"]),
      ),
    });
    const results = all.tables.filter(({ table }) => table === 'public.a');
    assert.deepEqual(
      results.map(({ result }) => [result?.rows, result?.blocks]),
      [[{ n1: 500, n2: 500 }, 25]],
    );
  });

  it('chooses by schema, pattern, publication, and leaves out', async () => {
    const chosen = async (params: CommandParams['mtree-update-many']): Promise<string[]> =>
      withEnd(await run('mtree-update-many', params), 'done');
    assert.deepEqual(await chosen({ schemas: ['Odd.Schema'] }), [ODD, 'Odd.Schema.plain']);
    assert.deepEqual(await chosen({ tables: ['"Odd.Schema"."Ta ""ble*"'] }), [ODD]);
    assert.deepEqual(await chosen({ tables: ['A', '*.plain'] }), ['Odd.Schema.plain', 'public.a']);
    assert.deepEqual(await chosen({ all: true, skipTables: ['plain', 'public.p*', 'a'] }), [
      ODD,
      'public.b',
    ]);
    await mesh.query('n2', 'CREATE PUBLICATION picked FOR TABLE a WHERE (id > 3), parts');
    assert.deepEqual(await chosen({ publication: 'picked', skipTables: ['b'] }), [
      'public.a',
      'public.parts',
    ]);
    await mesh.query('n2', 'DROP PUBLICATION picked');
    const skipped = await run('mtree-update-many', { tables: ['public.?'], skipTables: ['b'] });
    assert.deepEqual(ends(skipped), {
      'public.a': 'done',
      'public.b': 'skipped: left out as asked',
    });
  });

  it('what means no table is an error that names it', async () => {
    for (const params of [
      { tables: ['public.*', 'nosuch.*'] },
      { tables: ['public.a'], schemas: ['Public'] },
      { publication: 'nosuch' },
    ]) {
      await assert.rejects(run('table-diff-many', params), {
        code: 'NO_SUCH_TABLE',
        message: /nosuch|Public/,
      });
    }
    await assert.rejects(run('table-diff-many', {}), { code: 'BAD_USAGE' });
    await assert.rejects(run('table-diff-many', { tables: ['a.b.c'] }), { code: 'BAD_USAGE' });
    await assert.rejects(run('table-diff-many', { repset: 'default' }), {
      code: 'NO_SUCH_TABLE',
      message: /no node has a replication set or publication default/,
    });
  });

  it('compares by trees: equal, different, changed meanwhile, without a tree', async () => {
    const equal = await run('mtree-table-diff-many', { all: true });
    assert.deepEqual(withEnd(equal, 'equal'), [
      ODD,
      'Odd.Schema.plain',
      'public.a',
      'public.b',
      'public.parts',
    ]);
    assert.equal(equal.counts.different + equal.counts.failed + equal.counts.unproved, 0);
    assert.match(ends(equal)['public.nokey'] ?? '', /^skipped: it has no tree$/);
    assert.match(ends(equal)['public.only_here'] ?? '', /^missing: found on n1, missing on n2$/);
    for (const { result } of equal.tables) {
      if (result === null) continue;
      assert.equal(result.verdict, 'match');
      assert.deepEqual(Object.keys(result.positions), ['n1', 'n2']);
    }

    await mesh.driftSql('n1', 'UPDATE parts SET v = -1 WHERE id IN (3, 4)');
    await mesh.query('n2', 'UPDATE a SET v = v + 1');
    await mesh.queryAll('ALTER TABLE b ADD COLUMN x int DEFAULT 3');
    const changed = await run('mtree-table-diff-many', { tables: ['public.*'] });
    assert.equal(ends(changed)['public.parts'], 'different: 2 rows between n1/n2');
    assert.deepEqual(withEnd(changed, 'equal'), ['public.a', 'public.b']);
    assert.match(changed.files.join(), /^public_parts_diffs-\d+\.json$/);
    const { tables } = await run('status', {});
    const verdicts = tables.map(({ table, lastDiff }) => `${table} ${lastDiff?.verdict ?? '-'}`);
    assert.ok(verdicts.includes('public.parts drift'), verdicts.join());
    assert.ok(verdicts.includes(`${ODD} match`), verdicts.join());
  });

  it('a dirty leaf proves nothing: the table is looked at', async () => {
    await mesh.driftSql('n2', 'UPDATE a SET v = -7 WHERE id = 250');
    const one = await run('mtree-table-diff-many', { tables: ['a'] });
    assert.equal(ends(one)['public.a'], 'different: 1 rows between n1/n2');
    await mesh.driftSql(
      'n2',
      'UPDATE a SET v = (SELECT v + 1 FROM a WHERE id = 249) WHERE id = 250',
    );
    const mended = await run('mtree-table-diff-many', { tables: ['a'] });
    assert.equal(ends(mended)['public.a'], 'equal');
  });

  it('compares without trees, tables without a key too', async () => {
    const result = await run('table-diff-many', { tables: ['public.*'], nodes: ['n1', 'n2'] });
    assert.deepEqual(ends(result), {
      ...LEFT,
      'public.only_here': 'missing: found on n1, missing on n2',
      'public.nokey': 'equal',
      'public.a': 'equal',
      'public.b': 'equal',
      'public.parts': 'different: 2 rows between n1/n2',
    });
    assert.equal(result.files.length, 1);
  });

  it('verifies every tree', async () => {
    const result = await run('mtree-verify-many', { schemas: ['public'] });
    assert.deepEqual(withEnd(result, 'equal'), ['public.a', 'public.b', 'public.parts']);
    const leaves = result.tables.flatMap(({ result: one }) =>
      one === null ? [] : [one.provedLeaves - 2 * one.blocks],
    );
    assert.deepEqual(leaves, [0, 0, 0]);
  });

  it('a table that is locked does not keep the others from being published', async () => {
    await mesh.queryAll(
      'CREATE TABLE l1 (id int PRIMARY KEY); CREATE TABLE l2 (id int PRIMARY KEY); CREATE TABLE l3 (id int PRIMARY KEY)',
    );
    await mesh.node('n1').session(mesh.database, async (query) => {
      await query('BEGIN');
      await query('LOCK TABLE l2 IN SHARE UPDATE EXCLUSIVE MODE');
      const building = run('mtree-build-many', { tables: ['l?'] });
      const published = async (): Promise<string> => {
        const rows = await mesh.query(
          'n1',
          "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables WHERE pubname = 'aced_demo' AND tablename LIKE 'l_'",
        );
        return rows[0]?.[0] ?? '';
      };
      await waitFor(async () => (await published()) === 'l1', { what: 'l1 to be published' });
      await query('COMMIT');
      assert.deepEqual(withEnd(await building, 'done'), ['public.l1', 'public.l2', 'public.l3']);
    });
  });

  it('takes down every tree that is meant, of a table that is gone too', async () => {
    await mesh.queryAll('DROP TABLE l2');
    const some = await run('mtree-teardown-table-many', { tables: ['l*'] });
    assert.deepEqual(withEnd(some, 'done'), ['public.l1', 'public.l2', 'public.l3']);
    await run('mtree-teardown-table-many', { all: true });
    assert.deepEqual((await run('status', {})).tables, []);
    await assert.rejects(run('mtree-build-many', { all: true, nodes: ['n1'] }), {
      code: 'UNSUPPORTED',
    });
  });
});
