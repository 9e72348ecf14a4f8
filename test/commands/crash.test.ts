import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import type { FailpointName } from '../../src/base/failpoint.js';
import { silentLogger } from '../../src/base/log.js';
import type { Config } from '../../src/config/config.js';
import { build } from '../../src/commands/build.js';
import { ensureCurrentTree } from '../../src/cluster/tree-building.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { initialise } from '../../src/commands/init.js';
import { refreshDirty } from '../../src/cluster/tree-work.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { EngineProcess } from '../support/engine-process.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { startLoad, type Load } from '../support/load.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

/** `marked` gets dirty marks from updates of rows that are not kept, `exact` only exact deltas. */
const TABLES = `
  CREATE TABLE marked (id bigint PRIMARY KEY, v int NOT NULL);
  CREATE TABLE exact (id bigint PRIMARY KEY, v int NOT NULL);
  ALTER TABLE exact REPLICA IDENTITY FULL;
`;
const NAMES = ['public.marked', 'public.exact'];
const ROWS = 3000;
const LOAD = {
  insert: 'WITH a AS (INSERT INTO marked VALUES ($1, 0)) INSERT INTO exact SELECT $1::bigint, 0',
  update:
    'WITH a AS (UPDATE marked SET v = v + 1 WHERE id = $1) UPDATE exact SET v = v + 1 WHERE id = $1',
  delete: 'WITH a AS (DELETE FROM marked WHERE id = $1) DELETE FROM exact WHERE id = $1',
};

interface CrashOptions {
  readonly provoke?: (engine: EngineProcess) => void;
  readonly engineConfig?: Config;
}

describe('a process that is killed loses no change', () => {
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;
  let load: Load;
  let loadedRows = ROWS;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: TABLES });
    await mesh.query(
      'n1',
      `INSERT INTO marked SELECT i, 0 FROM generate_series(1, ${ROWS}) i;
       INSERT INTO exact SELECT i, 0 FROM generate_series(1, ${ROWS}) i`,
    );
    await mesh.waitForReplication();
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir, {
      tree: { refreshQuietMs: 0, blockRows: 50 },
      stream: { flushIntervalMs: 20 },
    });
    const cluster = new Cluster(config, silentLogger());
    const context = testContext(stateDir);
    await initialise(cluster, context);
    for (const table of NAMES) await build(cluster, { table, blockRows: 50 }, context);
    await cluster.close();
  });

  // A test that failed leaves no writes to the next one.
  afterEach(() => load.stop());

  after(async () => {
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  function startWrites(): void {
    load = startLoad({ mesh, statements: LOAD, existingRows: loadedRows, ratePerSecond: 400 });
  }

  async function stopWrites(): Promise<void> {
    await load.stop();
    // The next load inserts above what this one did.
    const [row] = await mesh.query('n1', 'SELECT coalesce(max(id), 0) FROM marked');
    const [other] = await mesh.query('n2', 'SELECT coalesce(max(id), 0) FROM marked');
    loadedRows = Math.max(loadedRows, Number(row?.[0]), Number(other?.[0])) + 3;
  }

  /** Goes on in this process, under load for a while, then at rest. */
  async function assertNothingLost(): Promise<void> {
    const cluster = new Cluster(config, silentLogger());
    try {
      const context = testContext(stateDir);
      cluster.startStreaming();
      const before = load.writes;
      await waitFor(() => load.writes > before + 50, { what: 'writes after the restart' });
      await stopWrites();
      await mesh.waitForReplication();
      await catchUp(cluster);
      for (const name of NAMES) {
        await assertLeavesMatchServer(cluster, cluster.requireTable(name));
        const { table } = await ensureCurrentTree(cluster, cluster.requireTable(name), context);
        const work = { nodes: mesh.names, concurrency: 1, signal: context.signal };
        await refreshDirty(cluster, table, work);
        const { clean, dirty } = await assertLeavesMatchServer(cluster, table);
        assert.equal(dirty, 0);
        assert.ok(clean > 20);
        assert.equal(table.root('n1'), table.root('n2'));
      }
    } finally {
      await cluster.close();
    }
  }

  async function crashAt(
    name: FailpointName,
    hit: number,
    { provoke = () => undefined, engineConfig = config }: CrashOptions = {},
  ): Promise<void> {
    startWrites();
    const engine = await EngineProcess.start({ config: engineConfig, failpoint: { name, hit } });
    provoke(engine);
    await engine.died();
    await assertNothingLost();
  }

  const POINTS: readonly (readonly [FailpointName, readonly number[]])[] = [
    ['store-committing', [1, 7]],
    ['store-committed', [1, 2, 9]],
  ];
  for (const [name, hits] of POINTS) {
    for (const hit of hits) {
      it(`killed at ${name}, time ${hit}`, () => crashAt(name, hit));
    }
  }

  for (const hit of [1, 5, 20]) {
    it(`killed at rehash-read, time ${hit}`, () => {
      // With rows kept, the blocks are soon exact: nothing is read again.
      const engineConfig = { ...config, tree: { ...config.tree, rowDigestBytes: 0 } };
      return crashAt('rehash-read', hit, { engineConfig });
    });
  }

  for (const table of NAMES) {
    it(`killed in a build of ${table}, after its boundaries were stored`, () =>
      crashAt('layout-changed', 1, {
        provoke: (engine) => engine.send('mtree-build', { table }),
      }));
  }

  for (const name of ['publication-ready', 'slot-created'] as const) {
    it(`killed at ${name}, on the way to a new slot`, async () => {
      await mesh.query('n2', 'SELECT pg_drop_replication_slot($1)', [config.slotName]);
      await crashAt(name, 1);
    });
  }

  it('killed at any moment', async () => {
    for (const writes of [120, 230, 310]) {
      startWrites();
      const engine = await EngineProcess.start({ config });
      await waitFor(() => load.writes > writes, { what: `${writes} writes` });
      await engine.kill();
      await assertNothingLost();
    }
  });
});
