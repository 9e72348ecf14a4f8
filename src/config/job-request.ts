import type { CommandName, CommandParams } from '../protocol/commands.js';
import { isObject, parseParams } from '../protocol/params.js';

export interface JobRequest<Name extends CommandName> {
  readonly name: Name;
  readonly params: CommandParams[Name];
}

/** ACE's types, and ours. */
const TYPES = [
  'table-diff',
  'schema-diff',
  'repset-diff',
  'replication-diff',
  'mtree-build',
  'mtree-update',
  'mtree-verify',
  'mtree-table-diff',
] as const;
type JobType = (typeof TYPES)[number];

/** A flag's name with underscores -> the parameter, and what the file's value becomes. */
const ARGUMENTS: Readonly<Record<string, readonly [string, (value: unknown) => unknown]>> = {
  nodes: ['nodes', nodesOf],
  output: ['output', (value) => value],
  block_size: ['blockSize', numberOf],
  compare_unit_size: ['compareUnitSize', numberOf],
  concurrency_factor: ['concurrencyFactor', numberOf],
  table_filter: ['tableFilter', (value) => value],
  max_cpu_ratio: ['maxCpuRatio', numberOf],
  key: ['key', listOf],
  columns: ['columns', listOf],
  exclude_columns: ['excludeColumns', listOf],
  skip_tables: ['skipTables', listOf],
  skip_cdc: ['skipCdc', (value) => value],
  cdc_timeout: ['cdcTimeoutMs', (value) => Number(value) * 1000],
  rebalance: ['rebalance', (value) => value],
  analyse: ['analyse', (value) => value],
  rebuild: ['rebuild', (value) => value],
  rate: ['rowsPerSecond', numberOf],
  ace_exit_codes: ['aceExitCodes', (value) => value],
};

/** What ACE has and means nothing here. */
const WITHOUT_EFFECT = new Set([
  ...['dbname', 'quiet', 'debug', 'override_block_size', 'max_connections', 'ensure_pgcrypto'],
  ...['ddl_only', 'compare'],
]);

/**
 * What a job of schedule_jobs asks for. Errors: RangeError and BAD_USAGE, whose message says what is
 * wrong.
 */
export function jobRequest(job: Readonly<Record<string, unknown>>): JobRequest<CommandName> {
  const type = typeOf(job);
  const args = job['args'] ?? {};
  if (!isObject(args)) throw new RangeError('args must be a map');
  const given = Object.entries(args).filter(([name]) => !WITHOUT_EFFECT.has(name));
  const params: Record<string, unknown> = {};
  for (const [name, value] of given) {
    const known = ARGUMENTS[name];
    if (known === undefined) throw new RangeError(`args has ${name}, which no command takes`);
    const [param, convert] = known;
    const converted = convert(value);
    if (converted !== undefined) params[param] = converted;
  }
  if (type === 'mtree-build' && 'blockSize' in params) {
    params['blockRows'] = params['blockSize'];
    delete params['blockSize'];
  }
  const isStructure = args['ddl_only'] === true || args['compare'] === 'structure';
  const { name, target } = commandOf(type, job, isStructure);
  return { name, params: parseParams(name, { ...params, ...target }) };
}

function typeOf(job: Readonly<Record<string, unknown>>): JobType {
  const said = job['type'];
  if (typeof said === 'string') {
    const type = TYPES.find((one) => one === (said === 'spock-diff' ? 'replication-diff' : said));
    if (type !== undefined) return type;
    throw new RangeError(`type ${said} is none of ${TYPES.join(', ')}`);
  }
  if (job['schema_name'] !== undefined) return 'schema-diff';
  return job['repset_name'] === undefined ? 'table-diff' : 'repset-diff';
}

function commandOf(
  type: JobType,
  job: Readonly<Record<string, unknown>>,
  isStructure: boolean,
): { name: CommandName; target: object } {
  const text = (key: string): string => {
    const value = job[key];
    if (typeof value === 'string' && value !== '') return value;
    throw new RangeError(`${type} needs ${key}`);
  };
  if (type === 'replication-diff') return { name: type, target: {} };
  if (type === 'schema-diff') {
    const schema = text('schema_name');
    if (isStructure) return { name: 'structure-diff', target: { schema } };
    return { name: 'table-diff-many', target: { schemas: [schema] } };
  }
  if (type === 'repset-diff') {
    return { name: 'table-diff-many', target: { repset: text('repset_name') } };
  }
  if (type === 'mtree-verify' && job['table_name'] === undefined) {
    // Without a table it is about all of them.
    return { name: type, target: {} };
  }
  const table = text('table_name');
  const isPattern = /[*?,]/.test(table.replace(/"[^"]*"/g, ''));
  if (isPattern) return { name: `${type}-many`, target: { tables: [table] } };
  return { name: type, target: { table } };
}

function numberOf(value: unknown): unknown {
  return typeof value === 'string' ? Number(value) : value;
}

function listOf(value: unknown): unknown {
  return typeof value === 'string' ? value.split(',').map((item) => item.trim()) : value;
}

/** `all` is what is meant without. */
function nodesOf(value: unknown): unknown {
  const list = listOf(value);
  return Array.isArray(list) && list.length === 1 && list[0] === 'all' ? undefined : list;
}
