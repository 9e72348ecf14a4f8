import type { Config, IgnoredSetting, NodeConfig } from './config.js';
import { findDefinition, findService, nodesOf, type DefinitionOptions } from './definition.js';
import { absolute, locate, readSources } from './locate.js';
import { OPTIONS } from './options.js';
import { SCHEDULE_KEYS, readSchedule, type Schedule } from './schedule.js';
import type { OptionSpec } from './options.js';
import { isTableSetting, readTableSettings } from './table-settings.js';
import { findSetting, ignoredKeys, readSetting } from './settings.js';
import type { SettingSources } from './settings.js';

export type LoadOptions = DefinitionOptions;

export interface LoadedConfig {
  readonly config: Config;
  /** What the files say and we have no use for. */
  readonly ignored: readonly IgnoredSetting[];
  /** Those of aced.yaml: somebody's mistake. Other products' files have keys that are not for us. */
  readonly misspelt: readonly IgnoredSetting[];
}

const SPECS: readonly Pick<OptionSpec<unknown>, 'key' | 'ace'>[] = Object.values(OPTIONS);

/** PostgreSQL cuts longer names off, NAMEDATALEN - 1. */
const MAX_NAME_BYTES = 63;

/**
 * Reads everything once: flags, then the environment, `aced.yaml` and ACE's `ace.yaml`, and the
 * nodes from the service file or `<cluster>.json`. The result is frozen throughout.
 * Errors: BAD_CONFIG (naming file, key, value and what is accepted), UNKNOWN_CLUSTER.
 */
export async function loadConfig(options: LoadOptions): Promise<LoadedConfig> {
  const sources = await readSources(options);
  const { cluster, stateDir, socketPaths, eventsFile, reportDir } = locate(sources, options);
  const read = <T>(spec: OptionSpec<T>): T => readSetting(spec, sources);
  const find = <T>(spec: OptionSpec<T>): T | null => findSetting(spec, sources)?.value ?? null;
  const findPath = (spec: OptionSpec<string>): string | null =>
    absolute(findSetting(spec, sources), options) ?? null;
  const connectTimeoutMs = read(OPTIONS.connectTimeoutMs);
  const tcpUserTimeoutMs = read(OPTIONS.tcpUserTimeoutMs);
  const definition = findDefinition(cluster, options);
  const nodes = nodesOf(definition, { connectTimeoutMs, tcpUserTimeoutMs }, options);
  const objectName = replicationName(cluster);
  const readStandby = (): Config['standby'] => {
    const service = find(OPTIONS.standbyService);
    if (service === null) return null;
    const database = findService(service, { connectTimeoutMs, tcpUserTimeoutMs }, options);
    return { database, name: find(OPTIONS.standbyName) };
  };
  const config: Config = {
    cluster,
    nodes,
    stateDir,
    socketPath: socketPaths[0],
    maxCommands: read(OPTIONS.maxCommands),
    logLevel: read(OPTIONS.logLevel),
    publicationName: objectName,
    slotName: objectName,
    nodeSchema: read(OPTIONS.nodeSchema),
    tree: {
      blockRows: read(OPTIONS.blockRows),
      maxBlocks: read(OPTIONS.maxBlocks),
      maxCpuRatio: read(OPTIONS.maxCpuRatio),
      refreshQuietMs: read(OPTIONS.refreshQuietMs),
      refreshBudget: read(OPTIONS.refreshBudget),
      rowDigestBytes: read(OPTIONS.rowDigestBytes),
      catalogWatchMs: read(OPTIONS.catalogWatchMs),
    },
    scrub: {
      budget: read(OPTIONS.scrubBudget),
      intervalMs: read(OPTIONS.scrubIntervalMs),
      maxActiveBackends: read(OPTIONS.scrubMaxActiveBackends),
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
      tcpUserTimeoutMs,
      fenceTimeoutMs: read(OPTIONS.fenceTimeoutMs),
      maxSlotWalBytes: read(OPTIONS.maxSlotWalBytes),
      failoverSlot: read(OPTIONS.failoverSlot),
    },
    drift: {
      isEnabled: read(OPTIONS.driftEnabled),
      openRowsBytes: read(OPTIONS.openRowsBytes),
      eventsFile,
      eventsHaveKeys: read(OPTIONS.eventsHaveKeys),
    },
    hooks: {
      webhook: find(OPTIONS.hooksWebhook),
      authorization: find(OPTIONS.hooksAuthorization),
      command: find(OPTIONS.hooksCommand),
    },
    standby: readStandby(),
    metrics: {
      port: find(OPTIONS.metricsPort),
      host: read(OPTIONS.metricsHost),
      perTable: read(OPTIONS.metricsPerTable),
    },
    api: {
      port: find(OPTIONS.apiPort),
      host: read(OPTIONS.apiHost),
      certFile: findPath(OPTIONS.apiCertFile),
      keyFile: findPath(OPTIONS.apiKeyFile),
      clientCaFile: findPath(OPTIONS.apiClientCaFile),
      clientCrlFile: findPath(OPTIONS.apiClientCrlFile),
      allowedNames: read(OPTIONS.apiAllowedNames),
    },
    schedule: { ...readSchedule(sources, cluster), reportDir },
    tables: readTableSettings(sources.aced),
    canary: {
      intervalMs: read(OPTIONS.canaryIntervalMs),
      timeoutMs: read(OPTIONS.canaryTimeoutMs),
    },
    track: {
      include: read(OPTIONS.trackInclude),
      exclude: read(OPTIONS.trackExclude),
      publications: read(OPTIONS.trackPublications),
      replicationSets: read(OPTIONS.trackReplicationSets),
      budget: read(OPTIONS.trackBudget),
      intervalMs: read(OPTIONS.trackIntervalMs),
    },
  };
  deepFreeze(config);
  const misspelt = ignoredKeys(
    sources.aced,
    new Set([...SCHEDULE_KEYS, ...SPECS.map(({ key }) => key)]),
  ).filter(({ key }) => !isTableSetting(key));
  const ignored = [...definition.ignored, ...misspelt, ...ignoredAceKeys(sources)];
  return { config, ignored, misspelt };
}

