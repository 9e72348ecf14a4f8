import type { CommandName, CommandParams } from '../protocol/commands.js';
import type { TableChoice } from '../protocol/many-tables.js';
import {
  BUILD,
  CLUSTER_INIT,
  COMPONENT,
  COMMON,
  COMMON_OF_ALL_NODES,
  COMMON_OF_CLUSTER,
  DRIFT_ACK,
  DRIFT_REPAIR,
  NEW_FILE,
  REPAIR,
  RERUN,
  DOCTOR,
  REPLICATION_DIFF,
  SCHEMA_DIFF,
  TABLE_DIFF,
  TASKS,
  TOP,
  TREE_DIFF,
  UPDATE,
  VERIFY,
  usage,
} from './flags.js';
import { CHOICE, SKIP, choosesTables, skipTables, tableChoice } from './table-choice.js';
import type { FlagSpec, FlagValues } from './flags.js';

export interface CommandInput {
  readonly flags: FlagValues;
  /** The argument after the cluster; empty when the command has none. */
  readonly argument: string;
}

/** One command for the engine, ready to run. */
export interface CommandRequest<Name extends CommandName = CommandName> {
  readonly name: Name;
  readonly params: CommandParams[Name];
  readonly inputFile?: string;
  /** Its text is the parameter repairPlan. */
  readonly planFile?: string;
}

export type AnyRequest = { [Name in CommandName]: CommandRequest<Name> }[CommandName];

export type Action =
  | { readonly kind: 'request'; readonly make: (input: CommandInput) => AnyRequest }
  | { readonly kind: 'listen' }
  | { readonly kind: 'top' }
  | { readonly kind: 'show-config' }
  | { readonly kind: 'config-init' }
  | { readonly kind: 'cluster-init' }
  | { readonly kind: 'completion' };

export interface CommandSpec {
  readonly words: readonly string[];
  /** What follows the cluster; null: nothing. In brackets: may be left out. */
  readonly argument: string | null;
  readonly flags: readonly FlagSpec[];
  /** No cluster stands before the argument. */
  readonly hasNoCluster?: boolean;
  /** Whether the argument may be left out beside these flags. */
  readonly isArgumentOptional?: (flags: FlagValues) => boolean;
  readonly doc: string;
  /** For the help: what is written after the command's words. */
  readonly examples: readonly string[];
  readonly action: Action;
}

/** What the commands of one first word are about. */
export const GROUPS: Readonly<Record<string, string>> = {
  mtree: 'Merkle trees, which make a comparison cost what has changed',
  drift: 'what the daemon has found to differ',
  config: 'the configuration',
  cluster: 'cluster definitions',
};

const TABLE = '<schema.table>';
const OF_STRUCTURE = new Set(['compare', 'ddl-only', 'ace-exit-codes']);
const TABLES = '<schema.table|pattern>';
const INCIDENT = '<incident>';
const OF_ALL_NODES = new Set(
  ['init', 'build', 'update', 'teardown', 'teardown-table'].map((verb) => `mtree ${verb}`),
);

const request = (make: (input: CommandInput) => AnyRequest): Action => ({ kind: 'request', make });

function commonFlags(words: string, { kind }: Action): readonly FlagSpec[] {
  if (kind !== 'request') return COMMON_OF_CLUSTER;
  return OF_ALL_NODES.has(words) ? COMMON_OF_ALL_NODES : COMMON;
}

const ours = (
  words: string,
  argument: string | null,
  { flags = [], ...rest }: Pick<CommandSpec, 'doc' | 'examples' | 'action'> & Partial<CommandSpec>,
): CommandSpec => ({
  ...rest,
  words: words.split(' '),
  argument,
  flags: [...flags, ...commonFlags(words, rest.action)],
});

/** A command on one table; with a pattern, or a flag that means many, on each of them. */
const onTables = (
  words: string,
  argument: string,
  {
    make,
    ofMany = () => ({}),
    ...rest
  }: Pick<CommandSpec, 'flags' | 'doc' | 'examples'> & {
    readonly make: (input: CommandInput) => AnyRequest;
    /** Parameters that only the command on many tables has. */
    readonly ofMany?: (flags: FlagValues) => object;
  },
): CommandSpec =>
  ours(words, argument, {
    ...rest,
    flags: [...rest.flags, ...CHOICE],
    isArgumentOptional: choosesTables,
    action: request((input) => {
      const choice = tableChoice(input.flags, input.argument);
      const one = make(input);
      return choice === null ? one : onMany(one, { ...choice, ...ofMany(input.flags) });
    }),
  });

