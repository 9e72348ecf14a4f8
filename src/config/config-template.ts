import { OPTIONS, type OptionSpec } from './options.js';

const WIDTH = 100;

const HEAD = `# Options of aced and acectl; every one has a default, and what stands here is those. Take off the # to
# change one. Where this file may be: $ACED_CONFIG, ./aced.yaml, ~/.config/aced/, /etc/aced/. An environment
# variable (in brackets) wins over it. The nodes are in a pg_service.conf or <cluster>.json: acectl cluster init.
`;

/** What is no option: an example of it. */
export const TABLES_AND_JOBS = `
# What is said of single tables.
tables:
  public.orders:
    exclude_columns: [note]

# Commands that aced runs by itself; see also: acectl tasks.
schedule_jobs:
  - name: hourly
    type: mtree-table-diff
    table_name: 'public.*'
schedule_config:
  - job_name: hourly
    run_frequency: 1h
`;

type Spec = Pick<OptionSpec<unknown>, 'key' | 'env' | 'doc'> & { readonly defaultValue?: unknown };

/** A commented `aced.yaml` with every option, its default and its environment variable. */
export function configTemplate(): string {
  const specs: readonly Spec[] = Object.values(OPTIONS);
  const plain = specs.filter(({ key }) => !key.includes('.'));
  const groups = new Map<string, Spec[]>();
  for (const spec of specs.filter(({ key }) => key.includes('.'))) {
    const group = spec.key.split('.')[0] ?? '';
    groups.set(group, [...(groups.get(group) ?? []), spec]);
  }
  const sections = Array.from(
    groups,
    ([group, members]) => `\n# ${group}:\n${members.map((one) => entry(one, '  ')).join('')}`,
  );
  return `${HEAD}\n${plain.map((one) => entry(one, '')).join('')}${sections.join('')}${commented(TABLES_AND_JOBS)}`;
}

function entry({ key, env, doc, defaultValue }: Spec, indent: string): string {
  const name = key.split('.').at(-1) ?? key;
  const value = defaultValue === undefined ? '' : ` ${JSON.stringify(defaultValue)}`;
  const told = wrapped(`${doc} [${env}]`).map((line) => `#${indent} # ${line}\n`);
  return `${told.join('')}# ${indent}${name}:${value}\n`;
}

function commented(text: string): string {
  return text.replace(/^(?=[^#\n])/gm, '# ');
}

function wrapped(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + word.length >= WIDTH) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}
