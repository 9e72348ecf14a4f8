import { readFileSync, realpathSync, statSync } from 'node:fs';
import { isAbsolute, join, relative } from 'node:path';
import { AcedError } from '../base/errors.js';
import type { CommandName, CommandParams } from '../protocol/commands.js';
import { skippedTables } from '../protocol/many-tables.js';
import { MAX_DOCUMENT_CHARS, acceptsParam, isObject, parseParams } from '../protocol/params.js';
import type { ApiRequest } from '../protocol/tasks.js';
import { parseTableName } from '../table/table-name.js';

/** One of ACE's routes: https://github.com/pgEdge/ace/blob/main/docs/http-api.md */
interface Route {
  /** ACE's name of the task. */
  readonly type: string;
  readonly command: CommandName;
  /** Field of the body -> parameter of the command; null: accepted, and without effect here. */
  readonly fields: Readonly<Record<string, string | null>>;
}

const TABLE = { table: 'table' };
const RANGES = {
  block_size: 'blockSize',
  concurrency_factor: 'concurrencyFactor',
  compare_unit_size: 'compareUnitSize',
  override_block_size: null,
};
const MANY = { ...RANGES, output: 'output', skip_tables: 'skipTables', skip_file: 'skipTables' };

const ROUTES: ReadonlyMap<string, Route> = new Map<string, Route>([
  [
    'table-diff',
    {
      type: 'TABLE_DIFF',
      command: 'table-diff',
      fields: {
        ...{ ...TABLE, ...RANGES },
        max_diff_rows: 'maxDiffRows',
        table_filter: 'tableFilter',
      },
    },
  ],
  [
    'table-rerun',
    { type: 'TABLE_RERUN', command: 'table-rerun', fields: { diff_file: 'diff_file' } },
  ],
  [
    'table-repair',
    {
      type: 'TABLE_REPAIR',
      command: 'table-repair',
      fields: {
        ...TABLE,
        diff_file: 'diff_file',
        repair_plan: 'repairPlan',
        source_of_truth: 'sourceOfTruth',
        dry_run: 'dryRun',
        insert_only: 'insertOnly',
        upsert_only: 'upsertOnly',
        fire_triggers: 'fireTriggers',
        generate_report: 'generateReport',
        fix_nulls: 'fixNulls',
        bidirectional: 'bidirectional',
        preserve_origin: 'preserveOrigin',
      },
    },
  ],
  ['spock-diff', { type: 'SPOCK_DIFF', command: 'replication-diff', fields: { output: null } }],
  [
    'schema-diff',
    {
      type: 'SCHEMA_DIFF',
      command: 'table-diff-many',
      fields: { ...MANY, schema: 'schemas', ddl_only: null },
    },
  ],
  [
    'repset-diff',
    {
      type: 'REPSET_DIFF',
      command: 'table-diff-many',
      fields: { ...MANY, repset: 'repset' },
    },
  ],
  ['mtree/init', { type: 'MTREE_INIT', command: 'mtree-init', fields: {} }],
  ['mtree/teardown', { type: 'MTREE_TEARDOWN', command: 'mtree-teardown', fields: {} }],
  [
    'mtree/teardown-table',
    { type: 'MTREE_TEARDOWN_TABLE', command: 'mtree-teardown-table', fields: TABLE },
  ],
  [
    'mtree/build',
    {
      type: 'MTREE_BUILD',
      command: 'mtree-build',
      fields: {
        ...TABLE,
        block_size: 'blockRows',
        max_cpu_ratio: 'maxCpuRatio',
        override_block_size: null,
        analyse: 'analyse',
        recreate_objects: 'recreateObjects',
      },
    },
  ],
  [
    'mtree/update',
    {
      type: 'MTREE_UPDATE',
      command: 'mtree-update',
      fields: { ...TABLE, max_cpu_ratio: 'maxCpuRatio', rebalance: 'rebalance' },
    },
  ],
  [
    'mtree/diff',
    {
      type: 'MTREE_DIFF',
      command: 'mtree-table-diff',
      fields: {
        ...TABLE,
        max_cpu_ratio: 'maxCpuRatio',
        output: 'output',
        skip_update: 'skipCdc',
      },
    },
  ],
]);

/** `schema-diff` with `ddl_only`: what says how rows are compared means nothing. */
const STRUCTURE: Route = {
  type: 'SCHEMA_DIFF',
  command: 'structure-diff',
  fields: {
    ...Object.fromEntries(Object.keys(MANY).map((field) => [field, null])),
    ...{ schema: 'schema', ddl_only: null, skip_tables: 'skipTables', skip_file: 'skipTables' },
  },
};

/** Of every route: whom it is for, and what the answer does not depend on. */
const COMMON = { cluster: null, dbname: null, nodes: 'nodes', quiet: null };
/** The form of the file is not documented. */
const REFUSED: Readonly<Record<string, string>> = {
  write_ranges: 'leave it out: aced keeps the ranges itself, and in its schema on each node',
  ranges_file: 'leave it out: aced finds the ranges in one pass',
};
/** The largest that `max_diff_rows` may be: ACE's 0 is no limit. */
const NO_LIMIT = 1_000_000_000;

export interface ApiOf {
  readonly cluster: string;
  /** Of every node. */
  readonly databases: readonly string[];
  /** Files that requests name are below it. */
  readonly reportDir: string;
}

