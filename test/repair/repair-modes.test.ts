import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { CommandContext } from '../../src/protocol/commands.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { NOTHING, RepairHarness } from './harness.js';

const TABLES = `
CREATE TABLE many (id bigint PRIMARY KEY, note text);
CREATE TABLE kept (id bigint PRIMARY KEY, note text);
CREATE TABLE sides (a int, b text, note text, PRIMARY KEY (b, a));
CREATE TABLE moved (id int, "Or,der" text, v text, PRIMARY KEY ("Or,der", id));
CREATE TABLE undone (id numeric PRIMARY KEY, n numeric(12,2), at timestamptz, ts timestamp, d date, tags text[], doc jsonb, by bytea, f float8, c char(4), r int4range, b bool, iv interval, note text);
CREATE TABLE holes (id uuid PRIMARY KEY, n numeric(12,2), at timestamptz, tags text[], doc jsonb, by bytea, f float8, c char(4), r int4range, note text);
`;

let mesh: Mesh;
let harness: RepairHarness;

before(async () => {
  mesh = await startMesh({ nodes: 3, tables: TABLES, settings: { track_commit_timestamp: 'on' } });
  harness = await RepairHarness.create(mesh);
});

after(async () => {
  await harness.close();
  await mesh.stop();
});

function table(name: string): { schema: string; name: string } {
  return { schema: 'public', name };
}

async function load(sql: string): Promise<void> {
  await mesh.query('n1', sql);
  await mesh.waitForReplication();
}

async function diff(name: string): Promise<string | null> {
  return harness.diff('public', name);
}

describe('a repair that is interrupted', () => {
  it('tells what it committed, which are whole batches; the next one goes on', async () => {
    await load("INSERT INTO many SELECT i, 'x' FROM generate_series(1, 9000) i");
    await mesh.driftSql('n2', "UPDATE many SET note = 'y' WHERE id % 3 <> 0");
    const file = await diff('many');
    const stop = new AbortController();
    let told = 0;
    const emit: CommandContext['emit'] = (event) => {
      if (event.type !== 'progress' || !event.phase.startsWith('Repairing')) return;
      told = event.done;
      if (told > 0) stop.abort();
    };
    await assert.rejects(
      harness.repair(file, table('many'), {}, { signal: stop.signal, emit }),
      (error: { code?: unknown }) => error.code === 'CANCELLED',
    );
    const rows = await mesh.query(
      'n2',
      "SELECT count(*) FROM many WHERE note = 'x' AND id % 3 <> 0",
    );
    assert.equal(Number(rows[0]?.[0]), told);
    assert.ok(told > 0 && told < 6000, String(told));
    const { nodes } = await harness.repair(file, table('many'));
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 6000 - told, alreadyEqual: told });
    assert.equal(await diff('many'), null);
  });
});

describe('rows that a mode leaves', () => {
  it('are counted, and make the exit code 1', async () => {
    await load("INSERT INTO kept SELECT i, 'x' FROM generate_series(1, 6) i");
    await mesh.driftSql(
      'n2',
      "DELETE FROM kept WHERE id = 1; UPDATE kept SET note = 'y' WHERE id = 2; INSERT INTO kept VALUES (7, 'z')",
    );
    const { nodes } = await harness.repair(await diff('kept'), table('kept'), { insertOnly: true });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 1, left: 2 });
    const again = await harness.repair(await diff('kept'), table('kept'), { upsertOnly: true });
    assert.deepEqual(again.nodes['n2'], { ...NOTHING, upserted: 1, left: 1 });
    assert.match(again.warnings.join(), /1 row was left as they are|1 row.* left/);
  });
});

