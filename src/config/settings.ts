import { AcedError } from '../base/errors.js';
import type { IgnoredSetting } from './config.js';
import type { OptionSpec } from './options.js';
import type { ValueKind } from './option-values.js';
import type { YamlFile } from './yaml-files.js';

/** Where option values come from, strongest first: flags, environment, `aced.yaml`, `ace.yaml`. */
export interface SettingSources {
  readonly overrides: Readonly<Record<string, string | number | undefined>>;
  readonly env: NodeJS.ProcessEnv;
  readonly aced: YamlFile | undefined;
  readonly ace: YamlFile | undefined;
}

export interface Setting<T> {
  readonly value: T;
  /** The file it stood in; undefined for flags and environment. */
  readonly file: string | undefined;
}

/** The value of the strongest source that has one. Errors: BAD_CONFIG. */
export function findSetting<T>(
  spec: OptionSpec<T>,
  sources: SettingSources,
): Setting<T> | undefined {
  const override = spec.override === undefined ? undefined : sources.overrides[spec.override];
  if (override !== undefined) {
    return { value: accept(spec.kind, override, `flag for ${spec.key}`), file: undefined };
  }
  const variable = sources.env[spec.env];
  if (variable !== undefined && variable !== '') {
    return { value: accept(spec.kind, variable, `environment, ${spec.env}`), file: undefined };
  }
  const own = fromYaml(sources.aced, spec.key, spec.kind);
  if (own !== undefined) return own;
  for (const { key, kind } of spec.ace ?? []) {
    const found = fromYaml(sources.ace, key, kind ?? spec.kind);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** As findSetting, for an option that has a default. */
export function readSetting<T>(
  spec: OptionSpec<T> & { readonly defaultValue?: T },
  sources: SettingSources,
): T {
  const value = findSetting(spec, sources)?.value ?? spec.defaultValue;
  if (value === undefined) throw new AcedError('INTERNAL', `option ${spec.key} has no default`);
  return value;
}

/** Keys of a YAML file that no option reads. */
export function ignoredKeys(
  file: YamlFile | undefined,
  known: ReadonlySet<string>,
): IgnoredSetting[] {
  if (file === undefined) return [];
  return [...file.values.keys()]
    .filter((key) => !known.has(key))
    .map((key) => ({ source: file.path, key }));
}

function fromYaml<T>(
  file: YamlFile | undefined,
  key: string,
  kind: ValueKind<T>,
): Setting<T> | undefined {
  const entry = file?.values.get(key);
  // `key:` with nothing after it is how people leave a setting out, and ACE's sample has `''`.
  if (file === undefined || entry === undefined) return undefined;
  if (entry.value === null || entry.value === '') return undefined;
  const where = `${file.path}, line ${entry.line}, ${key}`;
  return { value: accept(kind, entry.value, where), file: file.path };
}

function accept<T>(kind: ValueKind<T>, value: unknown, where: string): T {
  const accepted = kind.read(value);
  if (accepted !== undefined) return accepted;
  throw badValue(where, kind.isSecret === true ? '(hidden)' : value, kind.accepts);
}

/** Never for a password. */
export function badValue(where: string, value: unknown, accepts: string): AcedError {
  return new AcedError('BAD_CONFIG', `${where}: ${JSON.stringify(value)} is not accepted`, {
    hint: `Accepted: ${accepts}.`,
  });
}