/** The jobs alone, read again. Errors: BAD_CONFIG, UNKNOWN_CLUSTER. */
export async function loadSchedule(options: LoadOptions): Promise<Schedule> {
  const sources = await readSources(options);
  return readSchedule(sources, locate(sources, options).cluster);
}

/** The configuration for a person: no passwords. */
export function describeConfig(config: Config): Record<string, unknown> {
  const shown = (value: string | null): string | null => (value === null ? null : '(set)');
  const { webhook, authorization, command } = config.hooks;
  return {
    ...config,
    hooks: { webhook: shown(webhook), authorization: shown(authorization), command },
    nodes: config.nodes.map(withoutPassword),
    standby: config.standby && {
      ...config.standby,
      database: withoutPassword(config.standby.database),
    },
  };
}

function withoutPassword(node: NodeConfig): NodeConfig {
  return node.password === undefined ? node : { ...node, password: '(set)' };
}

/** `aced_<cluster>` in the only alphabet that a slot's name may have. */
export function replicationName(cluster: string): string {
  const name = `aced_${cluster.toLowerCase().replace(/[^a-z0-9_]/gu, '_')}`;
  return name.slice(0, MAX_NAME_BYTES);
}

function ignoredAceKeys(sources: SettingSources): IgnoredSetting[] {
  const known = SPECS.flatMap((spec) => (spec.ace ?? []).map(({ key }) => key));
  return ignoredKeys(sources.ace, new Set([...SCHEDULE_KEYS, ...known]));
}

function deepFreeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return;
  Object.freeze(value);
  Object.values(value).forEach(deepFreeze);
}