describe('--bidirectional', () => {
  it('gives each node the rows that it lacks, and swaps no values', async () => {
    await load("INSERT INTO sides SELECT i, 'k' || i, 'x' FROM generate_series(1, 20) i");
    await mesh.driftSql(
      'n1',
      "DELETE FROM sides WHERE a IN (1, 2); UPDATE sides SET note = '1' WHERE a = 9",
    );
    await mesh.driftSql(
      'n2',
      "DELETE FROM sides WHERE a IN (3, 4, 5); UPDATE sides SET note = '2' WHERE a = 9",
    );
    await mesh.driftSql(
      'n3',
      "INSERT INTO sides VALUES (21, 'k21', 'only here'); DELETE FROM sides WHERE a = 5",
    );
    const dry = await harness.repair(await diff('sides'), table('sides'), {
      bidirectional: true,
      dryRun: true,
    });
    assert.equal(dry.nodes['n2']?.deleted, 0);
    const { nodes } = await harness.repair(await diff('sides'), table('sides'), {
      bidirectional: true,
    });
    assert.equal(nodes['n1']?.upserted, 3);
    assert.equal(nodes['n2']?.upserted, 4);
    assert.equal(nodes['n3']?.upserted, 1);
    const sum = Object.values(nodes).reduce(
      (all, one) => all + one.deleted + one.skipped + one.failed,
      0,
    );
    assert.equal(sum, 0);
    for (const node of mesh.names) {
      const rows = await mesh.query(
        node,
        "SELECT count(*), count(*) FILTER (WHERE note = 'x') FROM sides",
      );
      assert.deepEqual(rows, [['21', node === 'n3' ? '20' : '19']], node);
    }
    // The row that differs stands on each node as it did.
    const differing = await mesh.query('n2', 'SELECT note FROM sides WHERE a = 9');
    assert.deepEqual(differing, [['2']]);
    // It alone was left, in both pairs of each node.
    assert.deepEqual(
      mesh.names.map((node) => nodes[node]?.left),
      [2, 2, 2],
    );
    await mesh.waitForReplication();
  });
});

describe('--fix-nulls', () => {
  it('fills NULLs from the other node, in both directions and exactly, and touches nothing else', async () => {
    await load(`INSERT INTO holes SELECT md5(i::text)::uuid, i + 0.10, '2024-01-02 03:04:05.123456+00', ARRAY['a,b', NULL, '"'],
      '{"a": 1.50}', '\\x00ff', 0.1 + i, 'ab', '[1,5)', 'row ' || i FROM generate_series(1, 30) i`);
    const some = (from: number, to: number): string => `n BETWEEN ${from} AND ${to} + 0.5`;
    await mesh.driftSql(
      'n1',
      `UPDATE holes SET at = NULL, tags = NULL, c = NULL WHERE ${some(1, 6)}`,
    );
    await mesh.driftSql(
      'n2',
      `UPDATE holes SET doc = NULL, by = NULL, f = NULL, r = NULL WHERE ${some(4, 9)}`,
    );
    await mesh.driftSql('n2', `UPDATE holes SET note = 'mine', doc = NULL WHERE ${some(20, 20)}`);
    await mesh.driftSql('n2', `UPDATE holes SET note = 'mine' WHERE ${some(21, 21)}`);
    await mesh.driftSql('n2', `DELETE FROM holes WHERE ${some(25, 25)}`);
    const { nodes } = await harness.repair(await diff('holes'), table('holes'), { fixNulls: true });
    assert.equal(nodes['n1']?.upserted, 6);
    assert.equal(nodes['n2']?.upserted, 7);
    assert.deepEqual(
      [nodes['n1'].skipped, nodes['n2'].skipped, nodes['n1'].failed, nodes['n2'].failed],
      [0, 0, 0, 0],
    );
    const counts = await mesh.query(
      'n2',
      "SELECT count(*), count(doc), count(*) FILTER (WHERE note = 'mine') FROM holes",
    );
    assert.deepEqual(counts, [['29', '29', '2']]);
    const again = await diff('holes');
    const left = await harness.repair(again, table('holes'), { dryRun: true });
    assert.deepEqual(left.nodes['n2'], { ...NOTHING, upserted: 3 });
    // n3 has what n1 has now, and was in no pair with it.
    assert.equal(left.nodes['n3'], undefined);
  });
});

describe('what excludes each other', () => {
  it('is refused, and nothing is written', async () => {
    const cases: [params: Parameters<RepairHarness['repair']>[2], RegExp][] = [
      [{ insertOnly: true, upsertOnly: true }, /--insert-only and --upsert-only/],
      [{ bidirectional: true, upsertOnly: true }, /--bidirectional and --upsert-only/],
      [{ bidirectional: true, fixNulls: true }, /--bidirectional and --fix-nulls/],
      [{ fixNulls: true, insertOnly: true }, /--fix-nulls and --insert-only/],
      [{ fixNulls: true, upsertOnly: true }, /--fix-nulls and --upsert-only/],
      [{ fixNulls: true, sourceOfTruth: 'n1' }, /--fix-nulls and --source-of-truth/],
    ];
    for (const [params, message] of cases) {
      await assert.rejects(harness.repair('none.json', table('kept'), params), message);
    }
  });
});

