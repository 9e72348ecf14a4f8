import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { quoteIdentifier } from '../../src/base/quote.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { initialise } from '../../src/commands/init.js';
import type { CommandContext } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { Mesh } from '../support/mesh.js';
import { startServer, type TestServer } from '../support/postgres.js';

const COPY = `it's "a copy"`;

describe('two nodes on one server', () => {
  let server: TestServer;
  let stateDir: string;

  before(async () => {
    server = await startServer();
    stateDir = await scratchDirectory();
    await server.createDatabase('app');
    await server.query('app', 'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)');
    await server.query('postgres', `CREATE DATABASE ${quoteIdentifier(COPY)} TEMPLATE app`);
  });

  after(async () => {
    await server.stop();
    await removeDirectory(stateDir);
  });

  async function withNodes(
    other: { readonly host?: string; readonly database?: string },
    work: (cluster: Cluster, context: CommandContext) => Promise<void>,
  ): Promise<void> {
    const config = new Mesh(new Map([['n1', server]]), 'app', 'demo').config(stateDir);
    const [first] = config.nodes;
    assert.ok(first);
    const nodes = [first, { ...first, ...other, name: 'n2' }];
    const cluster = new Cluster({ ...config, nodes }, silentLogger());
    try {
      await work(cluster, testContext(stateDir));
    } finally {
      await cluster.close();
    }
  }

  const slots = (): Promise<unknown> =>
    server.query('app', 'SELECT slot_name FROM pg_replication_slots');

  it('are refused when they are one database by two names: it always equals itself', async () => {
    await withNodes({ host: 'localhost' }, async (cluster, context) => {
      const refused = {
        code: 'BAD_CONFIG',
        message: /^nodes n[12] .* are one and the same database/,
      };
      await assert.rejects(diffTable(cluster, { table: 't' }, context), refused);
      const filtered = { table: 't', tableFilter: 'id > 0' };
      await assert.rejects(diffTable(cluster, filtered, context), refused);
      await assert.rejects(initialise(cluster, context), refused);
      assert.deepEqual(await slots(), []);
    });
  });

  it('are compared by table-diff when they are two databases', async () => {
    await withNodes({ database: COPY }, async (cluster, context) => {
      assert.equal((await diffTable(cluster, { table: 't' }, context)).verdict, 'match');
      await server.query('app', 'INSERT INTO t VALUES (2)');
      assert.equal((await diffTable(cluster, { table: 't' }, context)).verdict, 'drift');
    });
  });

  it('cannot both have trees: a slot belongs to the server, and one node must not drop the other’s', async () => {
    await withNodes({ database: COPY }, async (cluster, context) => {
      await assert.rejects(initialise(cluster, context), {
        code: 'SLOT_FOREIGN',
        hint: /Of two nodes on one server only one can have trees/,
      });
      assert.deepEqual(await slots(), []);
    });
  });
});
