import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { parseLsn } from '../../src/base/lsn.js';
import { Session } from '../../src/postgres/session.js';
import {
  createSlot,
  dropSlot,
  identifySystem,
  requireOurSlot,
  isSlotLost,
  readSlot,
} from '../../src/replication/slot.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';

const DATABASE = 'slots';
const SLOT = 'aced_test';

let server: TestServer;
let session: Session;

const connect = (user = 'postgres'): Promise<Session> =>
  Session.connect({ ...server.nodeConfig(DATABASE, 'n1'), user }, { applicationName: 'slots' });

before(async () => {
  server = await startServer({ settings: { max_replication_slots: '2' } });
  await server.createDatabase(DATABASE);
  await server.query(DATABASE, 'CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE plain LOGIN');
  session = await connect();
});

after(async () => {
  await session.close();
  await server.stop();
});

function isError(code: string, hint = /^/): (error: unknown) => boolean {
  return (error) =>
    error instanceof AcedError && error.code === code && hint.test(error.hint ?? '');
}

describe('slot', () => {
  it('is made, described and dropped', async () => {
    assert.equal(await readSlot(session, SLOT), null);
    const start = await createSlot(session, SLOT, { lockTimeoutMs: 5_000 });
    const slot = await readSlot(session, SLOT);
    assert.ok(slot);
    assert.equal(slot.plugin, 'pgoutput');
    assert.equal(slot.database, DATABASE);
    assert.equal(slot.active, false);
    assert.equal(slot.activePid, null);
    assert.equal(slot.confirmedFlushLsn, start);
    assert.equal(slot.walStatus, 'reserved');
    assert.equal(slot.safeWalSize, null);
    assert.equal(slot.invalidationReason, null);
    assert.equal(isSlotLost(slot), false);
    await assert.rejects(createSlot(session, SLOT, { lockTimeoutMs: 5_000 }), isError('SLOT_BUSY'));
    assert.equal(await dropSlot(session, SLOT), 'dropped');
    assert.equal(await dropSlot(session, SLOT), 'absent');
  });

  it('counts the log that it holds back', async () => {
    await createSlot(session, SLOT, { lockTimeoutMs: 5_000 });
    const before = await readSlot(session, SLOT);
    await server.query(DATABASE, "SELECT pg_logical_emit_message(true, 'x', repeat('x', 100000))");
    const later = await readSlot(session, SLOT);
    assert.ok(before && later);
    assert.ok(later.retainedBytes >= before.retainedBytes + 100_000n);
    await dropSlot(session, SLOT);
  });

  it('needs the REPLICATION attribute', async () => {
    const plain = await connect('plain');
    try {
      const privilege = isError('MISSING_PRIVILEGE', /ALTER ROLE "plain" REPLICATION/);
      await assert.rejects(createSlot(plain, SLOT, { lockTimeoutMs: 1_000 }), privilege);
      assert.equal(plain.isIdle, true);
    } finally {
      await plain.close();
    }
  });

  it("passes on the server's own reason and advice, which need not be the attribute", async () => {
    const signature = 'pg_create_logical_replication_slot(name, name, boolean, boolean, boolean)';
    const replaced = 'create_slot_of_the_server';
    // Newer releases have further reasons, of which this one stands for.
    await server.session(DATABASE, async (query) => {
      await query('SET allow_system_table_mods = on');
      await query(`ALTER FUNCTION pg_catalog.${signature} RENAME TO ${replaced}`);
      await query(`CREATE FUNCTION pg_catalog.pg_create_logical_replication_slot(name, name, boolean, OUT lsn pg_lsn)
        LANGUAGE plpgsql AS $$ BEGIN RAISE insufficient_privilege
          USING MESSAGE = 'the plugin is not listed', HINT = 'Add it to the list of plugins.'; END $$`);
    });
    try {
      await assert.rejects(createSlot(session, SLOT, { lockTimeoutMs: 5_000 }), {
        code: 'MISSING_PRIVILEGE',
        message: /may not use replication slots on node n1: .*the plugin is not listed/,
        hint: 'Add it to the list of plugins.',
      });
    } finally {
      await server.session(DATABASE, async (query) => {
        await query('SET allow_system_table_mods = on');
        await query(
          'DROP FUNCTION pg_catalog.pg_create_logical_replication_slot(name, name, boolean)',
        );
        await query(
          `ALTER FUNCTION pg_catalog.${replaced}(name, name, boolean, boolean, boolean)
             RENAME TO pg_create_logical_replication_slot`,
        );
      });
    }
  });

  it('leaves slots of its name alone that are not ours, and says whose they are', async () => {
    const created: readonly (readonly [string, string, RegExp])[] = [
      [DATABASE, `pg_create_physical_replication_slot('${SLOT}')`, /physical/],
      [
        'postgres',
        `pg_create_logical_replication_slot('${SLOT}', 'pgoutput')`,
        /database postgres/,
      ],
    ];
    for (const [database, create, whose] of created) {
      await server.query(database, `SELECT ${create}`);
      const foreign = { code: 'SLOT_FOREIGN', message: whose };
      await assert.rejects(requireOurSlot(session, SLOT), foreign);
      await assert.rejects(createSlot(session, SLOT, { lockTimeoutMs: 5_000 }), foreign);
      assert.equal(await dropSlot(session, SLOT), 'absent');
      await server.query(database, `SELECT pg_drop_replication_slot('${SLOT}')`);
    }
    await requireOurSlot(session, SLOT);
  });

  it('needs a free slot', async () => {
    await createSlot(session, 'one', { lockTimeoutMs: 5_000 });
    await createSlot(session, 'two', { lockTimeoutMs: 5_000 });
    await assert.rejects(
      createSlot(session, SLOT, { lockTimeoutMs: 5_000 }),
      isError('NO_FREE_SLOT', /max_replication_slots/),
    );
    await dropSlot(session, 'one');
    await dropSlot(session, 'two');
  });

  it('does not wait for open transactions longer than told, and leaves nothing behind', async () => {
    const writer = await connect();
    try {
      await writer.query('BEGIN READ WRITE; INSERT INTO public.t VALUES (1)');
      const waits: string[] = [];
      const who = `process ${writer.backendPid} (slots, user postgres`;
      await assert.rejects(
        createSlot(session, SLOT, { lockTimeoutMs: 50, onWait: (text) => waits.push(text) }),
        (error) => isError('TIMEOUT')(error) && String(error).includes(who),
      );
      assert.equal(waits.length, 1);
      assert.ok(waits[0]?.startsWith(who));
      assert.equal(await readSlot(session, SLOT), null);
      const abort = new AbortController();
      const creating = createSlot(session, SLOT, { lockTimeoutMs: 60_000, signal: abort.signal });
      creating.catch(() => undefined);
      const isWaiting = async (): Promise<boolean> =>
        (
          await server.query(
            DATABASE,
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%pg_create_logical%'",
          )
        ).length > 0;
      await waitFor(isWaiting, { what: 'the slot to wait for the writer' });
      abort.abort();
      await assert.rejects(creating, isError('CANCELLED'));
      assert.equal(await readSlot(session, SLOT), null);
    } finally {
      await writer.close();
    }
  });

  it("waits by its own limit, not by the role's statement_timeout", async () => {
    const writer = await connect();
    const hurried = await connect();
    try {
      await hurried.query("SET statement_timeout = '1s'");
      await writer.query('BEGIN READ WRITE; INSERT INTO public.t VALUES (1)');
      await assert.rejects(createSlot(hurried, SLOT, { lockTimeoutMs: 1_500 }), isError('TIMEOUT'));
    } finally {
      await writer.close();
      await hurried.close();
    }
  });

  it('waits for a commit that is written but not yet visible', async () => {
    // A synchronous standby that does not exist keeps commits half done.
    const writer = await connect();
    const setStandbys = async (value: string): Promise<void> => {
      await server.query('postgres', `ALTER SYSTEM SET synchronous_standby_names = '${value}'`);
      await server.query('postgres', 'SELECT pg_reload_conf()');
      const arrived = async (): Promise<boolean> =>
        (await server.query('postgres', 'SHOW synchronous_standby_names'))[0]?.[0] === value &&
        (await writer.query('SHOW synchronous_standby_names'))[0]?.[0] === value;
      await waitFor(arrived, { what: 'the setting to arrive' });
    };
    try {
      await setStandbys('nobody');
      const stuckCommits = async (): Promise<number> =>
        (
          await server.query(
            DATABASE,
            "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'slots'",
          )
        ).length;
      let isCommitted = true;
      let writing = Promise.resolve();
      // Sessions know the setting before the checkpointer does, who makes commits wait for it.
      const commitWaits = async (): Promise<boolean> => {
        if (isCommitted) {
          isCommitted = false;
          writing = writer
            .query(
              'BEGIN READ WRITE; INSERT INTO public.t VALUES (200); DELETE FROM public.t; COMMIT',
            )
            .then(() => {
              isCommitted = true;
            });
        }
        return (await stuckCommits()) === 1;
      };
      await waitFor(commitWaits, { what: 'a commit to wait' });
      await assert.rejects(createSlot(session, SLOT, { lockTimeoutMs: 600 }), isError('TIMEOUT'));
      assert.equal(isCommitted, false);
      assert.equal(await readSlot(session, SLOT), null);
      await server.query('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''");
      await server.query('postgres', 'SELECT pg_reload_conf()');
      await writing;
      await createSlot(session, SLOT, { lockTimeoutMs: 5_000 });
      await dropSlot(session, SLOT);
    } finally {
      await writer.close();
    }
  });
});

describe('identifySystem', () => {
  it('knows system, timeline and position, also as a plain role', async () => {
    const plain = await connect('plain');
    try {
      const identity = await identifySystem(plain);
      const [expected] = await server.query(
        DATABASE,
        'SELECT system_identifier, pg_current_wal_lsn() FROM pg_control_system()',
      );
      assert.equal(identity.systemId, expected?.[0]);
      assert.equal(identity.timeline, 1);
      assert.ok(identity.insertLsn >= parseLsn(expected?.[1] ?? '') - 8192n);
    } finally {
      await plain.close();
    }
  });
});