describe('--stale', () => {
  const spoil = async (): Promise<string | null> => {
    await load(
      "TRUNCATE moved; INSERT INTO moved SELECT i, 'k', 'x' FROM generate_series(1, 50) i",
    );
    await mesh.driftSql(
      'n2',
      "UPDATE moved SET v = 'y' WHERE id <= 10; DELETE FROM moved WHERE id = 11; INSERT INTO moved VALUES (51, 'k', 'z')",
    );
    const file = await diff('moved');
    await mesh.driftSql('n2', "UPDATE moved SET v = 'newer' WHERE id IN (1, 2, 51)");
    await mesh.driftSql('n1', "UPDATE moved SET v = 'newer still' WHERE id = 3");
    return file;
  };

  it('skip leaves rows that have moved on, and says so', async () => {
    const { nodes } = await harness.repair(await spoil(), table('moved'), { stale: 'skip' });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 8, skipped: 4 });
  });

  it('fail writes nothing at all', async () => {
    const file = await spoil();
    await assert.rejects(harness.repair(file, table('moved'), { stale: 'fail' }), {
      code: 'ROWS_CHANGED',
      message: /4 of n1\/n2/,
    });
    const rows = await mesh.query('n2', "SELECT count(*) FROM moved WHERE v = 'y'");
    assert.deepEqual(rows, [['8']]);
  });

  it('apply writes over them as they are now', async () => {
    const { nodes } = await harness.repair(await spoil(), table('moved'), { stale: 'apply' });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 11, deleted: 1 });
    const rows = await mesh.query('n2', 'SELECT v FROM moved WHERE id = 3');
    assert.deepEqual(rows, [['newer still']]);
  });
});

