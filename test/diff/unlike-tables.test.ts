import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import type { DiffResult, TableDiffParams } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { differingKeys } from '../support/verdict.js';

const ROWS = 2_000;

/** Alike on all nodes at first; each test makes one of them unlike. */
const TABLES = `
  CREATE TABLE widths (id int PRIMARY KEY, code varchar(20), n smallint, total int);
  CREATE TABLE lines (doc varchar(20) COLLATE "C", line smallint, v text, PRIMARY KEY (doc, line));
  CREATE TABLE uneven (id int PRIMARY KEY, a text, b text);
  CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."The Table" ("Id" int PRIMARY KEY, v text)`;

describe('tables that are declared differently on the nodes', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let directory: string;

  before(async () => {
    mesh = await startMesh({ nodes: 4, tables: TABLES });
    const rows = `generate_series(-5, ${ROWS}) i`;
    await mesh.query('n1', `INSERT INTO widths SELECT i, 'c' || i, i % 99, i FROM ${rows}`);
    await mesh.query('n1', `INSERT INTO lines SELECT 'd' || i % 40, i, i FROM ${rows}`);
    await mesh.query('n1', `INSERT INTO uneven SELECT i, i, i FROM ${rows}`);
    await mesh.query('n1', `INSERT INTO "My Schema"."The Table" SELECT i, i FROM ${rows}`);
    await mesh.waitForReplication();
    directory = await scratchDirectory();
    cluster = new Cluster(mesh.config(directory), silentLogger());
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(directory);
  });

  function diff(table: string, params: Partial<TableDiffParams> = {}): Promise<DiffResult> {
    return diffTable(cluster, { table, ...params }, testContext(directory));
  }

  it('types of one family, also of the key: by text, with a warning', async () => {
    await mesh.query(
      'n2',
      `ALTER TABLE widths ALTER id TYPE bigint, ALTER code TYPE text, ALTER n TYPE int, ALTER total TYPE bigint;
       ALTER TABLE lines ALTER doc TYPE text COLLATE "C", ALTER line TYPE bigint`,
    );
    const widths = await diff('widths');
    assert.equal(widths.verdict, 'match');
    assert.deepEqual(widths.agreement, [['n1', 'n2', 'n3', 'n4']]);
    for (const column of ['id', 'code', 'n', 'total']) {
      assert.ok(
        widths.warnings.some((warning) => warning.startsWith(`Column ${column} is declared diff`)),
        column,
      );
    }
    assert.equal((await diff('lines')).verdict, 'match');
    await mesh.driftSql('n2', `UPDATE widths SET total = 5000000000 WHERE id = 7`);
    await mesh.driftSql('n2', `INSERT INTO widths VALUES (8000000000, 'only there', 1, 1)`);
    await mesh.driftSql('n4', `DELETE FROM lines WHERE doc = 'd7' AND line = 7`);
    await mesh.driftSql(
      'n2',
      `INSERT INTO lines VALUES ('a code that is longer than any', 1, 'x')`,
    );
    const found = await diff('widths');
    assert.equal(found.verdict, 'drift');
    assert.deepEqual(found.agreement, [['n1', 'n3', 'n4'], ['n2']]);
    assert.deepEqual(await differingKeys(directory, found, 'id'), {
      'n1/n2': { n1: [7], n2: [7, 8000000000] },
      'n2/n3': { n2: [7, 8000000000], n3: [7] },
      'n2/n4': { n2: [7, 8000000000], n4: [7] },
    });
    const lines = await diff('lines');
    assert.deepEqual(lines.agreement, [['n1', 'n3'], ['n2'], ['n4']]);
    assert.equal(lines.differences['n2/n4'], 2);
  });

  it('a column on one node only: never a match, unless it is left out by name', async () => {
    await mesh.query('n3', 'ALTER TABLE uneven ADD extra text');
    assert.equal((await diff('uneven')).verdict, 'schema_mismatch');
    assert.equal((await diff('uneven')).agreement, undefined);
    assert.equal((await diff('uneven', { excludeColumns: ['extra'] })).verdict, 'match');
    await mesh.driftSql('n3', `UPDATE uneven SET b = 'other' WHERE id = 3`);
    const onlyA = await diff('uneven', { columns: ['a'] });
    assert.equal(onlyA.verdict, 'match');
    assert.deepEqual(
      onlyA.excludedColumns.map(({ name }) => name),
      ['b', 'extra'],
    );
    assert.equal((await diff('uneven', { columns: ['a', 'b'] })).verdict, 'drift');
    assert.equal((await diff('uneven', { columns: ['a', 'extra'] })).verdict, 'schema_mismatch');
    await assert.rejects(diff('uneven', { columns: ['nope'] }), {
      code: 'BAD_USAGE',
      message: /--columns: public\.uneven has no column "nope"/,
    });
  });

  it('a name that the catalog has as it stands is that table', async () => {
    assert.equal((await diff('My Schema.The Table')).verdict, 'match');
    assert.equal((await diff('"My Schema"."The Table"')).table, 'My Schema.The Table');
  });
});
