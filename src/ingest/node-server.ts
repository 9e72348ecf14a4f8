import { randomUUID } from 'node:crypto';
import type { Lsn } from '../base/lsn.js';
import type { BlockQuery } from '../merkle/block-sql.js';
import type { TextRow } from '../postgres/session.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { parseSnapshot, type Snapshot } from '../postgres/snapshot.js';
import { findHalfCommitted } from '../replication/half-committed.js';
import { emitBarrier } from '../replication/positions.js';
import type { KeyText } from '../table/table-spec.js';
import type { TrackedTable } from './tracked-table.js';

/** What a node is asked beside its stream. Errors of all: those of a query. */
export interface NodeServer {
  /** The answer to one statement, hence of one snapshot. */
  read(query: BlockQuery, signal: AbortSignal): Promise<readonly TextRow[]>;
  /** The positions of the blocks that the keys lie in, in the order of the keys. */
  locate(table: TrackedTable, keys: readonly KeyText[]): Promise<readonly number[]>;
  /** See findHalfCommitted. */
  hiddenXids(signal: AbortSignal): Promise<readonly bigint[]>;
  snapshot(): Promise<Snapshot>;
  /** See emitBarrier. */
  fence(signal: AbortSignal | undefined): Promise<Lsn>;
}

export function nodeServer(pool: SessionPool): NodeServer {
  return {
    read: (query, signal) =>
      pool.use((session) => session.query(query.text, query.params, signal), signal),
    locate: async (table, keys) => {
      const bounds = table.layout.lowers.slice(1).map((lower) => lower ?? []);
      const query = table.sql.locate(keys, bounds);
      const rows = await pool.use((session) => session.query(query.text, query.params));
      const positions = new Array<number>(keys.length).fill(0);
      for (const [index, position] of rows) positions[Number(index)] = Number(position);
      return positions;
    },
    hiddenXids: (signal) => pool.use((session) => findHalfCommitted(session, signal), signal),
    snapshot: async () => {
      const rows = await pool.use((session) =>
        session.query('SELECT pg_catalog.pg_current_snapshot()'),
      );
      return parseSnapshot(rows[0]?.[0] ?? '');
    },
    fence: (signal) => pool.use((session) => emitBarrier(session, randomUUID()), signal),
  };
}