describe('--undo', () => {
  it('puts rows back exactly as they were, but not those that have moved on since', async () => {
    await load(`INSERT INTO undone SELECT i + 0.50, i + 0.10, '2024-01-02 03:04:05.123456+00', '2024-01-02 03:04:05.1', '2024-02-29', ARRAY['a,b', NULL, '"'],
      '{"a": 1.50}', '\\x00ff', 0.1 + i, 'ab', '[1,5)', true, '1 day 02:00', 'row ' || i FROM generate_series(1, 40) i`);
    await mesh.driftSql(
      'n2',
      `UPDATE undone SET n = NULL, at = 'infinity', ts = '0044-03-15 12:00:00 BC', d = '-infinity', tags = '{}', doc = '[1.10, null, "x"]', by = '',
       f = 'NaN', c = 'é', r = 'empty', b = NULL, iv = '-1 mon', note = E'a\\nb"c' WHERE id < 10`,
    );
    await mesh.driftSql(
      'n2',
      "DELETE FROM undone WHERE id BETWEEN 20 AND 25; INSERT INTO undone (id, note) VALUES (100.10, 'extra'), (101, NULL)",
    );
    const before = await mesh.query('n2', 'SELECT u::text FROM undone u ORDER BY id');
    const repaired = await harness.repair(await diff('undone'), table('undone'), {
      saveUndo: true,
    });
    assert.deepEqual(repaired.nodes['n2'], { ...NOTHING, upserted: 14, deleted: 2 });
    const [undo = ''] = repaired.files;
    assert.match(undo, /^public_undone_undo-\d{14}\.json$/);
    const path = join(harness.directory, undo);
    await assert.rejects(harness.repair(path, table('undone')), /n2~before/);
    const dry = await harness.repair(path, table('undone'), { undo: true, dryRun: true });
    assert.deepEqual(dry.nodes['n2'], { ...NOTHING, upserted: 11, deleted: 5 });
    await mesh.driftSql('n2', "UPDATE undone SET note = 'since' WHERE id = 1.5");
    const undone = await harness.repair(path, table('undone'), { undo: true });
    assert.deepEqual(undone.nodes['n2'], { ...NOTHING, upserted: 10, deleted: 5, skipped: 1 });
    const after = await mesh.query(
      'n2',
      'SELECT u::text FROM undone u WHERE id <> 1.5 ORDER BY id',
    );
    assert.deepEqual(after, before.slice(1));
    const again = await harness.repair(path, table('undone'), { undo: true });
    assert.deepEqual(again.nodes['n2'], { ...NOTHING, alreadyEqual: 15, skipped: 1 });
    await mesh.waitForReplication();
    assert.deepEqual(await mesh.query('n1', "SELECT count(*) FROM undone WHERE at = 'infinity'"), [
      ['0'],
    ]);
  });

  it('keeps what was committed before a repair was interrupted', async () => {
    await load("TRUNCATE many; INSERT INTO many SELECT i, 'x' FROM generate_series(1, 9000) i");
    await mesh.driftSql('n2', "UPDATE many SET note = 'y' WHERE id > 1000");
    const stop = new AbortController();
    let told = 0;
    const emit: CommandContext['emit'] = (event) => {
      if (event.type !== 'progress' || !event.phase.startsWith('Repairing')) return;
      told = event.done;
      if (told > 0) stop.abort();
    };
    const files = new Set(await readdir(harness.directory));
    const running = harness.repair(
      await diff('many'),
      table('many'),
      { saveUndo: true },
      { signal: stop.signal, emit },
    );
    await assert.rejects(running, (error: { code?: unknown }) => error.code === 'CANCELLED');
    const undo = (await readdir(harness.directory)).find(
      (name) => !files.has(name) && name.includes('_undo-'),
    );
    const { nodes } = await harness.repair(join(harness.directory, undo ?? ''), table('many'), {
      undo: true,
    });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: told });
    assert.deepEqual(await mesh.query('n2', "SELECT count(*) FROM many WHERE note = 'y'"), [
      ['8000'],
    ]);
  });

  it('is not promised of rows that would come back without what is not compared', async () => {
    await load("TRUNCATE many; INSERT INTO many SELECT i, 'x' FROM generate_series(1, 20) i");
    await mesh.query('n2', 'ALTER TABLE many ADD COLUMN own int DEFAULT 7');
    try {
      await mesh.driftSql('n2', "INSERT INTO many VALUES (99, 'z'); DELETE FROM many WHERE id = 1");
      const file = await diff('many');
      await assert.rejects(harness.repair(file, table('many'), { saveUndo: true }), {
        code: 'BAD_USAGE',
        message: /without what is not compared: own/,
      });
      const modes = { saveUndo: true, upsertOnly: true };
      const { nodes } = await harness.repair(file, table('many'), modes);
      assert.equal(nodes['n2']?.upserted, 1);
    } finally {
      await mesh.query('n2', 'ALTER TABLE many DROP COLUMN own');
    }
  });

  it('takes no other file', async () => {
    await mesh.driftSql('n2', "UPDATE kept SET note = 'w' WHERE id = 3");
    const file = await diff('kept');
    await assert.rejects(harness.repair(file, table('kept'), { undo: true }), {
      code: 'BAD_DIFF_FILE',
      message: /is not an undo file/,
    });
    await assert.rejects(
      harness.repair(file, table('kept'), { undo: true, upsertOnly: true }),
      /--undo and --upsert-only/,
    );
  });
});

describe('--preserve-origin', () => {
  it("keeps the commit times of the source's rows, under our own origin", async () => {
    await mesh.query('n1', 'TRUNCATE moved');
    for (const from of [1, 11]) {
      await mesh.query(
        'n1',
        `INSERT INTO moved SELECT i, 'k', 'x' FROM generate_series(${from}, ${from + 9}) i`,
      );
    }
    await mesh.waitForReplication();
    await mesh.driftSql(
      'n2',
      "UPDATE moved SET v = 'y' WHERE id > 5; DELETE FROM moved WHERE id > 15",
    );
    const params = { preserveOrigin: true };
    const { nodes } = await harness.repair(await diff('moved'), table('moved'), params);
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 15 });
    const times = `SELECT pg_xact_commit_timestamp(xmin)::text, count(*) FROM moved
       WHERE id > 5 GROUP BY 1 ORDER BY 1`;
    const written = await mesh.query('n2', times);
    assert.deepEqual(written, await mesh.query('n1', times));
    assert.deepEqual(
      written.map(([, count]) => count),
      ['5', '10'],
    );
    const origins = await mesh.query(
      'n2',
      `SELECT DISTINCT o.roname FROM moved, pg_xact_commit_timestamp_origin(xmin) w
         JOIN pg_replication_origin o ON o.roident = w.roident WHERE id > 5`,
    );
    assert.deepEqual(origins, [['aced_repair']]);
  });
});
