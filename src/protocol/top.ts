import type { CommonParams, NodeStatus, StatusResult, Verdict } from './commands.js';
import type { IncidentState } from './drift.js';
import type { TableState } from './states.js';

export interface TopParams extends CommonParams {
  /** Whose blocks are wanted, as its label in the answer before; absent: nobody's. */
  readonly table?: string;
  /** Into how many ranges they are folded at most; default 100. */
  readonly cells?: number;
}

/** As `status` has it, and what its stream has brought. */
export interface TopNode extends NodeStatus {
  /** Row changes since the daemon's start; null: it does not stream. */
  readonly changes: number | null;
  /** `position` as a number of bytes, and the end of the node's log; null: not known. */
  readonly positionBytes: number | null;
  readonly endBytes: number | null;
}

export interface TopTable {
  readonly table: string;
  /** Null: it should be followed, and has no tree. */
  readonly state: TableState | null;
  /** Of the daemon, else of the last diff; null: nobody has compared it. */
  readonly verdict: Verdict | null;
  readonly sinceMs: number | null;
  readonly reason: string | null;
  /** Rows and blocks that not all streams have shown alike yet. */
  readonly openRows: number;
  readonly blocks: number;
  /** Over all nodes. */
  readonly dirtyBlocks: number;
  /** Id of the open incident; null: none. */
  readonly incident: string | null;
}

/** The blocks of a table in the order of its key, folded into ranges of nearly the same size. */
export interface BlockMap {
  readonly table: string;
  readonly blocks: number;
  /** Of each range: blocks in which rows are known to differ. */
  readonly differing: readonly number[];
  readonly nodes: Readonly<
    Record<
      string,
      {
        /** Of each range: blocks to be read again. */
        readonly dirty: readonly number[];
        /** Of each range: when the block was read that was read longest ago (ms); 0: one never was. */
        readonly oldestProofMs: readonly number[];
      }
    >
  >;
}

/** A moment of the daemon, from memory but for where the nodes' logs end. */
export interface TopResult extends Omit<StatusResult, 'nodes' | 'tables' | 'daemon' | 'lease'> {
  readonly nodes: readonly TopNode[];
  readonly tables: readonly TopTable[];
  readonly incidents: readonly IncidentState[];
  /** Null: no table was asked for, or it has no tree. */
  readonly map: BlockMap | null;
}
