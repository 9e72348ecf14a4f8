import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { NOTHING, RepairHarness } from './harness.js';

const TABLES = `
CREATE TABLE t (id bigint PRIMARY KEY, note text);
CREATE TABLE swapped (id bigint PRIMARY KEY, code text UNIQUE, note text);
CREATE TABLE watched (id bigint PRIMARY KEY, note text);
CREATE SCHEMA app;
CREATE FUNCTION app.is_fine(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 <> ''bad''';
CREATE FUNCTION app.passes(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN is_fine($1); END';
CREATE TABLE checked (id bigint PRIMARY KEY, note text);
CREATE TABLE parts (id bigint, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
CREATE TABLE parent (id bigint PRIMARY KEY, code text UNIQUE);
CREATE TABLE child (id bigint PRIMARY KEY, parent bigint REFERENCES parent, note text);
CREATE TABLE by_code (id bigint PRIMARY KEY, code text REFERENCES parent (code));
CREATE TABLE copied (id bigint PRIMARY KEY, code text UNIQUE, note text);
CREATE TABLE owned (id bigint PRIMARY KEY, note text);
CREATE TABLE owned_log (who text);
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN short AS varchar(9);
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE odd (id bigint PRIMARY KEY, p pair, ps pair[], s short, m mood, ms mood[], r int4range, a int[][], c "char", n name);
`;

let mesh: Mesh;
let harness: RepairHarness;

