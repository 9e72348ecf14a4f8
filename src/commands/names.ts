import type { Cluster } from '../cluster/cluster.js';
import type { IncidentState } from '../protocol/drift.js';
import type { NamesResult } from '../protocol/names.js';
import { readCandidateTables } from '../table/candidate-tables.js';
import { tableKey, type TableName } from '../table/table-name.js';

/** Somebody has pressed the tab key, and waits. */
const NODE_TIMEOUT_MS = 400;

/** `names`: what completion offers. Never fails because of a node. */
export async function listNames(
  cluster: Cluster,
  incidents: readonly IncidentState[],
  signal: AbortSignal,
): Promise<NamesResult> {
  const known = new Map<string, TableName>();
  const followed = cluster.tables.map(({ spec }) => spec);
  for (const { schema, name } of [...followed, ...(await tablesOfAnyNode(cluster, signal))]) {
    known.set(tableKey(schema, name), { schema, name });
  }
  return {
    nodes: cluster.config.nodes.map(({ name }) => name),
    tables: [...known.values()],
    incidents: incidents.map(({ id }) => id),
  };
}

/** Of the node that answers first; nothing when none does in time. */
async function tablesOfAnyNode(
  cluster: Cluster,
  signal: AbortSignal,
): Promise<readonly TableName[]> {
  const { nodeSchema: without, nodes } = cluster.config;
  const either = AbortSignal.any([signal, AbortSignal.timeout(NODE_TIMEOUT_MS)]);
  const asked = nodes.map(({ name }) =>
    cluster
      .pool(name)
      .use(
        (session) => readCandidateTables(session, { without, publications: [] }, either),
        either,
      ),
  );
  return Promise.any(asked).catch(() => []);
}
