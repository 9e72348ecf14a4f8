import assert from 'node:assert/strict';
import { it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { build } from '../../src/commands/build.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { update } from '../../src/commands/update.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { startMesh } from '../support/mesh.js';

it('a table has about so many blocks at most, however it grows', async (t) => {
  const mesh = await startMesh({
    nodes: 2,
    tables: `CREATE TABLE grown (id int PRIMARY KEY, v int);
      INSERT INTO grown SELECT i, 0 FROM generate_series(1, 2000) i`,
  });
  t.after(() => mesh.stop());
  await mesh.queryAll('ANALYZE');
  const stateDir = await scratchDirectory();
  t.after(() => removeDirectory(stateDir));
  const cluster = new Cluster(
    mesh.config(stateDir, { tree: { maxBlocks: 50, blockRows: 10 } }),
    silentLogger(),
  );
  t.after(() => cluster.close());
  const context = testContext(stateDir);
  const tracked = (): Cluster['tables'][number] => cluster.requireTable('grown');
  await initialise(cluster, context);
  await build(cluster, { table: 'grown' }, context);
  assert.deepEqual([tracked().layout.size, tracked().blockRows], [50, 40]);

  await mesh.query('n1', 'INSERT INTO grown SELECT i, 0 FROM generate_series(2001, 10000) i');
  await mesh.waitForReplication();
  await catchUp(cluster);
  // 10,000 rows: 200 in a block, and 400 before it is cut. What was there is as it was.
  assert.equal((await diffTree(cluster, { table: 'grown' }, context)).verdict, 'match');
  const { size } = tracked().layout;
  assert.ok(size >= 49 + 20 && size <= 49 + 41, String(size));

  await update(cluster, { table: 'grown', rebalance: true }, context);
  assert.ok(tracked().layout.size < 75, String(tracked().layout.size));
  assert.equal((await assertLeavesMatchServer(cluster, tracked())).dirty, 0);
});
