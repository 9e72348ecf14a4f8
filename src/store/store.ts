import { chmodSync } from 'node:fs';
import path from 'node:path';
import Sqlite from 'better-sqlite3';
import { AcedError } from '../base/errors.js';
import { formatLsn, parseLsn, type Lsn } from '../base/lsn.js';
import type { DigestSeed } from '../digest/digest-column.js';
import { BlockLayout, type LayoutChange } from '../merkle/layout.js';
import type { LeafState, LeafValue } from '../merkle/leaves.js';
import type { LastDiff, Verdict } from '../protocol/commands.js';
import { sameAddress, type Servers } from '../protocol/servers.js';
import type { StoredState } from '../protocol/states.js';
import type { CatalogReading } from '../table/fingerprint.js';
import type { LastTransaction } from '../replication/start-decision.js';
import type { TableName } from '../table/table-name.js';
import type { KeyText, TableSpec } from '../table/table-spec.js';
import { migrate } from './migrations.js';
import { lastColumns, nodeFromRow, type NodeRow } from './node-row.js';
import { KeptStates } from './kept-states.js';
import { Meta, type StoreIdentity } from './meta.js';
import { TaskHistory } from './task-history.js';
import { notCreated, otherServers, storeError } from './store-error.js';
import { makeDirectory, makeFile } from './own-files.js';
import { StateLock } from './state-lock.js';

/** `next`: it is being made beside the current one. */
export type TreeRole = 'current' | 'next';

export interface StoredTable {
  readonly id: number;
  readonly role: TreeRole;
  readonly spec: TableSpec;
  /** Node -> what its catalog said when the spec was made. */
  readonly readings: Readonly<Record<string, CatalogReading>>;
  readonly state: StoredState;
  readonly reason: string | null;
  readonly blockRows: number;
}

/** A table as a successor is to follow it. */
export type InheritedTable = Pick<StoredTable, 'spec' | 'blockRows' | 'state' | 'reason'>;

export interface StoredNode {
  readonly systemId: string;
  readonly timeline: number;
  /** As the server prints it: tells one run of a server from another. */
  readonly serverStart: string | null;
  readonly position: Lsn;
  readonly last: LastTransaction;
}

export interface StoredLeaf extends LeafState {
  readonly blockId: number;
}

/** A leaf that was not what its table says. */
export interface WrongLeaf {
  readonly schema: string;
  readonly name: string;
  readonly node: string;
  readonly blockId: number;
  /** What was looking. */
  readonly foundBy: string;
  readonly foundAtMs: number;
  readonly leaf: LeafValue;
  readonly read: LeafValue;
}

export interface StoredFilter {
  readonly id: number;
  readonly snapshot: string;
  readonly fence: Lsn;
}

/** Everything of one node that becomes durable together. */
export interface NodeBatch {
  readonly node: string;
  /** End LSN of the last transaction in the batch, or an idle position. */
  readonly position: Lsn;
  /** Absent: the one that is stored. */
  readonly last?: LastTransaction;
  readonly leaves: readonly { readonly tableId: number; readonly leaf: StoredLeaf }[];
  /** All filters that still matter; others are forgotten. */
  readonly filters: readonly StoredFilter[];
}

interface TableRow {
  id: number;
  role: TreeRole;
  spec: string;
  readings: string;
  state: StoredState;
  reason: string | null;
  block_rows: number;
}

/**
 * The daemon's memory: one SQLite file. A batch of leaf changes and the node's position are one
 * transaction, synced to disk at commit, because only what is durable may be confirmed to a slot.
 */
export class Store {
  readonly meta: Meta;
  readonly kept: KeptStates;
  readonly tasks: TaskHistory;
  readonly #database: Sqlite.Database;
  readonly #lock: StateLock;
  readonly #statements = new Map<string, Sqlite.Statement>();

