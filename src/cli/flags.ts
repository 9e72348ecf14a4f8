import { parseDuration } from '../base/duration.js';
import { AcedError } from '../base/errors.js';

export type FlagValue = boolean | string | number | readonly string[];

/** A flag, declared once: parsing, checking, refusing and help come from it. */
export interface FlagSpec {
  /** Without the dashes. */
  readonly name: string;
  readonly short?: string;
  /** Absent: a switch. Reads the text, or undefined when it is not acceptable. */
  readonly read?: (text: string) => FlagValue | undefined;
  /** What `read` accepts; also the help's. */
  readonly accepts?: string;
  /** What it is mostly given, for completion; of `oneOf` all that there is. */
  readonly values?: readonly string[];
  /** What the shell completes the value with. */
  readonly completes?: 'file' | 'node' | 'nodes' | 'cluster';
  /** Stands for the value in the help; without the brackets. */
  readonly placeholder?: string;
  /** Heading in the help; default: the command's own. */
  readonly group?: string;
  readonly doc: string;
  /** ACE has it and we do not (yet): what to do instead. */
  readonly refused?: string;
}

export type FlagValues = ReadonlyMap<string, FlagValue>;

const number =
  (min: number, max: number, isInteger: boolean) =>
  (text: string): number | undefined => {
    if (!/^(\d+\.?\d*|\.\d+)$/.test(text)) return undefined;
    const value = Number(text);
    const fits = value >= min && value <= max && (!isInteger || Number.isSafeInteger(value));
    return fits ? value : undefined;
  };

const nonEmpty = (text: string): string | undefined =>
  text === '' || text.includes('\0') ? undefined : text;

function list(text: string): readonly string[] | undefined {
  const items = text.split(',').map((item) => item.trim());
  return items.includes('') ? undefined : [...new Set(items)];
}

const toggle = (name: string, short: string | undefined, doc: string): FlagSpec => ({
  name,
  ...(short === undefined ? {} : { short }),
  doc,
});

/** A flag of ACE's that we recognise only to say what to do instead. */
const refused = (
  name: string,
  short: string | undefined,
  { takes, instead }: { readonly takes: 'value' | 'nothing'; readonly instead: string },
): FlagSpec => ({
  ...toggle(name, short, 'not supported'),
  ...(takes === 'value' ? { read: (text: string) => text, accepts: 'a value' } : {}),
  refused: instead,
});

const text = (name: string, short: string | undefined, accepts: string, doc: string): FlagSpec => ({
  ...toggle(name, short, doc),
  read: nonEmpty,
  accepts,
  // `a path`, `an SQL condition`: its last word.
  placeholder: accepts.split(' ').at(-1) ?? 'value',
  ...(accepts === 'a path' ? { completes: 'file' } : {}),
});

/** A flag that takes one of a few words. */
const oneOf = (
  [name, short]: readonly [string, string?],
  values: readonly string[],
  { doc, placeholder }: Required<Pick<FlagSpec, 'doc' | 'placeholder'>>,
): FlagSpec => ({
  ...toggle(name, short, doc),
  read: (value) => (values.includes(value) ? value : undefined),
  accepts: `${values.slice(0, -1).join(', ')} or ${values.at(-1) ?? ''}`,
  values,
  placeholder,
});

const NODES: FlagSpec = {
  name: 'nodes',
  short: 'n',
  read: list,
  accepts: 'names joined by commas, or all',
  placeholder: 'names',
  completes: 'nodes',
  doc: 'nodes to include (default all)',
};

export const HELP_FLAG = toggle('help', 'h', 'print this help');
export const VERSION_FLAG = toggle('version', 'V', 'print the release');

export const COMMON: readonly FlagSpec[] = [
  text('dbname', 'd', 'a database name', 'this database on every node'),
  NODES,
  toggle('quiet', 'q', 'print nothing but errors'),
  toggle('debug', 'v', 'log debug messages to stderr; a running aced has a log of its own'),
  toggle('json', undefined, 'print the result as one JSON object'),
  text('socket', undefined, 'a path', "the daemon's socket"),
  text('state-dir', undefined, 'a path', 'state directory of a run without a daemon'),
  HELP_FLAG,
].map((flag) => ({ ...flag, group: 'Flags of every command:' }));

export const ACED: readonly FlagSpec[] = [
  {
    ...text(
      'cluster',
      'c',
      "a cluster's name",
      'the cluster to follow (default: the configured one)',
    ),
    completes: 'cluster',
  },
  text('dbname', 'd', 'a database name', 'this database on every node'),
  {
    ...text('log-level', undefined, 'a level', 'least severe messages to log: debug, info, warn'),
    values: ['error', 'warn', 'info', 'debug', 'trace'],
  },
  text('socket', undefined, 'a path', 'where to listen'),
  text('state-dir', undefined, 'a path', 'where the state is kept'),
  HELP_FLAG,
  VERSION_FLAG,
];

