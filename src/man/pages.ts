import { ACED_PROGRAM } from '../cli/aced-line.js';
import { COMMANDS, operandsOf, type CommandSpec } from '../cli/commands.js';
import { COMMON, HELP_FLAG, VERSION_FLAG, type FlagSpec } from '../cli/flags.js';
import { EXIT_CODES, PROGRAM_DOC, USAGE_NOTES } from '../cli/help.js';
import { flagDoc } from '../cli/program.js';
import { TABLES_AND_JOBS } from '../config/config-template.js';
import { OPTIONS, type OptionSpec } from '../config/options.js';
import {
  block,
  bold,
  italic,
  literal,
  paragraph,
  section,
  subsection,
  tagged,
  title,
} from './roff.js';

type Volume = 1 | 5 | 8;
type Option = OptionSpec<string | number | boolean | readonly string[]>;

const OPTION_LIST: readonly Option[] = Object.values(OPTIONS);

/**
 * The manual: `man1/acectl.1` and so on, with their text. From the tables that also make the parser, the
 * help and the completion.
 */
export function manPages(release: string): Map<string, string> {
  const pages = new Map<string, string>();
  const add = (name: string, volume: Volume, parts: readonly string[]): void => {
    pages.set(`man${volume}/${name}.${volume}`, [title(name, volume, release), ...parts].join(''));
  };
  add('acectl', 1, overview());
  for (const command of COMMANDS) add(pageOf(command), 1, commandPage(command));
  add('aced.yaml', 5, optionsPage());
  add('aced', 8, daemonPage());
  return pages;
}

function pageOf({ words }: CommandSpec): string {
  return ['acectl', ...words].join('-');
}

function overview(): string[] {
  return [
    name('acectl', 'compare and repair tables of a replicated PostgreSQL cluster'),
    section('Synopsis'),
    `${bold('acectl')} ${italic('<command> [flags] [cluster] <argument>')}\n`,
    section('Description'),
    paragraph(PROGRAM_DOC),
    ...paragraphs(USAGE_NOTES),
    section('Commands'),
    ...COMMANDS.map((command) =>
      tagged(
        `${bold(command.words.join(' '))} ${italic(operandsOf(command))}`,
        `${command.doc}; see ${pageOf(command)}(1)`,
      ),
    ),
    section('Flags'),
    ...[HELP_FLAG, VERSION_FLAG].map(flagEntry),
    ...flagGroups(COMMON.filter((flag) => flag.name !== HELP_FLAG.name)),
    section('Environment'),
    ...OPTION_LIST.filter(({ env }) => OF_ACECTL.includes(env)).map(({ env, doc }) =>
      tagged(bold(env), doc),
    ),
    tagged(bold('ACED_CONFIG'), 'the aced.yaml to read; see aced.yaml(5)'),
    tagged(
      bold('ACED_COMPLETION_TIMEOUT_MS'),
      'how long completion waits for a running aced (default 700)',
    ),
    tagged(bold('NO_COLOR'), 'no colours, whatever its value'),
    files(),
    seeAlso([...COMMANDS.map((command) => `${pageOf(command)}(1)`), 'aced.yaml(5)', 'aced(8)']),
  ];
}

const OF_ACECTL: readonly string[] = [
  OPTIONS.cluster.env,
  OPTIONS.socketPath.env,
  OPTIONS.stateDir.env,
];

function commandPage(command: CommandSpec): string[] {
  const called = `acectl ${command.words.join(' ')}`;
  const group = COMMANDS.filter(
    (other) => other !== command && other.words.length > 1 && other.words[0] === command.words[0],
  );
  return [
    name(pageOf(command), command.doc),
    section('Synopsis'),
    `${bold(called)} ${italic(`[flags] ${operandsOf(command)}`.trimEnd())}\n`,
    section('Flags'),
    ...flagGroups(command.flags),
    section(command.examples.length === 1 ? 'Example' : 'Examples'),
    block(command.examples.map((example) => `${called} ${example}`.trimEnd())),
    section('Exit status'),
    paragraph(EXIT_CODES),
    seeAlso([
      'acectl(1)',
      ...group.map((other) => `${pageOf(other)}(1)`),
      'aced.yaml(5)',
      'aced(8)',
    ]),
  ];
}

