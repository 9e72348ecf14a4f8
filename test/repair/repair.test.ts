import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { fixturePath } from '../diff-file/fixtures.js';
import { waitFor } from '../support/wait.js';
import { NOTHING, RepairHarness } from './harness.js';

const TABLES = `
CREATE TABLE plain (id bigint PRIMARY KEY, note text, amount numeric(10,2));
CREATE TABLE changed (id bigint PRIMARY KEY, note text);
CREATE TABLE caught_up (id bigint PRIMARY KEY, note text);
CREATE TABLE racing (id bigint PRIMARY KEY, note text);
CREATE TABLE modes (id bigint PRIMARY KEY, note text);
CREATE TABLE dry (id bigint PRIMARY KEY, note text);
CREATE TABLE missing (id bigint PRIMARY KEY, note text);
CREATE TABLE twins (id bigint PRIMARY KEY, email text UNIQUE);
CREATE TABLE parent (id bigint PRIMARY KEY);
CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES parent, note text);
CREATE TABLE fired (id bigint PRIMARY KEY, note text);
CREATE TABLE fired_log (id bigint, note text);
CREATE FUNCTION log_fired() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO fired_log VALUES (NEW.id, NEW.note); RETURN NEW; END $$;
CREATE TRIGGER fired AFTER INSERT OR UPDATE ON fired FOR EACH ROW EXECUTE FUNCTION log_fired();
CREATE TABLE identity (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  twice bigint GENERATED ALWAYS AS (id * 2) STORED, note text);
CREATE TABLE fixed (id bigint PRIMARY KEY, serial bigint GENERATED ALWAYS AS IDENTITY, note text);
CREATE SCHEMA "Odd ""Schema""";
CREATE TABLE "Odd ""Schema"""."Tab/le" ("Or,der" int, "sku""x" text, "val:ue" text, PRIMARY KEY ("sku""x", "Or,der"));
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE kinds (id uuid PRIMARY KEY, f float8, r float4, n numeric, d date, ts timestamp, tz timestamptz, by bytea,
  ai int[], ta text[], mo mood, j jsonb, bp char(5), iv interval, i inet, b bool, rg int4range, t text);
CREATE TABLE clock (at timestamptz PRIMARY KEY, day date, note text);
CREATE TABLE parts (id bigint, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts DEFAULT;
CREATE TABLE orders (id bigint PRIMARY KEY, email text, amount numeric(10,2), created timestamptz, tags text[], doc jsonb, note text);
`;

let mesh: Mesh;
let harness: RepairHarness;

before(async () => {
  mesh = await startMesh({ nodes: 3, tables: TABLES });
  harness = await RepairHarness.create(mesh);
});

after(async () => {
  await harness.close();
  await mesh.stop();
});

async function rowsOf(node: string, sql: string): Promise<(string | null)[][]> {
  return mesh.query(node, sql);
}

/** Rows on all nodes, the same ones. */
async function load(sql: string): Promise<void> {
  await mesh.query('n1', sql);
  await mesh.waitForReplication();
}

/** What is on n2 now must stay there: no other node may have applied it, nor stumbled over it. */
async function assertNoEcho(table: string): Promise<void> {
  await mesh.query('n2', "INSERT INTO plain VALUES ((SELECT max(id) + 1 FROM plain), 'canary')");
  await mesh.waitForReplication();
  for (const node of mesh.names) {
    const rows = await mesh.query(
      node,
      'SELECT subname, apply_error_count FROM pg_stat_subscription_stats WHERE apply_error_count > 0',
    );
    assert.deepEqual(rows, [], `${table} on ${node}`);
  }
}

function table(name: string, schema = 'public'): { schema: string; name: string } {
  return { schema, name };
}

