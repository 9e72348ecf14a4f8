import { readFileSync, readdirSync, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { AcedError } from '../base/errors.js';
import { serversOf, type Servers } from '../protocol/servers.js';
import { hasNodeGroups, parseClusterJson } from './cluster-json.js';
import type { IgnoredSetting, NodeConfig } from './config.js';
import type { LocateOptions } from './locate.js';
import { OPTIONS } from './options.js';
import { buildNode, checkNodes, ignoredParameters } from './nodes.js';
import type { NodeDraft } from './nodes.js';
import { passwordFiles } from './password-file.js';
import { findServiceCluster, parseServiceFile, serviceClusters } from './service-file.js';
import type { ServiceSetting } from './service-file.js';
import { firstFile } from './yaml-files.js';

export interface DefinitionOptions extends LocateOptions {
  /** `--dbname`: this database on every node. */
  readonly database?: string | undefined;
}

/** A cluster as one file has it. */
export interface Definition {
  readonly file: string;
  readonly nodes: readonly NodeDraft[];
  readonly ignored: readonly IgnoredSetting[];
}

type Timeouts = Pick<NodeConfig, 'connectTimeoutMs' | 'tcpUserTimeoutMs'>;

const UNUSED_TIMEOUTS: Timeouts = { connectTimeoutMs: 0, tcpUserTimeoutMs: 0 };

/**
 * The servers of a cluster as the files here define it; undefined when they do not: a member of the
 * socket's group needs no definition of its own. Errors: BAD_CONFIG.
 */
export function loadServers(cluster: string, options: DefinitionOptions): Servers | undefined {
  try {
    return serversOf(nodesOf(findDefinition(cluster, options), UNUSED_TIMEOUTS, options));
  } catch (error) {
    if (error instanceof AcedError && error.code === 'UNKNOWN_CLUSTER') return undefined;
    throw error;
  }
}

/** Errors: BAD_CONFIG. */
export function nodesOf(
  definition: Definition,
  timeouts: Timeouts,
  options: DefinitionOptions,
): NodeConfig[] {
  const { env, home, database } = options;
  const files = passwordFiles(options);
  const nodes = definition.nodes.map((draft) =>
    buildNode(draft, {
      env,
      home,
      passwordFiles: files,
      osUser: osUser(),
      database,
      ...timeouts,
    }),
  );
  checkNodes(nodes, definition.file);
  return nodes;
}

/** Errors: BAD_CONFIG, UNKNOWN_CLUSTER. */
export function findDefinition(cluster: string, options: DefinitionOptions): Definition {
  const { cwd, database } = options;
  const servicePaths = serviceFilePaths(options);
  const service = firstFile(servicePaths);
  const sections = service === undefined ? [] : parseServiceFile(service.content, service.path);
  if (service !== undefined) {
    const { path } = service;
    const found = findServiceCluster(sections, cluster, path);
    if (found !== undefined) {
      const nodes = found.nodes.map(({ name, settings }) => ({
        name,
        where: `${path}, [${cluster}.${name}]`,
        settings: [...found.shared, ...settings].map((setting) => draftSetting(setting, path)),
      }));
      return { file: path, nodes, ignored: ignoredParameters(nodes, path) };
    }
  }
  const json = firstFile([join(cwd, `${cluster}.json`)]);
  if (json !== undefined) {
    const { nodes, ignored } = parseClusterJson(json.content, json.path, database);
    if (nodes.length > 0) {
      const unused = ignored.map((key) => ({ source: json.path, key }));
      return { file: json.path, nodes, ignored: unused };
    }
    throw new AcedError('BAD_CONFIG', `${json.path}: no active node in node_groups`);
  }
  const looked = service === undefined ? servicePaths : [service.path];
  const known = definedClusters(options);
  throw new AcedError(
    'UNKNOWN_CLUSTER',
    `no cluster ${JSON.stringify(cluster)} in ${[...looked, `${cluster}.json`].join(', ')}`,
    {
      hint:
        known.length > 0
          ? `Defined there: ${known.join(', ')}.`
          : `Add [${cluster}] and a [${cluster}.n1] section for each node to a pg_service.conf.`,
    },
  );
}

/** The database of one section of the service file in force. Errors: BAD_CONFIG. */
export function findService(
  name: string,
  timeouts: Timeouts,
  options: DefinitionOptions,
): NodeConfig {
  const paths = serviceFilePaths(options);
  const file = firstFile(paths);
  const sections = file === undefined ? [] : parseServiceFile(file.content, file.path);
  const [section, twin] = sections.filter((one) => one.name === name);
  if (file === undefined || section === undefined) {
    throw new AcedError(
      'BAD_CONFIG',
      `standby.service: there is no section [${name}] in ${file?.path ?? paths.join(', ')}`,
      { hint: `Add [${name}] with host, port and dbname of the database that holds the lease.` },
    );
  }
  const badLine = twin?.line ?? section.malformedLine;
  if (badLine !== null) {
    throw new AcedError(
      'BAD_CONFIG',
      `${file.path}, line ${badLine}: what [${name}] means is not clear`,
      {
        hint: 'Have the section once, with a key=value on each line.',
      },
    );
  }
  const where = `${file.path}, [${name}]`;
  const settings = section.settings.map((setting) => draftSetting(setting, file.path));
  const { env, home } = options;
  // Not --dbname: that is the nodes'.
  const files = passwordFiles(options);
  const context = { env, home, passwordFiles: files, osUser: osUser(), database: undefined };
  return buildNode({ name, where, settings }, { ...context, ...timeouts });
}

/** Clusters that the service file in force has, then those of `<cluster>.json` files. Errors: BAD_CONFIG. */
export function definedClusters(options: LocateOptions): string[] {
  const service = firstFile(serviceFilePaths(options));
  const sections = service === undefined ? [] : parseServiceFile(service.content, service.path);
  return [...new Set([...serviceClusters(sections), ...jsonClusters(options.cwd)])];
}

const JSON_SUFFIX = '.json';

/** Diff files lie in the same directory, and may be large. */
const MAX_JSON_BYTES = 256 * 1024;

function jsonClusters(directory: string): string[] {
  return filesOf(directory)
    .filter((file) => file.endsWith(JSON_SUFFIX) && isClusterFile(join(directory, file)))
    .map((file) => file.slice(0, -JSON_SUFFIX.length))
    .filter((name) => OPTIONS.cluster.kind.read(name) !== undefined)
    .sort();
}

/** Of a directory that may not be listed: none. */
function filesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** What cannot be read is none. */
function isClusterFile(path: string): boolean {
  try {
    const { size } = statSync(path);
    return size <= MAX_JSON_BYTES && hasNodeGroups(readFileSync(path, 'utf8'));
  } catch {
    return false;
  }
}

/** The first that is there counts. */
function serviceFilePaths({ env, cwd, home }: LocateOptions): string[] {
  const named = ['ACE_PGSERVICEFILE', 'PGSERVICEFILE'].flatMap((key) => {
    const path = env[key];
    return path === undefined || path === '' ? [] : [resolve(cwd, path)];
  });
  const credentials = env['CREDENTIALS_DIRECTORY'];
  return [
    ...named,
    ...(credentials === undefined ? [] : [join(credentials, 'pg_service.conf')]),
    join(cwd, 'pg_service.conf'),
    join(home, '.pg_service.conf'),
    '/etc/pg_service.conf',
  ];
}

function draftSetting(
  { key, value, line }: ServiceSetting,
  file: string,
): NodeDraft['settings'][number] {
  return { key, value, where: `${file}, line ${line}` };
}

function osUser(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    // A container may run under a uid that has no name.
    return undefined;
  }
}
