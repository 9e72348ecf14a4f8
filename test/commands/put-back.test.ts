import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { createLogger } from '../../src/base/log.js';
import { parseLsn } from '../../src/base/lsn.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { refreshDirty } from '../../src/cluster/tree-work.js';
import { build } from '../../src/commands/build.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { Mesh } from '../support/mesh.js';
import { startServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import { Proxy } from '../stream/proxy.js';

const TABLES = `
  CREATE TABLE marked (id bigint PRIMARY KEY, v int NOT NULL);
  CREATE TABLE exact (id bigint PRIMARY KEY, v int NOT NULL);
  CREATE TABLE untracked (v text);
  ALTER TABLE exact REPLICA IDENTITY FULL;
  INSERT INTO marked SELECT i, 0 FROM generate_series(1, 500) i;
  INSERT INTO exact SELECT i, 0 FROM generate_series(1, 500) i;
`;
const NAMES = ['marked', 'exact'];
/** Nobody listens there. */
const NOWHERE = { host: '127.0.0.1', port: 1 };

interface LogLine {
  readonly event?: string;
  readonly node?: string;
  readonly msg?: string;
}

/** Nothing replicates between the nodes: each gets what is written to it, and keeps it. */
describe('a node that is put back to an older copy of its disk', () => {
  let mesh: Mesh;
  let stateDir: string;
  let cluster: Cluster;
  /** What the daemon takes for n1. */
  let address: Proxy;
  let lines: LogLine[] = [];

  before(async () => {
    const servers = await Promise.all([startServer(), startServer()]);
    mesh = new Mesh(new Map(servers.map((server, i) => [`n${i + 1}`, server])), 'app', 'demo');
    for (const server of servers) await server.createDatabase('app');
    await mesh.queryAll(TABLES);
    address = await Proxy.start(mesh.node('n1'));
    stateDir = await scratchDirectory();
    cluster = open();
    const context = testContext(stateDir);
    await initialise(cluster, context);
    for (const table of NAMES) await build(cluster, { table, blockRows: 20 }, context);
  });

  after(async () => {
    await cluster.close();
    await address.stop();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  beforeEach(() => {
    lines = [];
  });

  function open(): Cluster {
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as LogLine),
    });
    const config = mesh.config(stateDir, { stream: { fenceTimeoutMs: 20_000 } });
    const nodes = config.nodes.map((node) =>
      node.name === 'n1' ? { ...node, port: address.port } : node,
    );
    return new Cluster({ ...config, nodes }, log);
  }

  const imageOf = (node: string): string => join(mesh.node(node).dataDir, '../image');

  /** Of a server that lost its power: the files are as they were at one moment. */
  async function takeImage(node: string): Promise<void> {
    await catchUp(cluster);
    const server = mesh.node(node);
    await server.kill();
    await copy(server.dataDir, imageOf(node));
    await server.start();
  }

  async function putBack(node: string): Promise<void> {
    const server = mesh.node(node);
    await server.kill();
    await copy(imageOf(node), server.dataDir);
    await server.start();
  }

  /** Makes the log longer than it was before, whatever that was. */
  async function writeLog(node: string): Promise<void> {
    await mesh.query(
      node,
      "INSERT INTO untracked SELECT repeat('x', 1000) FROM generate_series(1, 3000)",
    );
  }

  async function pidsOf(...types: readonly string[]): Promise<number[]> {
    const sql = 'SELECT pid FROM pg_stat_activity WHERE backend_type = $1';
    const rows = await Promise.all(types.map((type) => mesh.query('n1', sql, [type])));
    return rows.map(([row]) => Number(row?.[0] ?? 0));
  }

  async function differences(table: string): Promise<number> {
    const result = await diffTree(cluster, { table }, testContext(stateDir));
    return result.differences['n1/n2'] ?? 0;
  }

  const gaps = (): string[] =>
    lines.flatMap(({ event, node, msg }) =>
      event === 'stream_gap' && node === 'n1' ? [msg ?? ''] : [],
    );

  for (const isRunning of [true, false]) {
    const who = isRunning ? 'a daemon that runs' : 'one that starts later';
    it(`is read again: what was committed since is gone, and ${who} sees it`, async () => {
      await takeImage('n1');
      await mesh.queryAll(`UPDATE marked SET v = v + 1 WHERE id <= 10;
        UPDATE exact SET v = v + 1 WHERE id <= 10; DELETE FROM exact WHERE id = 20`);
      await catchUp(cluster);
      for (const table of NAMES) assert.equal(await differences(table), 0);
      if (!isRunning) await cluster.close();
      // Back before its log has grown again it would be found out by its end, which is another case.
      address.leadTo(NOWHERE);
      await putBack('n1');
      // The same positions mean something else now.
      await mesh.query('n1', 'UPDATE exact SET v = -1 WHERE id = 60');
      await writeLog('n1');
      await mesh.query('n1', 'UPDATE marked SET v = -1 WHERE id = 60');
      address.leadTo(mesh.node('n1'));
      if (!isRunning) {
        cluster = open();
        cluster.startStreaming();
      }
      assert.deepEqual([await differences('marked'), await differences('exact')], [11, 12]);
      assert.equal(gaps().length, 1);
      assert.match(gaps()[0] ?? '', /no longer has the last transaction .* put back/);
      for (const table of cluster.tables) await assertLeavesMatchServer(cluster, table);
      await mesh.queryAll(`UPDATE marked SET v = 0; DELETE FROM exact;
        INSERT INTO exact SELECT i, 0 FROM generate_series(1, 500) i`);
    });
  }

  it('goes on where it was when it had only written what is not followed', async () => {
    await takeImage('n1');
    const pipeline = cluster.pipeline('n1');
    await writeLog('n1');
    const [[end] = []] = await mesh.query('n1', 'SELECT pg_current_wal_lsn()');
    await pipeline.waitForPosition(parseLsn(end ?? ''), 20_000);
    pipeline.flush();
    await putBack('n1');
    // Before the position that the stream had reached.
    await mesh.query('n1', 'UPDATE exact SET v = -1 WHERE id = 60');
    await mesh.query('n1', 'UPDATE marked SET v = -1 WHERE id <= 2');
    await writeLog('n1');
    await writeLog('n1');
    assert.deepEqual([await differences('marked'), await differences('exact')], [2, 1]);
    // Unless the stream was back before the server had written past the position that it had reached.
    assert.deepEqual(
      gaps().filter((gap) => !gap.includes("past the server's end of log")),
      [],
    );
    for (const table of cluster.tables) await assertLeavesMatchServer(cluster, table);
  });

  it('forgets what was read of commits that a crash of one of its processes has undone', async () => {
    const table = cluster.requireTable('marked');
    const before = await differences('marked');
    const [walWriter = 0, checkpointer = 0] = await pidsOf('walwriter', 'checkpointer');
    await mesh.query('n1', 'UPDATE marked SET v = 70 WHERE id = 70');
    await mesh.query('n2', 'UPDATE marked SET v = 71 WHERE id = 70');
    await catchUp(cluster);
    process.kill(walWriter, 'SIGSTOP');
    await mesh.query('n1', 'SET synchronous_commit = off; UPDATE marked SET v = 71 WHERE id = 70');
    // As the daemon does on its own: no fence flushes the commit.
    const work = { nodes: mesh.names, concurrency: 1, signal: new AbortController().signal };
    await refreshDirty(cluster, table, work);
    process.kill(checkpointer, 'SIGKILL');
    const isBack = async (): Promise<boolean> => {
      const [pid = 0] = await pidsOf('checkpointer').catch(() => []);
      return pid !== 0 && pid !== checkpointer;
    };
    await waitFor(isBack, { what: 'n1 to recover', timeoutMs: 30_000 });
    assert.deepEqual(await mesh.query('n1', 'SELECT v FROM marked WHERE id = 70'), [['70']]);
    assert.equal(await differences('marked'), before + 1);
    assert.deepEqual(gaps(), []);
    await assertLeavesMatchServer(cluster, table);
  });

  it('is not read again when it only lost its power', async () => {
    await mesh.query('n1', 'UPDATE exact SET v = -2 WHERE id = 70');
    await catchUp(cluster);
    await mesh.node('n1').kill();
    await mesh.node('n1').start();
    assert.equal(await differences('exact'), 2);
    assert.deepEqual(gaps(), []);
  });
});

/** With owners and modes: the server's files are another user's. */
async function copy(from: string, to: string): Promise<void> {
  await rm(to, { recursive: true, force: true });
  await promisify(execFile)('cp', ['-a', from, to]);
}
