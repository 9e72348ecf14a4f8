import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { rerunTable } from '../../src/commands/rerun-table.js';
import type { DiffResult, RerunParams } from '../../src/protocol/commands.js';
import { fixturePath } from '../diff-file/fixtures.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { differingKeys } from '../support/verdict.js';

/** Type of the key -> an expression of the number i that gives it. */
const KEYS: Readonly<Record<string, string>> = {
  bigint: '9007199254740993 + i',
  smallint: 'i',
  uuid: `md5(i::text)::uuid`,
  numeric: `i + 0.50`,
  'numeric(10,2)': `i`,
  text: `E'007\\'"\\\\' || chr(8232) || i`,
  'char(12)': `'c' || i`,
  bytea: `decode(lpad(to_hex(i), 8, '0'), 'hex')`,
  date: `date '2024-01-01' + i`,
  timestamp: `timestamp '2024-01-01 00:00:00.000001' + i * interval '1 day'`,
  timestamptz: `timestamptz '2024-01-01 00:00:00.25+05' + i * interval '1 day'`,
  interval: `i * interval '24 hours'`,
  boolean: `i > 1`,
  inet: `inet '10.0.0.0' + i`,
  float8: `i / 3.0`,
  'int[]': `ARRAY[i, NULL]`,
  citext: `'Name' || i`,
  mood: `CASE i WHEN 1 THEN 'a,b' ELSE '"' END::mood`,
};
const TYPES = Object.keys(KEYS);
const tableOf = (type: string): string => `k_${type.replaceAll(/\W/g, '_')}`;

const TABLES = `
  CREATE EXTENSION citext;
  CREATE TYPE mood AS ENUM ('a,b', '"');
  ${TYPES.map((type) => `CREATE TABLE ${tableOf(type)} (k ${type} PRIMARY KEY, v int)`).join(';')};
  CREATE TABLE pairs (a text, b bigint, v int, PRIMARY KEY (b, a));
  CREATE TABLE orders (id bigint PRIMARY KEY, email text, amount numeric(12,2),
    created timestamptz, tags text[], doc jsonb, note text)`;

describe('table-rerun', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let directory: string;

  before(async () => {
    mesh = await startMesh({ nodes: 3, tables: TABLES });
    for (const type of TYPES) {
      await mesh.query(
        'n1',
        `INSERT INTO ${tableOf(type)} SELECT ${KEYS[type]}, i FROM generate_series(1, 2) i`,
      );
    }
    await mesh.query(
      'n1',
      `INSERT INTO pairs SELECT 'a,' || i % 3, i, i FROM generate_series(1, 900) i`,
    );
    await mesh.query(
      'n1',
      `INSERT INTO orders SELECT i, 'u' || i || '@example.com', i * 1.1, now(), '{}', '{}', NULL
         FROM generate_series(1, 600) i`,
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

  async function diff(table: string, tableFilter?: string): Promise<DiffResult> {
    const params = tableFilter === undefined ? {} : { tableFilter };
    return diffTable(cluster, { table, ...params }, testContext(directory));
  }

  async function again(file: string, params: RerunParams = {}): Promise<DiffResult> {
    return rerunTable(cluster, params, testContext(directory, { inputPath: file }));
  }

  function fileOf({ files }: DiffResult): string {
    assert.ok(files[0] !== undefined, 'no file');
    return join(directory, files[0]);
  }

  it('finds the rows of the file by keys of every type', async () => {
    for (const type of TYPES) {
      const table = tableOf(type);
      await mesh.driftSql('n2', `UPDATE ${table} SET v = -v`);
      const first = await diff(table);
      assert.equal(first.differences['n1/n2'], 2, type);
      const second = await again(fileOf(first));
      assert.deepEqual(
        [second.verdict, second.differences, second.comparedRows],
        ['drift', { 'n1/n2': 2, 'n2/n3': 2 }, 2],
        type,
      );
      assert.match(
        second.files[0] ?? '',
        new RegExp(`^public_${table}_rerun-diffs-\\d{14}\\.json$`),
      );
      assert.deepEqual(
        await differingKeys(directory, second, 'k'),
        await differingKeys(directory, first, 'k'),
        type,
      );
      await mesh.driftSql('n2', `UPDATE ${table} SET v = -v`);
      const third = await again(fileOf(second));
      assert.deepEqual([third.verdict, third.comparedRows, third.files], ['match', 2, []], type);
    }
  });

  it('looks at the rows of the file alone: changed, missing and back', async () => {
    await mesh.driftSql(
      'n2',
      'UPDATE pairs SET v = 0 WHERE b IN (1, 2); DELETE FROM pairs WHERE b = 3',
    );
    await mesh.driftSql('n3', `INSERT INTO pairs VALUES ('"', 7000, 1)`);
    const first = await diff('pairs');
    assert.deepEqual(first.differences, { 'n1/n2': 3, 'n1/n3': 1, 'n2/n3': 4 });
    await mesh.driftSql(
      'n2',
      'UPDATE pairs SET v = 1 WHERE b = 1; UPDATE pairs SET v = 9 WHERE b = 500',
    );
    const second = await again(fileOf(first));
    assert.deepEqual(second.differences, { 'n1/n2': 2, 'n1/n3': 1, 'n2/n3': 3 });
    assert.equal(second.comparedRows, 4);
    const two = await again(fileOf(first), { nodes: ['n1', 'n3'] });
    assert.deepEqual(two.differences, { 'n1/n3': 1 });
  });

  it('after a filtered diff: whole rows, whatever the filter says of them now', async () => {
    await mesh.driftSql('n2', `UPDATE orders SET note = 'x' WHERE id IN (5, 6)`);
    const first = await diff('orders', 'note IS NULL AND id < 100');
    assert.deepEqual(await differingKeys(directory, first, 'id'), {
      'n1/n2': { n1: [5, 6], n2: [] },
      'n2/n3': { n2: [], n3: [5, 6] },
    });
    const second = await again(fileOf(first));
    assert.deepEqual(await differingKeys(directory, second, 'id'), {
      'n1/n2': { n1: [5, 6], n2: [5, 6] },
      'n2/n3': { n2: [5, 6], n3: [5, 6] },
    });
    await mesh.driftSql('n2', `UPDATE orders SET note = NULL WHERE id IN (5, 6)`);
    assert.equal((await again(fileOf(first))).verdict, 'match');
  });

  it("takes ACE's own files", async () => {
    const equal = await again(fixturePath('orders_diffs.json'));
    assert.deepEqual([equal.verdict, equal.comparedRows], ['match', 7]);
    await mesh.driftSql('n3', 'DELETE FROM orders WHERE id = 10');
    const { differences } = await again(fixturePath('orders_diffs.json'));
    assert.deepEqual(differences, { 'n1/n3': 1, 'n2/n3': 1 });
    await assert.rejects(again(fixturePath('lines_composite_key_diffs.json')), {
      code: 'NO_SUCH_TABLE',
    });
    await assert.rejects(again(fixturePath('orders_repair_report.json')), {
      code: 'BAD_DIFF_FILE',
    });
  });
});
