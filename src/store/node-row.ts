import { formatLsn, parseLsn } from '../base/lsn.js';
import type { LastTransaction } from '../replication/start-decision.js';
import type { StoredNode } from './store.js';

/** A row of the table `node`, as SQLite gives it. */
export interface NodeRow {
  system_id: string;
  timeline: number;
  server_start: string | null;
  position: string;
  last_end: string | null;
  last_xid: number | null;
  last_time: string | null;
}

export function nodeFromRow(row: NodeRow): StoredNode {
  const position = parseLsn(row.position);
  return {
    systemId: row.system_id,
    timeline: row.timeline,
    serverStart: row.server_start,
    position,
    last: {
      endLsn: row.last_end === null ? position : parseLsn(row.last_end),
      commit:
        row.last_xid === null ? null : { xid: row.last_xid, timeUs: BigInt(row.last_time ?? '0') },
    },
  };
}

/** `last_end`, `last_xid` and `last_time`. */
export function lastColumns(last: LastTransaction | undefined): (string | number | null)[] {
  if (last === undefined) return [null, null, null];
  const { endLsn, commit } = last;
  return [formatLsn(endLsn), commit?.xid ?? null, commit?.timeUs.toString() ?? null];
}
