import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { repair } from '../../src/commands/repair.js';
import { rerunTable } from '../../src/commands/rerun-table.js';
import type {
  DiffResult,
  RepairParams,
  RepairResult,
  TableDiffParams,
} from '../../src/protocol/commands.js';
import { takesSource } from '../../src/repair/request.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';

const TABLES = `
  CREATE TABLE log (at timestamptz, tags text[], doc json, n int, note text);
  CREATE TABLE coded (code text NOT NULL, line int NOT NULL, v text, loose int, UNIQUE (line, code));
  CREATE UNIQUE INDEX ON coded (v) WHERE v > 'm';
  CREATE TABLE late (id int NOT NULL UNIQUE DEFERRABLE, v int);
  CREATE TABLE parted (k int, v text) PARTITION BY LIST (k);
  CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
  CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
  INSERT INTO parted SELECT i % 3, 'same' FROM generate_series(1, 90) i;
  ALTER TABLE log REPLICA IDENTITY FULL; ALTER TABLE coded REPLICA IDENTITY FULL`;

interface DiffFile {
  readonly diffs: Readonly<
    Record<string, { readonly rows: Record<string, Record<string, unknown>[]> }>
  >;
  readonly summary: { readonly primary_key: readonly string[] };
}

describe('tables without a primary key', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let directory: string;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: TABLES });
    await mesh.queryAll('ALTER PUBLICATION mesh ADD TABLE log, coded');
    await mesh.query(
      'n1',
      'ALTER SUBSCRIPTION mesh_n1_from_n2 REFRESH PUBLICATION WITH (copy_data = false)',
    );
    await mesh.query(
      'n2',
      'ALTER SUBSCRIPTION mesh_n2_from_n1 REFRESH PUBLICATION WITH (copy_data = false)',
    );
    await mesh.query(
      'n1',
      `INSERT INTO log SELECT '2026-01-01'::timestamptz + i % 700 * interval '1 day', ARRAY[i % 700, NULL],
         '{"a": 1}', i % 7, NULLIF('n' || i % 700, 'n5') FROM generate_series(1, 3000) i`,
    );
    await mesh.query(
      'n1',
      `INSERT INTO coded SELECT 'c' || i % 10, i, i, i FROM generate_series(1, 2000) i`,
    );
    await mesh.waitForReplication();
    directory = await scratchDirectory();
    cluster = new Cluster(mesh.config(directory), silentLogger());
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(directory);
  });

  const diff = (table: string, params: Partial<TableDiffParams> = {}): Promise<DiffResult> =>
    diffTable(cluster, { table, ...params }, testContext(directory));

  async function fileOf({ files }: DiffResult): Promise<DiffFile> {
    return JSON.parse(await readFile(join(directory, files[0] ?? ''), 'utf8')) as DiffFile;
  }

  const rowsOf = ({ diffs }: DiffFile, node: string): unknown[] =>
    (diffs['n1/n2']?.rows[node] ?? [])
      .map(({ aced_copies: copies, n, note }) => [copies, n, note])
      .sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));

  const countsOf = ({ nodes }: RepairResult) => {
    const { upserted, deleted, left = 0 } = nodes['n2'] ?? {};
    return { upserted, deleted, left };
  };

  const repaired = (
    { table, files }: DiffResult,
    params: Omit<Partial<RepairParams>, 'table'> = {},
  ): Promise<RepairResult> => {
    const way: RepairParams = takesSource({ table, ...params })
      ? { table, sourceOfTruth: 'n1' }
      : { table };
    const inputPath = join(directory, files[0] ?? '');
    return repair(cluster, { ...way, ...params }, testContext(directory, { inputPath }));
  };

  it('are compared by how often each whole row is there, and that is said', async () => {
    const equal = await diff('log');
    assert.equal(equal.verdict, 'match');
    assert.match(equal.warnings.join(), /public\.log has no key: its rows are compared as a whole/);
    await mesh.driftSql(
      'n2',
      `DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE note = 'n9' LIMIT 1);
       INSERT INTO log SELECT * FROM log WHERE note IS NULL LIMIT 1;
       INSERT INTO log VALUES (NULL, '{}', NULL, NULL, 'new'), (NULL, '{}', NULL, NULL, 'new')`,
    );
    const found = await diff('log');
    assert.deepEqual([found.verdict, found.differences], ['drift', { 'n1/n2': 3 }]);
    const file = await fileOf(found);
    assert.deepEqual(file.summary.primary_key, ['aced_row']);
    const [here, there] = [rowsOf(file, 'n1'), rowsOf(file, 'n2')];
    assert.deepEqual([here.length, there.length], [2, 3]);
    assert.ok(there.some((row) => JSON.stringify(row) === '[2,null,"new"]'));
    assert.equal((await diff('log', { columns: ['at'] })).differences['n1/n2'], 3);
    assert.equal((await diff('log', { tableFilter: 'n > 100' })).verdict, 'match');
    assert.equal((await diff('log', { tableFilter: "note = 'new'" })).differences['n1/n2'], 1);
    // The rows of the file again, once one of them is equal.
    await mesh.driftSql('n2', "DELETE FROM log WHERE note = 'new'");
    const path = join(directory, found.files[0] ?? '');
    const again = await rerunTable(cluster, {}, testContext(directory, { inputPath: path }));
    assert.deepEqual([again.comparedRows, again.differences], [3, { 'n1/n2': 2 }]);
  });

  it('what asks for single rows is refused, with what to do', async () => {
    const now = '2026-01-01T00:00:00Z';
    for (const params of [{ tolerances: ['n=1'] }, { until: now }]) {
      await assert.rejects(diff('log', params), { code: 'UNSUPPORTED', hint: /--key/ });
    }
    const found = await diff('log');
    for (const params of [
      { fixNulls: true },
      {
        repairPlan:
          '{"version": 1, "tables": {"public.log": {"default_action": {"type": "keep_n1"}}}}',
      },
      { preserveOrigin: true },
      { stale: 'apply' },
    ] as const) {
      await assert.rejects(repaired(found, params), { code: 'UNSUPPORTED', hint: /--key/ });
    }
    const part = await diff('log', { columns: ['at', 'n'] });
    await assert.rejects(repaired(part), {
      code: 'UNSUPPORTED',
      message: /not compared: doc, note, tags/,
    });
  });

  it('a repair makes contents as often there, and an undo puts them back', async () => {
    const before = await diff('log');
    assert.equal(before.differences['n1/n2'], 2);
    await mesh.driftSql(
      'n2',
      "INSERT INTO log SELECT NULL, ARRAY['only here'], NULL, 9, 'x' FROM generate_series(1, 4); DELETE FROM log WHERE note = 'n12'",
    );
    const found = await diff('log');
    const gone = Number(
      (await mesh.query('n1', "SELECT count(*) FROM log WHERE note = 'n12'"))[0]?.[0],
    );
    const dry = await repaired(found, { dryRun: true });
    const { upserted, deleted } = dry.nodes['n2'] ?? {};
    assert.deepEqual([upserted, deleted], [gone + 1, 5]);
    assert.equal((await diff('log')).differences['n1/n2'], found.differences['n1/n2']);

    const some = await repaired(found, { insertOnly: true });
    assert.deepEqual(countsOf(some), { upserted: gone + 1, deleted: 0, left: 2 });
    assert.match(some.warnings.join(), /2 contents are left as they are/);
    const rest = await repaired(found, { saveUndo: true, generateReport: true });
    assert.deepEqual(countsOf(rest), { upserted: 0, deleted: 5, left: 0 });
    assert.ok((rest.nodes['n2']?.alreadyEqual ?? 0) > 0);
    assert.equal((await diff('log')).verdict, 'match');
    await mesh.waitForReplication();
    assert.equal((await diff('log')).verdict, 'match', 'the repair stays where it was made');

    const [undo] = rest.files.filter((file) => file.includes('undo'));
    const undone = await repair(
      cluster,
      { table: 'log', undo: true },
      testContext(directory, { inputPath: join(directory, undo ?? '') }),
    );
    assert.deepEqual(countsOf(undone), { upserted: 5, deleted: 0, left: 0 });
    assert.equal((await diff('log')).differences['n1/n2'], 2);
    const again = await diff('log');
    const both = await repaired(again, { bidirectional: true });
    assert.deepEqual([both.nodes['n1']?.upserted, both.nodes['n2']?.upserted], [5, 0]);
    assert.equal((await diff('log')).verdict, 'match');
  });

  it('a repair takes copies from the partition that they are in', async () => {
    await mesh.driftSql(
      'n2',
      "INSERT INTO parted SELECT i % 3, 'same' FROM generate_series(1, 6) i",
    );
    await mesh.driftSql('n2', 'DELETE FROM parted WHERE k = 0');
    const found = await diff('parted');
    const { nodes } = await repaired(found);
    assert.deepEqual([nodes['n2']?.upserted, nodes['n2']?.deleted], [30, 4]);
    assert.equal((await diff('parted')).verdict, 'match');
    const again = await repaired(found);
    assert.deepEqual([again.nodes['n2']?.upserted, again.nodes['n2']?.alreadyEqual], [0, 3]);
  });

  it('a repair leaves contents alone whose number has changed since, and gives way to writers', async () => {
    await mesh.driftSql('n2', "DELETE FROM log WHERE note IN ('n20', 'n21', 'n22')");
    const found = await diff('log');
    assert.equal(found.differences['n1/n2'], 3);
    await mesh.driftSql(
      'n2',
      "INSERT INTO log SELECT '2026-01-01'::timestamptz + 20 * interval '1 day', ARRAY[20, NULL], '{\"a\": 1}', 0, 'n20'",
    );
    await mesh.driftSql(
      'n1',
      "DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE note = 'n21')",
    );
    const changed = await diff('log');
    const result = await repaired(found);
    assert.match(result.warnings.join(), /1 contents were skipped: no longer as often on n1/);
    const left = await diff('log');
    assert.ok(
      (left.differences['n1/n2'] ?? 0) < (changed.differences['n1/n2'] ?? 0),
      'what could be was repaired',
    );
    await mesh.node('n2').session(mesh.database, async (query) => {
      await query("BEGIN; UPDATE log SET n = n WHERE note = 'n30'");
      const locked = await repaired(left);
      assert.match(locked.warnings.join(), /others write to the table without a pause/);
      assert.equal(locked.nodes['n2']?.upserted, 0);
      await query('ROLLBACK');
    });
    await repaired(left);
    assert.equal((await diff('log')).verdict, 'match');
  });

  it('rows that are being replicated are no drift', async () => {
    await mesh.driftSql('n2', 'TRUNCATE log');
    await mesh.driftSql('n1', 'TRUNCATE log');
    let isDone = false;
    const writing = mesh.node('n1').session(mesh.database, async (query) => {
      for (let i = 0; !isDone; i++) {
        await query(`INSERT INTO log (n) VALUES (${i % 5}), (${i % 3})`);
        await query(`UPDATE log SET n = n + 1 WHERE ctid = (SELECT min(ctid) FROM log)`);
        if (i % 4 === 0) await query('DELETE FROM log WHERE ctid = (SELECT max(ctid) FROM log)');
      }
    });
    try {
      for (let i = 0; i < 4; i++) {
        const { verdict, differences } = await diff('log');
        assert.ok(['match', 'in_flight'].includes(verdict), JSON.stringify(differences));
        assert.deepEqual(differences, {});
      }
    } finally {
      isDone = true;
      await writing;
    }
    await mesh.waitForReplication();
    assert.equal((await diff('log')).verdict, 'match');
  });

  it('a chosen key matches rows as a primary key would, in the repair too', async () => {
    const key = ['code', 'line'];
    assert.equal((await diff('coded', { key })).verdict, 'match');
    await mesh.driftSql(
      'n2',
      "UPDATE coded SET v = 'x' WHERE line = 7; DELETE FROM coded WHERE line = 8; INSERT INTO coded VALUES ('new', 1, 'y')",
    );
    const whole = await diff('coded');
    assert.equal(whole.differences['n1/n2'], 4);
    const found = await diff('coded', { key });
    assert.equal(found.differences['n1/n2'], 3);
    assert.deepEqual((await fileOf(found)).summary.primary_key.toSorted(), key);
    await assert.rejects(repaired(found), { code: 'BAD_DIFF_FILE', hint: /--key line,code/ });
    const { nodes } = await repaired(found, { key });
    assert.deepEqual([nodes['n2']?.upserted, nodes['n2']?.deleted], [2, 1]);
    assert.equal((await diff('coded')).verdict, 'match');
  });

  it('a key that is none on some node is refused, with the reason', async () => {
    for (const [table, key, why] of [
      ['coded', 'code', /no key of public\.coded on n1: there is no unique index on just these/],
      ['coded', 'loose', /loose may be NULL/],
      ['coded', 'nope', /there is no column nope/],
      ['coded', 'v', /v may be NULL/],
      ['late', 'id', /not partial, not deferrable/],
    ] as const) {
      await assert.rejects(diff(table, { key: [key] }), { code: 'BAD_USAGE', message: why });
    }
    await mesh.query('n2', 'ALTER TABLE coded DROP CONSTRAINT coded_line_code_key');
    await assert.rejects(diff('coded', { key: ['line', 'code'] }), {
      message: /on n2: there is no unique/,
    });
  });
});