/** The same parameters but for the table, which the protocol's types say too. */
function onMany({ name, params }: AnyRequest, choice: TableChoice): AnyRequest {
  const others = Object.entries(params).filter(([field]) => field !== 'table');
  const request = { name: `${name}-many`, params: { ...Object.fromEntries(others), ...choice } };
  return request as AnyRequest;
}

/** ACE's commands, and ours. */
export const COMMANDS: readonly CommandSpec[] = [
  onTables('table-diff', TABLES, {
    flags: TABLE_DIFF,
    doc: 'compare a table, without a tree',
    examples: [
      'prod public.orders',
      `prod public.orders --table-filter "placed > now() - interval '1 day'" -o html`,
    ],
    make: tableDiffRequest,
  }),
  ours('schema-diff', '<schema>', {
    flags: [...SCHEMA_DIFF, ...SKIP],
    doc: 'compare every table of a schema, or what the schema is made of',
    examples: ['prod sales', 'prod sales --compare=structure'],
    action: request(schemaDiffRequest),
  }),
  ours('table-rerun', null, {
    flags: RERUN,
    doc: 'compare the rows of a diff file again, as they are now',
    examples: ['prod -f public_orders_diffs-20260101000000.json'],
    action: request(({ flags }) => ({
      name: 'table-rerun',
      params: { ...common(flags), ...output(flags) },
      inputFile: diffFile('table-rerun', flags),
    })),
  }),
  ours('repset-diff', '<set|publication>', {
    flags: [...SCHEMA_DIFF.filter(({ name }) => !OF_STRUCTURE.has(name)), ...SKIP],
    doc: "compare every table of a replication set of Spock's, or of a publication",
    examples: ['prod default'],
    action: request((input) =>
      onMany(tableDiffRequest(input), { repset: input.argument, ...skipTables(input.flags) }),
    ),
  }),
  ours('spock-diff', null, {
    flags: REPLICATION_DIFF,
    doc: "as replication-diff, by ACE's name",
    examples: ['prod'],
    action: request(({ flags }) => ({ name: 'replication-diff', params: common(flags) })),
  }),
  ours('replication-diff', null, {
    flags: REPLICATION_DIFF,
    doc: 'compare how the nodes replicate, and say what does not run',
    examples: ['prod', 'prod --json'],
    action: request(({ flags }) => ({ name: 'replication-diff', params: common(flags) })),
  }),
  ours('doctor', `[${TABLE}]`, {
    flags: DOCTOR,
    doc: 'look for what would stop or mislead aced on the nodes; changes nothing',
    examples: ['prod', 'prod public.orders', 'prod --decode'],
    action: request(({ flags, argument }) => ({
      name: 'doctor',
      params: {
        ...common(flags),
        ...(argument === '' ? {} : { table: argument }),
        ...switchParam('decode', flags, 'decode'),
      },
    })),
  }),
  ours('table-repair', TABLE, {
    flags: REPAIR,
    doc: 'repair the differences of a diff file',
    examples: [
      'prod public.orders -f public_orders_diffs-20260101000000.json -r n1 --dry-run',
      'prod public.orders -f public_orders_diffs-20260101000000.json --bidirectional',
      'prod public.orders -f public_orders_diffs-20260101000000.json --repair-plan plan.yaml --dry-run',
      'prod public.orders -f public_orders_diffs-20260101000000.json --recovery-mode',
      'prod public.orders --undo public_orders_undo-20260101000000.json',
    ],
    action: request(repairRequest),
  }),
  ours('mtree init', null, {
    doc: 'prepare every node: publication, slot, schema',
    examples: ['prod'],
    action: request(({ flags }) => ({ name: 'mtree-init', params: common(flags) })),
  }),
  onTables('mtree build', TABLES, {
    flags: BUILD,
    doc: "build a table's tree and keep it current from then on",
    examples: ['prod public.orders', "prod 'public.*' --skip-tables audit,tmp_*"],
    ofMany: (flags) => switchParam('rebuild', flags, 'rebuild'),
    make: ({ flags, argument }) => ({
      name: 'mtree-build',
      params: {
        ...common(flags),
        table: argument,
        ...numberParam('blockRows', flags, 'block-size'),
        ...numberParam('maxCpuRatio', flags, 'max-cpu-ratio'),
        ...switchParam('analyse', flags, 'analyse'),
        ...switchParam('recreateObjects', flags, 'recreate-objects'),
        ...listParam('excludeColumns', flags, 'exclude-columns'),
      },
    }),
  }),
  onTables('mtree update', TABLES, {
    flags: UPDATE,
    doc: 'rehash what changed',
    examples: ['prod public.orders --rebalance'],
    make: ({ flags, argument }) => ({
      name: 'mtree-update',
      params: {
        ...common(flags),
        table: argument,
        ...numberParam('maxCpuRatio', flags, 'max-cpu-ratio'),
        ...switchParam('rebalance', flags, 'rebalance'),
        ...cdc(flags),
      },
    }),
  }),
  onTables('mtree verify', `[${TABLES}]`, {
    flags: VERIFY,
    doc: 'compare the leaves of a tree, or of all, with the tables',
    examples: ['prod', 'prod public.orders --rate 50000'],
    make: ({ flags, argument }) => ({
      name: 'mtree-verify',
      params: {
        ...common(flags),
        ...(argument === '' ? {} : { table: argument }),
        ...numberParam('maxCpuRatio', flags, 'max-cpu-ratio'),
        ...numberParam('rowsPerSecond', flags, 'rate'),
      },
    }),
  }),
  onTables('mtree table-diff', TABLES, {
    flags: TREE_DIFF,
    doc: 'compare a table by its tree',
    examples: ['prod public.orders', 'prod --all'],
    make: ({ flags, argument }) => ({
      name: 'mtree-table-diff',
      params: {
        ...common(flags),
        table: argument,
        ...output(flags),
        ...textParam('until', flags, 'until'),
        ...numberParam('maxCpuRatio', flags, 'max-cpu-ratio'),
        ...cdc(flags),
      },
    }),
  }),
  onTables('mtree teardown-table', TABLES, {
    flags: [],
    doc: "remove a table's tree",
    examples: ['prod public.orders'],
    make: ({ flags, argument }) => ({
      name: 'mtree-teardown-table',
      params: { ...common(flags), table: argument },
    }),
  }),
  ours('mtree teardown', null, {
    doc: 'remove everything of ours from the nodes',
    examples: ['prod'],
    action: request(({ flags }) => ({ name: 'mtree-teardown', params: common(flags) })),
  }),
  ours('mtree listen', null, {
    doc: 'the daemon, in the foreground (same as aced)',
    examples: ['prod'],
    action: { kind: 'listen' },
  }),
  ours('status', null, {
    doc: 'nodes, streams and trees',
    examples: ['prod', 'prod --json'],
    action: request(({ flags }) => ({ name: 'status', params: common(flags) })),
  }),
  ours('top', null, {
    flags: TOP,
    doc: 'watch nodes, tables, incidents and blocks in the terminal',
    examples: ['prod', 'prod --interval 5s', 'prod --once'],
    action: { kind: 'top' },
  }),
  ours('drift list', null, {
    doc: 'the verdict on every tracked table, and the open incidents',
    examples: ['prod'],
    action: request(({ flags }) => ({ name: 'drift-list', params: common(flags) })),
  }),
  ours('drift show', INCIDENT, {
    doc: 'what is known of an incident',
    examples: ['prod 3162d2b6'],
    action: request(({ flags, argument }) => ({
      name: 'drift-show',
      params: { ...common(flags), incident: argument },
    })),
  }),
  ours('drift watch', null, {
    doc: 'print drift events as they come, a JSON object a line, until Ctrl-C',
    examples: ['prod'],
    action: request(({ flags }) => ({ name: 'drift-watch', params: common(flags) })),
  }),
  ours('drift ack', INCIDENT, {
    flags: DRIFT_ACK,
    doc: 'note with an incident that somebody has seen it',
    examples: ['prod 3162d2b6 --by Kim'],
    action: request(({ flags, argument }) => ({
      name: 'drift-ack',
      params: { ...common(flags), incident: argument, ...textParam('by', flags, 'by') },
    })),
  }),
  ours('drift canary', null, {
    doc: 'make a difference of our own on each node, and see that it is found',
    examples: ['prod'],
    action: request(({ flags }) => ({ name: 'drift-canary', params: common(flags) })),
  }),
  ours('drift repair', INCIDENT, {
    flags: DRIFT_REPAIR,
    doc: "compare an incident's table now, repair it, and wait until every stream shows the fix",
    examples: ['prod 3162d2b6 -r n1'],
    action: request(({ flags, argument }) => ({
      name: 'drift-repair',
      params: {
        ...common(flags),
        incident: argument,
        ...textParam('sourceOfTruth', flags, 'source-of-truth'),
        ...switchParam('fireTriggers', flags, 'fire-triggers'),
      },
    })),
  }),
  ours('config show', null, {
    doc: 'print the configuration, without secrets',
    examples: ['prod'],
    action: { kind: 'show-config' },
  }),
  ours('config init', null, {
    flags: NEW_FILE,
    doc: 'write an aced.yaml with every option and its default, commented out',
    examples: ['--path /etc/aced/aced.yaml', '--stdout'],
    action: { kind: 'config-init' },
  }),
  ours('cluster init', null, {
    flags: CLUSTER_INIT,
    doc: 'write a cluster definition',
    examples: ['prod --hosts n1=db1:5432,n2=db2:5432 --dbname app --user aced'],
    action: { kind: 'cluster-init' },
  }),
  ours('completion', '<bash|zsh|fish>', {
    hasNoCluster: true,
    doc: 'print what makes this shell complete commands, flags, nodes and tables',
    examples: ['bash', 'fish'],
    action: { kind: 'completion' },
  }),
  ours('tasks', null, {
    flags: TASKS,
    doc: 'commands that have ended, and the jobs that aced runs by itself',
    examples: ['prod', 'prod --job nightly-orders --limit 5'],
    action: request(({ flags }) => ({
      name: 'tasks',
      params: {
        ...common(flags),
        ...numberParam('limit', flags, 'limit'),
        ...textParam('job', flags, 'job'),
      },
    })),
  }),
  ours('start', null, {
    flags: COMPONENT,
    doc: "the daemon, in the foreground, by ACE's name: one process follows the nodes, runs the jobs of schedule_jobs and listens",
    examples: ['prod'],
    action: { kind: 'listen' },
  }),
  ours('server', null, {
    doc: "the same, by ACE's other name: programs talk to the unix socket, see the page on the protocol",
    examples: ['prod'],
    action: { kind: 'listen' },
  }),
];