  private constructor(database: Sqlite.Database, lock: StateLock, cluster: string) {
    this.#database = database;
    this.#lock = lock;
    this.kept = new KeptStates((sql, work) => this.#run(sql, work));
    this.tasks = new TaskHistory((sql, work) => this.#run(sql, work));
    this.meta = new Meta((sql, work) => this.#run(sql, work));
    const owner = this.meta.getOrCreate('cluster', () => cluster);
    if (owner !== cluster) {
      throw new AcedError('STORE', `the state directory belongs to cluster "${owner}"`, {
        hint: `Use another ACED_STATE_DIR for cluster "${cluster}".`,
      });
    }
  }

  get seed(): DigestSeed {
    return this.meta.seed;
  }

  /** Public name of the seed, for diff files: equal names mean comparable digests. */
  get seedId(): string {
    return this.meta.identity.seedId;
  }

  /** Creates the directory (0700) and the file when missing, and locks them for this process. */
  static open(stateDir: string, cluster: string): Store {
    try {
      makeDirectory(stateDir);
    } catch (error) {
      throw notCreated(stateDir, error);
    }
    const lock = StateLock.acquire(stateDir);
    let database: Sqlite.Database | null = null;
    try {
      const file = path.join(stateDir, 'aced.sqlite');
      makeFile(file);
      database = new Sqlite(file);
      chmodSync(file, 0o600);
      database.pragma('journal_mode = WAL');
      database.pragma('synchronous = FULL');
      migrate(database);
      database.pragma('foreign_keys = ON');
      return new Store(database, lock, cluster);
    } catch (error) {
      database?.close();
      lock.release();
      throw storeError(`cannot open the state file in ${stateDir}`, error);
    }
  }

  close(): void {
    this.tasks.flush();
    this.#database.close();
    this.#lock.release();
  }

  /**
   * Binds this state to the servers that it is of. What is known of a node that is another server now
   * is forgotten; returns those nodes. Errors: OTHER_SERVERS when not one of them is the same: that is
   * another cluster of the same name, whose state must neither be used nor lost.
   */
  bindServers(servers: Servers): string[] {
    return this.#transaction(() => {
      const stored = this.meta.get('servers');
      const before = (stored === null ? {} : JSON.parse(stored)) as Servers;
      const known = Object.keys(before).filter((node) => Object.hasOwn(servers, node));
      const moved = known.filter((node) => !sameAddress(before[node], servers[node]));
      const isUsed = this.isInitialised() || this.tables().length > 0;
      if (isUsed && stored !== null && moved.length === known.length) {
        throw otherServers(before, servers);
      }
      for (const node of moved) this.forgetNode(node);
      this.meta.set('servers', JSON.stringify(servers));
      return moved;
    });
  }

  isInitialised(): boolean {
    return this.meta.get('initialised') !== null;
  }

  setInitialised(isInitialised: boolean): void {
    if (isInitialised) this.meta.set('initialised', 'yes');
    else this.meta.remove('initialised');
  }

  node(name: string): StoredNode | null {
    const row = this.#run('SELECT * FROM node WHERE name = ?', (statement) =>
      statement.get(name),
    ) as NodeRow | undefined;
    if (row === undefined) return null;
    return nodeFromRow(row);
  }

