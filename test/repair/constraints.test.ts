import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { RepairParams } from '../../src/protocol/commands.js';
import type { TableRepairResult } from '../../src/repair/repair.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { NOTHING, RepairHarness } from './harness.js';

const TABLES = `
CREATE TABLE tree (id bigint PRIMARY KEY, up bigint REFERENCES tree, note text);
CREATE TABLE forest (id bigint PRIMARY KEY, up bigint REFERENCES forest ON DELETE CASCADE);
CREATE TABLE owner (id bigint PRIMARY KEY, code text UNIQUE, note text);
CREATE TABLE owned (id bigint PRIMARY KEY, owner bigint REFERENCES owner ON DELETE CASCADE);
CREATE TABLE lent (id bigint PRIMARY KEY, owner bigint REFERENCES owner ON DELETE SET NULL);
CREATE TABLE named (id bigint PRIMARY KEY, code text REFERENCES owner (code) ON UPDATE CASCADE ON DELETE NO ACTION);
CREATE TABLE chain (id bigint PRIMARY KEY, place int UNIQUE);
CREATE TABLE late (id bigint PRIMARY KEY, place int, at int4range, "x y" text,
  UNIQUE NULLS NOT DISTINCT (place, "x y") DEFERRABLE,
  EXCLUDE USING gist (at WITH &&) WHERE (id > 0) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE watched (id bigint PRIMARY KEY, v int, total int);
CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN UPDATE public.watched SET total = -1 WHERE id = NEW.id AND total <> -1; RETURN NULL; END';
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON watched DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.total IS DISTINCT FROM -1) EXECUTE FUNCTION add_up();
`;

const NAMES = ['tree', 'forest', 'owner', 'owned', 'lent', 'named', 'chain', 'late', 'watched'];

/** More rows than a batch has at first. */
const MANY = 2_500;

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

beforeEach(async () => {
  await mesh.queryAll(`TRUNCATE ${NAMES.join(', ')}`);
  await mesh.waitForReplication();
});

/** What n1 has, n2 gets too; then `drift` runs on n2 alone. */
async function spoil(fill: string, drift: string): Promise<void> {
  await mesh.query('n1', fill);
  await mesh.waitForReplication();
  await mesh.driftSql('n2', `SET session_replication_role = replica; ${drift}`);
}

async function repaired(
  name: string,
  params: Partial<RepairParams> = {},
): Promise<TableRepairResult> {
  const file = await harness.diff('public', name);
  return harness.repair(file, { schema: 'public', name }, params);
}

/** The counts are what a diff right after says. */
async function repairedWhole(
  name: string,
  counts: object,
  params: Partial<RepairParams> = {},
): Promise<void> {
  const { nodes, warnings, failedRows } = await repaired(name, params);
  assert.deepEqual([nodes['n2'], warnings, failedRows], [{ ...NOTHING, ...counts }, [], undefined]);
  assert.equal(await harness.diff('public', name), null);
}

