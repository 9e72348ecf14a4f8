import { steadyNowMs } from '../base/clock.js';
import { sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import { dropNodeSchema, ensureNodeSchema } from '../mirror/mirror-schema.js';
import { SYNCHRONOUS_WARNING } from '../ingest/pipeline.js';
import type { Session } from '../postgres/session.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { isSuperuser, SUPERUSER_WARNING } from '../postgres/superuser.js';
import type { CommandContext, InitResult } from '../protocol/commands.js';
import { dropPublication, ensurePublication } from '../replication/publication.js';
import { requirePrimary } from '../replication/primary.js';
import { dropSlot, readSlot, SLOT_RELEASE_TIMEOUT_MS } from '../replication/slot.js';

const STREAM_POLL_MS = 20;

/**
 * `mtree init`: publication, schema and slot on every node. Running it again changes nothing, and
 * never untracks a table. A first one that fails takes back what it has made.
 * Errors: NOT_INITIALISED when a teardown came in between, those of the nodes.
 */
export function initialise(cluster: Cluster, context: CommandContext): Promise<InitResult> {
  return cluster.lifecycle.run(() => makeEverything(cluster, context));
}

async function makeEverything(cluster: Cluster, context: CommandContext): Promise<InitResult> {
  const { store } = cluster;
  const wasInitialised = store.isInitialised();
  const undo: Undo[] = [];
  try {
    const preparing = Array.from(cluster.pools, async ([node, pool]) => {
      const work = (session: Session): Promise<string> =>
        prepareNode(cluster, session, { pool, undo, context });
      return [node, await pool.use(work, context.signal)] as const;
    });
    // When one fails, what the others make meanwhile must be in `undo` too.
    await Promise.allSettled(preparing);
    const nodes = new Map(await Promise.all(preparing));
    store.setInitialised(true);
    cluster.startStreaming();
    for (const node of nodes.keys()) {
      await waitUntilStreaming(cluster, node, context);
      warnOfSynchronous(cluster, node, context);
    }
    return { nodes: Object.fromEntries(nodes) };
  } catch (error) {
    // What streams already goes on; a half-made cluster would hold back write-ahead log for nobody.
    if (!wasInitialised) {
      await cluster.stopStreaming();
      store.clear();
      await Promise.allSettled(undo.map((one) => one()));
    }
    throw error;
  }
}

function warnOfSynchronous(cluster: Cluster, node: string, context: CommandContext): void {
  const setting = cluster.pipeline(node).synchronousNames;
  if (setting === null) return;
  const message = `${node}: synchronous_standby_names is '${setting}': ${SYNCHRONOUS_WARNING}`;
  context.emit({ type: 'log', level: 'warn', message });
}

type Undo = () => Promise<unknown>;

/** Adds to `undo` what is not there yet: an administrator's publication must outlive our failure. */
async function prepareNode(
  { config }: Cluster,
  session: Session,
  { pool, undo, context }: { pool: SessionPool; undo: Undo[]; context: CommandContext },
): Promise<string> {
  await requirePrimary(session);
  if (await isSuperuser(session)) {
    const message = `${pool.node.name}: ${SUPERUSER_WARNING}`;
    context.emit({ type: 'log', level: 'warn', message });
  }
  const { slotName, publicationName, nodeSchema } = config;
  if ((await readSlot(session, slotName)) === null) {
    undo.push(() =>
      pool.use((one) => dropSlot(one, slotName, { waitMs: SLOT_RELEASE_TIMEOUT_MS })),
    );
  }
  const publication = await ensurePublication(session, publicationName);
  if (publication === 'created') {
    undo.push(() => pool.use((one) => dropPublication(one, publicationName)));
  }
  const schema = await ensureNodeSchema(session, nodeSchema);
  if (schema === 'created') undo.push(() => pool.use((one) => dropNodeSchema(one, nodeSchema)));
  return publication === 'created' || schema === 'created' ? 'created' : 'already_initialised';
}

/** Waits for a first connection; a slot waits for the transactions that run on its node. */
async function waitUntilStreaming(
  cluster: Cluster,
  node: string,
  context: CommandContext,
): Promise<void> {
  const pipeline = cluster.pipeline(node);
  let toldMs = steadyNowMs();
  while (pipeline.state.kind !== 'streaming') {
    const { state } = pipeline;
    if (state.kind === 'stopped') {
      throw new AcedError('NOT_INITIALISED', 'a teardown has stopped the streams meanwhile', {
        hint: `Run again: acectl mtree init ${cluster.config.cluster}`,
      });
    }
    if (state.kind === 'waiting' && (state.error.prospect !== 'retry' || state.attempt > 2)) {
      throw state.error;
    }
    if (steadyNowMs() - toldMs > 5000) {
      toldMs = steadyNowMs();
      const message = `still waiting for node ${node} (${state.kind}); a new slot waits for the transactions that run there`;
      context.emit({ type: 'log', level: 'info', message });
    }
    await sleep(STREAM_POLL_MS, context.signal);
  }
}
