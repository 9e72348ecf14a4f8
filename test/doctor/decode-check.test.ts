import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { checkDecoding } from '../../src/doctor/decode-check.js';
import { PgoutputDecoder } from '../../src/pgoutput/decoder.js';
import type { Message } from '../../src/pgoutput/message.js';
import { SessionPool } from '../../src/postgres/session-pool.js';
import type { Finding } from '../../src/protocol/doctor.js';
import { startServer, type TestServer } from '../support/postgres.js';
import type { Lsn } from '../../src/base/lsn.js';
import { waitFor } from '../support/wait.js';

const DATABASE = 'app';
const SECRET = 'nobody may read this';

/** The domain's function would fail: values were there before it did. */
const SCHEMA = `
  CREATE TYPE mood AS ENUM ('good', 'bad');
  CREATE TYPE pair AS (a int, b text);
  CREATE FUNCTION fine(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
  CREATE DOMAIN checked AS text NOT NULL CHECK (fine(VALUE));
  CREATE TABLE kinds (
    id int PRIMARY KEY, "Big One" bigint, n numeric(20, 5), f float8, b boolean, c char(7), v varchar(90), long text,
    bits bit(3), bytes bytea, at timestamptz, every interval, doc jsonb, x xml, list int[], moods mood[], feeling mood,
    couple pair, range int4range, ranges int4multirange, who uuid, net inet, place point, checked checked, money money, none tsvector,
    twice int GENERATED ALWAYS AS (id * 2) STORED);
  INSERT INTO kinds VALUES (1, 9007199254740993, 1.50, '-0', true, 'abc', '${SECRET}',
    (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 60) i), '101', '\\x00ff', '2024-01-02 03:04:05.6+02', '1 day -2 h',
    '{"a": "ü\u{1F600}"}', '<a/>', '{1,NULL,3}', '{good,NULL}', 'bad', '(1,"x,y")', '[1,5)', '{[1,2)}',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1/8', '(1.1,-2)', 'inside', 12.3);
  CREATE OR REPLACE FUNCTION fine(text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'ran as another role'; END$$;
  CREATE TABLE parts (id int, d date) PARTITION BY RANGE (id);
  CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (10);
  INSERT INTO parts VALUES (1, '2024-02-29');
  CREATE TABLE policed (t time); ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
  CREATE TABLE other (id int);
  CREATE TABLE busy (id int);
  CREATE PUBLICATION theirs FOR TABLE busy;
  CREATE ROLE creator LOGIN; GRANT CREATE ON DATABASE ${DATABASE} TO creator;
  CREATE ROLE streamer LOGIN REPLICATION;
  CREATE ROLE able LOGIN REPLICATION; GRANT CREATE ON DATABASE ${DATABASE} TO able;
  GRANT SELECT ON ALL TABLES IN SCHEMA public TO creator, streamer, able;
  REVOKE USAGE ON TYPE mood FROM PUBLIC;`;

const TABLES = ['kinds', 'parts', 'policed'].map((name) => ({ schema: 'public', name }));

/** Loses the last byte of every value of rows that are inserted. */
class ShortDecoder extends PgoutputDecoder {
  override decode(buffer: Buffer, start: number, end: number): Message {
    const message = super.decode(buffer, start, end);
    if (message.kind === 'insert')
      message.newTuple.ends.forEach((at, i, ends) => (ends[i] = at - 1));
    return message;
  }
}

/** Shows no rows that go. */
class ForgetfulDecoder extends PgoutputDecoder {
  override decode(buffer: Buffer, start: number, end: number): Message {
    const message = super.decode(buffer, start, end);
    return message.kind === 'delete' ? { kind: 'origin', originLsn: 0n as Lsn, name: '' } : message;
  }
}