/** `[cluster] <schema.table>` */
export function operandsOf({ argument, hasNoCluster = false }: CommandSpec): string {
  if (hasNoCluster) return argument ?? '';
  return argument === null ? '[cluster]' : `[cluster] ${argument}`;
}

function tableDiffRequest({ flags, argument }: CommandInput): AnyRequest {
  return {
    name: 'table-diff',
    params: {
      ...common(flags),
      table: argument,
      ...output(flags),
      ...numberParam('blockSize', flags, 'block-size'),
      ...numberParam('compareUnitSize', flags, 'compare-unit-size'),
      ...numberParam('concurrencyFactor', flags, 'concurrency-factor'),
      ...textParam('tableFilter', flags, 'table-filter'),
      ...textParam('againstOrigin', flags, 'against-origin'),
      ...textParam('until', flags, 'until'),
      ...numberParam('maxDiffRows', flags, 'max-diff-rows'),
      ...numberParam('samplePercent', flags, 'sample'),
      ...listParam('tolerances', flags, 'tolerance'),
      ...listParam('columns', flags, 'columns'),
      ...listParam('key', flags, 'key'),
      ...listParam('excludeColumns', flags, 'exclude-columns'),
    },
  };
}

function schemaDiffRequest(input: CommandInput): AnyRequest {
  const { flags, argument: schema } = input;
  const skipped = skipTables(flags);
  const isStructure = flags.get('ddl-only') === true || flags.get('compare') === 'structure';
  if (!isStructure) {
    return onMany(tableDiffRequest(input), { schemas: [schema], ...skipped });
  }
  if (flags.get('output') === 'html') {
    throw usage(
      '--output=html: there is no page of structures',
      'Leave it out; --json prints the result.',
    );
  }
  return {
    name: 'structure-diff',
    params: {
      ...common(flags),
      schema,
      ...skipped,
      ...switchParam('aceExitCodes', flags, 'ace-exit-codes'),
    },
  };
}

