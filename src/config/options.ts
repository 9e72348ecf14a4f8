import {
  byteSize,
  integer,
  nameList,
  onOff,
  oneOf,
  path,
  ratio,
  rowLimit,
  text,
  textList,
  secret,
  webAddress,
} from './option-values.js';
import type { ValueKind } from './option-values.js';

/** A key of ACE's `ace.yaml` with our meaning; its own kind where the unit differs. */
export interface AceKey<T> {
  readonly key: string;
  readonly kind?: ValueKind<T>;
}

/** One option, declared once: flags, environment, both YAML files and the help come from it. */
export interface OptionSpec<T> {
  /** In `aced.yaml`; dots are nesting. */
  readonly key: string;
  readonly env: string;
  /** Key of the `overrides` object, when a flag sets this option too. */
  readonly override?: string;
  readonly ace?: readonly AceKey<T>[];
  readonly kind: ValueKind<T>;
  /** Absent: worked out (paths), or there is none (cluster). */
  readonly defaultValue?: T;
  readonly doc: string;
}

const option = <T>(spec: OptionSpec<T>): OptionSpec<T> => spec;

const MEBIBYTE = 1024 ** 2;
const GIBIBYTE = 1024 ** 3;
/** A day: timers run at once when they are given more than 24 days. */
const MAX_SECONDS = 86_400;
const milliseconds = (min: number): ValueKind<number> =>
  integer({ min, max: MAX_SECONDS * 1000, unit: 'milliseconds' });
const seconds = (min: number): ValueKind<number> =>
  integer({ min, max: MAX_SECONDS, scale: 1000, unit: 'seconds' });

/** The names become part of file names, of a slot's and of a section's: no `/`, no blanks, no `]`. */
const CLUSTER_NAME = text(
  'letters, digits, _ - and . (not first)',
  /^[\p{L}\p{N}_-][\p{L}\p{N}_.-]{0,199}$/u,
);

const TABLE_PATTERNS = textList(
  'a list of patterns as public.*, sales.order_?, "My Schema".*; * is any characters, ? one',
);
const NOTHING: readonly string[] = [];