describe('foreign keys that are checked (--fire-triggers)', () => {
  const fireTriggers = true;

  it('rows of a table that refers to itself, in whatever order and in circles', async () => {
    await spoil(
      `INSERT INTO tree SELECT i, CASE WHEN i % 50 > 0 THEN i + 1 END, 'n' FROM generate_series(1, ${MANY}) i;
       UPDATE tree SET up = ${MANY - 1} WHERE id = 1; UPDATE tree SET up = 1 WHERE id = ${MANY - 1}`,
      'DELETE FROM tree WHERE id % 50 <> 20 OR id = 1; INSERT INTO tree VALUES (9001, 9002), (9002, 9001), (9003, 9002)',
    );
    await repairedWhole('tree', { upserted: MANY - MANY / 50, deleted: 3 }, { fireTriggers });
  });

  it('a row whose parent is missing fails, and is named', async () => {
    await spoil(
      "INSERT INTO owner SELECT i, 'c' || i FROM generate_series(1, 9) i; INSERT INTO owned SELECT i, i FROM generate_series(1, 9) i",
      'DELETE FROM owned WHERE id < 4; DELETE FROM owner WHERE id = 2',
    );
    const { nodes, failedRows } = await repaired('owned', { fireTriggers });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 2, failed: 1 });
    const reason = 'SQLSTATE 23503 (owned_owner_fkey)';
    assert.deepEqual(failedRows, [{ node: 'n2', key: { id: '2' }, reason }]);
    // Unchecked it is written, and told.
    const unchecked = await repaired('owned');
    assert.deepEqual(unchecked.nodes['n2'], { ...NOTHING, upserted: 1 });
    assert.match(unchecked.warnings.join(), /1 row of "public"."owned" now point to rows of/);
    await repairedWhole('owner', { upserted: 1 }, { fireTriggers });
  });

  it('a delete that would take rows of other tables along, or change them, is not done', async () => {
    const owners = 'INSERT INTO owner SELECT i, i FROM generate_series(1, 6) i';
    await spoil(
      owners,
      `INSERT INTO owner SELECT i, i FROM generate_series(11, 19) i;
       INSERT INTO owned VALUES (1, 11); INSERT INTO lent VALUES (1, 12); INSERT INTO named VALUES (1, '13')`,
    );
    const { nodes, failedRows } = await repaired('owner', { fireTriggers });
    assert.deepEqual(nodes['n2'], { ...NOTHING, deleted: 6, failed: 3 });
    assert.deepEqual(
      failedRows?.map(({ key, reason }) => [key['id'], reason.replace(/,.*/, '')]).sort(),
      [
        ['11', 'that would also delete or change rows of public.owned'],
        ['12', 'that would also delete or change rows of public.lent'],
        ['13', 'SQLSTATE 23503 (named_code_fkey)'],
      ],
    );
    assert.deepEqual(
      await mesh.query(
        'n2',
        'SELECT (SELECT count(*) FROM owned WHERE owner = 11), (SELECT count(*) FROM lent WHERE owner = 12)',
      ),
      [['1', '1']],
    );
    // As the message says: the other tables first.
    for (const name of ['owned', 'lent', 'named']) {
      await repairedWhole(name, { deleted: 1 }, { fireTriggers });
    }
    await repairedWhole('owner', { deleted: 3 }, { fireTriggers });
  });

  it('an update that would change rows of another table is not done either', async () => {
    await spoil(
      "INSERT INTO owner SELECT i, i FROM generate_series(1, 6) i; INSERT INTO named VALUES (1, '1'), (2, '2')",
      "UPDATE owner SET code = 'x' WHERE id = 1; UPDATE owner SET code = 'y' WHERE id = 6; UPDATE named SET code = 'x' WHERE id = 1; UPDATE owner SET note = 'n' WHERE id = 2",
    );
    const { nodes, failedRows } = await repaired('owner', { fireTriggers });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 2, failed: 1 });
    assert.match(failedRows?.[0]?.reason ?? '', /rows of public.named, by foreign key named_code/);
  });

  it('rows that go by a cascade of their own table are counted as what they are', async () => {
    await spoil(
      'INSERT INTO forest SELECT i FROM generate_series(1, 5) i',
      `INSERT INTO forest SELECT 100 + i, CASE WHEN i > 1 THEN 100 + i / 2 END FROM generate_series(1, ${MANY}) i`,
    );
    await repairedWhole('forest', { deleted: MANY }, { fireTriggers });
    // A child that the file does not know stays, and so does its parent.
    await mesh.driftSql('n2', 'INSERT INTO forest VALUES (50, NULL), (51, 50)');
    const file = await harness.diff('public', 'forest');
    await mesh.driftSql('n2', 'INSERT INTO forest VALUES (52, 51)');
    const table = { schema: 'public', name: 'forest' };
    const { nodes, failedRows } = await harness.repair(file, table, { fireTriggers });
    assert.deepEqual(nodes['n2'], { ...NOTHING, failed: 2 });
    assert.match(failedRows?.[0]?.reason ?? '', /rows of public.forest/);
  });

  it('what a deferred trigger makes of a row is seen before it counts', async () => {
    await spoil(
      'SET session_replication_role = replica; INSERT INTO watched SELECT i, i, 5 FROM generate_series(1, 4) i',
      'UPDATE watched SET v = 0 WHERE id = 2',
    );
    const { nodes, failedRows } = await repaired('watched', { fireTriggers });
    assert.deepEqual(nodes['n2'], { ...NOTHING, failed: 1 });
    assert.match(failedRows?.[0]?.reason ?? '', /"at_commit"/);
    await repairedWhole('watched', { upserted: 1 });
  });
});

