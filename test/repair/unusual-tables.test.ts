import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startMesh, type Mesh } from '../support/mesh.js';
import { NOTHING, RepairHarness } from './harness.js';

const TABLES = `
CREATE EXTENSION btree_gist;
CREATE TABLE swapped (id bigint PRIMARY KEY, code text UNIQUE);
CREATE TABLE counted (id bigint PRIMARY KEY, serial int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE kept (id bigint PRIMARY KEY, serial int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE archived (id bigint PRIMARY KEY, code text UNIQUE);
CREATE TABLE archive (id bigint);
CREATE FUNCTION archive() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.archive VALUES (OLD.id); RETURN OLD; END';
CREATE TABLE late (id bigint PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, note text);
ALTER TABLE late REPLICA IDENTITY FULL;
CREATE TABLE late_code (id bigint PRIMARY KEY, code text UNIQUE DEFERRABLE);
CREATE TABLE booked (room int, at daterange, note text, PRIMARY KEY (room, at WITHOUT OVERLAPS));
ALTER TABLE booked REPLICA IDENTITY FULL;
CREATE TABLE placed (id bigint PRIMARY KEY, at int4range, EXCLUDE USING gist (at WITH &&));
CREATE TABLE ruled (id bigint PRIMARY KEY, note text);
CREATE TABLE parent (id bigint PRIMARY KEY, note text);
CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
CREATE TABLE split (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id);
CREATE TABLE split_low PARTITION OF split FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE split_high PARTITION OF split FOR VALUES FROM (100) TO (MAXVALUE);
`;