function optionsPage(): string[] {
  const groupOf = ({ key }: Option): string => (key.includes('.') ? (key.split('.')[0] ?? '') : '');
  const groups = [...new Set(OPTION_LIST.map(groupOf))].sort();
  return [
    name('aced.yaml', 'options of aced and acectl'),
    section('Description'),
    paragraph(
      'Every option has a default, and an environment variable that wins over the file; a flag wins over both. Keys with a dot are nested. The servers of a cluster are not in this file but in a connection service file or in <cluster>.json, see acectl-cluster-init(1). acectl config init writes a file with every option, commented out; acectl config show prints what counts.',
    ),
    section('Options'),
    ...groups.flatMap((group) => [
      ...(group === '' ? [] : [subsection(group)]),
      ...OPTION_LIST.filter((option) => groupOf(option) === group).map(optionEntry),
    ]),
    section('Tables and jobs'),
    paragraph(
      'Columns that are never compared, under tables, and commands that aced runs by itself, under schedule_jobs and schedule_config:',
    ),
    block(TABLES_AND_JOBS.trim().split('\n')),
    files(),
    seeAlso(['acectl(1)', 'acectl-config-init(1)', 'acectl-config-show(1)', 'aced(8)']),
  ];
}

function optionEntry({ key, env, doc, kind, defaultValue }: Option): string {
  const shown = String(defaultValue ?? '');
  const fallback = shown === '' ? '' : `; default ${shown}`;
  return tagged(`${bold(key)} (${bold(env)})`, `${doc}; ${kind.accepts}${fallback}`);
}

function daemonPage(): string[] {
  const { doc, flags, examples, notes } = ACED_PROGRAM;
  return [
    name('aced', 'follow a cluster, keep its Merkle trees current and tell drift'),
    section('Synopsis'),
    `${bold('aced')} ${italic('[flags]')}\n`,
    section('Description'),
    paragraph(doc),
    paragraph(notes),
    section('Flags'),
    ...flags.map(flagEntry),
    section('Signals'),
    tagged(bold('SIGTERM'), 'ends it in good order; a second one ends it at once'),
    tagged(
      bold('SIGHUP'),
      'reads the jobs of aced.yaml again, and tells which other settings changed',
    ),
    section('Exit status'),
    paragraph(
      '0: it was told to end. 1: it may be started again. 2: a setting is wrong, or a person has to act; the last line of the log names it.',
    ),
    section(examples.length === 1 ? 'Example' : 'Examples'),
    block(examples),
    files(),
    seeAlso(['acectl(1)', 'aced.yaml(5)']),
  ];
}

function name(page: string, doc: string): string {
  return `${section('Name')}${literal(page)} \\- ${literal(doc)}\n`;
}

/** Under the headings that they have in the help. */
function flagGroups(flags: readonly FlagSpec[]): string[] {
  const shown = flags.filter(({ refused }) => refused === undefined);
  const refused = flags.filter((flag) => flag.refused !== undefined);
  const headings = [...new Set(shown.map(({ group = '' }) => group))];
  return [
    ...headings.flatMap((heading) => [
      ...(heading === '' ? [] : [subsection(heading.replace(/:$/, ''))]),
      ...shown.filter(({ group = '' }) => group === heading).map(flagEntry),
    ]),
    ...(refused.length === 0
      ? []
      : [subsection('Flags of ACE that are refused'), ...refused.map(flagEntry)]),
  ];
}

function flagEntry(flag: FlagSpec): string {
  const { name: long, short, read, placeholder = 'value', refused } = flag;
  const letter = short === undefined ? '' : `${bold(`-${short}`)}, `;
  const operand = read === undefined ? '' : ` ${italic(`<${placeholder}>`)}`;
  return tagged(`${letter}${bold(`--${long}`)}${operand}`, refused ?? flagDoc(flag));
}

function files(): string {
  return [
    section('Files'),
    tagged(
      italic('$ACED_CONFIG, ./aced.yaml, ~/.config/aced/aced.yaml, /etc/aced/aced.yaml'),
      'options; the first that is there counts',
    ),
    tagged(
      italic('./pg_service.conf, ~/.pg_service.conf, /etc/pg_service.conf, ./<cluster>.json'),
      'the servers of clusters; PGSERVICEFILE names another service file',
    ),
  ].join('');
}

function seeAlso(pages: readonly string[]): string {
  const shown = pages.map((page) => {
    const [, title = '', volume = ''] = /^(.*)(\(\d\))$/.exec(page) ?? [];
    return `${bold(title)}${volume}`;
  });
  return `${section('See also')}${shown.join(',\n')}\n`;
}

function paragraphs(text: string): string[] {
  return text.split('\n\n').map(paragraph);
}
