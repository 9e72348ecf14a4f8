import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { Config } from '../../src/config/config.js';
import type { CommandName, CommandParams, TableStatus } from '../../src/protocol/commands.js';
import { TABLE_TRANSITIONS } from '../../src/protocol/states.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { EngineProcess } from '../support/engine-process.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { allTransitions, assertTransitions } from '../support/transitions.js';
import { waitFor } from '../support/wait.js';

const ROWS = 4000;
const BLOCK_ROWS = 70;

interface LogLine {
  readonly event?: string;
  readonly level?: string;
  readonly table?: string;
  readonly from?: string;
  readonly to?: string;
  readonly msg?: string;
}

/** What becomes of tables that cannot be built, or read, and of those beside them. */
describe('states of tables', () => {
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;
  let engine: Engine | null = null;
  const lines: LogLine[] = [];
  /** Of all tables, from the first test on. */
  const steps: LogLine[] = [];

  before(async () => {
    // In the order in which the refresher takes them: `a` is the one in trouble.
    mesh = await startMesh({
      nodes: 2,
      tables: ['a', 'b', 'c'].map((t) => `CREATE TABLE ${t} (id int PRIMARY KEY, v int)`).join(';'),
    });
    for (const table of ['a', 'b', 'c']) {
      await mesh.query('n1', `INSERT INTO ${table} SELECT i, 0 FROM generate_series(1, ${ROWS}) i`);
    }
    await mesh.waitForReplication();
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir, {
      tree: { refreshQuietMs: 0, refreshBudget: 1, blockRows: BLOCK_ROWS, rowDigestBytes: 0 },
      stream: { flushIntervalMs: 20 },
      // Its verdicts come when they come; what is tested is what diffs leave.
      drift: { isEnabled: false },
    });
    await open();
    await run('mtree-init', {});
    await run('mtree-build', { table: 'b' });
  });

  after(async () => {
    await engine?.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  async function open(): Promise<void> {
    const log = createLogger('info', {
      write: (text: string) => {
        const line = JSON.parse(text) as LogLine;
        lines.push(line);
        if (line.event === 'table_state') steps.push(line);
      },
    });
    engine = await Engine.open(config, { log, mode: 'daemon' });
  }

  async function run<Name extends CommandName>(name: Name, params: CommandParams[Name]) {
    assert.ok(engine !== null);
    return engine.run(name, params, testContext(stateDir));
  }

  /** Undefined: not tracked. */
  async function status(table: string): Promise<TableStatus | undefined> {
    return (await run('status', {})).tables.find((one) => one.table === `public.${table}`);
  }

  async function assertDiffers(table: string): Promise<void> {
    const { problems } = await run('status', {});
    assert.deepEqual(
      problems.map(({ kind, subject }) => [kind, subject]),
      [['different', `public.${table}`]],
    );
  }

  /** As Ctrl-C does: after the first blocks were read, long before the last. */
  async function cancelledBuild(
    table: string,
    blockRows: number,
  ): Promise<TableStatus | undefined> {
    assert.ok(engine !== null);
    const cancel = new AbortController();
    let seen: Promise<TableStatus | undefined> | undefined;
    const context = testContext(stateDir, { signal: cancel.signal });
    const building = engine.run(
      'mtree-build',
      { table, blockRows },
      {
        ...context,
        emit: (event) => {
          if (event.type !== 'progress') return;
          seen ??= status(table);
          cancel.abort();
        },
      },
    );
    await assert.rejects(building, { code: 'CANCELLED' });
    return seen;
  }

  it('a rebuild that is cancelled leaves the good tree, which goes on', async () => {
    const before = await status('b');
    assert.equal(before?.state, 'live');
    const during = await cancelledBuild('b', 1);
    assert.deepEqual([during?.state, during?.blocks], ['rebuilding', before.blocks]);
    const left = await status('b');
    assert.deepEqual([left?.state, left?.reason], ['live', 'a build was cancelled']);
    assert.deepEqual([left?.blocks, left?.nodes], [before.blocks, before.nodes]);
    await mesh.query('n1', 'UPDATE b SET v = v + 1 WHERE id <= 500');
    await mesh.waitForReplication();
    const diff = await run('mtree-table-diff', { table: 'b' });
    assert.equal(diff.verdict, 'match');
    assert.equal((await status('b'))?.blocks, before.blocks, 'nothing was built again');
    await run('mtree-build', { table: 'b', blockRows: BLOCK_ROWS * 2 });
    const built = await status('b');
    assert.deepEqual([built?.state, built?.reason], ['live', null]);
    assert.ok(built !== undefined && built.blocks < before.blocks);
  });

  it('the good tree follows the stream while another one is built', async () => {
    const writes = (async () => {
      for (let i = 1; i <= 30; i++) {
        await mesh.query('n1', `UPDATE b SET v = v + 1 WHERE id % 40 = ${i}`);
      }
    })();
    await cancelledBuild('b', 1);
    await writes;
    await mesh.waitForReplication();
    assert.equal((await run('mtree-table-diff', { table: 'b' })).verdict, 'match');
    await mesh.driftSql('n2', 'UPDATE b SET v = -1 WHERE id = 7');
    assert.equal((await run('mtree-table-diff', { table: 'b' })).verdict, 'drift');
    await assertDiffers('b');
    // Whoever looks at a part of the table, or not closely, does not see it: it is there all the same.
    const parts: Partial<CommandParams['table-diff']>[] = [
      { columns: ['id'] },
      { excludeColumns: ['v'] },
      { tableFilter: 'id <> 7' },
      { tolerances: ['v=1000'] },
      { samplePercent: 1 },
    ];
    for (const part of parts) {
      await run('table-diff', { table: 'b', ...part });
      await assertDiffers('b');
    }
    await mesh.driftSql('n2', 'UPDATE b SET v = (SELECT v FROM b WHERE id = 47) WHERE id = 7');
    assert.equal((await run('mtree-table-diff', { table: 'b' })).verdict, 'match');
    assert.deepEqual((await run('status', {})).problems, []);
    await mesh.driftSql('n2', 'UPDATE b SET v = -v WHERE id = 9');
    assert.equal((await run('table-diff', { table: 'b', tableFilter: 'id = 9' })).verdict, 'drift');
    await assertDiffers('b');
    await mesh.driftSql('n2', 'UPDATE b SET v = -v WHERE id = 9');
    assert.equal((await run('table-diff', { table: 'b' })).verdict, 'match');
    assert.deepEqual((await run('status', {})).problems, []);
  });

  it('what differs in columns that the tree leaves out is not over when the tree is equal', async () => {
    await run('mtree-build', { table: 'b', excludeColumns: ['v'] });
    await mesh.driftSql('n2', 'UPDATE b SET v = -v WHERE id = 9');
    assert.equal((await run('mtree-table-diff', { table: 'b' })).verdict, 'match');
    assert.deepEqual((await run('status', {})).problems, []);
    assert.equal((await run('table-diff', { table: 'b' })).verdict, 'drift');
    assert.equal((await run('mtree-table-diff', { table: 'b' })).verdict, 'match');
    await assertDiffers('b');
    await mesh.driftSql('n2', 'UPDATE b SET v = -v WHERE id = 9');
    assert.equal((await run('table-diff', { table: 'b' })).verdict, 'match');
    assert.deepEqual((await run('status', {})).problems, []);
    await run('mtree-build', { table: 'b' });
  });

  it('a first build that is cancelled is a state with a reason, and is repeated as it was', async () => {
    await cancelledBuild('a', 1);
    const failed = await status('a');
    assert.deepEqual([failed?.state, failed?.reason], ['failed', 'a build was cancelled']);
    const { problems } = await run('status', {});
    assert.deepEqual(
      problems.map(({ kind, subject }) => [kind, subject]),
      [['trouble', 'public.a']],
    );
    const again = await run('mtree-build', { table: 'a' });
    assert.ok(again.blocks >= ROWS, `${again.blocks} blocks: the size that was asked for first`);
    assert.equal((await status('a'))?.state, 'live');
  });

  it('a build that is killed is told after the restart; the good tree is there', async () => {
    await engine?.close();
    const kill = async (table: string): Promise<void> => {
      const child = await EngineProcess.start({
        config,
        failpoint: { name: 'layout-changed', hit: 1 },
      });
      child.send('mtree-build', { table });
      await child.died();
    };
    await kill('b');
    await kill('c');
    await open();
    const [b, c] = [await status('b'), await status('c')];
    assert.equal(b?.state, 'live');
    assert.match(b.reason ?? '', /interrupted/);
    assert.equal(c?.state, 'failed');
    assert.match(c.reason ?? '', /interrupted/);
    assert.equal((await run('mtree-table-diff', { table: 'b' })).verdict, 'match');
    assert.equal((await run('mtree-table-diff', { table: 'c' })).verdict, 'match');
    assert.equal((await status('c'))?.state, 'live');
  });

  it('a table that cannot be read is stale, said once, and keeps no other from being refreshed', async () => {
    lines.length = 0;
    await mesh.queryAll(
      'ALTER TABLE a DROP CONSTRAINT a_pkey; ALTER TABLE a REPLICA IDENTITY FULL',
    );
    await mesh.queryAll('ALTER TABLE a RENAME v TO w');
    // A changed Relation: from now on the catalog is asked.
    await mesh.query('n1', 'UPDATE a SET w = 1 WHERE id = 5');
    await waitFor(async () => (await status('a'))?.state === 'stale', { what: 'a to be stale' });
    await waitFor(async () => /no primary key/.test((await status('a'))?.reason ?? ''), {
      what: 'the reason',
    });
    for (let round = 0; round < 3; round++) {
      await mesh.query('n1', 'UPDATE b SET v = v + 1 WHERE id % 100 = 1');
      await mesh.waitForReplication();
      await waitFor(
        async () => {
          const nodes = Object.values((await status('b'))?.nodes ?? {});
          const [first, second] = nodes;
          return (
            nodes.every(({ dirtyBlocks }) => dirtyBlocks === 0) && first?.root === second?.root
          );
        },
        { what: 'b to be refreshed' },
      );
    }
    const told = (event: string): LogLine[] =>
      lines.filter((line) => line.event === event && line.table === 'public.a');
    await waitFor(() => told('refresh_failed').length > 0, { what: 'the warning' });
    assert.equal(told('refresh_failed').length, 1);
    assert.equal(told('refresh_failed')[0]?.level, 'warn');
    // The catalog watch and the stream may find it one after the other, each with its own reason.
    const changes = told('table_state').map(({ from, to }) => `${String(from)} ${String(to)}`);
    assert.deepEqual([...new Set(changes)].slice(0, 1), ['live stale']);
    assert.deepEqual(
      changes.slice(1).filter((change) => change !== 'stale stale'),
      [],
    );
    const { problems } = await run('status', {});
    assert.match(problems.map(({ message }) => message).join(), /stale: /);

    await mesh.queryAll('ALTER TABLE a ADD PRIMARY KEY (id)');
    await waitFor(async () => (await status('a'))?.state === 'live', { what: 'a to recover' });
    assert.equal((await run('mtree-table-diff', { table: 'a' })).verdict, 'match');
  });

  it('a table that is away for a while has the tree of before when it is back', async () => {
    const before = await status('c');
    await mesh.queryAll('ALTER TABLE c RENAME TO away');
    await waitFor(async () => (await status('c'))?.state === 'stale', { what: 'c to be stale' });
    await mesh.queryAll('ALTER TABLE away RENAME TO c');
    await waitFor(async () => (await status('c'))?.state === 'live', { what: 'c to be back' });
    assert.equal((await status('c'))?.blocks, before?.blocks);
    assert.equal((await run('mtree-table-diff', { table: 'c' })).verdict, 'match');
  });

  it('has logged each step that there is, and no other', () => {
    assert.deepEqual(
      assertTransitions(steps, TABLE_TRANSITIONS),
      allTransitions(TABLE_TRANSITIONS),
    );
  });
});