describe('repair on a mesh', () => {
  before(async () => {
    await load("INSERT INTO plain SELECT i, 'n' || i, i FROM generate_series(1, 2000) i");
  });

  it('brings back changed, missing and extra rows, and nothing echoes', async () => {
    await mesh.driftSql(
      'n2',
      `UPDATE plain SET note = 'drift', amount = NULL WHERE id % 3 = 0;
       DELETE FROM plain WHERE id % 3 = 1; INSERT INTO plain VALUES (9001, 'extra', 1), (9002, 'x', 2)`,
    );
    // On n3 one row is what n2 would be repaired with: an echo would change it.
    await mesh.driftSql('n3', "UPDATE plain SET note = 'n3 only' WHERE id = 3");
    const file = await harness.diff('public', 'plain');
    const result = await harness.repair(file, table('plain'), { nodes: ['n1', 'n2'] });
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 666 + 667, deleted: 2 });
    const sql = 'SELECT * FROM plain WHERE id <> 3 ORDER BY id';
    assert.deepEqual(await rowsOf('n2', sql), await rowsOf('n1', sql));
    await assertNoEcho('plain');
    assert.deepEqual(await rowsOf('n1', 'SELECT count(*) FROM plain WHERE id > 9000'), [['0']]);
    const again = await harness.repair(file, table('plain'));
    assert.deepEqual(again.nodes['n2'], { ...NOTHING, alreadyEqual: 1335 });
    assert.equal(await harness.diff('public', 'plain'), null);
  });

  it('leaves rows alone that changed after the diff', async () => {
    await load("INSERT INTO changed SELECT i, 'n' || i FROM generate_series(1, 9) i");
    await mesh.driftSql(
      'n2',
      `UPDATE changed SET note = 'drift' WHERE id IN (1, 2, 3); DELETE FROM changed WHERE id IN (4, 5);
       INSERT INTO changed VALUES (21, 'extra'), (22, 'extra')`,
    );
    const file = await harness.diff('public', 'changed');
    await mesh.driftSql(
      'n2',
      `UPDATE changed SET note = 'later' WHERE id = 2; INSERT INTO changed VALUES (4, 'back');
       UPDATE changed SET note = 'kept' WHERE id = 21`,
    );
    await mesh.driftSql(
      'n1',
      `DELETE FROM changed WHERE id = 3; UPDATE changed SET note = 'newer' WHERE id = 1;
       INSERT INTO changed VALUES (22, 'appeared')`,
    );
    const result = await harness.repair(file, table('changed'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 1, skipped: 6 });
    assert.deepEqual(result.warnings, [
      'On n2 3 rows were skipped: no longer there as the diff saw them.',
      'On n2 3 rows were skipped: no longer on n1 as the diff saw them.',
    ]);
    assert.deepEqual(
      await rowsOf('n2', 'SELECT * FROM changed WHERE id < 6 OR id > 9 ORDER BY id'),
      [
        ['1', 'drift'],
        ['2', 'later'],
        ['3', 'drift'],
        ['4', 'back'],
        ['5', 'n5'],
        ['21', 'kept'],
        ['22', 'extra'],
      ],
    );
  });

  it('counts rows that became equal since the diff, on either node', async () => {
    await load("INSERT INTO caught_up SELECT i, 'n' || i FROM generate_series(1, 5) i");
    await mesh.driftSql(
      'n2',
      `UPDATE caught_up SET note = 'drift' WHERE id < 4; DELETE FROM caught_up WHERE id = 4;
       INSERT INTO caught_up VALUES (9, 'extra')`,
    );
    const file = await harness.diff('public', 'caught_up');
    await mesh.driftSql(
      'n1',
      `UPDATE caught_up SET note = 'drift' WHERE id = 1; DELETE FROM caught_up WHERE id = 4;
       INSERT INTO caught_up VALUES (9, 'extra')`,
    );
    await mesh.driftSql('n2', "UPDATE caught_up SET note = 'n2' WHERE id = 2");
    const result = await harness.repair(file, table('caught_up'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 1, alreadyEqual: 4 });
    const sql = 'SELECT * FROM caught_up ORDER BY id';
    assert.deepEqual(await rowsOf('n2', sql), await rowsOf('n1', sql));
  });

  it('does not overwrite a row that changes while it is being written', async () => {
    await load("INSERT INTO racing SELECT i, 'n' || i FROM generate_series(1, 3) i");
    await mesh.driftSql(
      'n2',
      "UPDATE racing SET note = 'drift'; INSERT INTO racing VALUES (9, 'x')",
    );
    const file = await harness.diff('public', 'racing');
    const { nodes } = await mesh.node('n2').session(mesh.database, async (query) => {
      await query('BEGIN');
      await query("UPDATE racing SET note = 'in time' WHERE id IN (2, 9)");
      const repair = harness.repair(file, table('racing'));
      await waitFor(
        async () =>
          (
            await mesh.query(
              'n2',
              `SELECT FROM pg_stat_activity WHERE application_name = 'aced test'
                  AND (wait_event_type = 'Lock' OR query LIKE '%SKIP LOCKED%')`,
            )
          ).length > 0,
        { what: 'the repair to meet the row' },
      );
      await query('COMMIT');
      return repair;
    });
    const { skipped = 0, alreadyEqual = 0, ...written } = nodes['n2'] ?? {};
    assert.deepEqual(written, { upserted: 2, deleted: 0, failed: 0, left: 0 });
    // The other node may have got the update before the repair looks again.
    assert.equal(skipped + alreadyEqual, 2);
    assert.deepEqual(await rowsOf('n2', 'SELECT note FROM racing ORDER BY id'), [
      ['n1'],
      ['in time'],
      ['n3'],
      ['in time'],
    ]);
  });

  for (const [flag, expected] of [
    ['insertOnly', { upserted: 1, deleted: 0, left: 2 }],
    ['upsertOnly', { upserted: 2, deleted: 0, left: 1 }],
    ['none', { upserted: 2, deleted: 1, left: 0 }],
  ] as const) {
    it(`does what the mode allows: ${flag}`, async () => {
      await mesh.queryAll('TRUNCATE modes');
      await mesh.waitForReplication();
      await load("INSERT INTO modes VALUES (1, 'a'), (2, 'b')");
      await mesh.driftSql(
        'n2',
        "DELETE FROM modes WHERE id = 1; UPDATE modes SET note = 'x' WHERE id = 2; INSERT INTO modes VALUES (3, 'c')",
      );
      const file = await harness.diff('public', 'modes');
      const result = await harness.repair(
        file,
        table('modes'),
        flag === 'none' ? {} : { [flag]: true },
      );
      assert.deepEqual(result.nodes['n2'], { ...NOTHING, ...expected });
    });
  }

  it('only tells what it would do in a dry run, and reports it', async () => {
    await load("INSERT INTO dry VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    await mesh.driftSql(
      'n2',
      "DELETE FROM dry WHERE id = 1; UPDATE dry SET note = NULL WHERE id = 2; INSERT INTO dry VALUES (9, 'i')",
    );
    const file = await harness.diff('public', 'dry');
    const before = await rowsOf('n2', 'SELECT * FROM dry ORDER BY id');
    const dry = await harness.repair(file, table('dry'), { dryRun: true, generateReport: true });
    assert.deepEqual(dry.nodes['n2'], { ...NOTHING, upserted: 2, deleted: 1 });
    assert.deepEqual(await rowsOf('n2', 'SELECT * FROM dry ORDER BY id'), before);
    const changes = {
      deleted: [{ id: 9, note: 'i' }],
      upserted: [
        { id: 1, note: 'a' },
        { id: 2, note: 'b' },
      ],
    };
    const dryReport = await harness.readReport(dry.files[0] ?? '');
    assert.deepEqual(dryReport['changes'], {
      n2: { would_delete: changes.deleted, would_upsert: changes.upserted },
    });
    const live = await harness.repair(file, table('dry'), { generateReport: true });
    const report = await harness.readReport(live.files[0] ?? '');
    const { deleted_rows: deleted, upserted_rows: upserted } =
      (report['changes'] as Record<string, Record<string, { id: number }[]> | undefined>)['n2'] ??
      {};
    assert.deepEqual(deleted, changes.deleted);
    assert.deepEqual(
      upserted?.toSorted((a, b) => a.id - b.id),
      changes.upserted,
    );
    assert.equal(
      (report['supplied_args'] as Record<string, unknown>)['diff_file_path'],
      'given.json',
    );
  });

  it('writes all rows but those that a constraint refuses', async () => {
    await load("INSERT INTO twins SELECT i, 'm' || i FROM generate_series(1, 700) i");
    await mesh.driftSql(
      'n2',
      "DELETE FROM twins WHERE id <= 600; INSERT INTO twins VALUES (9001, 'm300')",
    );
    const file = await harness.diff('public', 'twins');
    const result = await harness.repair(file, table('twins'), { upsertOnly: true });
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 599, failed: 1, left: 1 });
    assert.match(
      result.warnings.join(),
      /n2 1 row could not be written: SQLSTATE 23505 \(twins_email_key\)/,
    );
    const rest = await harness.repair(file, table('twins'));
    assert.deepEqual(rest.nodes['n2'], { ...NOTHING, upserted: 1, deleted: 1, alreadyEqual: 599 });
    assert.equal(await harness.diff('public', 'twins'), null);
  });

  it('checks foreign keys only where triggers fire', async () => {
    await load(
      'INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1), (2, 2), (3, 2)',
    );
    await mesh.driftSql(
      'n2',
      'DELETE FROM child WHERE id < 3; SET session_replication_role = replica; DELETE FROM parent WHERE id = 1',
    );
    const file = await harness.diff('public', 'child');
    const fired = await harness.repair(file, table('child'), { fireTriggers: true });
    assert.deepEqual(fired.nodes['n2'], { ...NOTHING, upserted: 1, failed: 1 });
    const result = await harness.repair(file, table('child'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 1, alreadyEqual: 1 });
  });

  it('writes missing rows about as fast as rows that differ', async () => {
    await load("INSERT INTO missing SELECT i, 'n' || i FROM generate_series(1, 10000) i");
    const timed = async (drift: string): Promise<number> => {
      await mesh.driftSql('n2', drift);
      const file = await harness.diff('public', 'missing');
      const result = await harness.repair(file, table('missing'));
      assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 10_000 });
      return result.timeTakenMs;
    };
    const updatedMs = await timed("UPDATE missing SET note = 'x'");
    const insertedMs = await timed('DELETE FROM missing');
    // As a loop over the batch for each of its rows: a hundred times as long.
    assert.ok(insertedMs < 10 * updatedMs, `${insertedMs} ms against ${updatedMs} ms`);
  });

  it('fires triggers only when asked', async () => {
    await load("INSERT INTO fired VALUES (1, 'a'), (2, 'b')");
    const drift = "UPDATE fired SET note = 'x'; TRUNCATE fired_log";
    const logged = 'SELECT * FROM fired_log ORDER BY id';
    await mesh.driftSql('n2', drift);
    await harness.repair(await harness.diff('public', 'fired'), table('fired'));
    assert.deepEqual(await rowsOf('n2', logged), []);
    await mesh.driftSql('n2', drift);
    await harness.repair(await harness.diff('public', 'fired'), table('fired'), {
      fireTriggers: true,
    });
    assert.deepEqual(await rowsOf('n2', logged), [
      ['1', 'a'],
      ['2', 'b'],
    ]);
  });

  it('writes identity columns and leaves generated ones to the server', async () => {
    await load("INSERT INTO identity (note) SELECT 'n' || i FROM generate_series(1, 5) i");
    await load("INSERT INTO fixed (id, note) SELECT i, 'n' || i FROM generate_series(1, 5) i");
    await mesh.driftSql(
      'n2',
      "DELETE FROM identity WHERE id = 1; UPDATE identity SET note = 'x' WHERE id = 2",
    );
    await mesh.driftSql(
      'n2',
      `UPDATE fixed SET note = 'x' WHERE id = 1; DELETE FROM fixed WHERE id IN (2, 3);
       INSERT INTO fixed (id, serial, note) OVERRIDING SYSTEM VALUE VALUES (3, 77, 'n3')`,
    );
    const one = await harness.repair(await harness.diff('public', 'identity'), table('identity'));
    assert.deepEqual(one.nodes['n2'], { ...NOTHING, upserted: 2 });
    const two = await harness.repair(await harness.diff('public', 'fixed'), table('fixed'));
    assert.deepEqual(two.nodes['n2'], { ...NOTHING, upserted: 3 });
    for (const name of ['identity', 'fixed']) {
      const sql = `SELECT * FROM ${name} ORDER BY id`;
      assert.deepEqual(await rowsOf('n2', sql), await rowsOf('n1', sql));
    }
  });

  it('quotes every name and value, composite keys too', async () => {
    const name = '"Odd ""Schema"""."Tab/le"';
    await load(
      `INSERT INTO ${name} VALUES (1, 'a,b', 'x'), (2, '"', E'tab\\t\\\\N'), (3, '\\N', ''), (4, E'{}\\n', NULL), (5, '''', 'y')`,
    );
    await mesh.driftSql(
      'n2',
      `DELETE FROM ${name} WHERE "Or,der" < 4; UPDATE ${name} SET "val:ue" = 'drift'`,
    );
    const file = await harness.diff('Odd "Schema"', 'Tab/le');
    const result = await harness.repair(file, table('Tab/le', 'Odd "Schema"'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 5 });
    const sql = `SELECT * FROM ${name} ORDER BY 1`;
    assert.deepEqual(await rowsOf('n2', sql), await rowsOf('n1', sql));
  });

  for (const [what, seedId] of [
    ['by digest', 'seed-1'],
    ['by value, from a file of other digests', 'another'],
  ] as const) {
    it(`moves values of any type exactly ${what}`, async () => {
      await mesh.queryAll('TRUNCATE kinds');
      await mesh.waitForReplication();
      await load(`INSERT INTO kinds VALUES
        ('00000000-0000-0000-0000-000000000001', 'NaN', 'Infinity', 'NaN', 'infinity', '-infinity', '0044-03-15 BC', '\\xdeadbeef00', '{1,NULL,3}', '{"a,b","\\"",NULL,""}', 'ok', '{"a": [1, "<&>"]}', 'ab', '1 mon -2 days', '10.0.0.1', true, '[1,5)', E'a\\tb\\n\\\\.\\u2028');
        INSERT INTO kinds VALUES
        ('00000000-0000-0000-0000-000000000002', 0.1, 1e-30, 1.500, '0001-01-01 BC', '294276-12-31 23:59:59.999999', '2024-02-29 12:00:00.000001+05:30', '', '{}', '{}', 'sad', 'null', '', '0', '::1/64', false, 'empty', '');
        INSERT INTO kinds VALUES ('00000000-0000-0000-0000-000000000003')`);
      const before = await rowsOf('n1', 'SELECT kinds::text FROM kinds ORDER BY id');
      await mesh.driftSql(
        'n2',
        `DELETE FROM kinds WHERE id::text LIKE '%1'; UPDATE kinds SET f = -1e300, n = 1e20, by = '\\x00', t = 'x', mo = 'ok', i = '10.9.8.7';
         INSERT INTO kinds (id, f, d, n) VALUES ('00000000-0000-0000-0000-000000000009', '-Infinity', '0044-03-15 BC', 1.10)`,
      );
      const file = await harness.diff('public', 'kinds', seedId);
      const result = await harness.repair(file, table('kinds'));
      assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 3, deleted: 1 });
      assert.deepEqual(await rowsOf('n2', 'SELECT kinds::text FROM kinds ORDER BY id'), before);
    });
  }

  it('finds rows by keys in RFC 3339, and rows of partitions', async () => {
    await load(
      "INSERT INTO clock SELECT '2024-01-01 00:00:00.5+00'::timestamptz + i * interval '1 day', 'infinity', 'n' FROM generate_series(1, 3) i; INSERT INTO clock VALUES ('infinity'), ('0044-03-15 BC')",
    );
    await mesh.driftSql(
      'n2',
      "DELETE FROM clock WHERE at < '2024-01-03' ; UPDATE clock SET note = 'x'",
    );
    const clock = await harness.repair(await harness.diff('public', 'clock'), table('clock'));
    assert.deepEqual(clock.nodes['n2'], { ...NOTHING, upserted: 5 });
    await load("INSERT INTO parts VALUES (1, 'a', 'x'), (1, 'b', 'y'), (2, 'c', 'z')");
    await mesh.driftSql('n2', "DELETE FROM parts WHERE region = 'a'; UPDATE parts SET note = 'd'");
    const parts = await harness.repair(await harness.diff('public', 'parts'), table('parts'));
    assert.deepEqual(parts.nodes['n2'], { ...NOTHING, upserted: 3 });
    assert.equal(await harness.diff('public', 'parts'), null);
  });

  it("repairs from ACE's own file, but not what changed since", async () => {
    await load(
      `INSERT INTO orders SELECT i, 'u' || i || '@example.com', i * 1.1,
         '2024-05-01 10:00:00+00'::timestamptz + i * interval '1 minute', ARRAY['a', 'b' || i], jsonb_build_object('k', i), NULL
       FROM generate_series(1, 1000) i`,
    );
    await mesh.driftSql('n1', 'UPDATE orders SET email = NULL WHERE id = 7');
    await mesh.driftSql(
      'n2',
      `UPDATE orders SET amount = amount + 0.01, note = 'changed' WHERE id IN (3, 44, 505);
       DELETE FROM orders WHERE id IN (10, 11);
       INSERT INTO orders VALUES (2001, 'only-n2@example.com', 5, NULL, NULL, NULL, '<b>&')`,
    );
    const file = fixturePath('orders_diffs.json');
    await mesh.driftSql('n2', "UPDATE orders SET note = 'changed again' WHERE id = 44");
    const expected = {
      n2: { ...NOTHING, upserted: 5, deleted: 1, skipped: 1 },
      n3: { ...NOTHING, upserted: 1 },
    };
    // As ACE 3.0 says where a row lives; of a table that can be compared the key tells.
    const text = await readFile(file, 'utf8');
    const placed = join(harness.directory, 'placed.json');
    await writeFile(
      placed,
      text.replaceAll('"_spock_metadata_": {', '$&"storage_relation": "public.orders",'),
    );
    const planned = await harness.repair(placed, table('orders'), { dryRun: true });
    assert.deepEqual(planned.nodes, expected);
    const result = await harness.repair(file, table('orders'));
    assert.deepEqual(result.nodes, expected);
    const sql = 'SELECT * FROM orders WHERE id <> 44 ORDER BY id';
    for (const node of ['n2', 'n3'])
      assert.deepEqual(await rowsOf(node, sql), await rowsOf('n1', sql));
  });

  it('refuses what cannot be meant', async () => {
    const file = fixturePath('orders_diffs.json');
    const refused = (params: object, name: string, code: string): Promise<void> =>
      assert.rejects(harness.repair(file, table(name), params), { code });
    await refused({ insertOnly: true, upsertOnly: true }, 'orders', 'BAD_USAGE');
    await refused({ sourceOfTruth: '' }, 'orders', 'BAD_USAGE');
    await refused({ sourceOfTruth: 'n9' }, 'orders', 'UNKNOWN_NODE');
    await refused({}, 'plain', 'BAD_DIFF_FILE');
  });

  it('a file without a pair of the source of truth repairs nothing, and says so', async () => {
    const directory = await scratchDirectory();
    const file = join(directory, 'other.json');
    try {
      const text = await readFile(fixturePath('orders_diffs.json'), 'utf8');
      const { diffs, summary } = JSON.parse(text) as {
        diffs: Record<string, unknown>;
        summary: unknown;
      };
      const others = Object.fromEntries(
        Object.entries(diffs).filter(([pair]) => !pair.includes('n1')),
      );
      assert.ok(Object.keys(others).length > 0);
      await writeFile(file, JSON.stringify({ diffs: others, summary }));
      await assert.rejects(harness.repair(file, table('orders')), {
        code: 'BAD_DIFF_FILE',
        message: 'given.json has no pair with n1, only n2/n3',
      });
    } finally {
      await removeDirectory(directory);
    }
  });

  it('says which privileges are missing', async () => {
    await mesh.query(
      'n2',
      'CREATE ROLE helper LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO helper',
    );
    const pools = harness.pools;
    const { SessionPool } = await import('../../src/postgres/session-pool.js');
    const { TargetSession } = await import('../../src/repair/target-session.js');
    const node = { ...mesh.node('n2').nodeConfig(mesh.database, 'n2'), user: 'helper' };
    const pool = new SessionPool(node, { max: 1, applicationName: 'test' });
    const signal = new AbortController().signal;
    const open = (): Promise<void> =>
      pool.use(async (session) => {
        const target = await TargetSession.open(session, {
          firesTriggers: false,
          tableOid: 0,
          signal,
        });
        await target.close();
      });
    try {
      for (let i = 0; i < 2; i += 1) {
        const error: unknown = await open().catch((reason: unknown) => reason);
        assert.ok(error instanceof Error && 'code' in error && 'hint' in error);
        assert.equal(error.code, 'MISSING_PRIVILEGE');
        const grants = String(error.hint).replace(/^[^:]*: /, '');
        await mesh.query('n2', grants);
      }
      await open();
    } finally {
      await pool.close();
    }
    assert.equal(pools.size, 3);
  });

  it('refuses to repair a node whose rows others would receive again', async () => {
    await mesh.query('n3', 'ALTER SUBSCRIPTION mesh_n3_from_n2 SET (origin = any)');
    try {
      const file = fixturePath('orders_diffs.json');
      await assert.rejects(harness.repair(file, table('orders')), (error: unknown) => {
        assert.ok(error instanceof Error && 'hint' in error && 'code' in error);
        assert.equal(error.code, 'REPAIR_ECHO');
        assert.match(error.message, /n2 would be replicated to n3 by subscription mesh_n3_from_n2/);
        assert.match(
          String(error.hint),
          /ALTER SUBSCRIPTION "mesh_n3_from_n2" SET \(origin = none\)/,
        );
        return true;
      });
      const dry = await harness.repair(file, table('orders'), { dryRun: true });
      assert.match(dry.warnings.join(), /replicated to n3/);
    } finally {
      await mesh.query('n3', 'ALTER SUBSCRIPTION mesh_n3_from_n2 SET (origin = none)');
    }
  });

  it('left every subscription running', async () => {
    await assertNoEcho('everything');
  });
});
