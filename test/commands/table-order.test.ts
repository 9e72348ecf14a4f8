import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { build } from '../../src/commands/build.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { startLoad } from '../support/load.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import type { ReadingStatus, StatusResult } from '../../src/protocol/commands.js';
import { readStatus } from '../../src/commands/status.js';

const ROWS = 6_000;
const TABLES = `
  CREATE TABLE scattered (id uuid PRIMARY KEY, n bigint UNIQUE, v int);
  INSERT INTO scattered SELECT md5(i::text)::uuid, i, 0 FROM generate_series(1, ${ROWS}) i;
  CREATE TABLE lines (document uuid, line int, v int, PRIMARY KEY (document, line));
  INSERT INTO lines SELECT md5((i % 2000)::text)::uuid, i / 2000, 0 FROM generate_series(0, ${ROWS - 1}) i;
  CREATE TABLE ordered (id bigint PRIMARY KEY, v int);
  INSERT INTO ordered SELECT i, 0 FROM generate_series(1, ${ROWS}) i`;

interface Reading {
  readonly event?: string;
  readonly table?: string;
  readonly node?: string;
  readonly by?: string;
  readonly msg?: string;
}

describe('a table whose rows lie in another order than their keys', () => {
  let mesh: Mesh;
  let stateDir: string;
  let cluster: Cluster;
  let readings: Reading[] = [];

  const context = (): ReturnType<typeof testContext> => testContext(stateDir);
  const ordersOf = (table: string): (string | undefined)[] =>
    readings.filter((one) => one.table === `public.${table}`).map(({ by }) => by);
  const tracked = (): Cluster['tables'][number] => cluster.requireTable('scattered');

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: TABLES });
    await mesh.queryAll('VACUUM (ANALYZE)');
    stateDir = await scratchDirectory();
    const log = createLogger('debug', {
      write: (line: string) => {
        const entry = JSON.parse(line) as Reading;
        if (entry.event === 'reading_order') readings.push(entry);
      },
    });
    cluster = new Cluster(mesh.config(stateDir, { stream: { fenceTimeoutMs: 20_000 } }), log);
    await initialise(cluster, context());
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  it('is built in one pass on each node, exactly, while it is written', async () => {
    const load = startLoad({
      mesh,
      existingRows: ROWS,
      ratePerSecond: 400,
      statements: {
        insert: 'INSERT INTO scattered VALUES (md5($1::bigint::text)::uuid, $1::bigint, 1)',
        update: 'UPDATE scattered SET v = v + 1 WHERE n = $1',
        delete: 'DELETE FROM scattered WHERE n = $1',
      },
    });
    for (let round = 0; round < 5; round++) {
      readings = [];
      await build(cluster, { table: 'scattered', blockRows: 20 }, context());
      assert.deepEqual(ordersOf('scattered').slice(0, 2), ['table', 'table']);
      assert.match(readings[0]?.msg ?? '', /correlation -?0\.\d\d, 100 % of the blocks/);
    }
    const { writes } = await load.stop();
    assert.ok(writes > 0);
    await mesh.waitForReplication();
    await catchUp(cluster);
    const { clean } = await assertLeavesMatchServer(cluster, tracked());
    assert.ok(clean > 0);
    assert.equal((await diffTree(cluster, { table: 'scattered' }, context())).verdict, 'match');
    assert.equal((await assertLeavesMatchServer(cluster, tracked())).dirty, 0);
  });

  it('is compared in one pass, and what differs is found, empty blocks too', async () => {
    readings = [];
    assert.equal((await diffTable(cluster, { table: 'scattered' }, context())).verdict, 'match');
    await mesh.driftSql(
      'n2',
      'DELETE FROM scattered WHERE n IN (5, 6); UPDATE scattered SET v = -1 WHERE n = 7',
    );
    await mesh.driftSql(
      'n1',
      `DELETE FROM scattered WHERE id < '00ffffff-ffff-ffff-ffff-ffffffffffff'`,
    );
    const gone = Number(
      (
        await mesh.query(
          'n2',
          `SELECT count(*) FROM scattered WHERE id < '00ffffff-ffff-ffff-ffff-ffffffffffff'`,
        )
      )[0]?.[0],
    );
    const result = await diffTable(cluster, { table: 'scattered', blockSize: 20 }, context());
    assert.equal(result.differences['n1/n2'], 3 + gone);
    assert.deepEqual(ordersOf('scattered').slice(-2), ['table', 'table']);
    const tree = await diffTree(cluster, { table: 'scattered' }, context());
    assert.equal(tree.differences['n1/n2'], 3 + gone);
  });

  it('has its dirty blocks read in one pass when they are many', async () => {
    await mesh.driftSql('n1', 'UPDATE scattered SET v = v + 10 WHERE n % 3 = 0');
    await catchUp(cluster);
    assert.ok(tracked().leaves('n1').dirtyCount > 100);
    readings = [];
    const before = Number(
      (await mesh.query('n1', 'SELECT count(*) FROM scattered WHERE n % 3 = 0'))[0]?.[0],
    );
    const { differences } = await diffTree(cluster, { table: 'scattered' }, context());
    assert.ok((differences['n1/n2'] ?? 0) >= before);
    assert.ok(readings.some(({ by, node }) => by === 'table' && node === 'n1'));
    assert.equal((await assertLeavesMatchServer(cluster, tracked())).dirty, 0);
  });

  it('may have a key of two columns', async () => {
    readings = [];
    await build(cluster, { table: 'lines', blockRows: 20 }, context());
    await mesh.driftSql('n1', 'UPDATE lines SET v = 1 WHERE v = 0 AND line = 1');
    const result = await diffTable(cluster, { table: 'lines', blockSize: 20 }, context());
    assert.equal(result.differences['n1/n2'], ROWS / 3);
    assert.deepEqual(new Set(ordersOf('lines')), new Set(['table']));
    await catchUp(cluster);
    const tree = await diffTree(cluster, { table: 'lines' }, context());
    assert.equal(tree.differences['n1/n2'], ROWS / 3);
    const { dirty } = await assertLeavesMatchServer(cluster, cluster.requireTable('lines'));
    assert.equal(dirty, 0);
  });

  it('is told from one whose rows lie in the order of their keys', async () => {
    readings = [];
    await build(cluster, { table: 'ordered', blockRows: 20 }, context());
    assert.equal(
      (await diffTable(cluster, { table: 'ordered', blockSize: 20 }, context())).verdict,
      'match',
    );
    assert.deepEqual(new Set(ordersOf('ordered')), new Set(['key']));
    assert.ok(readings.every(({ msg }) => /correlation 1\.00/.test(msg ?? '')));
  });

  it('shows in status, with what decided it on each node', async () => {
    await mesh.query('n2', 'ALTER SYSTEM SET effective_cache_size = 8');
    await mesh.query('n2', 'SELECT pg_reload_conf()');
    const status = (): Promise<StatusResult> =>
      readStatus(cluster, {
        ...{
          nodes: mesh.names,
          signal: context().signal,
          isDaemon: false,
          startedAtMs: Date.now(),
        },
        ...{ watch: null, subscriptions: [], misspelt: [] },
      });
    const readingsOf = ({ tables }: StatusResult, name: string): (ReadingStatus | null)[] =>
      mesh.names.map(
        (node) =>
          tables.find(({ table }) => table === `public.${name}`)?.nodes[node]?.reading ?? null,
      );
    const shown = await status();
    const [scattered, elsewhere] = readingsOf(shown, 'scattered');
    assert.equal(scattered?.by, 'table');
    assert.match(
      scattered.reason,
      /^correlation -?0\.\d\d, 100 % of the blocks, the table \(1 MiB\) fits into effective_cache_size \(\d+ MiB\)$/,
    );
    assert.equal(elsewhere?.by, 'table');
    assert.match(
      elsewhere.reason,
      /the table \(1 MiB\) is larger than effective_cache_size \(1 MiB\)$/,
    );
    const [ordered] = readingsOf(shown, 'ordered');
    assert.equal(ordered?.by, 'key');
    assert.match(ordered.reason, /^correlation 1\.00, 100 % of the blocks/);
    assert.deepEqual(
      readingsOf(shown, 'lines').map((reading) => reading?.by),
      ['table', 'table'],
    );
    // Status is no place to wait for somebody's DDL.
    await mesh.node('n1').session(mesh.database, async (query) => {
      await query('BEGIN; LOCK TABLE scattered, ordered');
      assert.deepEqual(readingsOf(await status(), 'scattered')[0], scattered);
      await query('ROLLBACK');
    });
    await mesh.node('n2').kill();
    const down = await status();
    assert.deepEqual(readingsOf(down, 'scattered'), [scattered, null]);
    await mesh.node('n2').start();
  });
});
