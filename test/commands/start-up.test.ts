import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { after, before, beforeEach, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { createLogger, silentLogger } from '../../src/base/log.js';
import { parseLsn } from '../../src/base/lsn.js';
import type { Config } from '../../src/config/config.js';
import { build } from '../../src/commands/build.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { refreshDirty } from '../../src/cluster/tree-work.js';
import type { NodeServer } from '../../src/ingest/node-server.js';
import { rehash } from '../../src/ingest/rehash.js';
import type { DiffResult } from '../../src/protocol/commands.js';
import {
  openReplicationStream,
  type ReplicationStream,
} from '../../src/stream/replication-stream.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { Mesh } from '../support/mesh.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';

const TABLES = `
  CREATE TABLE marked (id bigint PRIMARY KEY, v int NOT NULL);
  CREATE TABLE exact (id bigint PRIMARY KEY, v int NOT NULL);
  ALTER TABLE exact REPLICA IDENTITY FULL;
  INSERT INTO marked SELECT i, 0 FROM generate_series(1, 500) i;
  INSERT INTO exact SELECT i, 0 FROM generate_series(1, 500) i;
`;
const NAMES = ['public.marked', 'public.exact'];
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  fsync: 'off',
  shared_buffers: '32MB',
  wal_level: 'logical',
  max_prepared_transactions: '2',
};

interface LogLine {
  readonly event?: string;
  readonly node?: string;
  readonly msg?: string;
  readonly to?: string;
}