export const OPTIONS = {
  cluster: option({
    key: 'default_cluster',
    env: 'ACED_CLUSTER',
    override: 'cluster',
    ace: [{ key: 'default_cluster' }],
    kind: CLUSTER_NAME,
    doc: 'cluster to use when none is named',
  }),
  stateDir: option({
    key: 'state_dir',
    env: 'ACED_STATE_DIR',
    override: 'stateDir',
    kind: path,
    doc: 'directory of the SQLite file, its lock and the spool',
  }),
  socketPath: option({
    key: 'socket',
    env: 'ACED_SOCKET',
    override: 'socket',
    kind: path,
    doc: 'unix socket between acectl and aced',
  }),
  maxCommands: option({
    key: 'max_commands',
    env: 'ACED_MAX_COMMANDS',
    kind: integer({ min: 1, max: 1_000 }),
    defaultValue: 32,
    doc: 'commands that the daemon runs at a time; one more is refused',
  }),
  logLevel: option({
    key: 'log_level',
    env: 'ACED_LOG_LEVEL',
    override: 'logLevel',
    kind: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']),
    defaultValue: 'info',
    doc: 'least severe messages to log',
  }),
  nodeSchema: option({
    key: 'node_schema',
    env: 'ACED_NODE_SCHEMA',
    kind: text('a schema name of at most 63 bytes, not pg_*', /^(?!pg_)[^\0]{1,63}$/u),
    defaultValue: 'aced',
    doc: 'schema of our tables on the nodes',
  }),
  blockRows: option({
    key: 'tree.block_rows',
    env: 'ACED_TREE_BLOCK_ROWS',
    ace: [{ key: 'mtree.diff.block_size' }],
    kind: integer({ min: 1, max: 10_000_000 }),
    defaultValue: 200,
    doc: 'rows per block that a build aims at',
  }),
  maxBlocks: option({
    key: 'tree.max_blocks',
    env: 'ACED_TREE_MAX_BLOCKS',
    kind: integer({ min: 1, max: 10_000_000 }),
    defaultValue: 200_000,
    doc: 'blocks of one table, about: the blocks of a larger one have more rows',
  }),
  maxCpuRatio: option({
    key: 'tree.max_cpu_ratio',
    env: 'ACED_TREE_MAX_CPU_RATIO',
    ace: [{ key: 'table_diff.max_cpu_ratio' }],
    kind: ratio({ min: 0, max: 1 }),
    defaultValue: 0.5,
    doc: "share of this host's cores' worth of hashing queries per node",
  }),
  refreshQuietMs: option({
    key: 'tree.refresh_quiet_ms',
    env: 'ACED_TREE_REFRESH_QUIET_MS',
    kind: milliseconds(0),
    defaultValue: 1000,
    doc: 'a dirty block is refreshed once it has been quiet for so long',
  }),
  refreshBudget: option({
    key: 'tree.refresh_budget',
    env: 'ACED_TREE_REFRESH_BUDGET',
    kind: ratio({ min: 0, max: 1 }),
    defaultValue: 0.25,
    doc: "share of one connection's time for refreshing in the background; 0 switches it off",
  }),
  rowDigestBytes: option({
    key: 'tree.row_digest_bytes',
    env: 'ACED_TREE_ROW_DIGEST_BYTES',
    kind: byteSize(0),
    defaultValue: 32 * MEBIBYTE,
    doc: 'memory for the digests of rows that change often, so that their blocks are not read again; 0 keeps none',
  }),
  catalogWatchMs: option({
    key: 'tree.catalog_watch_ms',
    env: 'ACED_TREE_CATALOG_WATCH_MS',
    kind: milliseconds(100),
    defaultValue: 1000,
    doc: 'the definitions of followed tables are looked at so often',
  }),
  scrubBudget: option({
    key: 'scrub.budget',
    env: 'ACED_SCRUB_BUDGET',
    kind: ratio({ min: 0, max: 1 }),
    defaultValue: 0.01,
    doc: "share of one connection's time for comparing leaves with tables in the background; 0 switches it off",
  }),
  scrubIntervalMs: option({
    key: 'scrub.interval_ms',
    env: 'ACED_SCRUB_INTERVAL_MS',
    kind: integer({ min: 0, max: MAX_SECONDS * 1000 * 365, unit: 'milliseconds' }),
    defaultValue: MAX_SECONDS * 1000,
    doc: 'a block is compared with its table once it was not for so long',
  }),
  scrubMaxActiveBackends: option({
    key: 'scrub.max_active_backends',
    env: 'ACED_SCRUB_MAX_ACTIVE_BACKENDS',
    kind: integer({ min: 0 }),
    defaultValue: 8,
    doc: 'the scrub leaves a node alone that has more active sessions',
  }),
  maxDiffRows: option({
    key: 'diff.max_diff_rows',
    env: 'ACED_DIFF_MAX_DIFF_ROWS',
    ace: [{ key: 'table_diff.max_diff_rows' }, { key: 'mtree.diff.max_diff_rows' }],
    kind: rowLimit(),
    defaultValue: 1_000_000,
    doc: 'differing rows per pair of nodes after which a diff stops',
  }),
  compareUnitSize: option({
    key: 'diff.compare_unit_size',
    env: 'ACED_DIFF_COMPARE_UNIT_SIZE',
    ace: [{ key: 'table_diff.compare_unit_size' }],
    kind: integer({ min: 1 }),
    defaultValue: 10_000,
    doc: 'rows of the smallest range that a diff splits off before it compares rows',
  }),
  concurrencyFactor: option({
    key: 'diff.concurrency_factor',
    env: 'ACED_DIFF_CONCURRENCY_FACTOR',
    ace: [{ key: 'table_diff.concurrency_factor' }],
    kind: ratio({ min: 0, max: 4 }),
    defaultValue: 0.5,
    doc: "a diff's queries per node as a multiple of this host's cores",
  }),
  settleTimeoutMs: option({
    key: 'diff.settle_timeout_ms',
    env: 'ACED_DIFF_SETTLE_TIMEOUT_MS',
    kind: milliseconds(0),
    defaultValue: 30_000,
    doc: 'how long a diff waits for rows that are still being replicated',
  }),
  flushIntervalMs: option({
    key: 'stream.flush_interval_ms',
    env: 'ACED_STREAM_FLUSH_INTERVAL_MS',
    kind: milliseconds(1),
    defaultValue: 500,
    doc: 'changes become durable, and are confirmed, at least so often',
  }),
  connectTimeoutMs: option({
    key: 'stream.connect_timeout_ms',
    env: 'ACED_STREAM_CONNECT_TIMEOUT_MS',
    ace: [{ key: 'postgres.connection_timeout', kind: seconds(0) }],
    kind: milliseconds(0),
    defaultValue: 10_000,
    doc: 'how long a connection may take; 0: no limit',
  }),
  tcpUserTimeoutMs: option({
    key: 'stream.tcp_user_timeout_ms',
    env: 'ACED_STREAM_TCP_USER_TIMEOUT_MS',
    kind: milliseconds(0),
    defaultValue: 30_000,
    doc: 'a server ends a connection of ours that takes nothing of what it sends for so long; 0: never',
  }),
  fenceTimeoutMs: option({
    key: 'stream.fence_timeout_ms',
    env: 'ACED_STREAM_FENCE_TIMEOUT_MS',
    ace: [{ key: 'mtree.cdc.cdc_processing_timeout', kind: seconds(1) }],
    kind: milliseconds(1),
    defaultValue: 60_000,
    doc: 'how long a node may need to reach a fence before it counts as starved',
  }),
  maxSlotWalBytes: option({
    key: 'stream.max_slot_wal_bytes',
    env: 'ACED_STREAM_MAX_SLOT_WAL_BYTES',
    kind: byteSize(16 * MEBIBYTE),
    defaultValue: 64 * GIBIBYTE,
    doc: 'write-ahead log that our slot may hold back on a node before it is dropped',
  }),
  failoverSlot: option<'auto' | 'on' | 'off'>({
    key: 'stream.failover_slot',
    env: 'ACED_STREAM_FAILOVER_SLOT',
    kind: oneOf(['auto', 'on', 'off']),
    defaultValue: 'auto',
    doc: 'from PostgreSQL 17 on: mark our slot as one that standbys copy; auto: where another slot or synchronized_standby_slots says that they do',
  }),
  driftEnabled: option({
    key: 'drift.enabled',
    env: 'ACED_DRIFT_ENABLED',
    kind: onOff,
    defaultValue: true,
    doc: 'the daemon judges tracked tables all the time and reports drift as events',
  }),
  openRowsBytes: option({
    key: 'drift.open_rows_bytes',
    env: 'ACED_DRIFT_OPEN_ROWS_BYTES',
    kind: byteSize(0),
    defaultValue: 64 * MEBIBYTE,
    doc: 'memory for rows that not all streams have shown alike yet; beyond it their blocks are read',
  }),
  eventsFile: option({
    key: 'events.file',
    env: 'ACED_EVENTS_FILE',
    kind: path,
    doc: 'file that drift events are appended to, beside the log',
  }),
  eventsHaveKeys: option({
    key: 'events.keys',
    env: 'ACED_EVENTS_KEYS',
    kind: onOff,
    defaultValue: false,
    doc: 'drift events name up to ten keys of rows',
  }),
  hooksWebhook: option({
    key: 'hooks.webhook',
    env: 'ACED_HOOKS_WEBHOOK',
    kind: webAddress,
    doc: 'address that each event is posted to',
  }),
  hooksAuthorization: option({
    key: 'hooks.authorization',
    env: 'ACED_HOOKS_AUTHORIZATION',
    kind: secret(text('the value of an Authorization header', /^[\x20-\x7e]+$/)),
    doc: 'Authorization header of these requests',
  }),
  hooksCommand: option({
    key: 'hooks.command',
    env: 'ACED_HOOKS_COMMAND',
    kind: text('an absolute path', /^\/[^\0]+$/),
    doc: 'program that is run for each event, which it reads from its standard input',
  }),
  standbyService: option({
    key: 'standby.service',
    env: 'ACED_STANDBY_SERVICE',
    kind: text('the name of a section', /^[^\]\0]+$/u),
    doc: 'section of the pg_service.conf with the database in which several aced agree on the active one; none: there is one aced',
  }),
  standbyName: option({
    key: 'standby.name',
    env: 'ACED_STANDBY_NAME',
    kind: text('a name without blanks', /^[^\s\0]{1,100}$/u),
    doc: 'what this aced is called there; default: the name of its host',
  }),
  metricsPort: option({
    key: 'metrics.port',
    env: 'ACED_METRICS_PORT',
    kind: integer({ min: 1, max: 65_535 }),
    doc: 'TCP port at which Prometheus finds /metrics; none: on the unix socket only',
  }),
  metricsHost: option({
    key: 'metrics.host',
    env: 'ACED_METRICS_HOST',
    kind: text('a host name or an address', /^[^\s/]+$/u),
    defaultValue: '127.0.0.1',
    doc: 'address that the port is opened at',
  }),
  metricsPerTable: option<'auto' | 'always' | 'never'>({
    key: 'metrics.per_table',
    env: 'ACED_METRICS_PER_TABLE',
    kind: oneOf(['auto', 'always', 'never']),
    defaultValue: 'auto',
    doc: 'whether tables have metrics of their own; auto: while there are at most 500',
  }),
  apiPort: option({
    key: 'api.port',
    env: 'ACED_API_PORT',
    kind: integer({ min: 1, max: 65_535 }),
    doc: "TCP port for ACE's HTTP routes, over TLS with client certificates; none: on the unix socket only",
  }),
  apiHost: option({
    key: 'api.host',
    env: 'ACED_API_HOST',
    kind: text('a host name or an address', /^[^\s/]+$/u),
    defaultValue: '127.0.0.1',
    doc: 'address that the port is opened at',
  }),
  apiCertFile: option({
    key: 'api.tls_cert_file',
    env: 'ACED_API_TLS_CERT_FILE',
    ace: [{ key: 'server.tls_cert_file' }],
    kind: path,
    doc: "aced's own certificate, PEM, with those between it and its root",
  }),
  apiKeyFile: option({
    key: 'api.tls_key_file',
    env: 'ACED_API_TLS_KEY_FILE',
    ace: [{ key: 'server.tls_key_file' }],
    kind: path,
    doc: 'its private key, PEM, which nobody else may read',
  }),
  apiClientCaFile: option({
    key: 'api.client_ca_file',
    env: 'ACED_API_CLIENT_CA_FILE',
    ace: [{ key: 'cert_auth.ca_cert_file' }],
    kind: path,
    doc: "certificates, PEM, one of which must have signed a client's",
  }),
  apiClientCrlFile: option({
    key: 'api.client_crl_file',
    env: 'ACED_API_CLIENT_CRL_FILE',
    ace: [{ key: 'server.client_crl_file' }],
    kind: path,
    doc: 'list of revoked client certificates, PEM',
  }),
  apiAllowedNames: option({
    key: 'api.allowed_names',
    env: 'ACED_API_ALLOWED_NAMES',
    ace: [{ key: 'server.allowed_common_names' }],
    kind: nameList("a list of certificates' common names, or *"),
    defaultValue: NOTHING,
    doc: 'common names of the client certificates that may ask; *: any that the certificates above signed',
  }),
  reportDir: option({
    key: 'schedule.report_dir',
    env: 'ACED_SCHEDULE_REPORT_DIR',
    kind: path,
    doc: "where the reports of scheduled jobs, and of ACE's routes, are written; default: reports in the state directory",
  }),
  canaryIntervalMs: option({
    key: 'canary.interval_ms',
    env: 'ACED_CANARY_INTERVAL_MS',
    kind: milliseconds(0),
    defaultValue: 0,
    doc: 'the daemon makes a difference of its own on each node so often, and must find it; 0: only when asked to',
  }),
  canaryTimeoutMs: option({
    key: 'canary.timeout_ms',
    env: 'ACED_CANARY_TIMEOUT_MS',
    kind: milliseconds(100),
    defaultValue: 30_000,
    doc: 'a difference of its own that is not found in this time is told',
  }),
  trackInclude: option({
    key: 'track.include',
    env: 'ACED_TRACK_INCLUDE',
    kind: TABLE_PATTERNS,
    defaultValue: NOTHING,
    doc: 'tables that the daemon follows by itself, as they come and go',
  }),
  trackExclude: option({
    key: 'track.exclude',
    env: 'ACED_TRACK_EXCLUDE',
    kind: TABLE_PATTERNS,
    defaultValue: NOTHING,
    doc: 'tables that it leaves alone all the same',
  }),
  trackPublications: option({
    key: 'track.publications',
    env: 'ACED_TRACK_PUBLICATIONS',
    kind: textList('names of publications'),
    defaultValue: NOTHING,
    doc: 'it also follows the tables that these publications of yours have on any node',
  }),
  trackReplicationSets: option({
    key: 'track.replication_sets',
    env: 'ACED_TRACK_REPLICATION_SETS',
    kind: textList('names of replication sets'),
    defaultValue: NOTHING,
    doc: "it also follows the tables that these of Spock's replication sets have on any node",
  }),
  trackBudget: option({
    key: 'track.budget',
    env: 'ACED_TRACK_BUDGET',
    kind: ratio({ min: 0.01, max: 1 }),
    defaultValue: 0.5,
    doc: "share of one connection's time per node for building trees by itself, one after the other",
  }),
  trackIntervalMs: option({
    key: 'track.interval_ms',
    env: 'ACED_TRACK_INTERVAL_MS',
    kind: milliseconds(100),
    defaultValue: 5000,
    doc: 'it looks for tables that have come or gone so often',
  }),
};

/** Help text: one line per option with its key, variable and default. */
export function optionsHelp(): string {
  const specs: readonly OptionSpec<string | number | boolean | readonly string[]>[] =
    Object.values(OPTIONS);
  return specs
    .map((spec) => {
      const byDefault = String(spec.defaultValue ?? '');
      const fallback = byDefault === '' ? '' : `, default ${byDefault}`;
      return `  ${spec.key} (${spec.env}): ${spec.doc}; ${spec.kind.accepts}${fallback}`;
    })
    .join('\n');
}
