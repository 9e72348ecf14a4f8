/**
 * Every metric of ours: name, what it is, labels. One place, so that a test can hold the examples and
 * docs/12-operations.md against it. Never a label: keys of rows, positions, ids of incidents; their
 * number has no bound. Each series has the label `cluster` besides.
 */
export interface MetricSpec {
  readonly name: string;
  readonly kind: 'gauge' | 'counter' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
  /** How the values of tables become one where tables have no series of their own. Default: `sum`. */
  readonly overTables?: 'sum' | 'min' | 'max' | 'none';
}

const gauge = (name: string, help: string, ...labels: string[]): MetricSpec => ({
  name,
  kind: 'gauge',
  help,
  labels,
});
const counter = (name: string, help: string, ...labels: string[]): MetricSpec => ({
  name,
  kind: 'counter',
  help,
  labels,
});

export const METRICS = {
  buildInfo: gauge('aced_build_info', 'Always 1.', 'version', 'node_version', 'digest_version'),
  up: gauge('aced_up', 'Whether the stream of the node is up.', 'node'),
  position: gauge(
    'aced_stream_position_bytes',
    'Position in the log of the node up to which everything is applied.',
    'node',
  ),
  lag: gauge(
    'aced_stream_lag_bytes',
    'Log beyond the position when the node was last looked at, every 10 s.',
    'node',
  ),
  lastCommit: gauge(
    'aced_stream_last_commit_timestamp_seconds',
    'Commit time of the last transaction that was applied.',
    'node',
  ),
  retained: gauge(
    'aced_slot_retained_bytes',
    'Log that our slot holds back, when last looked at.',
    'node',
  ),
  budget: gauge(
    'aced_slot_budget_bytes',
    'Log that it may hold back before it is dropped, by us or by the server.',
    'node',
  ),
  secondsLeft: gauge(
    'aced_slot_seconds_left',
    'Until the budget is gone at the present pace; absent while the slot does not grow.',
    'node',
  ),
  changes: counter('aced_changes_total', 'Row changes that the stream has brought.', 'node'),
  gaps: counter(
    'aced_stream_gaps_total',
    'Times that a stream could not be continued, so that all blocks of the node were read again.',
    'node',
  ),
  reconnects: counter(
    'aced_reconnects_total',
    'Connections of the stream after the first.',
    'node',
  ),
  tables: gauge('aced_tables', 'Tracked tables by their verdict.', 'verdict'),
  verdict: {
    ...gauge('aced_table_verdict', 'The verdict on the table: always 1.', 'table', 'verdict'),
    overTables: 'none',
  },
  openRows: gauge(
    'aced_open_rows',
    'Rows and blocks that not all streams have shown alike yet.',
    'table',
  ),
  oldestOpenRow: {
    ...gauge(
      'aced_oldest_open_row_seconds',
      'Since the last change of the open row that has been quiet for longest; 0: none is open.',
      'table',
    ),
    overTables: 'max',
  },
  dirtyBlocks: gauge('aced_dirty_blocks', 'Blocks that are to be read again.', 'node', 'table'),
  oldestProof: {
    ...gauge(
      'aced_oldest_block_verified_timestamp_seconds',
      'When the block was read whose last reading is the oldest; 0: one was never read.',
      'table',
    ),
    overTables: 'min',
  },
  matched: {
    ...gauge(
      'aced_table_verified_timestamp_seconds',
      'When the verdict on the table was last match; absent: not since the start.',
      'table',
    ),
    overTables: 'min',
  },
  incidents: gauge('aced_incidents_open', 'Open incidents.', 'table', 'cause'),
  incidentRows: gauge('aced_incident_rows', 'Rows that differ.', 'table'),
  incidentSince: {
    ...gauge(
      'aced_incident_oldest_timestamp_seconds',
      'When the oldest open incident was opened.',
      'table',
    ),
    overTables: 'min',
  },
  conditions: gauge(
    'aced_conditions_open',
    'What keeps aced from vouching for something, or is about to; kinds are names of events.',
    'kind',
  ),
  opened: counter('aced_incidents_opened_total', 'Incidents that were opened.', 'table', 'cause'),
  closed: counter('aced_incidents_closed_total', 'Incidents that were resolved.', 'table', 'how'),
  detection: {
    name: 'aced_detection_seconds',
    kind: 'histogram',
    help: 'From the last commit of the first row that differs to its incident.',
    labels: [],
  },
  repaired: counter(
    'aced_repairs_total',
    'Rows that repairs have written (applied), left alone (skipped) or could not write (failed).',
    'table',
    'result',
  ),
  events: counter('aced_events_total', 'Events that were told.', 'event'),
  jobRuns: counter(
    'aced_job_runs_total',
    'Runs of a scheduled job that have ended; results as acectl tasks shows them.',
    'job',
    'result',
  ),
  jobSuccess: gauge(
    'aced_job_last_success_timestamp_seconds',
    'When the last run of the job ended that proved or did what it should, whatever it found; absent: none is known.',
    'job',
  ),
  canaryAge: gauge(
    'aced_canary_age_seconds',
    'Since a canary was last found on every node; absent: not since the start.',
  ),
  commands: counter('aced_commands_total', 'Commands that have ended.', 'command', 'outcome'),
} as const satisfies Record<string, MetricSpec>;

export type MetricId = keyof typeof METRICS;