  saveNode(name: string, node: StoredNode): void {
    this.#run(
      `INSERT OR REPLACE INTO node
         (name, system_id, timeline, server_start, position, last_end, last_xid, last_time)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      (statement) =>
        statement.run(
          name,
          node.systemId,
          node.timeline,
          node.serverStart,
          formatLsn(node.position),
          ...lastColumns(node.last),
        ),
    );
  }

  /**
   * The server is perhaps not the one that blocks were read from: forgets the snapshots that the stream
   * has not passed, together with the leaves that were read in them.
   */
  distrustSnapshots(name: string, serverStart: string): void {
    this.#transaction(() => {
      this.#run(
        `UPDATE leaf SET is_dirty = 1, filter = 0 WHERE node = ?
            AND filter IN (SELECT id FROM snapshot_filter WHERE snapshot_filter.node = leaf.node)`,
        (s) => s.run(name),
      );
      this.#run('DELETE FROM snapshot_filter WHERE node = ?', (s) => s.run(name));
      this.#run('UPDATE node SET server_start = ? WHERE name = ?', (s) => s.run(serverStart, name));
    });
  }

  /** Forgets the position and every leaf's snapshot of the node: there's a gap in its stream. */
  forgetNode(name: string): void {
    this.#transaction(() => {
      this.#run('DELETE FROM node WHERE name = ?', (s) => s.run(name));
      this.#run('DELETE FROM snapshot_filter WHERE node = ?', (s) => s.run(name));
      this.#run('UPDATE leaf SET is_dirty = 1, filter = 0 WHERE node = ?', (s) => s.run(name));
    });
  }

  tables(): StoredTable[] {
    return this.#run('SELECT * FROM tracked_table ORDER BY id', (s) => s.all() as TableRow[]).map(
      (row) => ({
        id: row.id,
        role: row.role,
        spec: JSON.parse(row.spec) as TableSpec,
        readings: JSON.parse(row.readings) as StoredTable['readings'],
        state: row.state,
        reason: row.reason,
        blockRows: row.block_rows,
      }),
    );
  }

  /**
   * Begins a tree of a table with one block that is dirty on every node: the current one if the table
   * has none, else the next one, beside it.
   */
  addTable(spec: TableSpec, readings: StoredTable['readings'], blockRows: number): StoredTable {
    return this.#transaction(() => {
      const { schema, name } = spec;
      const hasTree = this.#run('SELECT 1 FROM tracked_table WHERE schema = ? AND name = ?', (s) =>
        s.get(schema, name),
      );
      const role: TreeRole = hasTree === undefined ? 'current' : 'next';
      this.#run(`DELETE FROM tracked_table WHERE schema = ? AND name = ? AND role = 'next'`, (s) =>
        s.run(schema, name),
      );
      const { lastInsertRowid } = this.#run(
        `INSERT INTO tracked_table
           (schema, name, role, spec, readings, state, reason, block_rows, layout_version)
         VALUES (?, ?, ?, ?, ?, 'building', NULL, ?, 1)`,
        (s) => s.run(schema, name, role, JSON.stringify(spec), JSON.stringify(readings), blockRows),
      );
      const id = Number(lastInsertRowid);
      this.#insertBlock(id, BlockLayout.single(), 0);
      const state = 'building' as const;
      return { id, role, spec, readings, state, reason: null, blockRows };
    });
  }

  /** The next tree is whole: it takes the place of the one of before, in one moment. */
  promoteTable({ id, spec }: Pick<StoredTable, 'id' | 'spec'>): void {
    this.#transaction(() => {
      this.#run(
        `DELETE FROM tracked_table WHERE schema = ? AND name = ? AND role = 'current' AND id <> ?`,
        (s) => s.run(spec.schema, spec.name, id),
      );
      this.#run(
        `UPDATE tracked_table SET role = 'current', state = 'live', reason = NULL WHERE id = ?`,
        (s) => s.run(id),
      );
    });
  }

  setTableState(id: number, state: StoredState, reason: string | null): void {
    this.#run('UPDATE tracked_table SET state = ?, reason = ? WHERE id = ?', (s) =>
      s.run(state, reason, id),
    );
  }

  setTableReadings(id: number, readings: StoredTable['readings']): void {
    this.#run('UPDATE tracked_table SET readings = ? WHERE id = ?', (s) =>
      s.run(JSON.stringify(readings), id),
    );
  }

  /** One tree of a table. */
  removeTree(id: number): void {
    this.#run('DELETE FROM tracked_table WHERE id = ?', (s) => s.run(id));
  }

  /** All that is known of a table. */
  removeTable(schema: string, name: string): void {
    this.#transaction(() => {
      for (const table of ['tracked_table', 'last_diff']) {
        this.#run(`DELETE FROM ${table} WHERE schema = ? AND name = ?`, (s) => s.run(schema, name));
      }
    });
  }

  lastDiff(schema: string, name: string): LastDiff | null {
    const row = this.#run(
      `SELECT verdict, at, differences, is_beyond_tree AS isBeyondTree FROM last_diff
        WHERE schema = ? AND name = ?`,
      (s) => s.get(schema, name),
    ) as { verdict: Verdict; at: string; differences: string; isBeyondTree: number } | undefined;
    if (row === undefined) return null;
    return {
      ...row,
      differences: JSON.parse(row.differences) as LastDiff['differences'],
      isBeyondTree: row.isBeyondTree === 1,
    };
  }

  saveLastDiffs(diffs: readonly (TableName & LastDiff)[]): void {
    this.#transaction(() => {
      for (const { schema, name, verdict, at, differences, isBeyondTree } of diffs) {
        this.#run('INSERT OR REPLACE INTO last_diff VALUES (?, ?, ?, ?, ?, ?)', (s) =>
          s.run(schema, name, verdict, at, JSON.stringify(differences), Number(isBeyondTree)),
        );
      }
    });
  }

  layout(tableId: number): BlockLayout {
    const version = this.#run('SELECT layout_version AS v FROM tracked_table WHERE id = ?', (s) =>
      s.get(tableId),
    ) as { v: number };
    const rows = this.#run(
      'SELECT id, rank, lower FROM block WHERE table_id = ? ORDER BY rank',
      (s) => s.all(tableId),
    ) as { id: number; rank: number; lower: string | null }[];
    return BlockLayout.restore(
      rows.map((row) => ({
        id: row.id,
        rank: row.rank,
        lower: row.lower === null ? null : (JSON.parse(row.lower) as KeyText),
      })),
      version.v,
    );
  }

  /** Stores what is new in the layout. Leaves of blocks that are gone go with them. */
  saveLayout(tableId: number, change: LayoutChange): void {
    const { layout, removedIds, addedPositions, isRenumbered } = change;
    this.#transaction(() => {
      this.#run('UPDATE tracked_table SET layout_version = ? WHERE id = ?', (s) =>
        s.run(layout.version, tableId),
      );
      const removeBlock = this.#statement('DELETE FROM block WHERE table_id = ? AND id = ?');
      const removeLeaves = this.#statement('DELETE FROM leaf WHERE table_id = ? AND block_id = ?');
      for (const id of removedIds) {
        removeBlock.run(tableId, id);
        removeLeaves.run(tableId, id);
      }
      for (const position of addedPositions) this.#insertBlock(tableId, layout, position);
      if (!isRenumbered) return;
      const setRank = this.#statement('UPDATE block SET rank = ? WHERE table_id = ? AND id = ?');
      layout.ids.forEach((id, position) => setRank.run(layout.ranks[position], tableId, id));
    });
  }

  #insertBlock(tableId: number, layout: BlockLayout, position: number): void {
    const lower = layout.lowers[position] ?? null;
    this.#run('INSERT INTO block (table_id, id, rank, lower) VALUES (?, ?, ?, ?)', (s) =>
      s.run(
        tableId,
        layout.ids[position],
        layout.ranks[position],
        lower === null ? null : JSON.stringify(lower),
      ),
    );
  }

  /** Leaves that were ever saved; a block without one is unknown, hence dirty. */
  leaves(tableId: number, node: string): StoredLeaf[] {
    const rows = this.#run(
      `SELECT block_id, row_count, sum_low, sum_high, is_dirty, filter, proved_at
         FROM leaf WHERE table_id = ? AND node = ?`,
      (s) => s.all(tableId, node),
    ) as {
      block_id: number;
      row_count: number;
      sum_low: number;
      sum_high: number;
      is_dirty: number;
      filter: number;
      proved_at: number;
    }[];
    return rows.map((row) => ({
      blockId: row.block_id,
      rows: row.row_count,
      sumLow: row.sum_low,
      sumHigh: row.sum_high,
      isDirty: row.is_dirty === 1,
      filter: row.filter,
      provedAtMs: row.proved_at,
    }));
  }

  filters(node: string): StoredFilter[] {
    const rows = this.#run('SELECT id, snapshot, fence FROM snapshot_filter WHERE node = ?', (s) =>
      s.all(node),
    ) as { id: number; snapshot: string; fence: string }[];
    return rows.map((row) => ({
      id: row.id,
      snapshot: row.snapshot,
      fence: parseLsn(row.fence),
    }));
  }

  /** One durable transaction. After it returns, `batch.position` may be confirmed to the slot. */
  saveBatch(batch: NodeBatch): void {
    this.#transaction(() => {
      const position = formatLsn(batch.position);
      const { changes } =
        batch.last === undefined
          ? this.#run('UPDATE node SET position = ? WHERE name = ?', (s) =>
              s.run(position, batch.node),
            )
          : this.#run(
              'UPDATE node SET position = ?, last_end = ?, last_xid = ?, last_time = ? WHERE name = ?',
              (s) => s.run(position, ...lastColumns(batch.last), batch.node),
            );
      if (changes !== 1) {
        throw new AcedError('INTERNAL', `node ${batch.node} is not in the store`);
      }
      const upsert = this.#statement(
        `INSERT INTO leaf
           (table_id, block_id, node, row_count, sum_low, sum_high, is_dirty, filter, proved_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (table_id, block_id, node) DO UPDATE SET
           row_count = excluded.row_count, sum_low = excluded.sum_low,
           sum_high = excluded.sum_high, is_dirty = excluded.is_dirty, filter = excluded.filter,
           proved_at = excluded.proved_at`,
      );
      for (const { tableId, leaf } of batch.leaves) {
        upsert.run(
          tableId,
          leaf.blockId,
          batch.node,
          leaf.rows,
          leaf.sumLow,
          leaf.sumHigh,
          leaf.isDirty ? 1 : 0,
          leaf.filter,
          leaf.provedAtMs,
        );
      }
      this.#run('DELETE FROM snapshot_filter WHERE node = ?', (s) => s.run(batch.node));
      const insertFilter = this.#statement('INSERT INTO snapshot_filter VALUES (?, ?, ?, ?)');
      for (const filter of batch.filters) {
        insertFilter.run(batch.node, filter.id, filter.snapshot, formatLsn(filter.fence));
      }
    });
  }

  /** Adds to what was found wrong before; of each block the last time is kept. */
  addWrongLeaf(found: WrongLeaf): void {
    this.#run(
      `INSERT INTO wrong_leaf VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (schema, name, node, block_id) DO UPDATE SET
         times = times + 1, found_at = excluded.found_at, found_by = excluded.found_by,
         leaf_rows = excluded.leaf_rows, leaf_sum = excluded.leaf_sum,
         read_rows = excluded.read_rows, read_sum = excluded.read_sum`,
      (s) =>
        s.run(
          found.schema,
          found.name,
          found.node,
          found.blockId,
          found.foundAtMs,
          found.foundBy,
          found.leaf.rows,
          String(found.leaf.sum),
          found.read.rows,
          String(found.read.sum),
        ),
    );
  }

  /** How often a leaf of the table was found wrong, ever. */
  wrongLeaves(schema: string, name: string): number {
    const row = this.#run(
      'SELECT coalesce(sum(times), 0) AS n FROM wrong_leaf WHERE schema = ? AND name = ?',
      (s) => s.get(schema, name),
    ) as { n: number };
    return row.n;
  }

  /**
   * Forgets all there is, and becomes the state of another one, whose tables are followed from now on:
   * nothing is known of their rows.
   */
  succeed(identity: StoreIdentity, tables: readonly InheritedTable[]): void {
    this.#transaction(() => {
      this.clear();
      this.meta.setIdentity(identity);
      for (const { spec, blockRows, state, reason } of tables) {
        const { id } = this.addTable(spec, {}, blockRows);
        this.setTableState(id, state, reason);
      }
    });
  }

  /** Forgets every table, node and snapshot; the seed stays, so digests stay comparable. */
  clear(): void {
    this.#transaction(() => {
      for (const table of [
        'tracked_table',
        'node',
        'snapshot_filter',
        'last_diff',
        'wrong_leaf',
        'incident',
        'condition',
        'auto_table',
      ]) {
        this.#database.exec(`DELETE FROM ${table}`);
      }
      this.setInitialised(false);
    });
  }

  /** One transaction; durable when it returns. Nested calls are part of the outer one. */
  #transaction<T>(work: () => T): T {
    try {
      return this.#database.transaction(work)();
    } catch (error) {
      throw storeError('cannot write the state file', error);
    }
  }

  #statement(sql: string): Sqlite.Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #run<T>(sql: string, work: (statement: Sqlite.Statement) => T): T {
    try {
      return work(this.#statement(sql));
    } catch (error) {
      throw storeError('cannot use the state file', error);
    }
  }
}
