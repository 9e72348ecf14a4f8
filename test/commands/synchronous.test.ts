import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { createLogger, type Logger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { NodeTreeWriter } from '../../src/cluster/mirror-writer.js';
import { WalGuard } from '../../src/cluster/wal-guard.js';
import { build } from '../../src/commands/build.js';
import { initialise } from '../../src/commands/init.js';
import { teardown } from '../../src/commands/teardown.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const TABLES = `CREATE TABLE t (id int PRIMARY KEY, v text);
  CREATE TABLE untracked (id int PRIMARY KEY, v text)`;
/** A commit that waits for a flush of its own accord would wait far longer than any test. */
const NEVER_MS = 3_600_000;

interface LogLine {
  readonly event?: string;
  readonly node?: string;
  readonly setting?: string;
}

describe('synchronous replication on a node', () => {
  let mesh: Mesh;
  let stateDir: string;
  let cluster: Cluster;
  let lines: LogLine[];

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: TABLES });
  });

  after(async () => {
    await mesh.stop();
  });

  beforeEach(async () => {
    stateDir = await scratchDirectory();
    lines = [];
    const config = mesh.config(stateDir, { stream: { flushIntervalMs: NEVER_MS } });
    cluster = new Cluster(config, log());
  });

  afterEach(async () => {
    await setNames('');
    await teardown(cluster);
    await cluster.close();
    await removeDirectory(stateDir);
  });

  const log = (): Logger =>
    createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as LogLine),
    });

  async function setNames(names: string): Promise<void> {
    // Its own commit must not wait for the standby that it names.
    await mesh.query('n1', `ALTER SYSTEM SET synchronous_standby_names = '${names}'`);
    await mesh.query('n1', 'SELECT pg_reload_conf()');
    await waitFor(
      async () => (await mesh.query('n1', 'SHOW synchronous_standby_names'))[0]?.[0] === names,
      { what: 'the setting to be read' },
    );
  }

  it('B3: a superuser is warned of once per node, also in init; another role is not', async () => {
    const context = testContext(stateDir);
    await initialise(cluster, context);
    // The streams end and start again.
    await mesh.queryAll(
      "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name LIKE 'aced%'",
    );
    const starts = (): number => lines.filter(({ event }) => event === 'stream_started').length;
    await waitFor(() => starts() >= 4, { what: 'the streams to start again' });
    const told = lines.filter(({ event }) => event === 'superuser_role').map(({ node }) => node);
    assert.deepEqual(told.sort(), ['n1', 'n2']);
    const messages = (one: typeof context): string[] =>
      one.messages().filter((text) => text.includes('aced is a superuser there'));
    assert.deepEqual(
      messages(context)
        .map((text) => text.slice(0, 3))
        .sort(),
      ['n1:', 'n2:'],
    );
    await teardown(cluster);
    await mesh.queryAll(
      'CREATE ROLE plain LOGIN REPLICATION; GRANT CREATE ON DATABASE app TO plain',
    );
    const plainDir = await scratchDirectory();
    const config = mesh.config(plainDir);
    const nodes = config.nodes.map((node) => ({ ...node, user: 'plain' }));
    lines = [];
    const plain = new Cluster({ ...config, nodes }, log());
    try {
      const plainContext = testContext(plainDir);
      await initialise(plain, plainContext);
      assert.deepEqual(messages(plainContext), []);
      assert.equal(lines.filter(({ event }) => event === 'superuser_role').length, 0);
    } finally {
      // What it has made is taken away with the other's: the names are the same.
      await plain.close();
      await removeDirectory(plainDir);
    }
  });

  const warnings = (): LogLine[] => lines.filter(({ event }) => event === 'synchronous_standby');

  for (const names of ['ANY 1 ("aced demo")', '"Aced Demo"']) {
    it(`${names}: says so, and holds up no commit`, async () => {
      await setNames(names);
      const context = testContext(stateDir);
      await initialise(cluster, context);
      await build(cluster, { table: 't' }, context);
      const [[state] = []] = await mesh.query(
        'n1',
        "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'aced demo'",
      );
      assert.ok(state === 'sync' || state === 'quorum', state ?? 'no state');
      assert.deepEqual(
        warnings().map(({ node, setting }) => [node, setting]),
        [['n1', names]],
      );
      assert.ok(
        context.messages().some((message) => /^n1: synchronous_standby_names/.test(message)),
      );
      // Changes that are followed, and changes of which the stream has nothing.
      for (const table of ['t', 'untracked']) {
        for (let i = 1; i <= 20; i++) await mesh.query('n1', `INSERT INTO ${table} VALUES (${i})`);
        await mesh.query('n1', `DELETE FROM ${table}`);
      }
    });
  }

  it('is noticed when it begins later, and when it ends', async () => {
    await initialise(cluster, testContext(stateDir));
    const guard = new WalGuard(cluster, 20);
    try {
      await setNames('"aced demo"');
      await waitFor(() => warnings().length > 0, { what: 'the warning' });
      await mesh.query('n1', 'INSERT INTO untracked VALUES (1)');
      await setNames('');
      await waitFor(() => cluster.pipeline('n1').synchronousNames === null, {
        what: 'the end to be noticed',
      });
    } finally {
      await guard.stop();
      await mesh.query('n1', 'DELETE FROM untracked');
    }
  });

  it('without any standby there keeps neither our own commits waiting nor our end', async () => {
    await setNames('nobody');
    const context = testContext(stateDir);
    await initialise(cluster, context);
    await build(cluster, { table: 't' }, context);
    await new NodeTreeWriter(cluster).writeOnce();
    assert.deepEqual(warnings(), []);
    await cluster.stopStreaming();
  });
});
