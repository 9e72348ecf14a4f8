import type { NamesResult } from '../protocol/names.js';
import { COMMANDS, GROUPS } from './commands.js';
import type { CommandSpec } from './commands.js';
import { ACED, COMMON, HELP_FLAG, VERSION_FLAG } from './flags.js';
import type { FlagSpec } from './flags.js';
import { findCommand } from './parse.js';
import { split } from './tokens.js';

/** What may stand at the cursor: whole words, as the program is to get them. */
export interface Offer {
  readonly text: string;
  /** For shells that show it; empty: the text says it. */
  readonly doc: string;
}

/** `files`: the shell knows them. */
export type Offers = readonly Offer[] | 'files';

/** Names that are not in the program: of clusters here, and of what is in one of them. */
export interface NameSource {
  readonly clusters: () => readonly string[];
  /** Undefined: the default cluster. */
  readonly namesOf: (cluster: string | undefined) => Promise<NamesResult>;
}

interface Typed {
  readonly words: readonly string[];
  readonly current: string;
  readonly names: NameSource;
}

/** Every flag of every command: one may stand before the command that it belongs to. */
const ALL_FLAGS: readonly FlagSpec[] = [
  ...COMMON,
  VERSION_FLAG,
  ...COMMANDS.flatMap(({ flags }) => flags),
];

/**
 * What may follow, of which only what goes on from `current` is of use.
 *
 * @param typed.words whole words after the program's name
 */
export async function offersOf(program: string, typed: Typed): Promise<Offers> {
  if (program === 'aced') return acedOffers(typed);
  const { words, current, names } = typed;
  const isHelp = words[0] === 'help';
  const given = isHelp ? words.slice(1) : words;
  const command = findCommand(split(given, ALL_FLAGS).words);
  const flags = command?.flags ?? ALL_FLAGS;
  const line = split(given, flags);
  const operands = line.words.slice(command?.words.length ?? 0);
  const cluster = command !== undefined && operands.length > 0 ? operands[0] : undefined;
  const open = openFlag(given, flags);
  if (open !== undefined) return valuesOf(open, { cluster, current, names });
  if (current.startsWith('-') && !given.includes('--')) {
    const shown = command?.flags ?? [HELP_FLAG, VERSION_FLAG];
    return flagOffers(shown, { cluster, current, names });
  }
  if (command === undefined) return nextWords(line.words, isHelp || given.length > 0);
  return isHelp ? [] : operandOffers(command, operands, { current, names });
}

/** The flag whose value the cursor is at. */
function openFlag(words: readonly string[], flags: readonly FlagSpec[]): FlagSpec | undefined {
  if (words.includes('--')) return undefined;
  const last = split(words, flags).given.at(-1);
  const isLast = last !== undefined && words.at(-1) === last.typed;
  return isLast && !last.isInline && last.value === undefined && last.spec?.read !== undefined
    ? last.spec
    : undefined;
}

interface Place {
  readonly cluster: string | undefined;
  readonly current: string;
  readonly names: NameSource;
}

/** `--out` or `--output=ht`. */
async function flagOffers(flags: readonly FlagSpec[], place: Place): Promise<Offers> {
  const [, name, value] = /^--([^=]+)=(.*)$/s.exec(place.current) ?? [];
  if (name === undefined || value === undefined) {
    return flags
      .filter(({ refused }) => refused === undefined)
      .map(({ name: flag, doc }) => ({ text: `--${flag}`, doc }));
  }
  const spec = flags.find((flag) => flag.name === name);
  if (spec === undefined) return [];
  const values = await valuesOf(spec, { ...place, current: value });
  if (values === 'files') return values;
  return values.map(({ text, doc }) => ({ text: `--${name}=${text}`, doc }));
}

async function valuesOf(spec: FlagSpec, { cluster, current, names }: Place): Promise<Offers> {
  const { values, completes } = spec;
  if (values !== undefined) return values.map((text) => ({ text, doc: '' }));
  if (completes === undefined) return [];
  if (completes === 'file') return 'files';
  if (completes === 'cluster') return clusterOffers(names);
  const { nodes } = await names.namesOf(cluster);
  // A list goes on after its last comma.
  const before = completes === 'nodes' ? current.slice(0, current.lastIndexOf(',') + 1) : '';
  const chosen = before.split(',');
  const others = nodes.filter((node) => !chosen.includes(node));
  const all = completes === 'nodes' && before === '' ? ['all'] : [];
  return [...others, ...all].map((node) => ({ text: `${before}${node}`, doc: '' }));
}

/** The words of commands that go on from those of the line. */
function nextWords(words: readonly string[], isInside: boolean): Offer[] {
  const offers = new Map<string, Offer>();
  for (const command of COMMANDS) {
    if (!words.every((word, i) => command.words[i] === word)) continue;
    const text = command.words[words.length];
    if (text === undefined) continue;
    const isLeaf = command.words.length === words.length + 1;
    offers.set(text, { text, doc: isLeaf ? command.doc : (GROUPS[text] ?? '') });
  }
  if (!isInside) offers.set('help', { text: 'help', doc: 'help on a command' });
  return [...offers.values()];
}

async function operandOffers(
  command: CommandSpec,
  operands: readonly string[],
  { current, names }: Omit<Place, 'cluster'>,
): Promise<Offer[]> {
  const { argument, hasNoCluster = false } = command;
  if (operands.length > (hasNoCluster ? 0 : 1)) return [];
  const [cluster] = operands;
  const clusters = operands.length === 0 && !hasNoCluster ? clusterOffers(names) : [];
  const values =
    argument === null ? [] : await argumentOffers(argument, { cluster, current, names });
  return [...clusters, ...values];
}

async function argumentOffers(
  argument: string,
  { cluster, current, names }: Place,
): Promise<Offer[]> {
  const what = argument.replace(/[[\]<>]/g, '');
  if (what === 'bash|zsh|fish') return what.split('|').map((text) => ({ text, doc: '' }));
  if (what.startsWith('schema.table')) {
    const { tables } = await names.namesOf(cluster);
    return tables.map((table) => tableOffer(table, current.includes('"')));
  }
  if (what === 'schema') {
    const { tables } = await names.namesOf(cluster);
    return [...new Set(tables.map(({ schema }) => schema))].map((text) => ({ text, doc: '' }));
  }
  if (what === 'incident') {
    return (await names.namesOf(cluster)).incidents.map((text) => ({ text, doc: 'incident' }));
  }
  return [];
}

/** As acectl prints it, unless it could be read in another way or the person has begun to quote. */
function tableOffer({ schema, name }: NamesResult['tables'][number], hasQuote: boolean): Offer {
  const parts = [schema, name];
  // What separates parts, and what a pattern is made of.
  const isPlain = !hasQuote && !parts.some((part) => /[."*?,]/.test(part));
  const written = isPlain
    ? parts
    : parts.map((part) => (IS_PLAIN.test(part) ? part : quoteName(part)));
  return { text: written.join('.'), doc: 'table' };
}

const IS_PLAIN = /^[a-z_][a-z0-9_]*$/;

function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

function clusterOffers(names: NameSource): Offer[] {
  return names.clusters().map((text) => ({ text, doc: 'cluster' }));
}

async function acedOffers({ words, current, names }: Typed): Promise<Offers> {
  const open = openFlag(words, ACED);
  const place = { cluster: undefined, current, names };
  if (open !== undefined) return valuesOf(open, place);
  return current.startsWith('-') ? flagOffers(ACED, place) : [];
}
