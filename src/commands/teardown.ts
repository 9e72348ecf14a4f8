import { AcedError } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import { dropNodeSchema } from '../mirror/mirror-schema.js';
import { removeTree } from '../mirror/mirror-tables.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { Session } from '../postgres/session.js';
import type { InitResult } from '../protocol/commands.js';
import { dropRepairOrigin } from '../repair/target-session.js';
import { unpublish } from '../cluster/unpublish.js';
import { dropPublication } from '../replication/publication.js';
import { dropSlot, SLOT_RELEASE_TIMEOUT_MS } from '../replication/slot.js';

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
      await dropSlot(session, config.slotName, { waitMs: SLOT_RELEASE_TIMEOUT_MS });
      await dropPublication(session, config.publicationName);
      await dropNodeSchema(session, config.nodeSchema);
      // Last: it is the only one that a repair keeps from being removed.
      return dropOriginOrNote(session);
    },
  });
  return { nodes };
}

/**
 * Whoever may make repairs under an origin may not always drop it; only a superuser may then, and all
 * else is gone: that is no failure, and repeating the command would not help. Null: it is gone.
 */
async function dropOriginOrNote(session: Session): Promise<string | null> {
  try {
    await dropRepairOrigin(session);
    return null;
  } catch (error) {
    if (!(error instanceof AcedError) || error.code !== 'MISSING_PRIVILEGE') throw error;
    return `${error.message}. ${error.hint ?? ''}`;
  }
}

interface Cleaning {
  /** What may be left on a node where it fails. */
  readonly what: string;
  /** Resolves with what had to be left, for people; null: nothing. */
  readonly clean: (session: Session) => Promise<string | null>;
}

/** One node that is down must not keep the others from being cleaned. Errors: the first node's. */
async function cleanEveryNode(
  cluster: Cluster,
  { what, clean }: Cleaning,
): Promise<Record<string, string>> {
  const failures = new Map<string, AcedError>();
  const notes = new Map<string, string | null>();
  await onEveryNode(cluster.pools, undefined, async (node, pool) => {
    try {
      notes.set(node, await pool.use(clean));
    } catch (error) {
      if (!(error instanceof AcedError)) throw error;
      failures.set(node, error);
    }
  });
  const [first] = failures.values();
  if (first !== undefined) {
    const nodes = [...failures.keys()].join(', ');
    const again = `Run it again when that is mended. Until then ${nodes} may still have ${what}.`;
    throw new AcedError(first.code, `not done on ${nodes}: ${first.message}`, {
      hint: first.hint === undefined ? again : `${first.hint} ${again}`,
      cause: first,
    });
  }
  return Object.fromEntries(
    cluster.config.nodes.map(({ name }) => {
      const note = notes.get(name) ?? null;
      return [name, note === null ? 'removed' : `removed, all but one: ${note}`];
    }),
  );
}

/**
 * `mtree teardown-table`: the table is no longer followed, published or shown on the nodes. It stays
 * tracked until all nodes are clean, so that the command can be repeated.
 */
export async function teardownTable(cluster: Cluster, tableText: string): Promise<InitResult> {
  const table = cluster.requireTable(tableText, {
    hint: `There is nothing to remove; acectl status ${cluster.config.cluster} shows the tables with a tree.`,
  });
  const { config } = cluster;
  const { schema, name } = table.spec;
  return cluster.mutex(schema, name).run(async () => {
    const nodes = await cleanEveryNode(cluster, {
      what: `${table.label} in publication ${config.publicationName}`,
      clean: async (session) => {
        await unpublish(session, cluster, table);
        await removeTree(session, config.nodeSchema, table.label);
        return null;
      },
    });
    cluster.untrackTable(schema, name);
    return { nodes };
  });
}
