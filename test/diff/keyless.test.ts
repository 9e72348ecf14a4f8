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
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';

const TABLES = `
  CREATE TABLE log (at timestamptz, tags text[], doc json, n int, note text);
  CREATE TABLE coded (code text NOT NULL, line int NOT NULL, v text, loose int, UNIQUE (line, code));
  CREATE UNIQUE INDEX ON coded (v) WHERE v > 'm';
  CREATE TABLE late (id int NOT NULL UNIQUE DEFERRABLE, v int);
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

  const repaired = (found: DiffResult, params: Partial<RepairParams> = {}): Promise<RepairResult> =>
    repair(
      cluster,
      { table: found.table, sourceOfTruth: 'n1', ...params },
      testContext(directory, { inputPath: join(directory, found.files[0] ?? '') }),
    );

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

  it('what asks for single rows is refused, as is a repair, with what to do', async () => {
    const now = '2026-01-01T00:00:00Z';
    for (const params of [{ tolerances: ['n=1'] }, { until: now }]) {
      await assert.rejects(diff('log', params), { code: 'UNSUPPORTED', hint: /--key/ });
    }
    await assert.rejects(repaired(await diff('log')), { code: 'NO_PRIMARY_KEY', hint: /--key/ });
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
    await assert.rejects(repaired(found), { code: 'NO_PRIMARY_KEY' });
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
