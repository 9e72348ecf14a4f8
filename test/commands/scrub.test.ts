import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { Config } from '../../src/config/config.js';
import type { TableStatus } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { editState } from '../support/state-file.js';
import { waitFor } from '../support/wait.js';

const TABLES = `
  CREATE TABLE one (id bigint PRIMARY KEY, v int);
  CREATE TABLE two (k text PRIMARY KEY, v int);
  CREATE EXTENSION pg_surgery;
`;
const DAY_MS = 86_400_000;

describe('the scrub', () => {
  let mesh: Mesh;
  let stateDir: string;
  let engine: Engine;
  let lines: string[];

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: TABLES });
    stateDir = await scratchDirectory();
    await mesh.query(
      'n1',
      `INSERT INTO one SELECT i, i FROM generate_series(1, 1000) i;
       INSERT INTO two SELECT 'k' || i, i FROM generate_series(1, 1000) i`,
    );
    await mesh.waitForReplication();
    await start({ budget: 0 });
    const context = testContext(stateDir);
    await engine.run('mtree-init', {}, context);
    for (const table of ['public.one', 'public.two']) {
      await engine.run('mtree-build', { table, blockRows: 50 }, context);
    }
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  /** Without judging: the start of a daemon that judges drift finds a wrong leaf too. */
  async function start(scrub: Partial<Config['scrub']>, isJudging = false): Promise<void> {
    lines = [];
    const log = createLogger('info', { write: (line: string) => void lines.push(line) });
    const config = mesh.config(stateDir, { scrub, drift: { isEnabled: isJudging } });
    engine = await Engine.open(config, { log, mode: 'daemon' });
  }

  async function restart(scrub: Partial<Config['scrub']>): Promise<void> {
    await engine.close();
    await start(scrub);
  }

  function found(): Record<string, unknown>[] {
    return lines
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ event }) => event === 'leaf_mismatch');
  }

  async function statusOf(table: string): Promise<TableStatus> {
    const { tables } = await engine.run('status', {}, testContext(stateDir));
    return tables.find((one) => one.table === table) ?? assert.fail(`no ${table}`);
  }

  /** A wrong leaf of the n-th block, last proved at that time. */
  function spoil(table: string, block: number, provedAtMs: number): void {
    editState(
      stateDir,
      `UPDATE leaf SET sum_low = sum_low + 1, proved_at = ? WHERE node = 'n2'
         AND table_id = (SELECT id FROM tracked_table WHERE name = ?)
         AND block_id = (SELECT id FROM block b WHERE b.table_id = leaf.table_id
           ORDER BY rank LIMIT 1 OFFSET ${block})`,
      provedAtMs,
      table,
    );
  }

  it('compares what was not compared for long, in every table, and nothing else', async () => {
    await engine.close();
    const old = Date.now() - 2 * DAY_MS;
    spoil('one', 3, old);
    spoil('two', 7, old - 1_000_000);
    spoil('two', 8, Date.now());
    await start({ budget: 1 });
    assert.equal(
      (await statusOf('public.two')).oldestProof,
      new Date(old - 1_000_000).toISOString(),
    );
    await waitFor(() => found().length >= 2, { what: 'two wrong leaves' });
    await waitFor(
      async () => Date.parse((await statusOf('public.one')).oldestProof ?? '') > old + DAY_MS,
      { what: 'the proof to be renewed' },
    );
    assert.deepEqual(
      found().map(({ table, node, foundBy }) => [table, node, foundBy]),
      [
        ['public.two', 'n2', 'scrub'],
        ['public.one', 'n2', 'scrub'],
      ],
    );
    assert.equal((await statusOf('public.two')).wrongLeaves, 1);
    // The young one is still wrong: its turn comes when it is old.
    const { tables } = await engine.run('mtree-verify', {}, testContext(stateDir));
    assert.deepEqual(
      tables.map(({ wrongLeaves }) => wrongLeaves),
      [0, 1],
    );
  });

  it('finds a row that went below the log', async () => {
    await restart({ budget: 1, intervalMs: 0 });
    await mesh.query(
      'n1',
      "SELECT heap_force_kill('two'::regclass, ARRAY[(SELECT ctid FROM two WHERE k = 'k500')])",
    );
    await waitFor(() => found().length > 0, { what: 'the wrong leaf' });
    const [one] = found();
    assert.deepEqual(
      [one?.['table'], one?.['node'], one?.['foundBy']],
      ['public.two', 'n1', 'scrub'],
    );
    const context = testContext(stateDir);
    await waitFor(
      async () => {
        const diff = await engine.run('mtree-table-diff', { table: 'public.two' }, context);
        return diff.verdict === 'drift';
      },
      { what: 'the diff to see it' },
    );
  });

  it('leaves a busy node alone', async () => {
    await restart({ budget: 1, intervalMs: 0, maxActiveBackends: 0 });
    const busy = mesh.query('n1', 'SELECT pg_sleep(600)').catch(() => undefined);
    const pid = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    await waitFor(async () => (await mesh.query('n1', pid)).length === 1, { what: 'the session' });
    const proof = async (node: string): Promise<string> => {
      const context = testContext(stateDir);
      const { tables } = await engine.run('status', { nodes: [node] }, context);
      return tables.map(({ oldestProof }) => oldestProof ?? '').sort()[0] ?? '';
    };
    // A round that was under way may end.
    const other = await proof('n2');
    await waitFor(async () => (await proof('n2')) > other, { what: 'the other node' });
    const before = await proof('n1');
    const next = await proof('n2');
    await waitFor(async () => (await proof('n2')) > next, { what: 'the other node, again' });
    assert.equal(await proof('n1'), before);
    await mesh.query('n1', `SELECT pg_terminate_backend(pid) FROM (${pid}) s`);
    await busy;
    await waitFor(async () => (await proof('n1')) > before, {
      what: 'the node that was busy',
      timeoutMs: 30_000,
    });
  });

  it('leaves that differ over equal rows are told and mended when a daemon that judges drift starts', async () => {
    await engine.close();
    spoil('one', 3, Date.now());
    await start({ budget: 0 }, true);
    await waitFor(() => found().length > 0, { what: 'the wrong leaf', timeoutMs: 30_000 });
    assert.deepEqual(
      found().map(({ table, node, foundBy }) => [table, node, foundBy]),
      [['public.one', 'n2', 'drift']],
    );
    const diff = await engine.run(
      'mtree-table-diff',
      { table: 'public.one' },
      testContext(stateDir),
    );
    assert.equal(diff.verdict, 'match');
    assert.equal(found().length, 1);
  });
});
