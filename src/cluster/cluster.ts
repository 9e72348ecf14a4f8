import { availableParallelism } from 'node:os';
import { AcedError, logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { Config, NodeConfig } from '../config/config.js';
import type { Reign } from '../lease/lease.js';
import { NodePipeline } from '../ingest/pipeline.js';
import { OpenRowsBudget } from '../ingest/open-rows.js';
import { TrackedTable } from '../ingest/tracked-table.js';
import { RowDigestCache } from '../merkle/row-digests.js';
import { serversOf } from '../protocol/servers.js';
import type { NodePools } from '../postgres/every-node.js';
import { OpenDatabases } from '../postgres/open-databases.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { SessionPool as Pool } from '../postgres/session-pool.js';
import { parseTableName, possibleTables, tableKey } from '../table/table-name.js';
import { DIGEST_VERSION } from '../digest/digest-column.js';
import type { TableSpec } from '../table/table-spec.js';
import { Store, type StoredTable } from '../store/store.js';
import { Conditions } from './conditions.js';
import { Handover, succeed, type Inheritance } from './handover.js';
import { Mutex } from './mutex.js';
import { RunningRepairs } from './running-repairs.js';

/** Connections beside the hashing ones: catalog, fences, housekeeping. */
const EXTRA_CONNECTIONS = 3;

const INTERRUPTED = 'a build was interrupted: the process ended before it was done';
/** Why a tree of an earlier release is built again. */
export const OLD_DIGEST_VERSION = 'its digests are those of an earlier version of aced';

export interface ClusterOptions {
  /** Follow the rows of tracked tables one by one, see OpenRows. */
  readonly isJudging?: boolean;
  /** Of the active one of several aced; null or absent: there is one. */
  readonly reign?: Reign | null;
  /** What the one before has left. */
  readonly inheritance?: Inheritance;
}

/** Everything that lives as long as the engine: store, connections, pipelines, tables. */
export class Cluster {
  readonly config: Config;
  readonly log: Logger;
  readonly store: Store;
  readonly pools = new Map<string, SessionPool>();
  readonly pipelines = new Map<string, NodePipeline>();
  /** Node -> times that its stream could not be continued, since the process began. */
  readonly gaps = new Map<string, number>();
  readonly rowDigestCache: RowDigestCache;
  /** Making and removing what is the whole cluster's exclude each other. */
  readonly lifecycle = new Mutex();
  readonly conditions = new Conditions();
  /** Null: there are no other aced for this cluster. */
  readonly reign: Reign | null;
  readonly handover: Handover | null;
  readonly #databases = new OpenDatabases();
  readonly #openRowsBudget: OpenRowsBudget | null;
  readonly #tables = new Map<string, TrackedTable>();
  #tableList: readonly TrackedTable[] | null = null;
  /** Trees that are being built while the table has one already. */
  readonly #nextTables = new Map<string, TrackedTable>();
  readonly repairs = new RunningRepairs();
  readonly #mutexes = new Map<string, Mutex>();
  readonly #onSchemaChange = new Set<(table: TrackedTable, reason: string) => void>();

  constructor(config: Config, log: Logger, options: ClusterOptions = {}) {
    const { isJudging = false, reign = null, inheritance = new Map() } = options;
    this.config = config;
    this.log = log;
    this.reign = reign;
    this.store = this.#openStore((store) => {
      if (reign !== null) succeed(store, inheritance, reign.epoch);
    });
    this.handover =
      reign === null ? null : new Handover(reign, { store: this.store, log, inheritance });
    this.rowDigestCache = new RowDigestCache(config.tree.rowDigestBytes);
    const { openRowsBytes } = config.drift;
    const onFull = (): void => {
      const facts = { event: 'open_rows_full', limitBytes: openRowsBytes };
      log.warn(facts, 'more rows are on their way than there is room for: their blocks are read');
    };
    this.#openRowsBudget = isJudging ? new OpenRowsBudget(openRowsBytes, onFull) : null;
    this.#restoreTables();
    for (const node of config.nodes) this.pools.set(node.name, this.#newPool(node, false));
  }

  #newPool(node: NodeConfig, hasUserPath: boolean): SessionPool {
    return new Pool(node, {
      max: this.hashConcurrency(this.config.tree.maxCpuRatio) + EXTRA_CONNECTIONS,
      applicationName: `aced ${this.config.cluster}`,
      hasUserPath,
      databases: this.#databases,
    });
  }

  get isStreaming(): boolean {
    return this.pipelines.size > 0;
  }

  /** The same list until a table comes, goes or is built again. */
  get tables(): readonly TrackedTable[] {
    return (this.#tableList ??= [...this.#tables.values()]);
  }

  /** Still the table's tree: none has taken its place, and it was not torn down. */
  isTracked(table: TrackedTable): boolean {
    return this.trackedTable(table.spec.schema, table.spec.name) === table;
  }

  /** Hashing statements at once on one node. */
  hashConcurrency(ratio: number): number {
    return Math.max(1, Math.floor(availableParallelism() * ratio));
  }

  onSchemaChange(listener: (table: TrackedTable, reason: string) => void): void {
    this.#onSchemaChange.add(listener);
  }

  /** A table's catalog must be looked at again. */
  schemaChanged(table: TrackedTable, reason: string): void {
    for (const listener of this.#onSchemaChange) listener(table, reason);
  }

  /** One pipeline per node; does nothing when they run. */
  startStreaming(): void {
    if (this.isStreaming) return;
    for (const node of this.config.nodes) {
      const pipeline = new NodePipeline({
        config: this.config,
        node,
        pool: this.pool(node.name),
        store: this.store,
        reign: this.reign,
        log: this.log,
        tables: this.tables,
        onSchemaChange: (table, reason) => this.schemaChanged(table, reason),
        onGap: (name, reason) => {
          // Without tables there is nothing to lose: it is the first start.
          const level = this.#tables.size === 0 ? 'info' : 'warn';
          if (this.#tables.size > 0) this.gaps.set(name, (this.gaps.get(name) ?? 0) + 1);
          const facts = { event: 'stream_gap', node: name, tables: this.#tables.size };
          this.log[level](facts, `all blocks of the node are read again: ${reason}`);
        },
      });
      this.pipelines.set(node.name, pipeline);
      pipeline.start();
    }
  }

  /** Nobody finds a pipeline from the call on; all have let go of their slots when it returns. */
  async stopStreaming(): Promise<void> {
    const pipelines = [...this.pipelines.values()];
    this.pipelines.clear();
    await Promise.all(pipelines.map((pipeline) => pipeline.stop()));
  }

  async close(): Promise<void> {
    await this.stopStreaming();
    await this.handover?.stop();
    await Promise.all(Array.from(this.pools.values(), (pool) => pool.close()));
    this.store.close();
  }

  pool(node: string): SessionPool {
    const pool = this.pools.get(node);
    if (pool === undefined) throw this.#unknownNode(node);
    return pool;
  }

  pipeline(node: string): NodePipeline {
    const pipeline = this.pipelines.get(node);
    if (pipeline === undefined) {
      throw new AcedError('NOT_INITIALISED', `cluster ${this.config.cluster} is not streaming`, {
        hint: `Run: acectl mtree init ${this.config.cluster}`,
      });
    }
    return pipeline;
  }

  /** The nodes a command works on, in the cluster's order. At least `minimum` of them. */
  selectNodes(names: readonly string[] | undefined, minimum: number): string[] {
    const all = this.config.nodes.map((node) => node.name);
    for (const name of names ?? []) if (!all.includes(name)) throw this.#unknownNode(name);
    const selected =
      names === undefined || names.length === 0 ? all : all.filter((name) => names.includes(name));
    if (selected.length < minimum) {
      throw new AcedError('BAD_USAGE', `${minimum} nodes are needed, got ${selected.join(', ')}`, {
        hint: `The cluster has ${all.join(', ')}.`,
      });
    }
    return selected;
  }

  /** For work that is the whole cluster's: refuses a choice of nodes rather than to ignore it. */
  requireAllNodes(names: readonly string[] | undefined): void {
    const selected = this.selectNodes(names, 1);
    const left = this.config.nodes.filter((node) => !selected.includes(node.name));
    if (left.length === 0) return;
    throw new AcedError(
      'UNSUPPORTED',
      `this command works on all nodes of the cluster, not on ${selected.join(', ')} alone`,
      {
        hint: `Leave --nodes out, or take ${left.map(({ name }) => name).join(', ')} out of the cluster definition.`,
      },
    );
  }

  poolsOf(nodes: readonly string[]): Map<string, SessionPool> {
    return new Map(nodes.map((node) => [node, this.pool(node)]));
  }

  /**
   * Lends connections that keep the search path of the role's other sessions, for statements that
   * hold a condition of its user's.
   */
  async withUserPath<T>(
    nodes: readonly string[],
    work: (pools: NodePools) => Promise<T>,
  ): Promise<T> {
    const pools = new Map(nodes.map((node) => [node, this.#newPool(this.pool(node).node, true)]));
    try {
      return await work(pools);
    } finally {
      await Promise.all(Array.from(pools.values(), (pool) => pool.close()));
    }
  }

  trackedTable(schema: string, name: string): TrackedTable | undefined {
    return this.#tables.get(tableKey(schema, name));
  }

  /** The tracked table that a person typed; the hint is for who wants no tree of it. NOT_TRACKED. */
  requireTable(text: string, { hint }: { readonly hint?: string } = {}): TrackedTable {
    const table = this.findTable(text);
    if (table === undefined) {
      throw new AcedError('NOT_TRACKED', `table ${text} has no Merkle tree`, {
        hint:
          hint ??
          `If that is the table's name, build one: acectl mtree build ${this.config.cluster} ${text}; ` +
            `acectl status ${this.config.cluster} shows the tables with a tree.`,
      });
    }
    return table;
  }

  findTable(text: string): TrackedTable | undefined {
    for (const { schema, name } of possibleTables(text)) {
      const table = this.#tables.get(tableKey(schema, name));
      if (table !== undefined) return table;
    }
    // Says what is wrong with a text that cannot be a name.
    parseTableName(text);
    return undefined;
  }

  /** Work that changes or relies on a table's boundaries and leaves excludes other such work. */
  mutex(schema: string, name: string): Mutex {
    const key = tableKey(schema, name);
    let mutex = this.#mutexes.get(key);
    if (mutex === undefined) {
      mutex = new Mutex();
      this.#mutexes.set(key, mutex);
    }
    return mutex;
  }

  /** Waits for the work on every table, then runs `work`; none begins meanwhile on a known table. */
  async withEveryTable<T>(work: () => Promise<T>): Promise<T> {
    for (const { spec } of this.tables) this.mutex(spec.schema, spec.name);
    let locked = work;
    for (const mutex of this.#mutexes.values()) {
      const inner = locked;
      locked = () => mutex.run(inner);
    }
    return locked();
  }

  /**
   * Begins a tree: one block, dirty on every node, followed by every stream from now on. A tree that
   * the table has already stays, and is followed too, until finishTree.
   */
  beginTree(spec: TableSpec, readings: StoredTable['readings'], blockRows: number): TrackedTable {
    const key = tableKey(spec.schema, spec.name);
    const table = this.#trackedTable(this.store.addTable(spec, readings, blockRows));
    (this.#tables.has(key) ? this.#nextTables : this.#tables).set(key, table);
    this.#tableList = null;
    for (const pipeline of this.pipelines.values()) pipeline.addTable(table);
    return table;
  }

  /** The tree is whole: it is the table's from now on, and live. */
  finishTree(table: TrackedTable): void {
    const key = tableKey(table.spec.schema, table.spec.name);
    const before = this.#tables.get(key);
    table.promote();
    this.#nextTables.delete(key);
    this.#tables.set(key, table);
    this.#tableList = null;
    if (before !== undefined && before !== table) this.#letGo(before);
  }

  /** The tree was not finished. One of before stays as it is, with the reason beside it. */
  failTree(table: TrackedTable, reason: string): void {
    const { schema, name } = table.spec;
    const key = tableKey(schema, name);
    const before = this.#tables.get(key);
    const shown = before ?? table;
    if (this.#nextTables.get(key) === table) {
      this.#nextTables.delete(key);
      this.#letGo(table);
    }
    try {
      if (shown !== table) this.store.removeTree(table.id);
      shown.setState(shown === table ? 'failed' : shown.state, reason);
    } catch (error) {
      // Most likely why the build failed: what stays in the file is put right at the next start.
      this.log.warn({ event: 'table_state_lost', table: table.label }, logMessage(error));
    }
  }

  /** Another tree of the table is being built. */
  isRebuilding({ spec }: TrackedTable): boolean {
    return this.#nextTables.has(tableKey(spec.schema, spec.name));
  }

  untrackTable(schema: string, name: string): void {
    const key = tableKey(schema, name);
    for (const tables of [this.#tables, this.#nextTables]) {
      const table = tables.get(key);
      tables.delete(key);
      this.#tableList = null;
      if (table !== undefined) this.#letGo(table);
    }
    this.store.removeTable(schema, name);
  }

  #letGo(table: TrackedTable): void {
    for (const pipeline of this.pipelines.values()) pipeline.removeTable(table);
    table.forgetRows();
  }

  /** What was being built when the last process ended was not finished. */
  #restoreTables(): void {
    const stored = this.store.tables();
    const unfinished = new Set<string>();
    for (const { id, role, spec } of stored) {
      if (role !== 'next') continue;
      this.store.removeTree(id);
      unfinished.add(tableKey(spec.schema, spec.name));
    }
    for (const one of stored.filter(({ role }) => role === 'current')) {
      const table = this.#trackedTable(one);
      const key = tableKey(table.spec.schema, table.spec.name);
      this.#tables.set(key, table);
      this.#tableList = null;
      const isOld = table.spec.digestVersion !== DIGEST_VERSION;
      if (table.state === 'building') table.setState('failed', INTERRUPTED);
      else if (isOld && table.state === 'live') table.setState('stale', OLD_DIGEST_VERSION);
      else if (unfinished.has(key)) table.setState(table.state, INTERRUPTED);
    }
  }

  /** Errors: those of Store.open and bindServers; nothing stays open then. */
  #openStore(prepare: (store: Store) => void): Store {
    const { config, log } = this;
    const store = Store.open(config.stateDir, config.cluster);
    try {
      prepare(store);
      for (const node of store.bindServers(serversOf(config.nodes))) {
        log.warn(
          { event: 'node_moved', node },
          'another server now: all its blocks are read again',
        );
      }
    } catch (error) {
      store.close();
      throw error;
    }
    return store;
  }

  #trackedTable(stored: StoredTable): TrackedTable {
    return new TrackedTable(this.store, stored, {
      nodes: this.config.nodes.map(({ name }) => name),
      rowDigestCache: this.rowDigestCache,
      openRowsBudget: this.#openRowsBudget,
      onState: ({ from, to, reason }) => {
        const level = to === 'stale' || to === 'failed' ? 'warn' : 'info';
        const { schema, name } = stored.spec;
        const facts = { event: 'table_state', table: `${schema}.${name}`, from, to };
        this.log[level](facts, reason ?? to);
      },
    });
  }

  #unknownNode(name: string): AcedError {
    const known = this.config.nodes.map((node) => node.name).join(', ');
    return new AcedError('UNKNOWN_NODE', `cluster ${this.config.cluster} has no node "${name}"`, {
      hint: `Its nodes are ${known}.`,
    });
  }
}