/** What a repair cannot do at once. */
const REPAIR_EXCLUDES: readonly (readonly [string, string])[] = [
  ['insert-only', 'upsert-only'],
  ['bidirectional', 'upsert-only'],
  ['bidirectional', 'fix-nulls'],
  ['bidirectional', 'source-of-truth'],
  ['fix-nulls', 'insert-only'],
  ['fix-nulls', 'upsert-only'],
  ['fix-nulls', 'source-of-truth'],
  ...['diff-file', 'source-of-truth', 'insert-only', 'upsert-only', 'bidirectional'].map(
    (name) => ['undo', name] as const,
  ),
  ['undo', 'fix-nulls'],
  ['undo', 'repair-plan'],
  ...['insert-only', 'upsert-only', 'bidirectional', 'fix-nulls'].map(
    (name) => ['repair-plan', name] as const,
  ),
  ['undo', 'stale'],
];

function staleParam(flags: FlagValues): { stale?: 'skip' | 'apply' | 'fail' } {
  const value = flags.get('stale');
  return value === 'skip' || value === 'apply' || value === 'fail' ? { stale: value } : {};
}

function isGiven(flags: FlagValues, name: string): boolean {
  return flags.has(name) && flags.get(name) !== false;
}

function diffFile(command: string, flags: FlagValues): string {
  const path = flags.get('diff-file');
  if (typeof path === 'string') return path;
  throw usage(`${command} needs --diff-file`, 'Give the file that a diff has written.');
}