/** The same writes go to both nodes by hand: nothing but our own slots depends on their logs. */
describe('starting again after the world has changed', () => {
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;
  let n2: TestServer;
  let lines: LogLine[] = [];
  let writes = 0;

  before(async () => {
    const servers = await Promise.all([
      startServer({ settings: SETTINGS }),
      startServer({ settings: SETTINGS }),
    ]);
    mesh = new Mesh(new Map(servers.map((server, i) => [`n${i + 1}`, server])), 'app', 'demo');
    n2 = mesh.node('n2');
    for (const server of servers) await server.createDatabase('app');
    await mesh.queryAll(TABLES);
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir, { stream: { fenceTimeoutMs: 4_000 } });
    await withCluster(buildAll);
  });

  after(async () => {
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  beforeEach(() => {
    lines = [];
  });

  async function buildAll(cluster: Cluster): Promise<void> {
    const context = testContext(stateDir);
    await initialise(cluster, context);
    for (const table of NAMES) await build(cluster, { table, blockRows: 20 }, context);
  }

  function open(): Cluster {
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as LogLine),
    });
    return new Cluster(config, log);
  }

  async function withCluster<T>(work: (cluster: Cluster) => Promise<T>): Promise<T> {
    const cluster = open();
    try {
      return await work(cluster);
    } finally {
      await cluster.close();
    }
  }

  /** Changes that our stream must not miss: each leaves some sum of `exact` different. */
  async function write(): Promise<void> {
    writes += 1;
    await mesh.queryAll(
      `UPDATE marked SET v = ${writes} WHERE id % 50 = ${writes % 50};
       UPDATE exact SET v = ${writes} WHERE id % 50 = ${writes % 50};
       INSERT INTO exact VALUES (${1000 + writes}, 0); DELETE FROM exact WHERE id = ${writes}`,
    );
  }

  async function diff(cluster: Cluster, table: string): Promise<DiffResult> {
    return diffTree(cluster, { table }, testContext(stateDir));
  }

  /** Leaves equal the server's, at once and after reading the dirty ones; the nodes match. */
  async function assertRight(cluster: Cluster): Promise<void> {
    await catchUp(cluster);
    for (const name of NAMES) {
      const table = cluster.requireTable(name);
      await assertLeavesMatchServer(cluster, table);
      const work = { nodes: mesh.names, concurrency: 1, signal: new AbortController().signal };
      await refreshDirty(cluster, table, work);
      assert.equal((await assertLeavesMatchServer(cluster, table)).dirty, 0);
      assert.equal((await diff(cluster, name)).verdict, 'match');
    }
  }

  async function startAgain(): Promise<void> {
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      await write();
      await assertRight(cluster);
    });
  }

  const gaps = (node: string): string[] =>
    lines.flatMap((line) =>
      line.event === 'stream_gap' && line.node === node ? [line.msg ?? ''] : [],
    );

  const slotQuery = (sql: string) => mesh.query('n2', sql, [config.slotName]);

  it('nothing has happened: goes on from its position, no block is read again', async () => {
    await write();
    await startAgain();
    assert.deepEqual([...gaps('n1'), ...gaps('n2')], []);
  });

  it('the slot was dropped behind our back', async () => {
    await slotQuery('SELECT pg_drop_replication_slot($1)');
    await write();
    await startAgain();
    assert.match(gaps('n2').join(), /missing/);
    assert.deepEqual(gaps('n1'), []);
  });

  it('the slot was advanced behind our back: our position is before its own', async () => {
    await write();
    await slotQuery('SELECT pg_replication_slot_advance($1, pg_current_wal_insert_lsn())');
    await startAgain();
    assert.match(gaps('n2').join(), /gap/);
  });

  it('the slot was dropped and made again', async () => {
    await slotQuery('SELECT pg_drop_replication_slot($1)');
    await write();
    await slotQuery("SELECT pg_create_logical_replication_slot($1, 'pgoutput')");
    await startAgain();
    assert.match(gaps('n2').join(), /gap/);
  });

  it('the state directory was removed, the slots are there', async () => {
    await write();
    await removeDirectory(stateDir);
    await withCluster(async (cluster) => {
      await buildAll(cluster);
      await write();
      await assertRight(cluster);
    });
    assert.match(gaps('n2').join(), /no position of our own/);
  });

  it('the slot was invalidated by max_slot_wal_keep_size', async () => {
    await mesh.query('n2', "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    await mesh.query('n2', 'SELECT pg_reload_conf()');
    await write();
    for (let segment = 0; segment < 3; segment++) {
      await mesh.query('n2', "SELECT pg_logical_emit_message(true, 'test', '')");
      await mesh.query('n2', 'SELECT pg_switch_wal()');
    }
    await mesh.query('n2', 'CHECKPOINT');
    await mesh.query('n2', 'ALTER SYSTEM RESET max_slot_wal_keep_size');
    await mesh.query('n2', 'SELECT pg_reload_conf()');
    const [slot] = await slotQuery(
      'SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1',
    );
    assert.equal(slot?.[0], 'lost');
    await startAgain();
    assert.match(gaps('n2').join(), /lost/);
  });

  const republish = async (): Promise<void> => {
    await mesh.query('n2', `ALTER PUBLICATION ${config.publicationName} DROP TABLE exact, marked`);
    await write();
    await mesh.query('n2', `ALTER PUBLICATION ${config.publicationName} ADD TABLE exact, marked`);
  };

  it('tables were taken out of the publication and added again while nobody looked', async () => {
    await republish();
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      for (const name of NAMES) assert.equal((await diff(cluster, name)).verdict, 'match');
      await assertRight(cluster);
    });
  });

  it('tables were taken out of the publication and added again while we streamed', async () => {
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      await republish();
      for (const name of NAMES) assert.equal((await diff(cluster, name)).verdict, 'match');
      await assertRight(cluster);
    });
  });

  it('tables are no longer in the publication', async () => {
    await mesh.query('n2', `ALTER PUBLICATION ${config.publicationName} DROP TABLE exact, marked`);
    await write();
    await startAgain();
    assert.match(gaps('n2').join(), /no longer in publication/);
  });

  it('the publication leaves out rows', async () => {
    await mesh.query('n2', `ALTER PUBLICATION ${config.publicationName} DROP TABLE exact`);
    await mesh.query(
      'n2',
      `ALTER PUBLICATION ${config.publicationName} ADD TABLE exact WHERE (id < 10)`,
    );
    await write();
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      assert.equal((await diff(cluster, 'public.exact')).verdict, 'match');
      await write();
      await assertRight(cluster);
    });
  });

  /** Streams from n2's slot and confirms nothing. */
  async function holdSlot(): Promise<ReplicationStream> {
    const [slot] = await slotQuery(
      'SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1',
    );
    return openReplicationStream({
      node: n2.nodeConfig('app', 'n2'),
      slot: config.slotName,
      publication: config.publicationName,
      startLsn: parseLsn(slot?.[0] ?? ''),
      applicationName: 'holder',
      log: silentLogger(),
      signal: new AbortController().signal,
      handler: { onData: () => undefined, onKeepalive: () => undefined },
    });
  }

  it('the slot is held by somebody else: waits, then goes on where it was', async () => {
    await write();
    const holder = await holdSlot();
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      const pipeline = cluster.pipeline('n2');
      await waitFor(() => pipeline.state.kind === 'waiting', { what: 'the slot to be busy' });
      assert.equal(pipeline.state.kind === 'waiting' && pipeline.state.error.code, 'SLOT_BUSY');
      await assert.rejects(
        diffTree(cluster, { table: 'exact', cdcTimeoutMs: 300 }, testContext(stateDir)),
        {
          code: 'STARVED',
        },
      );
      await assert.rejects(
        diffTree(
          cluster,
          { table: 'exact', cdcTimeoutMs: 300, skipCdc: true },
          testContext(stateDir),
        ),
        { code: 'STARVED' },
        'without its stream a tree is not current, fence or no fence',
      );
      await holder.close();
      await write();
      await assertRight(cluster);
    });
    assert.deepEqual(gaps('n2'), []);
  });

  it('a block that was read before the stream came back hides no change from others', async () => {
    // Filters of the process before have been passed; their ids are still on its leaves.
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      await rehashBlocks(cluster, [0, 1, 2, 3]);
      await catchUp(cluster);
    });
    const holder = await holdSlot();
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await write();
      for (const block of [8, 9, 10, 11]) await rehashBlocks(cluster, [block]);
      await holder.close();
      await assertRight(cluster);
    });
  });

  it('a block is read while the stream starts over', async () => {
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      const { epoch } = cluster.pipeline('n2');
      await rehashBlocks(cluster, [0, 1, 2, 3, 4, 5], async () => {
        await write();
        cluster.pipeline('n2').abandonSlot(new AcedError('SLOT_LOST', 'given up'));
        await write();
        await waitFor(() => cluster.pipeline('n2').epoch !== epoch, { what: 'a new slot' });
        await write();
        await catchUp(cluster);
      });
      await assertRight(cluster);
    });
  });

  /** Reads blocks of `exact` on n2; `between` runs once, between the read and its use. */
  async function rehashBlocks(
    cluster: Cluster,
    positions: readonly number[],
    between: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    const pipeline = cluster.pipeline('n2');
    let isFirst = true;
    const server: Pick<NodeServer, 'read'> = {
      read: async (query, signal) => {
        const answer = await pipeline.server.read(query, signal);
        if (isFirst) {
          isFirst = false;
          await between();
        }
        return answer;
      },
    };
    await rehash({
      table: cluster.requireTable('public.exact'),
      pipeline,
      server,
      positions,
      keepsRows: false,
      concurrency: 1,
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
  }

  async function setStandbys(names: string): Promise<void> {
    await mesh.query('n2', `ALTER SYSTEM SET synchronous_standby_names = '${names}'`);
    await mesh.query('n2', 'SELECT pg_reload_conf()');
    const current = async (): Promise<boolean> =>
      (await mesh.query('n2', 'SHOW synchronous_standby_names'))[0]?.[0] === names;
    await waitFor(current, { what: 'the setting to arrive' });
  }

  it('a slot that is given up while the pipeline connects is replaced once', async () => {
    await withCluster(async (cluster) => {
      // Publishing the table again waits for this one: the pipeline stays in the middle of connecting.
      await n2.session('app', async (query) => {
        await query(`ALTER PUBLICATION ${config.publicationName} DROP TABLE exact`);
        await query('BEGIN; UPDATE exact SET v = v WHERE id = 500');
        cluster.startStreaming();
        const pipeline = cluster.pipeline('n2');
        const isWaiting = (): boolean => lines.some(({ event }) => event === 'publication_waits');
        await waitFor(isWaiting, { what: 'the pipeline to wait for the transaction' });
        pipeline.abandonSlot(new AcedError('SLOT_LOST', 'given up'));
        const isGivenUp = ({ to, msg }: LogLine): boolean => to === 'waiting' && msg === 'given up';
        await waitFor(() => lines.some(isGivenUp), { what: 'the attempt to end' });
        await query('ROLLBACK');
      });
      await assertRight(cluster);
      const pipeline = cluster.pipeline('n2');
      const { epoch } = pipeline;
      await slotQuery(
        'SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1',
      );
      await write();
      await assertRight(cluster);
      assert.equal(pipeline.epoch, epoch, 'the new slot is kept');
    });
  });

  it('commits that wait for a standby, in the leaves already, outlive the process', async () => {
    const updates = [
      'UPDATE exact SET v = -1 WHERE id = 401; UPDATE marked SET v = -1 WHERE id = 401',
      'UPDATE exact SET v = -2 WHERE id = 402; UPDATE marked SET v = -2 WHERE id = 402',
    ];
    for (const sql of updates) await mesh.query('n1', sql);
    await mesh.query('n2', `BEGIN; ${updates[1]}; PREPARE TRANSACTION 'waits'`);
    await setStandbys('nobody');
    const commits = Promise.all([
      mesh.query('n2', updates[0] ?? ''),
      mesh.query('n2', "COMMIT PREPARED 'waits'"),
    ]);
    const waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    await waitFor(async () => (await mesh.query('n2', waiting)).length === 2, {
      what: 'the commits to wait',
    });
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
    });
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      assert.equal(cluster.pipeline('n2').hiddenCommits.size, 0, 'neither is streamed again');
      const { size } = cluster.requireTable('public.exact').layout;
      const all = Array.from({ length: size }, (_, position) => position);
      await rehashBlocks(cluster, all, async () => {
        assert.equal(cluster.pipeline('n2').hiddenCommits.size, 2);
        await setStandbys('');
        await commits;
      });
      await assertRight(cluster);
    });
    assert.deepEqual(gaps('n2'), []);
  });

  it('the server was restarted at once while we streamed', async () => {
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      for (let round = 0; round < 2; round++) {
        await write();
        await n2.restart('immediate');
        await write();
      }
      await assertRight(cluster);
    });
    assert.deepEqual(gaps('n2'), []);
  });

  it('the process slept longer than wal_sender_timeout', async () => {
    await mesh.query('n2', "ALTER SYSTEM SET wal_sender_timeout = '600ms'");
    await mesh.query('n2', 'SELECT pg_reload_conf()');
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      await write();
      const isLost = (): boolean => lines.some(({ node, to }) => node === 'n2' && to === 'waiting');
      await waitFor(
        () => {
          // Blocks the whole process, timers and sockets too.
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500);
          return isLost();
        },
        { what: 'the server to end the stream', intervalMs: 100 },
      );
      await write();
      await assertRight(cluster);
    });
    await mesh.query('n2', 'ALTER SYSTEM RESET wal_sender_timeout');
    await mesh.query('n2', 'SELECT pg_reload_conf()');
    assert.deepEqual(gaps('n2'), []);
  });

  it('the walsender is terminated again and again', async () => {
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      for (let round = 0; round < 5; round++) {
        await catchUp(cluster);
        await write();
        await slotQuery(
          'SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1',
        );
        await write();
      }
      await assertRight(cluster);
    });
    assert.deepEqual(gaps('n2'), []);
  });

  it('a batch that could not be stored', async () => {
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      // Without its row a node's batch has no place to go: the store refuses it as a full disk would.
      const node = cluster.store.node('n2');
      assert.ok(node !== null);
      cluster.store.forgetNode('n2');
      await write();
      await waitFor(() => cluster.pipeline('n2').state.kind !== 'streaming', {
        what: 'the flush to fail',
      });
      await write();
      await waitFor(() => cluster.pipeline('n2').state.kind === 'streaming', {
        what: 'the stream to start over',
      });
      await assertRight(cluster);
    });
    await startAgain();
  });

  it('the node is another database system now: old leaves prove nothing', async () => {
    await withCluster(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      await n2.kill();
      await rm(n2.dataDir, { recursive: true });
      await n2.initialise([], SETTINGS);
      await n2.start();
      await n2.createDatabase('app');
      await mesh.query('n2', TABLES);
      // Differs from n1 in what was written since the tables were made. Until the pipeline has found
      // its way into the new server an error is an answer too.
      let verdict = '';
      await waitFor(
        async () => {
          verdict = await diff(cluster, 'public.exact').then(
            (result) => result.verdict,
            (error: unknown) => (error instanceof AcedError ? 'error' : 'crash'),
          );
          return verdict !== 'error';
        },
        { what: 'a diff with the new server' },
      );
      assert.equal(verdict, 'drift');
      await mesh.query('n1', 'TRUNCATE marked, exact');
      await mesh.query('n2', 'TRUNCATE marked, exact');
      await write();
      await assertRight(cluster);
    });
    assert.match(gaps('n2').join(), /missing/);
  });
});
