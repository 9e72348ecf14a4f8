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
import type { Session } from '../postgres/session.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { dropSlot, readSlot } from '../postgres/slot.js';
import type { CommandContext, InitResult } from '../server/protocol.js';
import type { Cluster } from './cluster.js';

const STREAM_POLL_MS = 20;
/** Our own walsender may need a moment to notice that the stream has ended. */
const SLOT_RELEASE_MS = 10_000;

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
        prepareNode(cluster, session, { pool, undo });
      return [node, await pool.use(work, context.signal)] as const;
    });
    // When one fails, what the others make meanwhile must be in `undo` too.
    await Promise.allSettled(preparing);
    const nodes = new Map(await Promise.all(preparing));
    store.setInitialised(true);
    cluster.startStreaming();
    for (const node of nodes.keys()) await waitUntilStreaming(cluster, node, context);
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

type Undo = () => Promise<unknown>;

/** Adds to `undo` what is not there yet: an administrator's publication must outlive our failure. */
async function prepareNode(
  { config }: Cluster,
  session: Session,
  { pool, undo }: { pool: SessionPool; undo: Undo[] },
): Promise<string> {
  const { slotName, publicationName, nodeSchema } = config;
  if ((await readSlot(session, slotName)) === null) {
    undo.push(() => pool.use((one) => dropSlot(one, slotName, { waitMs: SLOT_RELEASE_MS })));
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
  let toldMs = Date.now();
  while (pipeline.state.kind !== 'streaming') {
    const { state } = pipeline;
    if (state.kind === 'stopped') {
      throw new AcedError('NOT_INITIALISED', 'a teardown has stopped the streams meanwhile', {
        hint: `run again: acectl mtree init ${cluster.config.cluster}`,
      });
    }
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

/**
 * `mtree teardown`: removes our own state and everything of ours from the nodes, from those that
 * can be reached even when others cannot. Commands on trees that are under way fail: a build could
 * take long, and would make anew what is removed here. An init that waits for its streams fails too.
 */
export async function teardown(cluster: Cluster): Promise<InitResult> {
  await endStreaming(cluster);
  return cluster.lifecycle.run(async () => {
    // An init that was not yet waiting has started them again.
    await endStreaming(cluster);
    return cluster.withEveryTable(() => removeEverything(cluster));
  });
}

/** From here on no command begins to work on a tree, and what one needs next of a stream is refused. */
async function endStreaming(cluster: Cluster): Promise<void> {
  cluster.store.setInitialised(false);
  await cluster.stopStreaming();
}

async function removeEverything(cluster: Cluster): Promise<InitResult> {
  const { config, store } = cluster;
  for (const table of cluster.tables) cluster.untrackTable(table.spec.schema, table.spec.name);
  // Before the nodes: with any of it left, the next start would make everything anew there.
  store.clear();
  const nodes = await cleanEveryNode(cluster, {
    what: `the slot ${config.slotName}, which holds back write-ahead log`,
    clean: async (session) => {
      await dropSlot(session, config.slotName, { waitMs: SLOT_RELEASE_MS });
      await dropPublication(session, config.publicationName);
      await dropNodeSchema(session, config.nodeSchema);
    },
  });
  return { nodes };
}

interface Cleaning {
  /** What may be left on a node where it fails. */
  readonly what: string;
  readonly clean: (session: Session) => Promise<void>;
}

/** One node that is down must not keep the others from being cleaned. Errors: the first node's. */
async function cleanEveryNode(
  cluster: Cluster,
  { what, clean }: Cleaning,
): Promise<Record<string, string>> {
  const failures = new Map<string, AcedError>();
  await onEveryNode(cluster.pools, undefined, async (node, pool) => {
    try {
      await pool.use(clean);
    } catch (error) {
      if (!(error instanceof AcedError)) throw error;
      failures.set(node, error);
    }
  });
  const [first] = failures.values();
  if (first !== undefined) {
    const nodes = [...failures.keys()].join(', ');
    const remedy = first.hint === undefined ? '' : `${first.hint}; `;
    throw new AcedError(first.code, `not done on ${nodes}: ${first.message}`, {
      hint: `${remedy}then run it again. Until then ${nodes} may still have ${what}`,
      cause: first,
    });
  }
  return Object.fromEntries(cluster.config.nodes.map(({ name }) => [name, 'removed']));
}

/**
 * `mtree teardown-table`: the table is no longer followed, published or shown on the nodes. It stays
 * tracked until all nodes are clean, so that the command can be repeated.
 */
export async function teardownTable(cluster: Cluster, tableText: string): Promise<InitResult> {
  const table = cluster.requireTable(tableText);
  const { config } = cluster;
  const { schema, name } = table.spec;
  return cluster.mutex(schema, name).run(async () => {
    const nodes = await cleanEveryNode(cluster, {
      what: `${table.label} in publication ${config.publicationName}`,
      clean: async (session) => {
        await removeTableFromPublication(session, config.publicationName, schema, name);
        await removeTree(session, config.nodeSchema, table.label);
      },
    });
    cluster.untrackTable(schema, name);
    return { nodes };
  });
}
