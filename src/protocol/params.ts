import { AcedError } from '../base/errors.js';
import type { CommandName, CommandParams } from './commands.js';
import { isServerAddress, type Servers } from './servers.js';

type FieldKind = 'text' | 'texts' | 'flag' | 'number' | 'output';

const COMMON = { nodes: 'texts' } as const;
const TABLE = { ...COMMON, table: 'text' } as const;
const INCIDENT = { ...COMMON, incident: 'text' } as const;

/** The fields of every command, so that nothing unchecked reaches the engine. */
const FIELDS: {
  readonly [Name in CommandName]: Readonly<Record<keyof CommandParams[Name], FieldKind>>;
} = {
  'mtree-init': COMMON,
  'mtree-build': {
    ...TABLE,
    blockRows: 'number',
    maxCpuRatio: 'number',
    analyse: 'flag',
    recreateObjects: 'flag',
    excludeColumns: 'texts',
  },
  'mtree-update': {
    ...TABLE,
    rebalance: 'flag',
    maxCpuRatio: 'number',
    skipCdc: 'flag',
    cdcTimeoutMs: 'number',
  },
  'mtree-verify': { ...TABLE, maxCpuRatio: 'number', rowsPerSecond: 'number' },
  'mtree-table-diff': {
    ...TABLE,
    output: 'output',
    maxCpuRatio: 'number',
    skipCdc: 'flag',
    cdcTimeoutMs: 'number',
  },
  'mtree-teardown': COMMON,
  'mtree-teardown-table': TABLE,
  'table-diff': {
    ...TABLE,
    output: 'output',
    blockSize: 'number',
    compareUnitSize: 'number',
    concurrencyFactor: 'number',
    tableFilter: 'text',
    excludeColumns: 'texts',
  },
  'table-repair': {
    ...TABLE,
    sourceOfTruth: 'text',
    dryRun: 'flag',
    generateReport: 'flag',
    insertOnly: 'flag',
    upsertOnly: 'flag',
    fireTriggers: 'flag',
    allowUnproved: 'flag',
  },
  status: COMMON,
  'drift-list': COMMON,
  'drift-show': INCIDENT,
  'drift-watch': COMMON,
  'drift-ack': { ...INCIDENT, by: 'text' },
  'drift-repair': { ...INCIDENT, sourceOfTruth: 'text', fireTriggers: 'flag' },
};

const CHECKS: Readonly<Record<FieldKind, (value: unknown) => boolean>> = {
  text: (value) => typeof value === 'string' && value !== '' && !value.includes('\0'),
  texts: (value) => Array.isArray(value) && value.every((item) => CHECKS.text(item)),
  flag: (value) => typeof value === 'boolean',
  number: (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0,
  output: (value) => value === 'json' || value === 'html',
};

export function isCommandName(text: string): text is CommandName {
  return Object.hasOwn(FIELDS, text);
}

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
  for (const required of ['table', 'incident']) {
    const isOptional = name === 'mtree-verify';
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
    hint: 'use acectl and aced of the same release',
  });
}
