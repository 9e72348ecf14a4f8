import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { AcedError } from '../base/errors.js';
import { parseClusterJson } from './cluster-json.js';
import type { Config, IgnoredSetting } from './config.js';
import { locate, readSources } from './locate.js';
import type { LocateOptions } from './locate.js';
import { buildNode, checkNodes, ignoredParameters } from './nodes.js';
import type { NodeDraft } from './nodes.js';
import { OPTIONS } from './options.js';
import type { OptionSpec } from './options.js';
import { findServiceCluster, parseServiceFile, serviceClusters } from './service-file.js';
import type { ServiceSetting } from './service-file.js';
import { ignoredKeys, readSetting } from './settings.js';
import type { SettingSources } from './settings.js';
import { firstFile } from './yaml-files.js';

export interface LoadOptions extends LocateOptions {
  /** `--dbname`: this database on every node. */
  readonly database?: string | undefined;
}

export interface LoadedConfig {
  readonly config: Config;
  /** What the files say and we have no use for. */
  readonly ignored: readonly IgnoredSetting[];
}

/** PostgreSQL cuts longer names off, NAMEDATALEN - 1. */
const MAX_NAME_BYTES = 63;

/**
 * Reads everything once: flags, then the environment, `aced.yaml` and ACE's `ace.yaml`, and the
 * nodes from the service file or `<cluster>.json`. The result is frozen throughout.
 * Errors: BAD_CONFIG (naming file, key, value and what is accepted), UNKNOWN_CLUSTER.
 */
export async function loadConfig(options: LoadOptions): Promise<LoadedConfig> {
  const sources = await readSources(options);
  const { cluster, stateDir, socketPaths } = locate(sources, options);
  const read = <T>(spec: OptionSpec<T>): T => readSetting(spec, sources);
  const definition = findDefinition(cluster, options);
  const connectTimeoutMs = read(OPTIONS.connectTimeoutMs);
  const nodes = definition.nodes.map((draft) =>
    buildNode(draft, {
      env: options.env,
      home: options.home,
      osUser: osUser(),
      database: options.database,
      connectTimeoutMs,
    }),
  );
  checkNodes(nodes, definition.file);
  const objectName = replicationName(cluster);
  const config: Config = {
    cluster,
    nodes,
    stateDir,
    socketPath: socketPaths[0],
    logLevel: read(OPTIONS.logLevel),
    publicationName: objectName,
    slotName: objectName,
    nodeSchema: read(OPTIONS.nodeSchema),
    tree: {
      blockRows: read(OPTIONS.blockRows),
      maxCpuRatio: read(OPTIONS.maxCpuRatio),
      refreshQuietMs: read(OPTIONS.refreshQuietMs),
      refreshBudget: read(OPTIONS.refreshBudget),
      rowDigestBytes: read(OPTIONS.rowDigestBytes),
    },
    diff: {
      maxDiffRows: read(OPTIONS.maxDiffRows),
      compareUnitSize: read(OPTIONS.compareUnitSize),
      concurrencyFactor: read(OPTIONS.concurrencyFactor),
      settleTimeoutMs: read(OPTIONS.settleTimeoutMs),
    },
    stream: {
      flushIntervalMs: read(OPTIONS.flushIntervalMs),
      connectTimeoutMs,
      fenceTimeoutMs: read(OPTIONS.fenceTimeoutMs),
      maxSlotWalBytes: read(OPTIONS.maxSlotWalBytes),
    },
  };
  deepFreeze(config);
  return { config, ignored: [...definition.ignored, ...ignoredOptions(sources)] };
}

/** The configuration for a person: no passwords. */
export function describeConfig(config: Config): Record<string, unknown> {
  return {
    ...config,
    nodes: config.nodes.map((node) =>
      node.password === undefined ? node : { ...node, password: '(set)' },
    ),
  };
}

/** `aced_<cluster>` in the only alphabet that a slot's name may have. */
export function replicationName(cluster: string): string {
  const name = `aced_${cluster.toLowerCase().replace(/[^a-z0-9_]/gu, '_')}`;
  return name.slice(0, MAX_NAME_BYTES);
}

interface Definition {
  readonly file: string;
  readonly nodes: readonly NodeDraft[];
  readonly ignored: readonly IgnoredSetting[];
}

function findDefinition(cluster: string, options: LoadOptions): Definition {
  const { env, cwd, home, database } = options;
  const named = ['ACE_PGSERVICEFILE', 'PGSERVICEFILE'].flatMap((key) => {
    const path = env[key];
    return path === undefined || path === '' ? [] : [resolve(cwd, path)];
  });
  const servicePaths = [
    ...named,
    join(cwd, 'pg_service.conf'),
    join(home, '.pg_service.conf'),
    '/etc/pg_service.conf',
  ];
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
  const known = serviceClusters(sections);
  throw new AcedError(
    'UNKNOWN_CLUSTER',
    `no cluster ${JSON.stringify(cluster)} in ${[...looked, `${cluster}.json`].join(', ')}`,
    {
      hint:
        known.length > 0
          ? `defined there: ${known.join(', ')}`
          : `add [${cluster}] and a [${cluster}.n1] section for each node to a pg_service.conf`,
    },
  );
}

function draftSetting(
  { key, value, line }: ServiceSetting,
  file: string,
): NodeDraft['settings'][number] {
  return { key, value, where: `${file}, line ${line}` };
}

function ignoredOptions(sources: SettingSources): IgnoredSetting[] {
  const specs: readonly Pick<OptionSpec<unknown>, 'key' | 'ace'>[] = Object.values(OPTIONS);
  const aced = new Set(specs.map(({ key }) => key));
  const ace = new Set(specs.flatMap((spec) => (spec.ace ?? []).map(({ key }) => key)));
  return [...ignoredKeys(sources.aced, aced), ...ignoredKeys(sources.ace, ace)];
}

function osUser(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    // A container may run under a uid that has no name.
    return undefined;
  }
}

function deepFreeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return;
  Object.freeze(value);
  Object.values(value).forEach(deepFreeze);
}
