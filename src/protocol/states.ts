/** State -> the states that may follow it. Each step is logged with its reason. */
export type Transitions<State extends string> = Readonly<Record<State, readonly State[]>>;

/**
 * Where a node's stream is. `waiting`: it was lost, or could not begin (`error` says why), and is
 * tried again. `stopped`: nobody streams, as before `mtree init` or without a daemon.
 */
export type StreamState = 'stopped' | 'connecting' | 'streaming' | 'waiting';

/**
 * States of a table's tree. `building`: the first one is being made. `rebuilding`: another one is
 * being made, the one of before stays until it is whole. `live`: fits its table and follows the
 * streams. `stale`: it no longer fits its table, or the table cannot be read; the daemon tries again
 * by itself. `failed`: the first one was not finished; a person builds again.
 */
export type TableState = 'building' | 'rebuilding' | 'live' | 'stale' | 'failed';

/** What is kept of a tree; that another one is being made beside it is not. */
export type StoredState = Exclude<TableState, 'rebuilding'>;

/** Logged as `pipeline_state`. From `streaming` to `connecting`: the node is found to be another server. */
export const STREAM_TRANSITIONS: Transitions<StreamState> = {
  stopped: ['connecting'],
  connecting: ['streaming', 'waiting', 'stopped'],
  streaming: ['connecting', 'waiting', 'stopped'],
  waiting: ['connecting', 'stopped'],
};

/** Logged as `table_state`, as is another reason for the same state. A tree that is built in place of another begins as `building`. */
export const TABLE_TRANSITIONS: Transitions<StoredState> = {
  building: ['live', 'failed'],
  live: ['stale'],
  stale: ['live'],
  failed: [],
};
