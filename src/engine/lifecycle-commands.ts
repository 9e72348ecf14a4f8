import { sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { onEveryNode } from '../diff/compared-nodes.js';
import { dropNodeSchema, ensureNodeSchema } from '../postgres/node-schema.js';
import { removeTree } from '../postgres/node-tree.js';
import {
  dropPublication,
  ensurePublication,
  removeTableFromPublication,
} from '../postgres/publication.js';
import { dropSlot } from '../postgres/slot.js';
import type { CommandContext, InitResult } from '../server/protocol.js';
import type { Cluster } from './cluster.js';

const STREAM_POLL_MS = 20;

/**
 * `mtree init`: publication, schema and slot on every node. Running it again changes nothing, and
 * never untracks a table.
 */
export async function initialise(cluster: Cluster, context: CommandContext): Promise<InitResult> {
  const { config, store } = cluster;
  const wasInitialised = store.isInitialised();
  const nodes = await onEveryNode(cluster.pools, async (_, pool) =>
    pool.use(async (session) => {
      const publication = await ensurePublication(session, config.publicationName);
      const schema = await ensureNodeSchema(session, config.nodeSchema);
      return publication === 'created' || schema === 'created' ? 'created' : 'already_initialised';
    }, context.signal),
  );
  store.setInitialised(true);
  cluster.startStreaming();
  try {
    for (const node of nodes.keys()) await waitUntilStreaming(cluster, node, context);
  } catch (error) {
    if (!wasInitialised) {
      // A half-made cluster would hold back write-ahead log on the nodes that did succeed.
      await teardownNodes(cluster).catch(() => undefined);
    }
    throw error;
  }
  return { nodes: Object.fromEntries(nodes) };
}

/** Waits for a first connection; a slot waits for the transactions that run on its node. */
async function waitUntilStreaming(
  cluster: Cluster,
  node: string,
  context: CommandContext,
): Promise<void> {
  const pipeline = cluster.pipeline(node);
  let toldMs = Date.now();
  while (pipeline.state.kind !== 'streaming') {
    const { state } = pipeline;
    if (state.kind === 'waiting' && (!state.error.isRetryable || state.attempt > 2)) {
      throw state.error;
    }
    if (Date.now() - toldMs > 5000) {
      toldMs = Date.now();
      const message = `still waiting for node ${node} (${state.kind}); a new slot waits for the transactions that run there`;
      context.emit({ type: 'log', level: 'info', message });
    }
    await sleep(STREAM_POLL_MS, context.signal);
  }
}

/** `mtree teardown`: removes everything of ours from the nodes, and our own state. */
export async function teardown(cluster: Cluster): Promise<InitResult> {
  const nodes = await teardownNodes(cluster);
  return { nodes };
}

async function teardownNodes(cluster: Cluster): Promise<Record<string, string>> {
  const { config, store } = cluster;
  await cluster.stopStreaming();
  for (const table of cluster.tables) cluster.untrackTable(table.spec.schema, table.spec.name);
  const done = await onEveryNode(cluster.pools, async (_, pool) =>
    pool.use(async (session) => {
      await dropSlotWhenFree(() => dropSlot(session, config.slotName));
      await dropPublication(session, config.publicationName);
      await dropNodeSchema(session, config.nodeSchema);
      return 'removed';
    }),
  );
  store.clear();
  return Object.fromEntries(done);
}

const SLOT_RELEASE_TIMEOUT_MS = 10_000;

/** Our own walsender may need a moment to notice that the stream has ended. */
async function dropSlotWhenFree(drop: () => Promise<unknown>): Promise<void> {
  const deadline = Date.now() + SLOT_RELEASE_TIMEOUT_MS;
  for (;;) {
    try {
      await drop();
      return;
    } catch (error) {
      const isBusy = error instanceof AcedError && error.code === 'SLOT_BUSY';
      if (!isBusy || Date.now() > deadline) throw error;
      await sleep(STREAM_POLL_MS);
    }
  }
}

/** `mtree teardown-table`: the table is no longer followed, published or shown on the nodes. */
export async function teardownTable(
  cluster: Cluster,
  tableText: string,
  context: CommandContext,
): Promise<InitResult> {
  const table = cluster.requireTable(tableText);
  const { schema, name } = table.spec;
  return cluster.mutex(schema, name).run(async () => {
    cluster.untrackTable(schema, name);
    const done = await onEveryNode(cluster.pools, async (_, pool) =>
      pool.use(async (session) => {
        await removeTableFromPublication(session, cluster.config.publicationName, schema, name);
        await removeTree(session, cluster.config.nodeSchema, table.label);
        return 'removed';
      }, context.signal),
    );
    return { nodes: Object.fromEntries(done) };
  });
}
