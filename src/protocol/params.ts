import { AcedError } from '../base/errors.js';
import type { CommandName, CommandParams } from './commands.js';
import type { ManyTablesName } from './many-tables.js';
import { isServerAddress, type Servers } from './servers.js';

type FieldKind =
  | 'text'
  | 'document'
  | 'texts'
  | 'flag'
  | 'number'
  | 'ratio'
  | 'factor'
  | 'rows'
  | 'percent'
  | 'output'
  | 'stale';

/** No name or filter that a person writes is longer. */
const MAX_TEXT_CHARS = 10_000;
/** A repair plan travels in a header, see MAX_HEADER_BYTES. */
export const MAX_DOCUMENT_CHARS = 1024 * 1024;
/** Beyond any wait or pace that makes sense, and safe for timers. */
const MAX_NUMBER = 1_000_000_000;

const COMMON = { nodes: 'texts' } as const;
const TABLE = { ...COMMON, table: 'text' } as const;
const CHOICE = {
  ...COMMON,
  tables: 'texts',
  schemas: 'texts',
  repset: 'text',
  publication: 'text',
  all: 'flag',
  skipTables: 'texts',
} as const;
const INCIDENT = { ...COMMON, incident: 'text' } as const;

type Fields<Name extends CommandName> = {
  readonly [One in Name]: Readonly<Record<keyof CommandParams[One], FieldKind>>;
};

const OF_ONE: Fields<Exclude<CommandName, ManyTablesName>> = {
  'mtree-init': COMMON,
  'mtree-build': {
    ...TABLE,
    blockRows: 'rows',
    maxCpuRatio: 'ratio',
    analyse: 'flag',
    recreateObjects: 'flag',
    excludeColumns: 'texts',
  },
  'mtree-update': {
    ...TABLE,
    rebalance: 'flag',
    maxCpuRatio: 'ratio',
    skipCdc: 'flag',
    cdcTimeoutMs: 'number',
  },
  'mtree-verify': { ...TABLE, maxCpuRatio: 'ratio', rowsPerSecond: 'number' },
  'mtree-table-diff': {
    ...TABLE,
    output: 'output',
    maxHtmlRows: 'rows',
    until: 'text',
    maxCpuRatio: 'ratio',
    skipCdc: 'flag',
    cdcTimeoutMs: 'number',
  },
  'mtree-teardown': COMMON,
  'mtree-teardown-table': TABLE,
  'table-diff': {
    ...TABLE,
    output: 'output',
    maxHtmlRows: 'rows',
    blockSize: 'rows',
    compareUnitSize: 'rows',
    concurrencyFactor: 'factor',
    tableFilter: 'text',
    againstOrigin: 'text',
    until: 'text',
    maxDiffRows: 'rows',
    samplePercent: 'percent',
    tolerances: 'texts',
    key: 'texts',
    resume: 'flag',
    columns: 'texts',
    excludeColumns: 'texts',
  },
  'replication-diff': COMMON,
  doctor: { ...TABLE, decode: 'flag' },
  tasks: { ...COMMON, limit: 'rows', job: 'text' },
  'structure-diff': {
    ...COMMON,
    schema: 'text',
    skipTables: 'texts',
    aceExitCodes: 'flag',
  },
  'table-rerun': { ...COMMON, output: 'output', maxHtmlRows: 'rows' },
  'table-repair': {
    ...TABLE,
    key: 'texts',
    sourceOfTruth: 'text',
    dryRun: 'flag',
    generateReport: 'flag',
    insertOnly: 'flag',
    upsertOnly: 'flag',
    bidirectional: 'flag',
    fixNulls: 'flag',
    preserveOrigin: 'flag',
    repairPlan: 'document',
    planHash: 'text',
    stale: 'stale',
    saveUndo: 'flag',
    undo: 'flag',
    fireTriggers: 'flag',
    recoveryMode: 'flag',
    allowUnproved: 'flag',
  },
  status: COMMON,
  top: { ...TABLE, cells: 'rows' },
  names: COMMON,
  'drift-list': COMMON,
  'drift-show': INCIDENT,
  'drift-watch': COMMON,
  'drift-canary': COMMON,
  'drift-ack': { ...INCIDENT, by: 'text' },
  'drift-repair': { ...INCIDENT, sourceOfTruth: 'text', fireTriggers: 'flag' },
};

