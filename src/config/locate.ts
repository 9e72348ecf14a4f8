import { dirname, join, resolve } from 'node:path';
import { AcedError } from '../base/errors.js';
import { OPTIONS } from './options.js';
import { checkSocketPath, defaultSocketPaths, defaultStateDir } from './paths.js';
import type { Surroundings } from './paths.js';
import { findSetting } from './settings.js';
import type { Setting, SettingSources } from './settings.js';
import { findAcedYaml, findAceYaml, parseYamlFile } from './yaml-files.js';
import type { TextFile, YamlFile, YamlSearch } from './yaml-files.js';

export interface LocateOptions {
  readonly cluster?: string | undefined;
  /** Flags that set an option, by the option's `override` name. */
  readonly overrides?: Readonly<Record<string, string | number | undefined>>;
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly home: string;
  /** Default: the process's. */
  readonly uid?: number;
}

export interface Location {
  readonly cluster: string;
  readonly stateDir: string;
  /** Where a daemon may listen. The first is where one that is started like this process does. */
  readonly socketPaths: readonly [string, ...string[]];
  /** Null: none is asked for. */
  readonly eventsFile: string | null;
  /** Where the daemon writes the reports of its jobs. */
  readonly reportDir: string;
}

/**
 * Cluster, state directory and socket without the rest of the configuration: acectl's way to a
 * running daemon must not cost more than the question it asks. A YAML file is parsed only when it
 * may hold one of the keys that matter here. Errors: BAD_CONFIG, UNKNOWN_CLUSTER.
 */
export async function locateDaemon(options: LocateOptions): Promise<Location> {
  const aced = findAcedYaml(options);
  const keys = [OPTIONS.cluster.key, OPTIONS.stateDir.key, OPTIONS.socketPath.key];
  const sources: SettingSources = {
    overrides: overridesOf(options),
    env: options.env,
    aced: aced !== undefined && mentions(aced, keys) ? await parseYamlFile(aced) : undefined,
    ace: undefined,
  };
  if (findSetting(OPTIONS.cluster, sources) !== undefined) return locate(sources, options);
  return locate({ ...sources, ace: await parseIfThere(findAceYaml(options)) }, options);
}

/** Every source of settings, read. */
export async function readSources(options: LocateOptions): Promise<SettingSources> {
  return {
    overrides: overridesOf(options),
    env: options.env,
    aced: await parseIfThere(findAcedYaml(options)),
    ace: await parseIfThere(findAceYaml(options)),
  };
}

/** Pure part of locateDaemon. */
export function locate(sources: SettingSources, options: LocateOptions): Location {
  const cluster = findSetting(OPTIONS.cluster, sources)?.value;
  if (cluster === undefined) {
    throw new AcedError('UNKNOWN_CLUSTER', 'no cluster is named', {
      hint: 'Give its name as an argument (aced: --cluster), in ACED_CLUSTER, or as default_cluster in aced.yaml.',
    });
  }
  const surroundings = surroundingsOf(options);
  const stateDir =
    absolute(findSetting(OPTIONS.stateDir, sources), options) ??
    defaultStateDir(cluster, surroundings);
  const socket = absolute(findSetting(OPTIONS.socketPath, sources), options);
  const socketPaths: readonly [string, ...string[]] =
    socket === undefined ? defaultSocketPaths(cluster, surroundings, stateDir) : [socket];
  checkSocketPath(socketPaths[0]);
  const eventsFile = absolute(findSetting(OPTIONS.eventsFile, sources), options) ?? null;
  const reportDir =
    absolute(findSetting(OPTIONS.reportDir, sources), options) ?? join(stateDir, 'reports');
  return { cluster, stateDir, socketPaths, eventsFile, reportDir };
}

function overridesOf(options: LocateOptions): Record<string, string | number | undefined> {
  return { ...options.overrides, cluster: options.cluster ?? options.overrides?.['cluster'] };
}

/** A path in a file is relative to that file, any other to the working directory. */
export function absolute(
  setting: Setting<string> | undefined,
  { cwd, home }: YamlSearch,
): string | undefined {
  if (setting === undefined) return undefined;
  const { value, file } = setting;
  if (value.startsWith('~/')) return join(home, value.slice(2));
  return resolve(file === undefined ? cwd : dirname(file), value);
}

function surroundingsOf({ env, home, uid }: LocateOptions): Surroundings {
  const ownUid = uid ?? process.getuid?.() ?? -1;
  return { env, home, uid: ownUid, isRoot: ownUid === 0 };
}

function mentions(file: TextFile, keys: readonly string[]): boolean {
  return keys.some((key) => file.content.includes(key));
}

async function parseIfThere(file: TextFile | undefined): Promise<YamlFile | undefined> {
  return file === undefined ? undefined : parseYamlFile(file);
}