function repairRequest({ flags, argument }: CommandInput): AnyRequest {
  const undo = flags.get('undo');
  const inputFile = typeof undo === 'string' ? undo : diffFile('table-repair', flags);
  const needsNoSource = ['bidirectional', 'fix-nulls', 'undo', 'repair-plan', 'recovery-mode'];
  const planFile = flags.get('repair-plan');
  if (!flags.has('source-of-truth') && !needsNoSource.some((name) => isGiven(flags, name))) {
    throw usage(
      'table-repair needs --source-of-truth',
      "Give the name of the node whose rows the others' are to become, or --repair-plan, --bidirectional, --fix-nulls or --recovery-mode.",
    );
  }
  for (const [one, other] of REPAIR_EXCLUDES) {
    if (!isGiven(flags, one) || !isGiven(flags, other)) continue;
    throw usage(`--${one} and --${other} exclude each other`, 'Give one of them.');
  }
  return {
    name: 'table-repair',
    params: {
      ...common(flags),
      table: argument,
      ...switchParam('resume', flags, 'resume'),
      ...listParam('key', flags, 'key'),
      ...textParam('sourceOfTruth', flags, 'source-of-truth'),
      ...switchParam('dryRun', flags, 'dry-run'),
      ...switchParam('generateReport', flags, 'generate-report'),
      ...switchParam('insertOnly', flags, 'insert-only'),
      ...switchParam('upsertOnly', flags, 'upsert-only'),
      ...switchParam('bidirectional', flags, 'bidirectional'),
      ...switchParam('fixNulls', flags, 'fix-nulls'),
      ...switchParam('preserveOrigin', flags, 'preserve-origin'),
      ...textParam('planHash', flags, 'plan-hash'),
      ...staleParam(flags),
      ...switchParam('saveUndo', flags, 'save-undo'),
      ...(undo === undefined ? {} : { undo: true as const }),
      ...switchParam('fireTriggers', flags, 'fire-triggers'),
      ...switchParam('recoveryMode', flags, 'recovery-mode'),
      ...switchParam('allowUnproved', flags, 'allow-unproved'),
    },
    inputFile,
    ...(typeof planFile === 'string' ? { planFile } : {}),
  };
}

function common(flags: FlagValues): { nodes?: readonly string[] } {
  const nodes = flags.get('nodes');
  if (!Array.isArray(nodes)) return {};
  const names = nodes as readonly string[];
  return names.length === 1 && names[0] === 'all' ? {} : { nodes: names };
}

function listParam<Key extends string>(
  key: Key,
  flags: FlagValues,
  flag: string,
): { [K in Key]?: readonly string[] } {
  const value = flags.get(flag);
  return (Array.isArray(value) ? { [key]: value as readonly string[] } : {}) as {
    [K in Key]?: readonly string[];
  };
}

function output(flags: FlagValues): { output?: 'json' | 'html'; maxHtmlRows?: number } {
  const value = flags.get('output');
  return {
    ...(value === 'json' || value === 'html' ? { output: value } : {}),
    ...numberParam('maxHtmlRows', flags, 'max-html-rows'),
  };
}

function cdc(flags: FlagValues): { skipCdc?: true; cdcTimeoutMs?: number } {
  const seconds = flags.get('cdc-timeout');
  return {
    ...switchParam('skipCdc', flags, 'skip-cdc'),
    ...(typeof seconds === 'number' && seconds > 0 ? { cdcTimeoutMs: seconds * 1000 } : {}),
  };
}

function numberParam<Key extends string>(
  key: Key,
  flags: FlagValues,
  flag: string,
): { [K in Key]?: number } {
  const value = flags.get(flag);
  return (typeof value === 'number' ? { [key]: value } : {}) as { [K in Key]?: number };
}

function textParam<Key extends string>(
  key: Key,
  flags: FlagValues,
  flag: string,
): { [K in Key]?: string } {
  const value = flags.get(flag);
  return (typeof value === 'string' ? { [key]: value } : {}) as { [K in Key]?: string };
}

function switchParam<Key extends string>(
  key: Key,
  flags: FlagValues,
  flag: string,
): { [K in Key]?: true } {
  return (flags.get(flag) === true ? { [key]: true } : {}) as { [K in Key]?: true };
}