/** Of commands that have no use for a choice of nodes and must not ignore one. */
export const COMMON_OF_CLUSTER: readonly FlagSpec[] = COMMON.map((flag) =>
  flag.name !== NODES.name
    ? flag
    : {
        ...flag,
        read: (value) => (value === 'all' ? value : undefined),
        accepts: 'all only: this command is about the whole cluster',
        values: ['all'],
        doc: 'accepted for ACE',
      },
);

/** Of commands that leave no node out: a choice of some is refused by the engine, not ignored. */
export const COMMON_OF_ALL_NODES: readonly FlagSpec[] = COMMON.map((flag) =>
  flag.name !== NODES.name
    ? flag
    : { ...flag, doc: 'accepted for ACE; all of the nodes or nothing' },
);

const OUTPUT = oneOf(['output', 'o'], ['json', 'html'], {
  placeholder: 'format',
  doc: 'format of the report (default json)',
});

export const MAX_CPU_RATIO: FlagSpec = {
  name: 'max-cpu-ratio',
  short: 'm',
  read: number(0, 1, false),
  accepts: 'a number from 0 to 1',
  placeholder: 'n',
  doc: "share of this host's cores for hashing",
};

const BLOCK_SIZE: FlagSpec = {
  name: 'block-size',
  short: 'b',
  read: number(1, 1_000_000_000, true),
  accepts: 'an integer from 1 to 1000000000',
  placeholder: 'n',
  doc: 'rows per block',
};

const MAX_HTML_ROWS: FlagSpec = {
  name: 'max-html-rows',
  read: number(1, 1_000_000_000, true),
  accepts: 'an integer from 1 to 1000000000',
  placeholder: 'n',
  doc: 'differing rows of two nodes that the page shows (default 10000)',
};

const OVERRIDE_BLOCK_SIZE = toggle(
  'override-block-size',
  'B',
  'accepted for ACE; block sizes have no bounds to override',
);

const CDC: readonly FlagSpec[] = [
  toggle('skip-cdc', 'U', 'do not wait for the streams to catch up'),
  {
    name: 'cdc-timeout',
    read: number(0, 1_000_000, true),
    accepts: 'whole seconds from 0 to 1000000 (0: the default)',
    placeholder: 'n',
    doc: 'how long the streams may take to catch up',
  },
];

const EXCLUDE_COLUMNS: FlagSpec = {
  name: 'exclude-columns',
  read: list,
  accepts: 'column names joined by commas',
  placeholder: 'names',
  doc: 'columns that are not compared',
};

const COLUMNS: FlagSpec = {
  name: 'columns',
  read: list,
  accepts: 'column names joined by commas',
  placeholder: 'names',
  doc: 'only these columns are compared, and the key',
};

const KEY: FlagSpec = {
  name: 'key',
  read: list,
  accepts: 'column names joined by commas',
  placeholder: 'names',
  doc: 'columns that tell rows apart, in place of the primary key: unique and not null everywhere',
};

const UNTIL: FlagSpec = {
  ...text('until', undefined, 'a time as in RFC 3339', 'leave out rows that were written later'),
  placeholder: 'time',
};

export const TIMER: readonly FlagSpec[] = [
  toggle('schedule', 'S', 'run again and again until Ctrl-C; jobs for good belong into aced.yaml'),
  {
    name: 'every',
    short: 'e',
    read: (value) => ((parseDuration(value) ?? 0) >= 1000 ? value : undefined),
    accepts: 'a duration of at least 1s, as 30m or 1h30m',
    placeholder: 'duration',
    doc: 'with --schedule: from one begin to the next',
  },
];

const MAX_CONNECTIONS: FlagSpec = {
  name: 'max-connections',
  short: 'M',
  read: number(0, 0, true),
  accepts:
    '0 only (no limit of its own): bound the connections with --concurrency-factor, or of mtree with --max-cpu-ratio',
  placeholder: 'n',
  doc: 'accepted for ACE',
};

