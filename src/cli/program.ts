import { Command, Option, type CommanderError } from 'commander';
import { AcedError } from '../base/errors.js';
import { flagTitle, usage, type FlagSpec, type FlagValue } from './flags.js';

/** Everything that commander needs to know of a command. */
export interface Declared {
  readonly doc: string;
  readonly flags: readonly FlagSpec[];
  /** What follows the flags in the usage line; empty: nothing. */
  readonly operands: string;
  readonly examples: readonly string[];
  /** After everything else. */
  readonly notes?: string;
}

/** What commander prints, and how wide. */
export interface Page {
  /** Of the terminal; undefined: it is none. */
  readonly columns: number | undefined;
  readonly write: (text: string) => void;
}

const DEFAULT_COLUMNS = 80;

/** The top of a tree of commands: never ends the process, prints to the page. */
export function newProgram(name: string, { columns = DEFAULT_COLUMNS, write }: Page): Command {
  return new Command(name)
    .exitOverride()
    .helpOption(false)
    .helpCommand(false)
    .allowExcessArguments()
    .optionsGroup('Flags:')
    .configureHelp({
      minWidthToWrap: 20,
      visibleArguments: () => [],
      subcommandTerm: (command) => `${command.name()} ${operandsIn(command)}`.trimEnd(),
    })
    .configureOutput({
      writeOut: write,
      writeErr: write,
      // The error's message has it, and is printed in acectl's own form.
      outputError: () => undefined,
      getOutHelpWidth: () => columns,
      getErrHelpWidth: () => columns,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
}

export function declare(command: Command, declared: Declared): Command {
  const { doc, flags, operands, examples, notes } = declared;
  command.description(doc).usage(`[flags] ${operands}`.trimEnd()).optionsGroup('Flags:');
  // Which of them is the cluster can be told when all are known.
  command.argument('[words...]');
  addFlags(command, flags);
  if (examples.length > 0) {
    const title = examples.length === 1 ? 'Example' : 'Examples';
    command.addHelpText('after', `\n${title}:\n${examples.map((line) => `  ${line}`).join('\n')}`);
  }
  if (notes !== undefined) command.addHelpText('after', `\n${notes}`);
  return command;
}

/** A group has a verb first: its own operands say nothing. */
function operandsIn(command: Command): string {
  return command.commands.length > 0 ? '' : command.usage().replace(/^\[flags\] ?/, '');
}

export function addFlags(command: Command, flags: readonly FlagSpec[]): void {
  for (const flag of flags) command.addOption(optionOf(flag));
}

/** What a flag does, and what it accepts. */
export function flagDoc({
  doc,
  read,
  accepts = 'a value',
  placeholder = 'value',
}: FlagSpec): string {
  // `<path>; a path` would say it twice.
  const says = read !== undefined && accepts.split(' ').at(-1) !== placeholder;
  return says ? `${doc}; ${accepts}` : doc;
}

function optionOf(flag: FlagSpec): Option {
  const { name, short, read, accepts = 'a value', placeholder = 'value', refused } = flag;
  const letter = short === undefined ? '' : `-${short}, `;
  const operand = read === undefined ? '' : ` <${placeholder}>`;
  const option = new Option(`${letter}--${name}${operand}`, flagDoc(flag)).hideHelp(
    refused !== undefined,
  );
  if (flag.group !== undefined) option.helpGroup(flag.group);
  if (read === undefined && refused === undefined) return option;
  // A switch has no text to be read; with one its refusal is called too.
  return option.preset('').argParser((text: string): FlagValue => {
    if (refused !== undefined) {
      throw new AcedError('UNSUPPORTED', `${flagTitle(flag)} is not supported`, { hint: refused });
    }
    const value = read?.(text);
    if (value !== undefined) return value;
    throw usage(
      `${flagTitle(flag)}: ${JSON.stringify(text)} is not accepted`,
      `Accepted: ${accepts}.`,
    );
  });
}

/** By the names of the flags; what was not given is absent. */
export function valuesOf(command: Command): Map<string, FlagValue> {
  const values = new Map<string, FlagValue>();
  for (const option of command.options) {
    const value = command.getOptionValue(option.attributeName()) as FlagValue | undefined;
    // commander takes --no-x for the contrary of --x, which is on.
    if (option.negate) {
      if (value === false) values.set(option.name(), true);
    } else if (value !== undefined) values.set(option.name(), value);
  }
  return values;
}

/** What was typed that is not known, and what is spelled alike. */
export function problemOf({ message }: CommanderError): { typed: string; similar: string[] } {
  const similar = /\(Did you mean (?:one of )?(.*)\?\)$/s.exec(message)?.[1];
  return { typed: /'(.*)'/s.exec(message)?.[1] ?? message, similar: similar?.split(', ') ?? [] };
}

/** `of`: the command, as it is called. */
export function unknownFlag(error: CommanderError, of: string): AcedError {
  const { typed, similar } = problemOf(error);
  return usage(`${of} has no flag ${typed}`, `${didYouMean(similar)}See: ${of} --help`);
}

/** The begin of a hint; empty when there is nothing alike. */
export function didYouMean(names: readonly string[]): string {
  return names.length === 0 ? '' : `Did you mean ${names.join(', or ')}? `;
}
