import { AcedError } from '../base/errors.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { Session } from '../postgres/session.js';
import { publicationTables, removeTableFromPublication } from '../replication/publication.js';
import type { Cluster } from './cluster.js';

/**
 * Takes a table that was followed out of our publication on one node, whatever it is called by now: a
 * publication goes by OID, and what nobody follows would be sent to us for ever. What another tree
 * follows by now stays.
 */
export async function unpublish(
  session: Session,
  cluster: Cluster,
  table: TrackedTable,
): Promise<void> {
  const { publicationName } = cluster.config;
  const { spec, readings } = table;
  const node = session.node.name;
  const followed = new Set(
    cluster.tables.flatMap((one) => (one === table ? [] : [one.readings[node]?.oid])),
  );
  for (const { oid, schema, name } of await publicationTables(session, publicationName)) {
    const isNamed = schema === spec.schema && name === spec.name;
    if (followed.has(oid) || !(isNamed || oid === readings[node]?.oid)) continue;
    await removeTableFromPublication(session, publicationName, schema, name);
  }
}

/** Another table has taken the name of this one, and has a tree now: that is worth more than order. */
export async function unpublishForerunner(
  cluster: Cluster,
  table: TrackedTable,
  signal: AbortSignal,
): Promise<void> {
  try {
    await onEveryNode(cluster.pools, signal, (_, pool, either) =>
      pool.use((session) => unpublish(session, cluster, table), either),
    );
  } catch (error) {
    if (!(error instanceof AcedError) || error.code === 'CANCELLED') throw error;
    const why = `what it was before may still be in publication ${cluster.config.publicationName}: ${error.logMessage}`;
    cluster.log.warn({ event: 'table_stuck', table: table.label }, why);
  }
}
