import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger, silentLogger } from '../../src/base/log.js';
import type { Config } from '../../src/config/config.js';
import { Engine } from '../../src/commands/engine.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { startStandby, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';

const REFUSAL = {
  code: 'UNSUPPORTED',
  message: /node n2 .* is a hot standby/,
  hint: /its primary/,
};

describe('D7: a hot standby as a node', () => {
  let mesh: Mesh;
  let standby: TestServer;
  let stateDir: string;
  let config: Config;

  before(async () => {
    mesh = await startMesh({ nodes: 1 });
    await mesh.query('n1', 'CREATE TABLE t (id int PRIMARY KEY, v int)');
    await mesh.query('n1', 'INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i');
    standby = await startStandby(mesh.node('n1'));
    stateDir = await scratchDirectory();
    const nodes = [...mesh.nodeConfigs(), standby.nodeConfig(mesh.database, 'n2')];
    config = mesh.config(stateDir, { nodes });
    await waitFor(
      async () =>
        (await standby.query(mesh.database, "SELECT to_regclass('t') IS NOT NULL"))[0]?.[0] === 't',
      { what: 'the standby to have the table' },
    );
  });

  after(async () => {
    await standby.stop('immediate');
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  it('is refused by init, before anything is made anywhere', async () => {
    const engine = await Engine.open(config, { log: silentLogger(), mode: 'command' });
    try {
      await assert.rejects(engine.run('mtree-init', {}, testContext(stateDir)), REFUSAL);
    } finally {
      await engine.close();
    }
    const left = await mesh.query(
      'n1',
      `SELECT (SELECT count(*) FROM pg_publication WHERE pubname LIKE 'aced%')
            + (SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'aced%')`,
    );
    assert.equal(left[0]?.[0], '0');
  });

  it('is refused by a diff: what differs cannot be told from what is on its way', async () => {
    const engine = await Engine.open(config, { log: silentLogger(), mode: 'command' });
    try {
      await assert.rejects(
        engine.run('table-diff', { table: 't' }, testContext(stateDir)),
        REFUSAL,
      );
    } finally {
      await engine.close();
    }
  });

  it('keeps a daemon of before from nothing but this node, and is told', async () => {
    const lines: Record<string, unknown>[] = [];
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>),
    });
    const one = await Engine.open(mesh.config(stateDir), { log: silentLogger(), mode: 'command' });
    await one.run('mtree-init', {}, testContext(stateDir));
    await one.close();
    const engine = await Engine.open(config, { log, mode: 'daemon' });
    try {
      const states = async (): Promise<string[]> =>
        (await engine.run('status', {}, testContext(stateDir))).nodes.map(({ state }) => state);
      await waitFor(async () => (await states()).join() === 'streaming,waiting', {
        what: 'n1 to stream and n2 to wait',
      });
      const { nodes } = await engine.run('status', {}, testContext(stateDir));
      assert.match(nodes[1]?.error ?? '', /hot standby/);
      await waitFor(
        () => lines.some((line) => line['event'] === 'coverage' && line['subject'] === 'n2'),
        { what: 'the event', timeoutMs: 30_000 },
      );
    } finally {
      await engine.close();
    }
  });
});
