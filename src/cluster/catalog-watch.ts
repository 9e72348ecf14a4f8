import { AcedError, logMessage } from '../base/errors.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { Session } from '../postgres/session.js';
import { removeTableFromPublication } from '../replication/publication.js';
import {
  publicationProblem,
  readPublishedTables,
  type PublicationProblem,
  type PublishedTable,
} from '../replication/published-tables.js';
import { readPublicationNames } from '../table/candidate-tables.js';
import { readCatalog, type CatalogReading } from '../table/fingerprint.js';
import { withPublication } from './cluster-table.js';
import type { Cluster } from './cluster.js';
import { Loop, tellsFailures } from '../base/loop.js';

/** Rest after a look, as a multiple of what it took: at most a twentieth of one connection's time. */
const REST_FACTOR = 19;
/**
 * Where servers are so busy that a look takes a second, a rest in proportion would leave the users' writes refused, because of our
 * publication, for twenty.
 */
const LONGEST_REST_MS = 5_000;
const BACKOFF = { firstMs: 250, maxMs: 1_000 };

/**
 * Looks at the catalogs of every node all the time, each node by itself. What changes rows without a
 * message makes a table stale at once, also when it is taken back before anybody asks. A table whose
 * updates and deletes would fail because of our publication alone is taken out of it.
 */
export class CatalogWatch {
  readonly #loops: readonly Loop[];

  constructor(cluster: Cluster) {
    this.#loops = cluster.config.nodes.map(({ name }) => {
      const watch = new NodeCatalogWatch(cluster, name);
      return Loop.start({
        ...tellsFailures(cluster.log, 'watch_failed'),
        backoff: BACKOFF,
        round: (signal) => watch.round(signal),
      });
    });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#loops.map((loop) => loop.stop()));
  }
}

class NodeCatalogWatch {
  readonly #cluster: Cluster;
  readonly #node: string;
  /** What was told of a table last, while it is not as its tree was built. */
  readonly #told = new Map<TrackedTable, string>();
  /** OID -> why it could not be taken out of the publication. */
  readonly #stuck = new Map<number, string>();
  #seen = '';
  #failure: string | null = null;

  constructor(cluster: Cluster, node: string) {
    this.#cluster = cluster;
    this.#node = node;
  }