for (const major of [15, 18] as const) {
  describe(`doctor --decode on PostgreSQL ${major}`, () => {
    let server: TestServer;
    const pools: SessionPool[] = [];

    before(async () => {
      server = await startServer({ major });
      await server.createDatabase(DATABASE);
      await server.query(DATABASE, SCHEMA);
    });

    after(async () => {
      await Promise.all(pools.map((pool) => pool.close()));
      await server.stop();
    });

    function poolOf(user = 'able'): SessionPool {
      const node = { ...server.nodeConfig(DATABASE, 'n1'), user };
      const pool = new SessionPool(node, { max: 2, applicationName: 'doctor' });
      pools.push(pool);
      return pool;
    }

    const check = (
      options: { readonly user?: string; readonly decoder?: PgoutputDecoder } = {},
      signal = new AbortController().signal,
    ): Promise<Finding[]> => checkDecoding(poolOf(options.user), TABLES, { signal, ...options });

    const traces = (): Promise<(string | null)[][]> =>
      server.query(
        DATABASE,
        `SELECT (SELECT string_agg(pubname, ' ') FROM pg_publication), (SELECT count(*) FROM pg_replication_slots),
                (SELECT count(*) FROM pg_namespace), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_type)`,
      );

    it('types of all kinds are read alike, and nothing is left', async () => {
      const before = await traces();
      const found = await check({ user: 'postgres' });
      assert.deepEqual(
        found.map(({ level, subject }) => `${level} ${subject}`),
        ['ok n1', 'ok n1'],
        JSON.stringify(found),
      );
      // 27 types of kinds and the date of parts; none of a tsvector, and no table with policies is looked into.
      assert.match(found[0]?.evidence ?? '', /^26 types .* removed again: .* aced_doctor_\d+$/);
      assert.match(found[1]?.evidence ?? '', /^no value was found of time, tsvector: only NULL/);
      assert.deepEqual(await traces(), before);
    });

    it('what others write meanwhile does not matter', async () => {
      const ending = new AbortController();
      const writing = (async () => {
        while (!ending.signal.aborted) await server.query(DATABASE, 'INSERT INTO busy VALUES (1)');
      })();
      const found = await check();
      ending.abort();
      await writing;
      assert.deepEqual(
        found.map(({ level, remedy }) => [level, remedy]),
        [
          ['warning', 'GRANT USAGE ON TYPE public._mood TO able'],
          ['warning', 'GRANT USAGE ON TYPE public.mood TO able'],
          ['ok', null],
          ['ok', null],
        ],
        JSON.stringify(found),
      );
      assert.match(found[2]?.evidence ?? '', /^24 types/);
    });

    it('a decoder that is wrong is told, with the type and without the value', async () => {
      const before = await traces();
      const short = await check({ decoder: new ShortDecoder() });
      const told = short.filter(({ level }) => level === 'problem');
      assert.equal(told.length, 24, 'of every type with a value');
      for (const { evidence } of told) {
        assert.match(evidence, /^type \S+, insert: .* read it differently$/);
      }
      assert.doesNotMatch(JSON.stringify(short), new RegExp(SECRET.slice(0, 8)));
      assert.ok(!short.some(({ evidence }) => evidence.includes('are read alike')));
      const found = await check({ decoder: new ForgetfulDecoder() });
      assert.match(JSON.stringify(found), /aced reads a message as origin, .* as delete/);
      assert.deepEqual(await traces(), before);
    });

    it('without the rights nothing is written, and the statement that grants them is told', async () => {
      const before = await traces();
      const refused = async (user: string): Promise<readonly (string | null)[]> => {
        const [only, ...more] = await check({ user });
        assert.deepEqual(more, []);
        assert.ok(only?.level === 'problem');
        return [only.evidence, only.remedy];
      };
      assert.deepEqual(await refused('streamer'), [
        'role streamer may make no canary on node n1: nothing was written',
        'GRANT CREATE ON DATABASE app TO streamer',
      ]);
      const [evidence, remedy] = await refused('creator');
      assert.match(evidence ?? '', /creator may not use replication slots/);
      assert.equal(remedy, 'ALTER ROLE "creator" REPLICATION');
      await server.query(DATABASE, 'CREATE PUBLICATION wide FOR ALL TABLES');
      assert.match((await refused('able'))[0] ?? '', /publication wide .* nothing was written/);
      await server.query(DATABASE, 'DROP PUBLICATION wide');
      assert.deepEqual(await traces(), before);
    });

    it('one that is cancelled leaves nothing, and removes what a killed one left', async () => {
      const before = await traces();
      await server.query(DATABASE, 'SET ROLE able; CREATE PUBLICATION aced_doctor_1');
      const waiting =
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'doctor' AND query ~ 'SCHEMA|_slot' AND state = 'active'";
      const interrupt = async (how: 'cancel' | 'kill'): Promise<Finding[]> => {
        const stopping = new AbortController();
        const checking = check({}, stopping.signal);
        const isWaiting = async (): Promise<boolean> =>
          (await server.query(DATABASE, `${waiting} AND wait_event IS NOT NULL`)).length === 1;
        await waitFor(isWaiting, { what: 'the wait' });
        if (how === 'cancel') stopping.abort();
        else
          await server.query(DATABASE, `SELECT pg_terminate_backend(pid) FROM (${waiting}) AS w`);
        return checking;
      };
      await server.session(DATABASE, async (query) => {
        await query('BEGIN; INSERT INTO busy VALUES (1)');
        await assert.rejects(interrupt('cancel'), { code: 'CANCELLED' }, 'while the slot is made');
        await query('ROLLBACK');
      });
      assert.deepEqual(await traces(), before);
      await server.query(
        DATABASE,
        `CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); END';
         CREATE EVENT TRIGGER slow ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION slow()`,
      );
      const within = await traces();
      await assert.rejects(interrupt('cancel'), { code: 'CANCELLED' }, 'within the canary');
      assert.deepEqual(await traces(), within);
      const found = await interrupt('kill');
      assert.match(JSON.stringify(found), /"problem","check":"decoding".*57P01/);
      const isClean = async (): Promise<boolean> =>
        JSON.stringify(await traces()) === JSON.stringify(within);
      await waitFor(isClean, { what: "that the session's slot is gone" });
      await server.query(DATABASE, 'DROP EVENT TRIGGER slow; DROP FUNCTION slow()');
    });
  });
}