/** What a body asks for. */
export interface ApiCommand {
  readonly name: CommandName;
  readonly params: CommandParams[CommandName];
  readonly about: Omit<ApiRequest, 'id'>;
  /** The diff file, and what the client calls it; null: none is needed. */
  readonly input: { readonly path: string; readonly name: string } | null;
}

/** Whether ACE has the route `POST /api/v1/<name>`. */
export function isRoute(name: string): boolean {
  return ROUTES.has(name);
}

/** Errors: BAD_USAGE, UNSUPPORTED, BAD_DIFF_FILE, naming the field. */
export function readApiRequest(name: string, body: unknown, of: ApiOf): ApiCommand {
  if (!isObject(body)) throw bad('the body must be a JSON object');
  // As ACE has it, nothing said is what the default is for.
  const given = Object.entries(body).filter(([, value]) => !isEmpty(value));
  const fields = Object.fromEntries(given);
  const isStructure = name === 'schema-diff' && fields['ddl_only'] === true;
  const route = isStructure ? STRUCTURE : ROUTES.get(name);
  if (route === undefined) throw bad(`there is no ${name}`);
  checkTarget(fields, of);
  const known: Readonly<Record<string, string | null>> = { ...COMMON, ...route.fields };
  const params: Record<string, unknown> = {};
  let input: ApiCommand['input'] = null;
  for (const [field, value] of given) {
    const instead = REFUSED[field];
    if (instead !== undefined) {
      throw new AcedError('UNSUPPORTED', `${field} is not supported`, { hint: instead });
    }
    if (!Object.hasOwn(known, field)) throw bad(`${name} has no field ${JSON.stringify(field)}`);
    const param = known[field] ?? null;
    if (param === null) {
      if (field === 'output' && value !== 'json') throw bad(`${name} answers json alone`);
      continue;
    }
    if (param === 'diff_file') {
      input = { path: fileOf(field, value, of.reportDir), name: String(value) };
      continue;
    }
    const read = param === 'schemas' ? [value] : valueOf(field, value, of);
    if (read === undefined) continue;
    // Two fields say which tables are left out.
    const all = param === 'skipTables' ? [params[param] ?? [], read].flat() : read;
    if (!acceptsParam(route.command, param, all)) throw bad(`${field} is not acceptable`);
    params[param] = all;
  }
  const needed = Object.keys(route.fields).filter((field) => REQUIRED.has(field));
  for (const field of needed) if (!(field in fields)) throw bad(`${name} needs ${field}`);
  const { schema, name: table } =
    typeof fields['table'] === 'string'
      ? parseTableName(fields['table'])
      : { schema: textOf(fields['schema']), name: '' };
  return {
    name: route.command,
    params: parseParams(route.command, params),
    about: { type: route.type, schema, table, repset: textOf(fields['repset']) },
    input,
  };
}

const REQUIRED = new Set(['table', 'schema', 'repset', 'diff_file']);

function checkTarget({ cluster, dbname }: Readonly<Record<string, unknown>>, of: ApiOf): void {
  if (cluster !== undefined && cluster !== of.cluster) {
    throw bad(`this aced serves cluster ${of.cluster}, not ${JSON.stringify(cluster)}`);
  }
  if (dbname !== undefined && !of.databases.every((name) => name === dbname)) {
    const served = [...new Set(of.databases)].join(', ');
    throw bad(`this aced serves database ${served}, not ${JSON.stringify(dbname)}`);
  }
}

/** Undefined: what is meant without it. */
function valueOf(field: string, value: unknown, { reportDir }: ApiOf): unknown {
  switch (field) {
    case 'nodes':
      return [value].flat().join() === 'all' ? undefined : value;
    case 'max_diff_rows':
      return value === 0 ? NO_LIMIT : value;
    case 'block_size':
    case 'compare_unit_size':
      return value === 0 ? undefined : value;
    case 'skip_tables':
      return typeof value === 'string' ? [value] : value;
    case 'skip_file':
      return skippedTables(documentOf(field, value, reportDir));
    case 'repair_plan':
      return documentOf(field, value, reportDir);
    default:
      return value;
  }
}

function documentOf(field: string, value: unknown, reportDir: string): string {
  const path = fileOf(field, value, reportDir);
  if (statSync(path).size > MAX_DOCUMENT_CHARS) {
    throw bad(`${field}: the file is larger than ${MAX_DOCUMENT_CHARS} bytes`);
  }
  return readFileSync(path, 'utf8');
}

/**
 * The real path of a file below the report directory: who may ask for a diff is not therefore who may
 * have any file read that aced can read. Errors: BAD_USAGE.
 */
function fileOf(field: string, value: unknown, reportDir: string): string {
  if (typeof value !== 'string') throw bad(`${field} must be a path`);
  const wanted = isAbsolute(value) ? value : join(reportDir, value);
  let path: string;
  try {
    path = realpathSync(wanted);
    const below = relative(realpathSync(reportDir), path);
    if (below.startsWith('..') || isAbsolute(below) || !statSync(path).isFile()) throw bad('');
  } catch (error) {
    throw new AcedError('BAD_USAGE', `${field}: no file ${value} below ${reportDir}`, {
      hint: 'Put it there; schedule.report_dir is where the files of these routes are.',
      cause: error,
    });
  }
  return path;
}

function isEmpty(value: unknown): boolean {
  return value === null || value === '' || (Array.isArray(value) && value.length === 0);
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function bad(message: string): AcedError {
  return new AcedError('BAD_USAGE', message);
}
