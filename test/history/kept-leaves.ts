import { errorMessage } from '../../src/base/errors.js';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { readClusterTable } from '../../src/cluster/cluster-table.js';
import type { Config } from '../../src/config/config.js';
import type { TrackedTable } from '../../src/ingest/tracked-table.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { HistoryFailure } from './outcome.js';

/**
 * Goes on from the state that a killed daemon left, catches up, and compares every leaf that is not
 * dirty with what SQL says of its block now. Returns how many. A table whose definition has changed
 * is left out: its tree would be built anew before anybody relied on it.
 */
export async function compareLeaves(config: Config): Promise<number> {
  const cluster = new Cluster(config, silentLogger());
  try {
    cluster.startStreaming();
    await catchUp(cluster);
    let compared = 0;
    for (const table of cluster.tables) {
      if (table.state !== 'live' || !(await isCurrent(cluster, table))) continue;
      try {
        compared += (await assertLeavesMatchServer(cluster, table)).clean;
      } catch (error) {
        throw new HistoryFailure('changes lost', errorMessage(error));
      }
    }
    return compared;
  } finally {
    await cluster.close();
  }
}

async function isCurrent(cluster: Cluster, table: TrackedTable): Promise<boolean> {
  const { signal } = new AbortController();
  const { publicationName } = cluster.config;
  const read = await readClusterTable(cluster.pools, table.spec, signal, {
    publication: publicationName,
    isTree: true,
  }).catch(() => null);
  return table.nodes.every(
    (node) => read?.readings[node]?.fingerprint === table.readings[node]?.fingerprint,
  );
}