export const TABLE_DIFF: readonly FlagSpec[] = [
  { ...BLOCK_SIZE, doc: 'accepted for ACE; written to the report, ranges have at most 1,000 rows' },
  {
    name: 'concurrency-factor',
    short: 'c',
    read: number(0, 4, false),
    accepts: 'a number from 0 to 4',
    placeholder: 'n',
    doc: "queries per node as a multiple of this host's cores",
  },
  {
    name: 'compare-unit-size',
    short: 'u',
    read: number(1, 1_000_000_000, true),
    accepts: 'an integer from 1 to 1000000000',
    placeholder: 'n',
    doc: 'accepted for ACE; written to the report, changes nothing',
  },
  OUTPUT,
  MAX_HTML_ROWS,
  OVERRIDE_BLOCK_SIZE,
  MAX_CONNECTIONS,
  {
    ...text('table-filter', 'F', 'an SQL condition', 'compare only the rows that satisfy it'),
  },
  toggle('resume', undefined, 'go on where an interrupted diff of the table ended'),
  KEY,
  COLUMNS,
  EXCLUDE_COLUMNS,
  {
    name: 'max-diff-rows',
    read: number(1, 1_000_000_000, true),
    accepts: 'an integer from 1 to 1000000000',
    placeholder: 'n',
    doc: 'stop at so many differing rows of two nodes',
  },
  {
    name: 'sample',
    read: (text) => {
      const percent = number(0, 100, false)(text);
      return percent === 0 ? undefined : percent;
    },
    accepts: 'a number of percent from above 0 to 100',
    placeholder: 'percent',
    doc: 'compare only so much of the table; never a match',
  },
  {
    name: 'tolerance',
    read: list,
    accepts: 'column=number, joined by commas',
    placeholder: 'column=number',
    doc: 'count numbers that are so close apart',
  },
  {
    ...text(
      'against-origin',
      undefined,
      "a node's name",
      'compare the rows that some node has from there',
    ),
    placeholder: 'node',
    completes: 'node',
  },
  UNTIL,
  toggle('ensure-pgcrypto', undefined, 'accepted for ACE; pgcrypto is not needed'),
  ...TIMER,
];

/** Rows are compared as table-diff does. */
export const SCHEMA_DIFF: readonly FlagSpec[] = [
  oneOf(['compare'], ['data', 'structure'], {
    placeholder: 'what',
    doc: 'the rows (default), or what the schema is made of',
  }),
  toggle('ddl-only', 'L', "as --compare=structure, ACE's older name"),
  toggle(
    'ace-exit-codes',
    undefined,
    'of a structure: 0 cosmetic, 32 equivalent-differing, 48 narrowed, 64 incompatible or absent',
  ),
  ...TABLE_DIFF.filter(
    ({ name }) => !['table-filter', 'against-origin', 'key', 'resume'].includes(name),
  ),
];

export const TASKS: readonly FlagSpec[] = [
  {
    name: 'limit',
    read: number(1, 5_000, true),
    accepts: 'an integer from 1 to 5000',
    placeholder: 'n',
    doc: 'the newest so many (default 20)',
  },
  text('job', undefined, "a job's name", 'runs of this job alone'),
];

export const COMPONENT: readonly FlagSpec[] = [
  oneOf(['component', 'C'], ['all', 'scheduler', 'api'], {
    placeholder: 'which',
    doc: 'accepted for ACE; there is one process for all',
  }),
];

/** Of commands that write a file. */
export const NEW_FILE: readonly FlagSpec[] = [
  text('path', 'p', 'a path', 'where to write it'),
  toggle('force', 'x', 'write over a file that is there'),
  toggle('stdout', 'z', 'print it instead'),
];

export const CLUSTER_INIT: readonly FlagSpec[] = [
  ...NEW_FILE,
  text(
    'hosts',
    undefined,
    'name=host:port joined by commas',
    'the nodes (default: two to fill in)',
  ),
  text('user', undefined, 'a role', 'whom to connect as (default aced)'),
  oneOf(['sslmode'], ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'], {
    placeholder: 'mode',
    doc: "how to connect, as libpq's sslmode (default prefer)",
  }),
  oneOf(['format'], ['service', 'json'], {
    placeholder: 'format',
    doc: "pg_service.conf (default), or pgEdge's <cluster>.json",
  }),
];

export const REPLICATION_DIFF: readonly FlagSpec[] = [
  {
    ...OUTPUT,
    read: (value) => (value === 'json' ? value : undefined),
    accepts: 'json only',
    values: ['json'],
    doc: 'accepted for ACE; --json prints the result',
  },
];

export const DOCTOR: readonly FlagSpec[] = [
  ...REPLICATION_DIFF,
  toggle(
    'decode',
    undefined,
    'also write a canary of every type on each node, see how it is decoded, and remove it',
  ),
];

