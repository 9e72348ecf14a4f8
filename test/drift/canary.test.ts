import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { Config } from '../../src/config/config.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { validateEvent } from './event-schema.js';

type Line = Readonly<Record<string, unknown>>;

describe('the canary', () => {
  let mesh: Mesh;
  let stateDir: string;
  let engine: Engine;
  const lines: Line[] = [];

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    stateDir = await scratchDirectory();
    engine = await open({ intervalMs: 0, timeoutMs: 30_000 });
    await engine.run('mtree-init', {}, testContext(stateDir));
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  function open(canary: Config['canary']): Promise<Engine> {
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as Line),
    });
    return Engine.open(mesh.config(stateDir, { canary }), { log, mode: 'daemon' });
  }

  const told = (status: string): Line[] =>
    lines.filter((line) => line['about'] === 'canary' && line['status'] === status);
  const rows = async (node: string): Promise<string | null | undefined> =>
    (await mesh.query(node, 'SELECT count(*) FROM aced.canary'))[0]?.[0];

  const conditions = async (): Promise<string[][]> => {
    const { conditions: list } = await engine.run('status', {}, testContext(stateDir));
    return list.map(({ kind, about }) => [kind, about]);
  };

  it('is found on each node, alarms nobody, and leaves no row', async () => {
    for (let time = 0; time < 2; time++) {
      const { foundAfterMs } = await engine.run('drift-canary', {}, testContext(stateDir));
      assert.deepEqual(Object.keys(foundAfterMs), ['n1', 'n2']);
      for (const afterMs of Object.values(foundAfterMs)) assert.ok(afterMs !== null);
    }
    assert.deepEqual(
      lines.filter(({ event }) => String(event).startsWith('drift_') || event === 'coverage'),
      [],
    );
    assert.deepEqual([await rows('n1'), await rows('n2')], ['0', '0']);
    const { incidents } = await engine.run('drift-list', {}, testContext(stateDir));
    assert.deepEqual(incidents, []);
  });

  it('that is not found is told, by the schedule too, and that it is found again', async () => {
    await engine.close();
    engine = await open({ intervalMs: 50, timeoutMs: 1_500 });
    // A node that changes may not have got to is not judged.
    await mesh.pauseReplication('n1', 'n2');
    await waitFor(() => told('open').length > 0, { what: 'the event', timeoutMs: 60_000 });
    await mesh.resumeReplication('n1', 'n2');
    await waitFor(() => told('over').length > 0, { what: 'that it is over', timeoutMs: 60_000 });
    // What is open outlives the daemon: the subscription's own condition too.
    await waitFor(async () => (await conditions()).length === 0, {
      what: 'that nothing is open',
      timeoutMs: 60_000,
    });
    for (const line of [...told('open'), ...told('over')]) {
      assert.ok(validateEvent(line), JSON.stringify(validateEvent.errors));
    }
  });

  it('is refused where somebody publishes all tables: the row would travel', async () => {
    await engine.close();
    engine = await open({ intervalMs: 0, timeoutMs: 30_000 });
    await mesh.query('n2', 'CREATE PUBLICATION everything FOR ALL TABLES');
    await assert.rejects(engine.run('drift-canary', {}, testContext(stateDir)), {
      code: 'UNSUPPORTED',
      message: /publication everything on node n2/,
    });
    assert.deepEqual(await conditions(), [['coverage', 'canary']]);
    await mesh.query('n2', 'DROP PUBLICATION everything');
    await engine.run('drift-canary', {}, testContext(stateDir));
  });

  it('is gone after a teardown', async () => {
    await engine.run('mtree-teardown', {}, testContext(stateDir));
    for (const node of mesh.names) {
      const [[left] = []] = await mesh.query(node, "SELECT to_regnamespace('aced')");
      assert.equal(left, null);
    }
  });
});
