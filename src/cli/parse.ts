import { parseArgs, type ParseArgsConfig } from 'node:util';
import { AcedError } from '../base/errors.js';
import { COMMANDS } from './commands.js';
import type { CommandSpec } from './commands.js';
import { COMMON, ELSEWHERE, TIMER, flagTitle, usage } from './flags.js';
import type { FlagSpec, FlagValue, FlagValues } from './flags.js';

export type Parsed =
  | { readonly kind: 'help'; readonly command: CommandSpec | undefined }
  | { readonly kind: 'version' }
  | {
      readonly kind: 'command';
      readonly command: CommandSpec;
      readonly cluster: string | undefined;
      readonly argument: string;
      readonly flags: FlagValues;
    };

const VERSION_FLAG: FlagSpec = { name: 'version', short: 'V', doc: 'print the release' };

/** Every flag of every command: a flag may stand before the command that it belongs to. */
const ALL_FLAGS: readonly FlagSpec[] = [
  ...COMMON,
  VERSION_FLAG,
  ...COMMANDS.flatMap(({ flags }) => flags),
  ...TIMER,
  ...ELSEWHERE,
];

interface GivenFlag {
  /** As typed, e.g. `-b` or `--block-size`. */
  readonly typed: string;
  readonly name: string;
  readonly value: string | undefined;
  readonly isInline: boolean;
}

/**
 * Flags may stand anywhere. With one argument too few, the cluster is the default one. Errors:
 * BAD_USAGE, UNSUPPORTED; both name what was typed.
 */
export function parseCommandLine(argv: readonly string[]): Parsed {
  const all = scan(argv, ALL_FLAGS);
  for (const { name, typed } of all.given) {
    const isKnown = ALL_FLAGS.some(
      (flag) => flag.name === name || `-${flag.short ?? ''}` === typed,
    );
    if (!isKnown) throw usage(`unknown flag ${typed}`, 'see acectl --help');
  }
  const words = all.positionals[0] === 'help' ? all.positionals.slice(1) : all.positionals;
  const asksForHelp = words !== all.positionals || all.given.some(({ name }) => name === 'help');
  const command = findCommand(words);
  if (asksForHelp) return { kind: 'help', command };
  if (all.given.some(({ name }) => name === 'version')) return { kind: 'version' };
  if (command === undefined) throw unknownCommand(words);
  if (command.action.kind === 'refused') {
    throw new AcedError('UNSUPPORTED', `acectl has no ${command.words.join(' ')}`, {
      hint: command.action.instead,
    });
  }
  const { given, positionals } = scan(argv, command.flags);
  const flags = readFlags(given, command);
  return { kind: 'command', command, flags, ...splitArguments(positionals, command) };
}

function scan(
  argv: readonly string[],
  flags: readonly FlagSpec[],
): { given: GivenFlag[]; positionals: string[] } {
  const options: NonNullable<ParseArgsConfig['options']> = {};
  const shorts = new Set<string>();
  for (const { name, short, read } of flags) {
    // -p is --path here and --repair-plan there; whichever it is, it takes a value.
    const isFree = short !== undefined && !shorts.has(short);
    if (isFree) shorts.add(short);
    if (Object.hasOwn(options, name)) continue;
    options[name] = {
      type: read === undefined ? 'boolean' : 'string',
      ...(isFree ? { short } : {}),
    };
  }
  const { tokens } = parseArgs({
    args: [...argv],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const given: GivenFlag[] = [];
  const positionals: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const { name, rawName: typed, inlineValue: isInline = false } = token;
    // ACE takes -m=0.5 for -m 0.5; parseArgs would take the value to be =0.5.
    const isShort = !typed.startsWith('--');
    const value = isInline && isShort ? token.value?.replace(/^=/, '') : token.value;
    given.push({ typed, name, value, isInline });
  }
  return { given, positionals };
}

function findCommand(words: readonly string[]): CommandSpec | undefined {
  return COMMANDS.find((command) => command.words.every((word, i) => words[i] === word));
}

function unknownCommand(words: readonly string[]): AcedError {
  const [first] = words;
  if (first === undefined) return usage('no command is given', 'see acectl --help');
  const group = COMMANDS.filter(
    (command) => command.words.length > 1 && command.words[0] === first,
  );
  if (group.length === 0) return usage(`unknown command ${first}`, 'see acectl --help');
  const known = group.map((command) => command.words[1]).join(', ');
  const typed = words.slice(0, 2).join(' ');
  return usage(`unknown command ${typed}`, `${first} has: ${known}`);
}

function readFlags(given: readonly GivenFlag[], command: CommandSpec): FlagValues {
  const values = new Map<string, FlagValue>();
  const name = command.words.join(' ');
  for (const flag of given) {
    const spec = command.flags.find((candidate) => candidate.name === flag.name);
    if (spec === undefined) {
      throw usage(`${flag.typed} is no flag of ${name}`, `see acectl ${name} --help`);
    }
    const value = readFlag(spec, flag);
    if (spec.refused !== undefined && value !== false) {
      throw new AcedError('UNSUPPORTED', `${flagTitle(spec)} is not supported`, {
        hint: spec.refused,
      });
    }
    values.set(spec.name, value);
  }
  return values;
}

function readFlag(spec: FlagSpec, { typed, value, isInline }: GivenFlag): FlagValue {
  if (spec.read === undefined) {
    if (!isInline || value === 'true') return true;
    if (value === 'false') return false;
    throw usage(`${typed} takes no value`, `write ${typed} alone`);
  }
  const accepts = spec.accepts ?? 'a value';
  if (value === undefined) throw usage(`${typed} needs a value`, `accepted: ${accepts}`);
  if (!isInline && value.startsWith('-') && value !== '-') {
    // Most likely the value was forgotten and this is the next flag.
    throw usage(
      `${typed} needs a value`,
      `if ${value} is meant to be it, write --${spec.name}=${value}`,
    );
  }
  const read = spec.read(value);
  if (read === undefined) {
    throw usage(
      `${flagTitle(spec)}: ${JSON.stringify(value)} is not accepted`,
      `accepted: ${accepts}`,
    );
  }
  return read;
}

function splitArguments(
  positionals: readonly string[],
  { words, argument }: CommandSpec,
): { cluster: string | undefined; argument: string } {
  const args = positionals.slice(words.length);
  if (argument?.startsWith('[') === true && args.length < 2) {
    // A table that a person names has its schema with it.
    const [only] = args;
    return only?.includes('.') === true
      ? { cluster: undefined, argument: only }
      : { cluster: only, argument: '' };
  }
  const form = `acectl ${words.join(' ')} [cluster]${argument === null ? '' : ` ${argument}`}`;
  const wanted = argument === null ? 0 : 1;
  if (args.length < wanted) {
    throw usage(`${words.join(' ')} needs ${argument ?? ''}`, `write ${form}`);
  }
  if (args.length > wanted + 1) {
    throw usage(`too many arguments: ${args.slice(wanted + 1).join(' ')}`, `write ${form}`);
  }
  const cluster = args.length > wanted ? args[0] : undefined;
  return { cluster, argument: wanted === 0 ? '' : (args.at(-1) ?? '') };
}