/** Of a command on many tables: a choice of tables in the place of the one. */
function many<Name extends keyof typeof OF_ONE>(
  name: Name,
): Omit<(typeof OF_ONE)[Name], 'table'> & typeof CHOICE {
  const others = Object.entries(OF_ONE[name]).filter(([field]) => field !== 'table');
  return { ...(Object.fromEntries(others) as (typeof OF_ONE)[Name]), ...CHOICE };
}

/** The fields of every command, so that nothing unchecked reaches the engine. */
const FIELDS: Fields<CommandName> = {
  ...OF_ONE,
  'mtree-build-many': { ...many('mtree-build'), rebuild: 'flag' },
  'mtree-update-many': many('mtree-update'),
  'mtree-verify-many': many('mtree-verify'),
  'mtree-table-diff-many': many('mtree-table-diff'),
  'mtree-teardown-table-many': many('mtree-teardown-table'),
  'table-diff-many': many('table-diff'),
};

const CHECKS: Readonly<Record<FieldKind, (value: unknown) => boolean>> = {
  text: (value) =>
    typeof value === 'string' &&
    value !== '' &&
    value.length <= MAX_TEXT_CHARS &&
    !value.includes('\0'),
  document: (value) => typeof value === 'string' && value.length <= MAX_DOCUMENT_CHARS,
  texts: (value) => Array.isArray(value) && value.every((item) => CHECKS.text(item)),
  flag: (value) => typeof value === 'boolean',
  // The limits are those of acectl's flags.
  number: (value) => isWithin(value, 0, MAX_NUMBER),
  ratio: (value) => isWithin(value, 0, 1),
  factor: (value) => isWithin(value, 0, 4),
  rows: (value) => isWithin(value, 1, MAX_NUMBER) && Number.isInteger(value),
  percent: (value) => isWithin(value, 0, 100) && value !== 0,
  output: (value) => value === 'json' || value === 'html',
  stale: (value) => value === 'skip' || value === 'apply' || value === 'fail',
};

function isWithin(value: unknown, min: number, max: number): boolean {
  return typeof value === 'number' && value >= min && value <= max;
}

export function isCommandName(text: string): text is CommandName {
  return Object.hasOwn(FIELDS, text);
}

/** Whether the command has such a parameter, and takes this value for it. */
export function acceptsParam(name: CommandName, param: string, value: unknown): boolean {
  const fields: Readonly<Record<string, FieldKind>> = FIELDS[name];
  const kind = Object.hasOwn(fields, param) ? fields[param] : undefined;
  return kind !== undefined && CHECKS[kind](value);
}

const MAY_LACK_TABLE: ReadonlySet<CommandName> = new Set(['mtree-verify', 'doctor', 'top']);

/** Errors: BAD_USAGE naming the field. */
export function parseParams<Name extends CommandName>(
  name: Name,
  value: unknown,
): CommandParams[Name] {
  if (!isObject(value)) throw bad(`${name}: params must be an object`);
  const fields: Readonly<Record<string, FieldKind>> = FIELDS[name];
  for (const [key, field] of Object.entries(value)) {
    const kind = Object.hasOwn(fields, key) ? fields[key] : undefined;
    if (kind === undefined) throw bad(`${name} has no parameter ${JSON.stringify(key)}`);
    if (!CHECKS[kind](field)) throw bad(`${name}: ${key} is not acceptable`);
  }
  for (const required of ['table', 'incident', 'schema']) {
    const isOptional = MAY_LACK_TABLE.has(name);
    if (required in fields && !isOptional && !(required in value)) {
      throw bad(`${name}: ${required} is missing`);
    }
  }
  // Every field was checked against FIELDS, which the compiler holds to CommandParams.
  return value as unknown as CommandParams[Name];
}

/** A client's definition of its cluster. Errors: BAD_USAGE. */
export function readServers(value: unknown): Servers {
  if (!isObject(value)) throw bad('servers must be an object');
  for (const [node, server] of Object.entries(value)) {
    if (isServerAddress(server)) continue;
    throw bad(`servers: ${JSON.stringify(node)} is not a host, port and database`);
  }
  // Every member was checked.
  return value as Servers;
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function bad(message: string): AcedError {
  return new AcedError('BAD_USAGE', message, {
    hint: 'Use acectl and aced of the same release.',
  });
}
