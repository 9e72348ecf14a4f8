import { COMMANDS } from './commands.js';
import type { CommandSpec } from './commands.js';
import { flagTitle } from './flags.js';

const EXIT_CODES = `Exit codes: 0 equal or done; 1 differences, or rows that a repair had to leave;
2 trouble, or nothing proved.`;

const JSON_CONTRACT = `With --json, stdout carries exactly one JSON object, the result, and only when there is
one; everything else goes to stderr.`;

export function helpText(command: CommandSpec | undefined): string {
  return command === undefined ? overview() : helpOf(command);
}

function overview(): string {
  const shown = COMMANDS.filter(({ action }) => action.kind !== 'refused');
  return `acectl compares and repairs tables of a replicated PostgreSQL cluster.

Usage: acectl <command> [flags] [cluster] <argument>

${columns(shown.map((command) => [titleOf(command), command.doc]))}

Flags may stand anywhere. Without a cluster the default one is used (ACED_CLUSTER, or
default_cluster in aced.yaml). Help on a command: acectl <command> --help.
With a running aced the command is done there, otherwise by acectl itself.

${JSON_CONTRACT}
${EXIT_CODES}
`;
}

function helpOf(command: CommandSpec): string {
  if (command.action.kind === 'refused') {
    return `acectl has no ${command.words.join(' ')}: ${command.action.instead}\n`;
  }
  const shown = command.flags.filter((flag) => flag.refused === undefined);
  const flags = shown.map((flag): [string, string] => {
    const accepts = flag.accepts === undefined ? '' : `; ${flag.accepts}`;
    return [flagTitle(flag), `${flag.doc}${accepts}`];
  });
  return `acectl ${command.words.join(' ')}: ${command.doc}

Usage: acectl ${titleOf(command)}

${columns(flags)}

${EXIT_CODES}
`;
}

function titleOf({ words, argument }: CommandSpec): string {
  return `${words.join(' ')} [cluster]${argument === null ? '' : ` ${argument}`}`;
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join('\n');
}