describe('repair of tables that are unlike most', () => {
  let mesh: Mesh;
  let harness: RepairHarness;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: TABLES });
    harness = await RepairHarness.create(mesh);
  });

  after(async () => {
    await harness.close();
    await mesh.stop();
  });

  /** What n1 has, n2 gets too; then `drift` runs on n2 alone. */
  async function spoil(fill: string, drift: string): Promise<void> {
    await mesh.query('n1', fill);
    await mesh.waitForReplication();
    await mesh.driftSql('n2', drift);
  }

  async function repaired(name: string, counts: object): Promise<readonly string[]> {
    const file = await harness.diff('public', name);
    const { nodes, warnings } = await harness.repair(file, { schema: 'public', name });
    assert.deepEqual(nodes['n2'], { ...NOTHING, ...counts });
    return warnings;
  }

  async function repairedWhole(name: string, counts: object): Promise<void> {
    assert.deepEqual(await repaired(name, counts), []);
    assert.equal(await harness.diff('public', name), null);
  }

  /** A file in ACE's form, of a row that n2 lacks; 3.0 says beside it where the row lives. */
  async function aceFile(table: string, storage: string): Promise<string> {
    const metadata = { commit_ts: null, node_origin: 'local', storage_relation: storage };
    const row = { id: 200, note: 'new', _spock_metadata_: metadata };
    const summary = { schema: 'public', table, nodes: ['n1', 'n2'], primary_key: ['id'] };
    const path = join(harness.directory, `${table}.json`);
    const diffs = { 'n1/n2': { rows: { n1: [row], n2: [] } } };
    await writeFile(path, JSON.stringify({ diffs, summary }));
    return path;
  }

  it("of ACE 3.0's files: a row goes into its partition, and a table that others inherit from is refused", async () => {
    await mesh.driftSql('n1', "INSERT INTO split VALUES (200, 'new')");
    const file = await aceFile('split', 'public.split_high');
    const { nodes } = await harness.repair(file, { schema: 'public', name: 'split' });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 1 });
    assert.deepEqual(await mesh.query('n2', 'SELECT id FROM split_high'), [['200']]);
    await mesh.driftSql('n1', "INSERT INTO child VALUES (200, 'new')");
    const inherited = await aceFile('parent', 'public.child');
    await assert.rejects(harness.repair(inherited, { schema: 'public', name: 'parent' }), {
      code: 'UNSUPPORTED',
      message: /has tables that inherit from it/,
      hint: /Compare the inheriting tables one by one/,
    });
    assert.deepEqual(await mesh.query('n2', 'SELECT id FROM parent'), []);
    await repairedWhole('child', { upserted: 1 });
  });

  it('deletes and inserts no row that has columns which are not compared', async () => {
    await spoil(
      "INSERT INTO swapped SELECT i, 'c' || i FROM generate_series(1, 9) i",
      `ALTER TABLE swapped ADD own text;
       UPDATE swapped SET own = 'keep', code = CASE id WHEN 1 THEN 'x' ELSE code END;
       UPDATE swapped SET code = 'c1' WHERE id = 2; UPDATE swapped SET code = 'c2' WHERE id = 1`,
    );
    const [warning] = await repaired('swapped', { failed: 2 });
    assert.match(warning ?? '', /swapped_code_key.* would lose what is not compared \(own\)/);
    await spoil(
      'INSERT INTO counted (id) SELECT i FROM generate_series(1, 3) i',
      `ALTER TABLE counted ADD own text DEFAULT 'keep'; DELETE FROM counted WHERE id = 2;
       INSERT INTO counted (id, serial) OVERRIDING SYSTEM VALUE VALUES (2, 77)`,
    );
    assert.match((await repaired('counted', { failed: 1 }))[0] ?? '', /not compared \(own\)/);
    for (const name of ['swapped', 'counted']) {
      const sql = `SELECT count(*) FROM ${name} WHERE own IS DISTINCT FROM 'keep'`;
      assert.deepEqual(await mesh.query('n2', sql), [['0']]);
    }
  });

  it('deletes and inserts no row whose delete would fire a trigger', async () => {
    await spoil(
      "INSERT INTO archived SELECT i, 'c' || i FROM generate_series(1, 9) i",
      `UPDATE archived SET code = 'x' WHERE id = 1; UPDATE archived SET code = 'c1' WHERE id = 2;
       UPDATE archived SET code = 'c2' WHERE id = 1;
       CREATE TRIGGER a AFTER DELETE ON archived FOR EACH ROW EXECUTE FUNCTION archive();
       ALTER TABLE archived ENABLE ALWAYS TRIGGER a`,
    );
    const [warning] = await repaired('archived', { failed: 2 });
    assert.match(warning ?? '', /archived_code_key.* deletes fire triggers here/);
    assert.deepEqual(await mesh.query('n2', 'SELECT * FROM archive'), []);
  });

  it('writes where a deferrable constraint, or a key without overlaps, is no arbiter', async () => {
    await spoil(
      "INSERT INTO late SELECT i, 'n' FROM generate_series(1, 20) i",
      "DELETE FROM late WHERE id < 4; UPDATE late SET note = 'x' WHERE id = 9; INSERT INTO late VALUES (50)",
    );
    await repairedWhole('late', { upserted: 4, deleted: 1 });
    await spoil(
      "INSERT INTO late_code SELECT i, 'c' || i FROM generate_series(1, 20) i",
      `UPDATE late_code SET code = 'x' WHERE id = 1; UPDATE late_code SET code = 'c1' WHERE id = 2;
       UPDATE late_code SET code = 'c2' WHERE id = 1; DELETE FROM late_code WHERE id > 17`,
    );
    await repairedWhole('late_code', { upserted: 5 });
    await spoil(
      `INSERT INTO booked SELECT i % 3, daterange('2026-01-01'::date + i, '2026-01-02'::date + i), 'n' FROM generate_series(1, 60) i`,
      `DELETE FROM booked WHERE room = 1 AND at < '[2026-01-20,2026-01-21)';
       UPDATE booked SET at = daterange(lower(at), upper(at) + 1) WHERE room = 2 AND lower(at) = '2026-01-06';
       INSERT INTO booked VALUES (2, '[2025-01-01,2025-02-01)')`,
    );
    await repairedWhole('booked', { upserted: 7, deleted: 2 });
  });

  it('puts values that an exclusion constraint keeps apart back', async () => {
    await spoil(
      'INSERT INTO placed SELECT i, int4range(i * 10, i * 10 + 10) FROM generate_series(1, 20) i',
      `UPDATE placed SET at = '[1000,1010)' WHERE id = 1; UPDATE placed SET at = '[10,20)' WHERE id = 2;
       UPDATE placed SET at = '[20,30)' WHERE id = 1; DELETE FROM placed WHERE id = 9;
       INSERT INTO placed VALUES (99, '[95,98)')`,
    );
    await repairedWhole('placed', { upserted: 3, deleted: 1 });
  });

  it('writes values into other types of one family, and fails those that do not fit', async () => {
    await mesh.query('n1', 'CREATE TABLE wide (id int PRIMARY KEY, v varchar(3), w int)');
    await mesh.query('n2', 'CREATE TABLE wide (id bigint PRIMARY KEY, v text, w smallint)');
    const fill = "INSERT INTO wide SELECT i, 'a', 1 FROM generate_series(1, 20) i";
    await mesh.driftSql('n1', `${fill}; UPDATE wide SET w = 70000 WHERE id = 20`);
    await mesh.driftSql(
      'n2',
      `${fill}; DELETE FROM wide WHERE id < 4; UPDATE wide SET v = 'longer' WHERE id = 9;
       INSERT INTO wide VALUES (5000000000, 'b', 2)`,
    );
    const [warning] = await repaired('wide', { upserted: 4, deleted: 1, failed: 1 });
    assert.match(warning ?? '', /SQLSTATE 22003/);
  });

  it('leaves nothing behind of a key that the table stores as another one', async () => {
    await mesh.query('n1', 'CREATE TABLE fine (id numeric(10,3) PRIMARY KEY)');
    await mesh.query('n2', 'CREATE TABLE fine (id numeric(10,2) PRIMARY KEY)');
    for (const node of mesh.names) await mesh.driftSql(node, 'INSERT INTO fine VALUES (1), (2)');
    // Of the two one is stored, as 2.01, and the other finds 1.00 there.
    await mesh.driftSql('n1', 'INSERT INTO fine VALUES (1.001), (2.005)');
    const [warning] = await repaired('fine', { failed: 2, alreadyEqual: 2 });
    assert.match(warning ?? '', /2 rows could not be written: the table made something else/);
    assert.deepEqual(await mesh.query('n2', 'SELECT id FROM fine ORDER BY 1'), [
      ['1.00'],
      ['2.00'],
    ]);
  });

  it('keeps a row that it would have to delete and cannot insert again', async () => {
    await spoil(
      'INSERT INTO kept (id) SELECT i FROM generate_series(1, 3) i',
      `DELETE FROM kept WHERE id = 2; INSERT INTO kept (id, serial) OVERRIDING SYSTEM VALUE VALUES (2, 77);
       CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
       CREATE TRIGGER refuse BEFORE INSERT ON kept FOR EACH ROW EXECUTE FUNCTION refuse();
       ALTER TABLE kept ENABLE ALWAYS TRIGGER refuse`,
    );
    const [warning] = await repaired('kept', { failed: 1 });
    assert.match(warning ?? '', /changes or drops what is written \("refuse"\)/);
    assert.deepEqual(await mesh.query('n2', 'SELECT serial FROM kept WHERE id = 2'), [['77']]);
  });

  it('passes by rules that do not fire for it, and refuses those that do', async () => {
    const drift = (id: number): string =>
      `DELETE FROM ruled WHERE id = ${id}; UPDATE ruled SET note = 'x' WHERE id = ${id + 1}`;
    await spoil("INSERT INTO ruled SELECT i, 'n' FROM generate_series(1, 20) i", drift(1));
    await mesh.query(
      'n2',
      `CREATE RULE no_insert AS ON INSERT TO ruled DO INSTEAD NOTHING;
       CREATE RULE tell AS ON UPDATE TO ruled DO ALSO NOTIFY told`,
    );
    await repairedWhole('ruled', { upserted: 2 });
    await mesh.driftSql('n2', drift(5));
    await mesh.query('n2', 'ALTER TABLE ruled ENABLE ALWAYS RULE no_insert');
    await assert.rejects(repaired('ruled', {}), {
      code: 'UNSUPPORTED',
      message: 'the table on node n2 has rules that a repair would fire: no_insert',
    });
  });
});