before(async () => {
  mesh = await startMesh({ nodes: 2, tables: TABLES, settings: { track_commit_timestamp: 'on' } });
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

async function assertEqual(name: string): Promise<void> {
  assert.equal(await diff(name), null);
}

/** Rows 1 to `count` of t, of which n2 has others. */
async function spoil(count: number): Promise<void> {
  await mesh.queryAll('TRUNCATE t');
  await mesh.waitForReplication();
  await load(`INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, ${count}) i`);
  await mesh.driftSql(
    'n2',
    `UPDATE t SET note = 'x' WHERE id % 3 = 0; DELETE FROM t WHERE id % 3 = 1;
     INSERT INTO t SELECT ${count} + i, 'extra' FROM generate_series(1, 5) i`,
  );
}

/** With 9 rows: 3 differ, 3 are missing, 5 are extra. */
const ALL_OF_NINE = { ...NOTHING, upserted: 6, deleted: 5 };

describe('repair and DDL', () => {
  afterEach(async () => {
    await mesh.query(
      'n2',
      'DROP EVENT TRIGGER IF EXISTS no_ddl; DROP SCHEMA IF EXISTS spock CASCADE',
    );
  });

  it('runs where all DDL is refused, as with spock.deny_all_ddl', async () => {
    await spoil(9);
    await mesh.query(
      'n2',
      `CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'cannot execute % within spock cluster', tg_tag; END $$;
       CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION refuse()`,
    );
    const result = await harness.repair(await diff('t'), table('t'));
    assert.deepEqual(result.nodes['n2'], ALL_OF_NINE);
    await assertEqual('t');
  });

  const REPAIR_MODE = `CREATE SCHEMA spock; CREATE TABLE spock.calls (xid xid8, is_on boolean);
    CREATE FUNCTION spock.repair_mode(boolean) RETURNS pg_lsn LANGUAGE sql AS
      $$ INSERT INTO spock.calls VALUES (pg_current_xact_id(), $1);
         SELECT pg_logical_emit_message(true, 'Spock', CASE WHEN $1 THEN '1' ELSE '2' END) $$`;

  it("uses repair mode and an origin at once, and keeps the commit time of the source's rows", async () => {
    await mesh.queryAll('TRUNCATE t');
    await mesh.waitForReplication();
    for (const id of [1, 2, 3]) await load(`INSERT INTO t VALUES (${id}, 'a'), (${id + 10}, 'b')`);
    await mesh.driftSql(
      'n2',
      "UPDATE t SET note = 'x' WHERE id < 10; DELETE FROM t WHERE id = 13; INSERT INTO t VALUES (99, 'extra')",
    );
    await mesh.query('n2', REPAIR_MODE);
    const result = await harness.repair(await diff('t'), table('t'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 4, deleted: 1 });
    const times = 'SELECT id, pg_xact_commit_timestamp(xmin) FROM t ORDER BY id';
    assert.deepEqual(await mesh.query('n2', times), await mesh.query('n1', times));
    const origins = await mesh.query(
      'n2',
      `SELECT count(*), bool_and(roname = 'aced_repair') FROM t,
         pg_xact_commit_timestamp_origin(t.xmin) w(at, origin) JOIN pg_replication_origin o ON o.roident = w.origin
        WHERE id < 10 OR id = 13`,
    );
    assert.deepEqual(origins, [['4', 't']]);
    // One transaction with the time of the repair, for the delete, and one per commit time.
    assert.deepEqual(
      await mesh.query(
        'n2',
        'SELECT count(*), count(DISTINCT xid), bool_and(is_on) FROM spock.calls',
      ),
      [['4', '4', 't']],
    );
    await mesh.waitForReplication();
    const errors = await mesh.query(
      'n1',
      'SELECT sum(apply_error_count) FROM pg_stat_subscription_stats',
    );
    assert.deepEqual(errors, [['0']]);
    await assertEqual('t');
  });

  it('is refused with the GRANT where schema spock may not be used', async () => {
    await spoil(9);
    await mesh.query('n2', `${REPAIR_MODE}; CREATE ROLE least LOGIN; GRANT ALL ON t TO least`);
    await mesh.query('n1', 'CREATE ROLE least LOGIN; GRANT SELECT ON t TO least');
    const least = await RepairHarness.create(mesh, 'least');
    try {
      await assert.rejects(least.repair(await diff('t'), table('t')), (error: unknown) => {
        assert.ok(error instanceof Error && 'code' in error && 'hint' in error);
        assert.equal(error.code, 'MISSING_PRIVILEGE', error.message);
        assert.match(
          `${error.message} ${String(error.hint)}`,
          /GRANT USAGE ON SCHEMA spock TO "least";/,
        );
        return true;
      });
    } finally {
      await least.close();
    }
  });
});

describe('repair and its transactions', () => {
  it('gives every batch its own commit time, in the log too', async () => {
    await mesh.queryAll('TRUNCATE t');
    await mesh.waitForReplication();
    await load("INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 9000) i");
    await mesh.driftSql('n2', "UPDATE t SET note = 'x'");
    const file = await diff('t');
    await mesh.query('n2', "SELECT pg_create_logical_replication_slot('times', 'pgoutput')");
    try {
      const before = await mesh.query('n2', 'SELECT clock_timestamp()');
      await harness.repair(file, table('t'));
      const stored = await mesh.query(
        'n2',
        `SELECT count(DISTINCT pg_xact_commit_timestamp(xmin)) > 1, min(pg_xact_commit_timestamp(xmin)) > '${before[0]?.[0] ?? ''}' FROM t`,
      );
      assert.deepEqual(stored, [['t', 't']]);
      // Begin: the byte B, a position, then microseconds since 2000-01-01.
      const begins = await mesh.query(
        'n2',
        `SELECT count(*) > 1, min(('x' || encode(substr(data, 10, 8), 'hex'))::bit(64)::bigint) >
             extract(epoch FROM timestamptz '${before[0]?.[0] ?? ''}' - timestamptz '2000-01-01 00:00:00+00')::bigint * 1000000 - 1000000
           FROM pg_logical_slot_get_binary_changes('times', NULL, NULL, 'proto_version', '1', 'publication_names', 'mesh')
          WHERE get_byte(data, 0) = ascii('B')`,
      );
      assert.deepEqual(begins, [['t', 't']]);
    } finally {
      await mesh.query('n2', "SELECT pg_drop_replication_slot('times')");
    }
  });

  it("has its own limits, whatever the role's are", async () => {
    await spoil(9);
    await mesh.queryAll(`CREATE ROLE limited LOGIN SUPERUSER;
      ALTER ROLE limited SET default_transaction_read_only = on;
      ALTER ROLE limited SET default_transaction_isolation = 'serializable';
      ALTER ROLE limited SET statement_timeout = 1000; ALTER ROLE limited SET transaction_timeout = 1000;
      CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(0.2); RETURN coalesce(NEW, OLD); END $$;`);
    await mesh.query(
      'n2',
      `CREATE TRIGGER slow BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION dawdle();
       ALTER TABLE t ENABLE ALWAYS TRIGGER slow`,
    );
    const file = await diff('t');
    const limited = await RepairHarness.create(mesh, 'limited');
    try {
      const result = await limited.repair(file, table('t'));
      assert.deepEqual(result.nodes['n2'], ALL_OF_NINE);
    } finally {
      await mesh.query('n2', 'DROP TRIGGER slow ON t');
      await limited.close();
    }
  });

  it("writes as the table's owner where it may", async () => {
    await mesh.queryAll(`CREATE ROLE keeper; GRANT ALL ON SCHEMA public TO keeper;
      ALTER TABLE owned OWNER TO keeper; ALTER TABLE owned_log OWNER TO keeper;
      CREATE FUNCTION log_owned() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.owned_log VALUES (current_user); RETURN NEW; END $$;
      CREATE TRIGGER log BEFORE INSERT OR UPDATE ON owned FOR EACH ROW EXECUTE FUNCTION log_owned();
      ALTER TABLE owned ENABLE ALWAYS TRIGGER log; ALTER ROLE keeper SET search_path = public`);
    await load("INSERT INTO owned VALUES (1, 'a'), (2, 'b')");
    await mesh.driftSql('n2', 'DELETE FROM owned WHERE id = 1; TRUNCATE owned_log');
    const result = await harness.repair(await diff('owned'), table('owned'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 1 });
    assert.deepEqual(await mesh.query('n2', 'SELECT who FROM owned_log'), [['keeper']]);
  });
});

describe('repair and what is in its way', () => {
  it('puts swapped and rotated values of a unique column back', async () => {
    await load("INSERT INTO swapped SELECT i, 'c' || i, 'n' FROM generate_series(1, 20) i");
    await mesh.driftSql(
      'n2',
      `UPDATE swapped SET code = 'tmp' WHERE id = 1; UPDATE swapped SET code = 'c1' WHERE id = 2; UPDATE swapped SET code = 'c2' WHERE id = 1;
       DELETE FROM swapped WHERE id IN (5, 6, 7, 8); INSERT INTO swapped VALUES (5, 'c6'), (6, 'c7'), (7, 'c5'), (300, 'c8')`,
    );
    const file = await diff('swapped');
    // The row that holds c8 may not go, so row 8 cannot come.
    const result = await harness.repair(file, table('swapped'), { upsertOnly: true });
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 5, failed: 1, left: 1 });
    assert.match(result.warnings.join(), /SQLSTATE 23505 \(swapped_code_key\)/);
    const rest = await harness.repair(file, table('swapped'));
    assert.deepEqual(rest.nodes['n2'], { ...NOTHING, upserted: 1, deleted: 1, alreadyEqual: 5 });
    await assertEqual('swapped');
  });

  it('never counts as written what a trigger changed or dropped, and names it', async () => {
    await mesh.query(
      'n2',
      `CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN
              IF TG_OP = 'DELETE' THEN IF OLD.id = 40 THEN RETURN NULL; END IF; RETURN OLD; END IF;
              IF NEW.id % 10 = 3 THEN NEW.note := NEW.note || '!'; END IF;
              IF NEW.id % 10 = 5 THEN RETURN NULL; END IF;
              RETURN NEW; END $$;
       CREATE TRIGGER meddling BEFORE INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION meddle()`,
    );
    await load("INSERT INTO watched SELECT i, 'n' || i FROM generate_series(1, 30) i");
    await mesh.driftSql(
      'n2',
      "UPDATE watched SET note = 'x' WHERE id < 10; DELETE FROM watched WHERE id BETWEEN 20 AND 29; INSERT INTO watched VALUES (40, 'e'), (41, 'e')",
    );
    await mesh.query('n2', 'ALTER TABLE watched ENABLE ALWAYS TRIGGER meddling');
    // Row 5 was left as it is by the trigger before, too.
    const file = await diff('watched');
    const result = await harness.repair(file, table('watched'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 15, deleted: 1, failed: 4 });
    assert.match(result.warnings.join('\n'), /trigger .*\("meddling"\)/);
    const left = await mesh.query(
      'n2',
      "SELECT id FROM watched WHERE note <> 'n' || id ORDER BY id",
    );
    assert.deepEqual(left, [['3'], ['40']]);
    assert.equal(result.warnings.length, 1);
  });

  it("runs the user's functions under the user's search path, and names it where they fail", async () => {
    await load("INSERT INTO checked SELECT i, 'n' || i FROM generate_series(1, 9) i");
    await mesh.driftSql('n2', 'DELETE FROM checked WHERE id < 4');
    const file = await diff('checked');
    await mesh.query('n2', 'ALTER TABLE checked ADD CHECK (app.passes(note)) NOT VALID');
    const failed = await harness.repair(file, table('checked'));
    assert.deepEqual(failed.nodes['n2'], { ...NOTHING, failed: 3 });
    assert.match(
      failed.warnings.join(),
      /3 rows could not be written: SQLSTATE 42883, .* search_path/,
    );
    await mesh.query('n2', 'ALTER DATABASE app SET search_path = app, public');
    const result = await harness.repair(file, table('checked'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 3 });
    await mesh.query('n2', 'ALTER DATABASE app RESET search_path');
    await mesh.driftSql('n1', "INSERT INTO checked SELECT i, 'y' FROM generate_series(11, 13) i");
    const before = await mesh.query('n2', "SELECT pg_catalog.current_setting('search_path')");
    await mesh.query('n2', 'ALTER SYSTEM SET search_path = app, public');
    await mesh.query('n2', 'SELECT pg_reload_conf()');
    try {
      const path = "SELECT pg_catalog.current_setting('search_path')";
      const isTold = async (): Promise<boolean> =>
        (await mesh.query('n2', path))[0]?.[0] !== before[0]?.[0];
      await waitFor(isTold, { what: 'the path of postgresql.conf' });
      const { nodes: after } = await harness.repair(await diff('checked'), table('checked'));
      assert.deepEqual(after['n2'], { ...NOTHING, upserted: 3 });
    } finally {
      await mesh.query('n2', 'ALTER SYSTEM RESET search_path');
      await mesh.query('n2', 'SELECT pg_reload_conf()');
    }
  });

  it('inserts by COPY, and by statements what COPY was refused for', async () => {
    await load(`INSERT INTO copied SELECT i, 'c' || i, 'n' || i FROM generate_series(1, 20) i`);
    await mesh.query(
      'n2',
      `CREATE TABLE copied_by (statement text);
       CREATE FUNCTION note_statement() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO public.copied_by VALUES (left(current_query(), 4)); RETURN NULL; END $$;
       CREATE TRIGGER noted AFTER INSERT ON copied EXECUTE FUNCTION note_statement();
       ALTER TABLE copied ENABLE ALWAYS TRIGGER noted`,
    );
    const repaired = async (meanwhile: string): Promise<readonly unknown[]> => {
      await mesh.driftSql('n2', 'DELETE FROM copied WHERE id > 10');
      const file = await diff('copied');
      await mesh.driftSql('n2', meanwhile);
      await mesh.query('n2', 'DELETE FROM copied_by');
      const { nodes } = await harness.repair(file, table('copied'));
      const by = await mesh.query('n2', 'SELECT DISTINCT statement FROM copied_by');
      return [nodes['n2'], by.flat()];
    };
    assert.deepEqual(await repaired('SELECT 1'), [{ ...NOTHING, upserted: 10 }, ['COPY']]);
    await assertEqual('copied');
    assert.deepEqual(await repaired("INSERT INTO copied VALUES (15, 'c15', 'newer')"), [
      { ...NOTHING, upserted: 9, skipped: 1 },
      ['WITH'],
    ]);
    await mesh.driftSql('n2', "UPDATE copied SET note = 'n15' WHERE id = 15");
    await assertEqual('copied');
    assert.deepEqual(
      await repaired("INSERT INTO copied VALUES (99, 'c17', 'has the code of 17')"),
      [{ ...NOTHING, upserted: 9, failed: 1 }, ['WITH']],
    );
    await mesh.driftSql('n2', 'DELETE FROM copied WHERE id = 99');
    const dropped = `CREATE FUNCTION drop_19() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.id = 19 THEN RETURN NULL; END IF; RETURN NEW; END $$;
      CREATE TRIGGER dropping BEFORE INSERT ON copied FOR EACH ROW EXECUTE FUNCTION drop_19();
      ALTER TABLE copied ENABLE ALWAYS TRIGGER dropping`;
    assert.deepEqual(await repaired(dropped), [{ ...NOTHING, upserted: 9, failed: 1 }, ['WITH']]);
    await mesh.query('n2', 'DROP TRIGGER dropping ON copied');
    assert.deepEqual(await repaired('SELECT 1'), [{ ...NOTHING, upserted: 10 }, ['COPY']]);
    await assertEqual('copied');
  });

  it('says that the target has no partition for some rows', async () => {
    await mesh.query('n2', 'ALTER TABLE parts DETACH PARTITION parts_b');
    await mesh.driftSql(
      'n1',
      "INSERT INTO parts VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'b', 'z')",
    );
    const result = await harness.repair(await diff('parts'), table('parts'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 1, failed: 2 });
    assert.match(
      result.warnings.join(),
      /2 rows could not be written: .* parts has no partition for them/,
    );
  });

  it('says which rows point to nothing after it', async () => {
    await load("INSERT INTO parent SELECT i, 'c' || i FROM generate_series(1, 9) i");
    await load(
      "INSERT INTO child SELECT i, i % 5 + 1 FROM generate_series(1, 20) i; INSERT INTO by_code VALUES (1, 'c1'), (2, 'c2')",
    );
    await mesh.driftSql(
      'n1',
      'SET session_replication_role = replica; DELETE FROM parent WHERE id < 3',
    );
    const result = await harness.repair(await diff('parent'), table('parent'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, deleted: 2 });
    assert.deepEqual(result.warnings, [
      'On n2 2 rows of "public"."by_code" now point to rows of "public"."parent" that are not there (by_code_code_fkey): compare and repair "public"."by_code" too.',
      'On n2 8 rows of "public"."child" now point to rows of "public"."parent" that are not there (child_parent_fkey): compare and repair "public"."child" too.',
    ]);
    await mesh.driftSql(
      'n2',
      'SET session_replication_role = replica; DELETE FROM child WHERE id < 6',
    );
    const children = await harness.repair(await diff('child'), table('child'));
    assert.deepEqual(children.nodes['n2'], { ...NOTHING, upserted: 5 });
    assert.match(
      children.warnings.join(),
      /On n2 2 rows of "public"."child" now point to rows of "public"."parent"/,
    );
  });

  it('moves values of types of the user exactly', async () => {
    await load(`INSERT INTO odd VALUES
      (1, '(1,"a,b")', ARRAY['(1,x)', NULL, '(,)']::pair[], 'short', 'ok', '{sad,NULL,ok}', '[1,5)', '{{1,2},{3,4}}', 'x', 'n'),
      (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
      (3, '(,)', '{}', '', 'sad', '{}', 'empty', '[2:3]={7,8}', '', '')`);
    await mesh.driftSql(
      'n2',
      "DELETE FROM odd WHERE id = 1; UPDATE odd SET p = '(7,7)', ps = '{}', m = NULL, s = 'x', a = '{1}'",
    );
    const result = await harness.repair(await diff('odd'), table('odd'));
    assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 3 });
    await assertEqual('odd');
  });
});