describe('unique values that moved between rows', () => {
  for (const [title, drift] of [
    ['to the next row', `UPDATE chain SET place = -place; UPDATE chain SET place = -place + 1`],
    ['to the one before', `UPDATE chain SET place = -place; UPDATE chain SET place = -place - 1`],
    [
      'in a circle',
      `UPDATE chain SET place = -place; UPDATE chain SET place = (-place % ${MANY}) + 1`,
    ],
  ] as const) {
    it(`${title}, through several batches`, async () => {
      await spoil(`INSERT INTO chain SELECT i, i FROM generate_series(1, ${MANY}) i`, drift);
      await repairedWhole('chain', { upserted: MANY });
    });
  }

  it('a value that a row outside the file has taken: that row alone fails', async () => {
    await spoil(
      'INSERT INTO chain SELECT i, i FROM generate_series(1, 9) i',
      'UPDATE chain SET place = 100 + id WHERE id < 4',
    );
    const file = await harness.diff('public', 'chain');
    await mesh.driftSql('n2', 'INSERT INTO chain VALUES (50, 2)');
    const { nodes, failedRows } = await harness.repair(file, { schema: 'public', name: 'chain' });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 2, failed: 1 });
    assert.deepEqual(failedRows?.[0]?.key, { id: '2' });
  });
});

describe('deferrable constraints, which the server does not enforce on a replica', () => {
  const FILL = `INSERT INTO late SELECT i, i, int4range(i * 10, i * 10 + 10), 'x' FROM generate_series(1, ${MANY}) i`;

  async function duplicates(): Promise<unknown> {
    return mesh.query(
      'n2',
      `SELECT a.id FROM late a JOIN late b ON a.id <> b.id
         AND (a.at && b.at OR a.place IS NOT DISTINCT FROM b.place AND a."x y" IS NOT DISTINCT FROM b."x y")`,
    );
  }

  it('a repair makes no duplicates', async () => {
    await spoil(FILL, 'UPDATE late SET place = NULL, at = NULL WHERE id < 6');
    const file = await harness.diff('public', 'late');
    await mesh.driftSql(
      'n2',
      `INSERT INTO late VALUES (9001, 2, NULL, 'x'), (9002, NULL, '[35,36)', 'y'), (-1, NULL, '[10,11)', 'z')`,
    );
    const { nodes, failedRows } = await harness.repair(file, { schema: 'public', name: 'late' });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 3, failed: 2 });
    assert.deepEqual(failedRows?.map(({ key, reason }) => `${key['id']}: ${reason}`).sort(), [
      '2: another row stands against them (late_place_x y_key)',
      '3: another row stands against them (late_at_excl)',
    ]);
    const stuck = 'a.id IN (2, 3)';
    assert.deepEqual(
      await mesh.query('n2', `SELECT count(*) FROM late a WHERE ${stuck} AND at IS NULL`),
      [['2']],
    );
  });

  for (const step of [1, -1]) {
    it(`values that moved by ${step}, through several batches`, async () => {
      await spoil(
        FILL,
        `UPDATE late SET place = place + ${step}, at = int4range(lower(at) + 10 * ${step}, upper(at) + 10 * ${step})`,
      );
      await repairedWhole('late', { upserted: MANY });
      assert.deepEqual(await duplicates(), []);
    });
  }
});