export const BUILD: readonly FlagSpec[] = [
  BLOCK_SIZE,
  MAX_CPU_RATIO,
  MAX_CONNECTIONS,
  OVERRIDE_BLOCK_SIZE,
  toggle('analyse', 'a', 'ANALYZE the table on every node first'),
  toggle('recreate-objects', 'R', "recreate the tables' objects on the nodes"),
  toggle('rebuild', undefined, 'of many tables, also build those that have a live tree'),
  EXCLUDE_COLUMNS,
  refused('write-ranges', 'w', {
    takes: 'nothing',
    instead: 'Leave it out: the ranges are kept by aced and in its schema on each node.',
  }),
  refused('ranges-file', 'k', {
    takes: 'value',
    instead: 'Leave it out: ranges are found in one cheap pass.',
  }),
];

export const UPDATE: readonly FlagSpec[] = [
  MAX_CPU_RATIO,
  toggle('rebalance', 'l', 'split and merge blocks that grew or shrank'),
  ...CDC,
];

export const VERIFY: readonly FlagSpec[] = [
  MAX_CPU_RATIO,
  {
    name: 'rate',
    read: number(1, 1_000_000_000, true),
    accepts: 'an integer from 1 to 1000000000',
    placeholder: 'n',
    doc: 'rows per second to read on each node at most',
  },
];

export const TREE_DIFF: readonly FlagSpec[] = [
  MAX_CPU_RATIO,
  MAX_CONNECTIONS,
  UNTIL,
  OUTPUT,
  MAX_HTML_ROWS,
  ...CDC,
];

const SOURCE_OF_TRUTH: FlagSpec = {
  ...text('source-of-truth', 'r', "a node's name", 'the node whose rows the others get'),
  completes: 'node',
};
const FIRE_TRIGGERS = toggle('fire-triggers', 't', 'let triggers fire');

export const TOP: readonly FlagSpec[] = [
  {
    name: 'interval',
    read: (value) => {
      const ms = parseDuration(value) ?? 0;
      return ms >= 250 && ms <= 3_600_000 ? value : undefined;
    },
    accepts: 'a duration from 250ms to 1h',
    placeholder: 'duration',
    doc: 'from one look to the next (default 1s)',
  },
  toggle('once', undefined, 'print one frame after an interval, and end as status does'),
  toggle('no-color', undefined, 'no colours; NO_COLOR does the same'),
];

export const DRIFT_ACK: readonly FlagSpec[] = [text('by', undefined, 'a name', 'who has seen it')];

export const DRIFT_REPAIR: readonly FlagSpec[] = [SOURCE_OF_TRUTH, FIRE_TRIGGERS];

const DIFF_FILE = text('diff-file', 'f', 'a path', 'the differences, as a diff wrote them');

export const RERUN: readonly FlagSpec[] = [DIFF_FILE, OUTPUT, MAX_HTML_ROWS];

export const REPAIR: readonly FlagSpec[] = [
  DIFF_FILE,
  { ...KEY, doc: "as the diff's --key, of a table without a primary key" },
  SOURCE_OF_TRUTH,
  toggle('dry-run', 'y', 'change nothing, say what would be done'),
  toggle('generate-report', 'g', 'write a report of the repair'),
  toggle('insert-only', 'i', 'only insert rows that are missing'),
  toggle('upsert-only', 'P', 'insert and update, delete nothing'),
  FIRE_TRIGGERS,
  oneOf(['stale'], ['skip', 'apply', 'fail'], {
    placeholder: 'what',
    doc: 'rows that are no longer what the diff saw: skip them (default), write over them, or write nothing at all',
  }),
  toggle('save-undo', undefined, 'write the rows as they were to a file per node, for --undo'),
  text('undo', undefined, 'a path', 'put rows back from a file that --save-undo has written'),
  toggle('allow-unproved', undefined, 'repair though changes may still be on their way'),
  text('repair-plan', 'p', 'a path', 'a plan that says of each row what becomes of it'),
  text('plan-hash', undefined, 'a SHA-256', 'of the plan; another one is refused'),
  toggle('bidirectional', 'Z', 'each node gets the rows that it lacks; nothing else is changed'),
  toggle('fix-nulls', 'X', "fill NULLs on each node with the other node's values"),
  toggle(
    'recovery-mode',
    undefined,
    'the node of a diff with --against-origin is lost: its furthest survivor is the source of truth',
  ),
  toggle(
    'preserve-origin',
    undefined,
    "rows keep the commit time that they have on the source; their origin is aced's own",
  ),
  refused('no-preserve-origin', undefined, {
    takes: 'nothing',
    instead:
      'Leave it out: without Spock rows are new writes unless --preserve-origin says otherwise; under Spock a new time would let older changes win over the repair.',
  }),
];

/** `--block-size/-b`, for messages and help. */
export function flagTitle({ name, short }: FlagSpec): string {
  return short === undefined ? `--${name}` : `--${name}/-${short}`;
}

export function usage(message: string, hint: string): AcedError {
  return new AcedError('BAD_USAGE', message, { hint });
}
