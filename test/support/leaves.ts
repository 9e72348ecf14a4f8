import { randomUUID } from 'node:crypto';
import assert from 'node:assert/strict';
import type { Cluster } from '../../src/cluster/cluster.js';
import type { TrackedTable } from '../../src/ingest/tracked-table.js';
import { emitBarrier } from '../../src/replication/positions.js';

/** Waits until every stream has passed all that is committed now. */
export async function catchUp(cluster: Cluster): Promise<void> {
  for (const [node, pipeline] of cluster.pipelines) {
    const fence = await cluster.pool(node).use((session) => emitBarrier(session, randomUUID()));
    await pipeline.waitForPosition(fence, 30_000);
  }
}

/**
 * The golden invariant, on a cluster at rest: every clean leaf is what the server says of its block
 * now. Returns how many leaves were clean and how many dirty.
 */
export async function assertLeavesMatchServer(
  cluster: Cluster,
  table: TrackedTable,
): Promise<{ clean: number; dirty: number }> {
  let clean = 0;
  let dirty = 0;
  for (const node of table.nodes) {
    const leaves = table.leaves(node);
    const query = table.sql.hashBlocks(
      Array.from({ length: table.layout.size }, (_, number) => ({
        number,
        ...table.layout.range(number),
      })),
    );
    const rows = await cluster.pool(node).use((session) => session.query(query.text, query.params));
    assert.equal(rows.length, table.layout.size);
    for (const [position, count, sum] of rows) {
      const at = Number(position);
      if (leaves.isDirty(at)) {
        dirty++;
        continue;
      }
      clean++;
      const expected = { rows: Number(count), sum: BigInt.asUintN(64, BigInt(sum ?? '0')) };
      assert.deepEqual(leaves.value(at), expected, `${node}, block ${at} of ${table.label}`);
    }
  }
  return { clean, dirty };
}
