import { CommanderError, type Command } from 'commander';
import type { AcedError } from '../base/errors.js';
import { COMMANDS, GROUPS, operandsOf } from './commands.js';
import type { CommandSpec } from './commands.js';
import { COMMON, HELP_FLAG, TIMER, VERSION_FLAG, usage } from './flags.js';
import type { FlagSpec, FlagValues } from './flags.js';
import { EXIT_CODES, PROGRAM_DOC, USAGE_NOTES } from './help.js';
import {
  addFlags,
  declare,
  didYouMean,
  newProgram,
  problemOf,
  unknownFlag,
  valuesOf,
} from './program.js';
import type { Page } from './program.js';
import { flagWords, split } from './tokens.js';

export type Parsed =
  | {
      readonly kind: 'help';
      readonly text: string;
      /** False: nobody asked, there is no command in the line. */
      readonly isAsked: boolean;
    }
  | { readonly kind: 'version' }
  | {
      readonly kind: 'command';
      readonly command: CommandSpec;
      readonly cluster: string | undefined;
      readonly argument: string;
      readonly flags: FlagValues;
    };

/** Every flag of every command: a flag may stand before the command that it belongs to. */
const ALL_FLAGS: readonly FlagSpec[] = [
  ...COMMON,
  VERSION_FLAG,
  ...COMMANDS.flatMap(({ flags }) => flags),
  ...TIMER,
];

/**
 * Flags may stand anywhere. With one argument too few, the cluster is the default one. Errors:
 * BAD_USAGE, UNSUPPORTED; both name what was typed.
 */
export function parseCommandLine(argv: readonly string[], columns?: number): Parsed {
  const all = split(argv, ALL_FLAGS);
  const has = (name: string): boolean => all.given.some(({ spec }) => spec?.name === name);
  const isHelpWord = all.words[0] === 'help';
  const words = isHelpWord ? all.words.slice(1) : all.words;
  const isAsked = isHelpWord || has('help');
  if (!isAsked && has('version')) return { kind: 'version' };
  let found: Parsed | undefined;
  let text = '';
  const page = { columns, write: (written: string) => void (text += written) };
  const command = findCommand(words);
  // What the line does not name is for help and suggestions only; making it would cost milliseconds.
  const specs = command === undefined ? COMMANDS : [command];
  const program = acectlProgram(page, specs, (leaf, spec) => {
    if (isAsked) leaf.outputHelp();
    else found = understood(leaf, spec);
  });
  const line = command === undefined ? undefined : split(argv, command.flags);
  const flags = isAsked ? [] : flagWords((line ?? all).given);
  try {
    program.parse(
      line === undefined || command === undefined
        ? [...words, ...flags]
        : [...command.words, ...flags, '--', ...line.words.slice(command.words.length)],
      { from: 'user' },
    );
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code !== 'commander.help') throw explained(error, { words, command });
  }
  return found ?? { kind: 'help', text, isAsked };
}

/** The tree of commands, as the table declares them. */
function acectlProgram(
  page: Page,
  specs: readonly CommandSpec[],
  onCommand: (command: Command, spec: CommandSpec) => void,
): Command {
  const program = newProgram('acectl', page)
    .description(PROGRAM_DOC)
    .usage('<command> [flags] [cluster] <argument>')
    .addHelpText('after', `\n${USAGE_NOTES}\n\n${EXIT_CODES}`);
  addFlags(program, [HELP_FLAG, VERSION_FLAG]);
  const groups = new Map<string, Command>([['', program]]);
  for (const spec of specs) {
    const [verb = '', group = ''] = spec.words.toReversed();
    const parent = groups.get(group) ?? newGroup(program, group);
    groups.set(group, parent);
    const command = declare(parent.command(verb), {
      ...spec,
      operands: operandsOf(spec),
      examples: spec.examples.map((example) =>
        `acectl ${spec.words.join(' ')} ${example}`.trimEnd(),
      ),
      notes: EXIT_CODES,
    });
    command.action(() => onCommand(command, spec));
  }
  return program;
}

function newGroup(program: Command, name: string): Command {
  const verbs = COMMANDS.filter(({ words }) => words[0] === name);
  const list = verbs.map(({ words }) => words[1]).join(', ');
  const doc = GROUPS[name] ?? '';
  return program
    .command(name)
    .helpCommand(false)
    .description(`${doc}: ${list}`)
    .usage('<command> [flags] [cluster] <argument>');
}

function understood(command: Command, spec: CommandSpec): Parsed {
  const flags = valuesOf(command);
  return {
    kind: 'command',
    command: spec,
    flags,
    ...splitArguments(command.args, spec, flags),
  };
}

/** The command that the words begin with. */
export function findCommand(words: readonly string[]): CommandSpec | undefined {
  return COMMANDS.find((command) => command.words.every((word, i) => words[i] === word));
}

/** What commander found wrong, in our words. */
function explained(
  error: CommanderError,
  {
    words,
    command,
  }: { readonly words: readonly string[]; readonly command: CommandSpec | undefined },
): AcedError {
  const [first = ''] = words;
  const isGroup = COMMANDS.some((known) => known.words.length > 1 && known.words[0] === first);
  if (error.code !== 'commander.unknownCommand') {
    const name = command?.words.join(' ') ?? (isGroup ? first : '');
    return unknownFlag(error, `acectl ${name}`.trimEnd());
  }
  const { typed, similar } = problemOf(error);
  const prefix = isGroup ? `${first} ` : '';
  const meant = similar.length > 0 ? similar.map((name) => `${prefix}${name}`) : withPart(typed);
  return usage(
    `unknown command ${prefix}${typed === '' ? '""' : typed}`,
    `${didYouMean(meant)}See: acectl ${prefix}--help`,
  );
}

/** Commands that are called so in part: `repair` is the end of `table-repair`. */
function withPart(typed: string): string[] {
  const names = COMMANDS.map(({ words }) => words.join(' '));
  return typed === '' ? [] : names.filter((name) => name.split(/[ -]/).includes(typed));
}

function splitArguments(
  args: readonly string[],
  spec: CommandSpec,
  flags: FlagValues,
): { cluster: string | undefined; argument: string } {
  const { words, argument } = spec;
  const form = `acectl ${words.join(' ')} ${operandsOf(spec)}`;
  if (args.includes('')) {
    throw usage(
      'an argument is empty',
      `Write ${form}, and leave out what is not meant to be given.`,
    );
  }
  const isOptional =
    argument?.startsWith('[') === true || spec.isArgumentOptional?.(flags) === true;
  if (isOptional && args.length < 2) {
    // A table that a person names has its schema with it.
    const [only] = args;
    return only?.includes('.') === true
      ? { cluster: undefined, argument: only }
      : { cluster: only, argument: '' };
  }
  const wanted = argument === null ? 0 : 1;
  if (args.length < wanted) {
    throw usage(`${words.join(' ')} needs ${argument ?? ''}`, `Write: ${form}`);
  }
  const most = spec.hasNoCluster === true ? wanted : wanted + 1;
  if (args.length > most) {
    throw usage(`too many arguments: ${args.slice(most).join(' ')}`, `Write: ${form}`);
  }
  const cluster = args.length > wanted ? args[0] : undefined;
  return { cluster, argument: wanted === 0 ? '' : (args.at(-1) ?? '') };
}