describe('repair and other transactions', () => {
  it('leaves out rows that others hold, and says who', async () => {
    await mesh.queryAll('TRUNCATE t');
    await mesh.waitForReplication();
    await load("INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 300) i");
    await mesh.driftSql('n2', "UPDATE t SET note = 'x'; INSERT INTO t VALUES (999, 'extra')");
    const file = await diff('t');
    await mesh.node('n2').session(mesh.database, async (query) => {
      await query("SET application_name = 'holder'");
      await query('BEGIN; SELECT FROM t WHERE id <= 60 OR id = 999 FOR UPDATE');
      const startedAt = performance.now();
      const result = await harness.repair(file, table('t'));
      assert.deepEqual(result.nodes['n2'], { ...NOTHING, upserted: 240, skipped: 61 });
      assert.match(
        result.warnings.join(),
        /61 rows were skipped: locked by process \d+ \(holder, user postgres, open for \d+ s\)/,
      );
      await query('ROLLBACK; BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE');
      const locked = await harness.repair(file, table('t')).catch((error: unknown) => error);
      assert.ok(locked instanceof Error && 'code' in locked, 'a table that cannot even be read');
      assert.equal(locked.code, 'TIMEOUT');
      assert.match(locked.message, /n2/);
      assert.ok(performance.now() - startedAt < 60_000);
      await query('ROLLBACK');
    });
    const result = await harness.repair(file, table('t'));
    assert.deepEqual(result.nodes['n2'], {
      ...NOTHING,
      upserted: 60,
      deleted: 1,
      alreadyEqual: 240,
    });
  });

  it('gives way: of the users, nobody is ended as a deadlock victim', async () => {
    const rows = 20_000;
    await mesh.queryAll('TRUNCATE t');
    await mesh.waitForReplication();
    await load(`INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, ${rows}) i`);
    await mesh.driftSql('n2', "UPDATE t SET note = 'x' || id");
    const file = await diff('t');
    let isDone = false;
    const victims: string[] = [];
    const work = { transactions: 0 };
    // Each user takes few rows in one direction, so that users never wait for each other in a circle.
    const user = async (lane: number): Promise<void> =>
      mesh.node('n2').session(mesh.database, async (query) => {
        while (!isDone) {
          const ids = Array.from(
            { length: 6 },
            () => lane + 4 * Math.floor(Math.random() * (rows / 4)),
          );
          try {
            await query('BEGIN');
            for (const id of ids) {
              await query(`UPDATE t SET note = note WHERE id = ${id}`);
              await query('SELECT pg_sleep(0.01)');
            }
            await query('ROLLBACK');
            work.transactions += 1;
          } catch (error) {
            victims.push(String(error));
            await query('ROLLBACK');
          }
        }
      });
    const users = [1, 2, 3, 4].map(user);
    await waitFor(() => work.transactions > 4, { what: 'the users to be at work' });
    try {
      const { nodes } = await harness.repair(file, table('t'));
      const { upserted = 0, skipped = 0, alreadyEqual = 0 } = nodes['n2'] ?? {};
      assert.equal(upserted + skipped + alreadyEqual, rows);
      assert.ok(upserted > rows - 200, `${upserted} rows in spite of the users`);
    } finally {
      isDone = true;
      await Promise.all(users);
    }
    assert.deepEqual(victims, []);
  });
});
