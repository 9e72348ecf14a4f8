import { CommanderError } from 'commander';
import { ACED, usage, type FlagValues } from './flags.js';
import { declare, newProgram, unknownFlag, valuesOf } from './program.js';
import { flagWords, split } from './tokens.js';

export type AcedLine =
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' }
  | { readonly kind: 'run'; readonly flags: FlagValues };

/** The daemon's command line, as its help and its manual have it. */
export const ACED_PROGRAM = {
  doc: 'aced keeps a Merkle tree of each table and node current from the replication stream.',
  flags: ACED,
  examples: ['aced --cluster prod', 'aced --cluster prod --dbname app > aced.log &'],
  notes: 'Logs are JSON lines on stdout. SIGTERM stops it cleanly, a second one at once.',
};

const OPTIONS_TITLE = `Options in aced.yaml ($ACED_CONFIG, ./, ~/.config/aced/, /etc/aced/), with the
environment variables that win over them:`;

/** The daemon's own command line. `options`: the help's list of them. Errors: BAD_USAGE. */
export function parseAcedLine(
  argv: readonly string[],
  { columns, options }: { readonly columns: number | undefined; readonly options: string },
): AcedLine {
  let text = '';
  const program = declare(newProgram('aced', { columns, write: (part) => void (text += part) }), {
    ...ACED_PROGRAM,
    operands: '',
    notes: `${ACED_PROGRAM.notes}\n\n${OPTIONS_TITLE}\n${options}`,
  });
  const { given, words } = split(argv, ACED);
  const has = (name: string): boolean => given.some(({ spec }) => spec?.name === name);
  if (has('help')) {
    program.outputHelp();
    return { kind: 'help', text };
  }
  if (has('version')) return { kind: 'version' };
  const [word] = words;
  if (word !== undefined) {
    throw usage(`aced takes no argument: ${word}`, `Name a cluster as --cluster ${word}.`);
  }
  try {
    program.action(() => undefined).parse(flagWords(given), { from: 'user' });
  } catch (error) {
    throw error instanceof CommanderError ? unknownFlag(error, 'aced') : error;
  }
  return { kind: 'run', flags: valuesOf(program) };
}
