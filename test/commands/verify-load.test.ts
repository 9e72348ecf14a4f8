import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { FailpointName } from '../../src/base/failpoint.js';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { Config } from '../../src/config/config.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { EngineProcess } from '../support/engine-process.js';
import { startLoad } from '../support/load.js';
import { startMesh, type Mesh } from '../support/mesh.js';

/** Rows kept, whole old rows streamed, and a key that only the server can order. */
const TABLES = `
  CREATE TABLE marked (id bigint PRIMARY KEY, v int NOT NULL);
  CREATE TABLE exact (id bigint PRIMARY KEY, v int NOT NULL);
  ALTER TABLE exact REPLICA IDENTITY FULL;
  CREATE TABLE worded (k text PRIMARY KEY, v int NOT NULL);
  ALTER TABLE worded REPLICA IDENTITY FULL;
`;
const NAMES = ['marked', 'exact', 'worded'];
const ROWS = 3_000;
const LOAD = {
  insert: `WITH a AS (INSERT INTO marked VALUES ($1, 0)), b AS (INSERT INTO worded SELECT 'k' || $1::bigint, 0)
    INSERT INTO exact SELECT $1::bigint, 0`,
  update: `WITH a AS (UPDATE marked SET v = v + 1 WHERE id = $1),
      b AS (UPDATE worded SET v = v + 1 WHERE k = 'k' || $1::bigint)
    UPDATE exact SET v = v + 1 WHERE id = $1`,
  delete: `WITH a AS (DELETE FROM marked WHERE id = $1), b AS (DELETE FROM worded WHERE k = 'k' || $1::bigint)
    DELETE FROM exact WHERE id = $1`,
};
/** Killed there while it verifies under load. */
const KILLS: readonly (readonly [FailpointName, number])[] = [
  ['rehash-read', 9],
  ['store-committing', 7],
  ['store-committed', 3],
];
const PASSES_PER_KILL = 3;

describe('a verify, and diffs, under load', () => {
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;

  before(async () => {
    mesh = await startMesh({
      nodes: 2,
      tables: TABLES,
      settings: { max_prepared_transactions: '10' },
    });
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir, {
      tree: { blockRows: 50, refreshQuietMs: 0 },
      stream: { flushIntervalMs: 20 },
    });
    await mesh.query(
      'n1',
      `INSERT INTO marked SELECT i, 0 FROM generate_series(1, ${ROWS}) i;
       INSERT INTO exact SELECT i, 0 FROM generate_series(1, ${ROWS}) i;
       INSERT INTO worded SELECT 'k' || i, 0 FROM generate_series(1, ${ROWS}) i`,
    );
    await mesh.waitForReplication();
  });

  after(async () => {
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  /**
   * Transactions whose order of ids, commits and snapshots differ: long ones beside short ones,
   * savepoints rolled back, prepared ones, blocks emptied by a whole delete.
   */
  async function writeOddly(stop: AbortSignal): Promise<void> {
    await mesh.node('n1').session(mesh.database, async (query) => {
      for (let turn = 0; !stop.aborted; turn++) {
        const from = 200_000 + (turn % 5) * 1_000;
        const table = NAMES[turn % NAMES.length] ?? '';
        const key = table === 'worded' ? "'o' || i" : 'i';
        await query('BEGIN');
        await query(
          `INSERT INTO ${table} SELECT ${key}, ${turn} FROM generate_series(${from}, ${from + 120}) i
             ON CONFLICT DO NOTHING`,
        );
        await query('SAVEPOINT s');
        await query(`UPDATE ${table} SET v = v + 1 WHERE v = ${turn}`);
        await query(turn % 3 === 0 ? 'ROLLBACK TO s' : 'RELEASE s');
        await delay(turn % 4 === 0 ? 120 : 5);
        if (turn % 5 !== 0) await query('COMMIT');
        else {
          await query(`PREPARE TRANSACTION 'odd'`);
          await delay(20);
          await query(`COMMIT PREPARED 'odd'`);
        }
        if (turn % 2 === 1) await query(`DELETE FROM ${table} WHERE v >= ${turn - 1} AND v < 9999`);
      }
    });
  }

  it('raises no false alarm, neither before nor after a kill', async (t) => {
    const lines: string[] = [];
    const log = createLogger('error', { write: (line: string) => void lines.push(line) });
    const verdicts = new Map<string, number>();
    const count = { passes: 0, proved: 0, reread: 0, wrong: 0 };
    const passes = async (setUp: boolean): Promise<void> => {
      const engine = await Engine.open(config, { log, mode: 'daemon' });
      try {
        const context = testContext(stateDir);
        if (setUp) {
          await engine.run('mtree-init', {}, context);
          for (const name of NAMES) {
            await engine.run('mtree-build', { table: `public.${name}`, blockRows: 50 }, context);
          }
        }
        for (let pass = 0; pass < PASSES_PER_KILL; pass++) {
          const { tables } = await engine.run('mtree-verify', {}, context);
          count.passes++;
          for (const table of tables) {
            assert.equal(table.error, null);
            count.proved += table.provedLeaves;
            count.reread += table.rereadLeaves;
            count.wrong += table.wrongLeaves;
          }
          for (const name of NAMES) {
            for (const command of ['mtree-table-diff', 'table-diff'] as const) {
              const { verdict } = await engine.run(command, { table: `public.${name}` }, context);
              verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
            }
          }
        }
      } finally {
        await engine.close();
      }
    };
    const load = startLoad({ mesh, statements: LOAD, existingRows: ROWS, ratePerSecond: 400 });
    const stop = new AbortController();
    const odd = writeOddly(stop.signal);
    try {
      await passes(true);
      for (const [name, hit] of KILLS) {
        const engine = await EngineProcess.start({ config, failpoint: { name, hit } });
        for (let i = 0; i < 20; i++) engine.send('mtree-verify', {});
        await engine.died();
        await passes(false);
      }
    } finally {
      stop.abort();
      await odd;
      await load.stop();
    }
    t.diagnostic(`${JSON.stringify(count)} under ${load.writes} writes`);
    t.diagnostic(JSON.stringify([...verdicts]));
    assert.equal(count.wrong, 0, lines.join(''));
    assert.deepEqual([verdicts.has('unverified'), verdicts.has('drift')], [false, false]);
    assert.deepEqual(lines, []);
    // At rest all of it can be told.
    await mesh.waitForReplication();
    const engine = await Engine.open(config, { log, mode: 'daemon' });
    const { tables } = await engine.run('mtree-verify', {}, testContext(stateDir));
    await engine.close();
    assert.deepEqual(
      tables.map(({ wrongLeaves }) => wrongLeaves),
      [0, 0, 0],
    );
    assert.ok(count.proved > 1_000, JSON.stringify(count));
  });
});
