import { readFileSync } from 'node:fs';
import { errorMessage } from '../base/errors.js';
import { skippedTables, type TableChoice } from '../protocol/many-tables.js';
import { usage, type FlagSpec, type FlagValues } from './flags.js';

const nonEmpty = (text: string): string | undefined =>
  text === '' || text.includes('\0') ? undefined : text;

const named = (name: string, placeholder: string, doc: string): FlagSpec => ({
  name,
  read: nonEmpty,
  accepts: `a ${placeholder}`,
  placeholder,
  doc,
});

export const SKIP: readonly FlagSpec[] = [
  {
    name: 'skip-tables',
    short: 'T',
    read: nonEmpty,
    accepts: 'names or patterns joined by commas',
    placeholder: 'patterns',
    doc: 'of many tables leave these out',
  },
  {
    name: 'skip-file',
    short: 's',
    read: nonEmpty,
    accepts: 'a path',
    placeholder: 'path',
    completes: 'file',
    doc: 'a file of such names or patterns, one a line',
  },
];

/** Ways to mean many tables; with one of them the argument may be left out. */
export const CHOICE: readonly FlagSpec[] = [
  named('schema', 'schema', 'every table of this schema'),
  named('repset', 'set', "every table of this replication set of Spock's"),
  named('publication', 'publication', 'every table of this publication'),
  { name: 'all', doc: 'every table of the database' },
  ...SKIP,
].map((flag) => ({ ...flag, group: 'Many tables:' }));

const WAYS = ['schema', 'repset', 'publication', 'all'];

export function choosesTables(flags: FlagValues): boolean {
  return WAYS.some((name) => flags.has(name));
}

/**
 * Null: the argument is the name of one table. Errors: BAD_USAGE, also for a file that cannot be read
 * and for tables that are left out of one.
 */
export function tableChoice(flags: FlagValues, argument: string): TableChoice | null {
  const isPattern = /[*?,]/.test(argument.replace(/"[^"]*"/g, ''));
  const skipped = skipTables(flags);
  if (!isPattern && !choosesTables(flags)) {
    if (skipped.skipTables === undefined) return null;
    throw usage(
      '--skip-tables and --skip-file are for many tables',
      "Give a pattern such as 'public.*', --schema, --repset, --publication or --all.",
    );
  }
  const [schema, repset, publication] = ['schema', 'repset', 'publication'].map((name) =>
    flagText(flags, name).at(0),
  );
  return {
    ...(argument === '' ? {} : { tables: [argument] }),
    ...(schema === undefined ? {} : { schemas: [schema] }),
    ...(repset === undefined ? {} : { repset }),
    ...(publication === undefined ? {} : { publication }),
    ...(flags.get('all') === true ? { all: true } : {}),
    ...skipped,
  };
}

export function skipTables(flags: FlagValues): Pick<TableChoice, 'skipTables'> {
  const patterns = [...flagText(flags, 'skip-tables'), ...skipFile(flags)];
  return patterns.length === 0 ? {} : { skipTables: patterns };
}

function flagText(flags: FlagValues, name: string): string[] {
  const value = flags.get(name);
  return typeof value === 'string' ? [value] : [];
}

function skipFile(flags: FlagValues): string[] {
  const [path] = flagText(flags, 'skip-file');
  if (path === undefined) return [];
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (error) {
    throw usage(
      `--skip-file: cannot read ${path}: ${errorMessage(error)}`,
      'Give a readable file.',
    );
  }
  return skippedTables(content);
}
