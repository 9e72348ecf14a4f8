import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { parseLsn } from '../../src/base/lsn.js';
import { nextState, type SubscriptionKnown } from '../../src/cluster/subscription-state.js';
import { Engine } from '../../src/commands/engine.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

type Line = Readonly<Record<string, unknown>>;

describe('what the daemon tells of diffs and subscriptions', () => {
  let mesh: Mesh;
  let engine: Engine;
  let directory: string;
  const lines: Line[] = [];

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    await mesh.query('n1', "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i");
    await mesh.waitForReplication();
    directory = await scratchDirectory();
    const log = createLogger('info', {
      write: (line: string) => lines.push(JSON.parse(line) as Line),
    });
    engine = await Engine.open(mesh.config(directory), { log, mode: 'daemon' });
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(directory);
  });

  const told = (event: string): Line[] => lines.filter((line) => line['event'] === event);

  it('one line a diff, with its verdict', async () => {
    const diff = (table: string): Promise<unknown> =>
      engine.run('table-diff', { table }, testContext(directory));
    await diff('t');
    await mesh.driftSql('n2', "UPDATE t SET v = 'secret' WHERE id = 1");
    await diff('t');
    await assert.rejects(diff('nope'), { code: 'NO_SUCH_TABLE' });
    assert.deepEqual(
      told('diff_finished').map(({ level, table, verdict, differences, inFlightRows }) => ({
        level,
        table,
        verdict,
        differences,
        inFlightRows,
      })),
      [
        { level: 'info', table: 'public.t', verdict: 'match', differences: {}, inFlightRows: 0 },
        {
          level: 'warn',
          table: 'public.t',
          verdict: 'drift',
          differences: { 'n1/n2': 1 },
          inFlightRows: 0,
        },
      ],
    );
    const [line] = told('diff_finished');
    assert.deepEqual(Object.keys(line?.['positions'] ?? {}), ['n1', 'n2']);
    assert.ok(Number(line?.['tookMs']) > 0);
    assert.deepEqual(
      told('diff_failed').map(({ level, table, code }) => [level, table, code]),
      [['warn', 'nope', 'NO_SUCH_TABLE']],
    );
    assert.equal(JSON.stringify(lines).includes('secret'), false);
  });

  it('D8: a subscription that stops, and goes on, once each, and in status', async () => {
    await mesh.pauseReplication('n1', 'n2');
    await waitFor(() => told('replication_starved').length > 0, {
      what: 'the event',
      timeoutMs: 30_000,
    });
    const status = await engine.run('status', {}, testContext(directory));
    assert.deepEqual(
      status.subscriptions.map(({ name, from, to, state }) => [name, from, to, state]),
      [
        ['mesh_n1_from_n2', 'n2', 'n1', 'running'],
        ['mesh_n2_from_n1', 'n1', 'n2', 'down'],
      ],
    );
    await mesh.resumeReplication('n1', 'n2');
    await waitFor(() => told('replication_recovered').length > 0, {
      what: 'the second event',
      timeoutMs: 30_000,
    });
    assert.deepEqual(
      [...told('replication_starved'), ...told('replication_recovered')].map((line) => [
        line['level'],
        line['subscription'],
        line['from'],
        line['node'],
      ]),
      [
        ['warn', 'mesh_n2_from_n1', 'n1', 'n2'],
        ['info', 'mesh_n2_from_n1', 'n1', 'n2'],
      ],
    );
  });
});

describe('the state of a subscription', () => {
  const at = (lsn: string): ReturnType<typeof parseLsn> => parseLsn(lsn);
  const look = (
    before: SubscriptionKnown | undefined,
    seconds: number,
    sight: { confirmed: string; end: string; isEnabled?: boolean; isActive?: boolean },
  ): SubscriptionKnown =>
    nextState(before, {
      nowMs: seconds * 1000,
      isEnabled: sight.isEnabled ?? true,
      isActive: sight.isActive ?? true,
      confirmed: at(sight.confirmed),
      end: at(sight.end),
    });

  it('is down at once when disabled, and after a while when nobody is connected', () => {
    const idle = { confirmed: '0/100', end: '0/100' };
    assert.equal(look(undefined, 0, { ...idle, isEnabled: false }).state, 'down');
    const up = look(undefined, 0, idle);
    const away = look(up, 5, { ...idle, isActive: false });
    assert.equal(away.state, 'running');
    const down = look(away, 20, { ...idle, isActive: false });
    assert.deepEqual([down.state, down.sinceMs], ['down', 5_000]);
    assert.equal(look(down, 25, idle).state, 'running');
  });

  it('is behind when a position stays out of reach, not when ever new ones come', () => {
    let known = look(undefined, 0, { confirmed: '0/1000', end: '0/2000' });
    known = look(known, 20, { confirmed: '0/1F00', end: '0/4000' });
    assert.equal(known.state, 'running');
    known = look(known, 31, { confirmed: '0/1F00', end: '0/4000' });
    assert.deepEqual(
      [known.state, known.sinceMs, known.behindBytes],
      ['behind', 0, 0x4000 - 0x1f00],
    );
    known = look(known, 36, { confirmed: '0/2000', end: '0/4000' });
    assert.equal(known.state, 'running');
    for (let second = 40; second < 400; second += 5) {
      const confirmed = `0/${(0x4000 + second * 100).toString(16)}`;
      known = look(known, second, { confirmed, end: `0/${(0x4100 + second * 100).toString(16)}` });
      assert.equal(known.state, 'running', `at ${second} s`);
    }
  });

  it('is not behind on an idle server that ends a page header further', () => {
    let known = look(undefined, 0, { confirmed: '0/1FE8', end: '0/2000' });
    known = look(known, 600, { confirmed: '0/1FE8', end: '0/2000' });
    assert.equal(known.state, 'running');
  });
});