  /** Returns how long to rest (ms). A node that is down is the stream's to tell. */
  async round(signal: AbortSignal): Promise<number> {
    const { catalogWatchMs } = this.#cluster.config.tree;
    if (!this.#cluster.isStreaming) return catalogWatchMs;
    const startedAtMs = performance.now();
    try {
      await this.#cluster
        .pool(this.#node)
        .use((session) => this.#lookUnlessQuiet(session, signal), signal);
      this.#failure = null;
    } catch (error) {
      signal.throwIfAborted();
      this.#seen = '';
      const message = logMessage(error);
      // Once for each reason, not once a second.
      if (message !== this.#failure) {
        const facts = { event: 'catalog_unread', node: this.#node };
        this.#cluster.log.warn(facts, message);
      }
      this.#failure = message;
    }
    const restMs = (performance.now() - startedAtMs) * REST_FACTOR;
    return Math.max(catalogWatchMs, Math.min(restMs, LONGEST_REST_MS));
  }

  /**
   * Every change of a catalog is in the log, and the snapshot tells commits that are in the log but
   * could not be seen yet: where both are as before there is nothing new.
   */
  async #lookUnlessQuiet(session: Session, signal: AbortSignal): Promise<void> {
    const { tables } = this.#cluster;
    const [row] = await session.query(
      'SELECT pg_catalog.pg_current_wal_insert_lsn(), pg_catalog.pg_current_snapshot()',
      [],
      signal,
    );
    const seen = [...(row ?? []), ...tables.map(({ id }) => id)].join(' ');
    if (seen === this.#seen) return;
    await this.#look(session, tables, signal);
    this.#seen = this.#stuck.size > 0 ? '' : seen;
  }

  async #look(
    session: Session,
    tables: readonly TrackedTable[],
    signal: AbortSignal,
  ): Promise<void> {
    const { publicationName } = this.#cluster.config;
    const [publication] = await readPublicationNames(session, [publicationName], signal);
    if (publication === undefined) {
      this.#loseStream();
      return;
    }
    const published = await readPublishedTables(session, publicationName, signal);
    const entries = new Map(published.map((entry) => [entry.oid, entry]));
    for (const oid of this.#stuck.keys()) if (!entries.has(oid)) this.#stuck.delete(oid);
    for (const table of published) {
      if (table.problem?.isHarmful === true) await this.#takeOut(session, table, table.problem);
    }
    const specs = tables.map(({ spec }) => spec);
    const readings = await readCatalog(session, specs, signal);
    for (const [index, table] of tables.entries()) {
      const reading = readings[index] ?? null;
      // Another tree may have taken its place meanwhile: a newer one than what was read.
      if (!this.#cluster.isTracked(table)) continue;
      const entry = reading === null ? undefined : entries.get(reading.oid);
      if (reading === null) this.#judge(table, 'missing', missing(table, published, this.#node));
      else if (entry === undefined || entry.problem !== null) {
        const problem =
          entry?.problem ?? (await publicationProblem(session, publicationName, table.spec));
        const why = problem?.why ?? 'it was taken out of the publication';
        const state = `${reading.fingerprint} ${why}`;
        this.#judge(table, state, `not followed on ${this.#node}: ${why}`);
      } else {
        const { fingerprint } = withPublication(reading, entry);
        this.#judge(table, fingerprint, `its definition or publication changed on ${this.#node}`);
      }
    }
    for (const table of this.#told.keys()) {
      if (!this.#cluster.isTracked(table)) this.#told.delete(table);
    }
  }

  /**
   * Somebody has dropped our publication. From 18 on the server goes on streaming without it and skips
   * the changes for good: the stream starts over, with a new publication, and reads what it missed.
   */
  #loseStream(): void {
    const pipeline = this.#cluster.pipelines.get(this.#node);
    if (pipeline?.state.kind !== 'streaming' || pipeline.isGivingUpSlot) return;
    const { publicationName } = this.#cluster.config;
    pipeline.abandonSlot(
      new AcedError(
        'PUBLICATION_LOST',
        `publication ${publicationName} on node ${this.#node} is gone: it is recreated, and the node is read again`,
        {
          hint: 'It is needed for as long as aced follows tables; acectl mtree teardown removes it.',
        },
      ),
    );
  }

  /** Every second that it stays there may cost the users updates and deletes. */
  async #takeOut(
    session: Session,
    table: PublishedTable,
    problem: PublicationProblem,
  ): Promise<void> {
    const { config, log } = this.#cluster;
    const facts = { node: this.#node, table: `${table.schema}.${table.name}` };
    try {
      await removeTableFromPublication(session, config.publicationName, table.schema, table.name);
      this.#stuck.delete(table.oid);
      const why = `taken out of the publication: ${problem.why}`;
      log.error({ event: 'table_unpublished', ...facts }, why);
    } catch (error) {
      if (!(error instanceof AcedError) || session.isBroken) throw error;
      const why = `${problem.why}; it cannot be taken out of publication ${config.publicationName}: ${error.logMessage}`;
      if (this.#stuck.get(table.oid) !== why) log.error({ event: 'table_stuck', ...facts }, why);
      this.#stuck.set(table.oid, why);
    }
  }

  /** Compares what a table is now with what its tree was built from; tells each change once. */
  #judge(table: TrackedTable, state: string, reason: string): void {
    const told = this.#told.get(table);
    if (state === table.readings[this.#node]?.fingerprint) {
      this.#told.delete(table);
      const isBack = told !== undefined;
      if (isBack) this.#cluster.schemaChanged(table, `it is as it was on ${this.#node}`);
      return;
    }
    if (told === state) return;
    this.#told.set(table, state);
    const { log } = this.#cluster;
    log.warn({ event: 'table_changed', node: this.#node, table: table.label }, reason);
    // What a build finds it finds by itself; one that has failed is not begun again for this.
    if (table.state !== 'live' && table.state !== 'stale') return;
    table.setState('stale', reason);
    if (state === 'missing') return;
    table.outdate(this.#node);
    this.#cluster.schemaChanged(table, reason);
  }
}

function missing(
  { label, readings }: TrackedTable,
  published: readonly PublishedTable[],
  node: string,
): string {
  const oid: CatalogReading['oid'] | undefined = readings[node]?.oid;
  const renamed = published.find((one) => one.oid === oid);
  if (renamed === undefined) return `there is no table ${label} on ${node}`;
  return `it is called ${renamed.schema}.${renamed.name} on ${node}`;
}
