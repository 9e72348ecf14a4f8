import { parseArgs, type ParseArgsConfig } from 'node:util';
import { usage, type FlagSpec } from './flags.js';

/** A flag as it was given. */
export interface GivenFlag {
  /** As typed, e.g. `-b` or `--block-size`. */
  readonly typed: string;
  readonly spec: FlagSpec | undefined;
  readonly value: string | undefined;
  /** The value stands in the same word. */
  readonly isInline: boolean;
}

export interface CommandLine {
  readonly given: readonly GivenFlag[];
  readonly words: readonly string[];
}

/** Flags may stand anywhere: what follows one is its value or a word, which its declaration tells. */
export function split(argv: readonly string[], flags: readonly FlagSpec[]): CommandLine {
  const options: NonNullable<ParseArgsConfig['options']> = {};
  const byName = new Map<string, FlagSpec>();
  const shorts = new Set<string>();
  for (const flag of flags) {
    const { name, short, read } = flag;
    if (byName.has(name)) continue;
    byName.set(name, flag);
    // Two commands may mean two flags by a letter; either both take a value or none.
    const isFree = short !== undefined && !shorts.has(short);
    if (isFree) shorts.add(short);
    options[name] = {
      type: read === undefined ? 'boolean' : 'string',
      ...(isFree ? { short } : {}),
    };
  }
  const { tokens } = parseArgs({
    args: spelledOut(argv, flags),
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const given: GivenFlag[] = [];
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') words.push(token.value);
    if (token.kind !== 'option') continue;
    const { name, rawName: typed, value, inlineValue: isInline = false } = token;
    given.push({ typed, spec: byName.get(name), value, isInline });
  }
  return { given, words };
}

/** ACE takes `-m=0.5` for `-m 0.5`, and `-q=false`; parseArgs knows that form of long names only. */
function spelledOut(argv: readonly string[], flags: readonly FlagSpec[]): string[] {
  const end = argv.indexOf('--');
  return argv.map((word, i) => {
    const [, short, value] = (end === -1 || i < end ? /^-([^-])=(.*)$/s.exec(word) : null) ?? [];
    const flag = short === undefined ? undefined : flags.find((known) => known.short === short);
    return flag === undefined || value === undefined ? word : `--${flag.name}=${value}`;
  });
}

/**
 * The words of flags that the command's parser is to see: `--name=value` or `--name`. A switch may be
 * given `=true` or `=false`; the last one wins. Errors: BAD_USAGE.
 */
export function flagWords(given: readonly GivenFlag[]): string[] {
  const words = new Map<string, string>();
  for (const { typed, spec, value, isInline } of given) {
    if (spec === undefined) words.set(typed, typed);
    else if (spec.read !== undefined)
      words.set(spec.name, valueWord(spec, { typed, value, isInline }));
    else if (!isInline || value === 'true') words.set(spec.name, `--${spec.name}`);
    else if (value === 'false') words.delete(spec.name);
    else throw usage(`${typed} takes no value`, `Write ${typed} alone.`);
  }
  return [...words.values()];
}

function valueWord(
  { name, accepts = 'a value' }: FlagSpec,
  { typed, value, isInline }: Omit<GivenFlag, 'spec'>,
): string {
  if (value === undefined) throw usage(`${typed} needs a value`, `Accepted: ${accepts}.`);
  if (!isInline && value.startsWith('-') && value !== '-') {
    // Most likely the value was forgotten and this is the next flag.
    throw usage(
      `${typed} needs a value`,
      `If ${value} is meant to be it, write --${name}=${value}.`,
    );
  }
  return `--${name}=${value}`;
}
