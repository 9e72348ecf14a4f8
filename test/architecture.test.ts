import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { describe, it } from 'node:test';

/** Compiled tests run from <outDir>/test; the sources are beside it or above it. */
const ROOT = findRoot(import.meta.dirname);
const SRC = join(ROOT, 'src');
const MAX_LINES = 600;

/** Each folder imports only from itself and from those before it: the life of a change. */
const ORDER = [
  'base',
  'protocol',
  'config',
  'pgoutput',
  'digest',
  'postgres',
  'lease',
  'table',
  'replication',
  'schema',
  'mirror',
  'stream',
  'merkle',
  'store',
  'ingest',
  'diff-file',
  'report',
  'diff',
  'repair',
  'cluster',
  'drift',
  'observe',
  'doctor',
  'commands',
  'schedule',
  'server',
  'cli',
  'man',
  'main',
] as const;

/** The command line knows the daemon by its protocol only. */
const CLI_MAY_IMPORT =
  /^(cli\/|base\/(errors|abort|clock|duration|escape-controls)\.ts$|protocol\/|server\/client\.ts$)/;

/** No settings: switches for tests, what is told of the journal, and what a hook's program is to have. */
const READS_ENVIRONMENT = [
  'base/failpoint.ts',
  'base/native.ts',
  'base/log.ts',
  'observe/hook-targets.ts',
];

interface Import {
  readonly from: string;
  readonly to: string;
  readonly isTypeOnly: boolean;
}

function findRoot(from: string): string {
  for (let directory = from; dirname(directory) !== directory; directory = dirname(directory)) {
    if (readdirSync(directory).includes('package.json')) return directory;
  }
  throw new Error('no package.json above the tests');
}

function sources(): string[] {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => path.split(sep).join('/'))
    .sort();
}

function importsOf(path: string): Import[] {
  const text = readFileSync(join(SRC, path), 'utf8');
  const statement =
    /(?:^|\n)\s*(?:import|export)\s+(type\s+)?(?:[^;'"]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/g;
  return [...text.matchAll(statement)].flatMap((match) => {
    const target = match[2] ?? match[3] ?? '';
    if (!target.startsWith('.')) return [];
    const absolute = resolve(SRC, dirname(path), target.replace(/\.js$/, '.ts'));
    const to = relative(SRC, absolute).split(sep).join('/');
    return [{ from: path, to, isTypeOnly: match[1] !== undefined }];
  });
}

function folderOf(path: string): string {
  return path.split('/')[0] ?? '';
}

describe('architecture', () => {
  const all = sources().flatMap(importsOf);

  it('sees the imports', () => {
    assert.ok(all.length > 100, `only ${all.length} imports were found`);
    const expected = { from: 'main/acectl.ts', to: 'commands/engine.ts', isTypeOnly: false };
    assert.ok(all.some((found) => JSON.stringify(found) === JSON.stringify(expected)));
    assert.ok(all.some(({ isTypeOnly }) => isTypeOnly));
  });

  it('has no folder outside the order', () => {
    const folders = [...new Set(sources().map(folderOf))];
    assert.deepEqual(
      folders.filter((folder) => !ORDER.some((name) => name === folder)),
      [],
    );
  });

  it('each folder imports only from those before it', () => {
    const rank = (path: string): number => ORDER.findIndex((name) => name === folderOf(path));
    const wrong = all.filter((found) => rank(found.to) > rank(found.from));
    assert.deepEqual(
      wrong.map(({ from, to }) => `${from} -> ${to}`),
      [],
    );
  });

  it('the command line imports the protocol, not what is behind it', () => {
    const wrong = all.filter(
      ({ from, to }) => folderOf(from) === 'cli' && !CLI_MAY_IMPORT.test(to),
    );
    assert.deepEqual(
      wrong.map(({ from, to }) => `${from} -> ${to}`),
      [],
    );
  });

  it('what is configured is found in config: the environment and the home are given to it', () => {
    const wrong = sources().filter(
      (path) =>
        !['config', 'main'].includes(folderOf(path)) &&
        !READS_ENVIRONMENT.includes(path) &&
        /\bprocess\.env\b|\bhomedir\(/.test(readFileSync(join(SRC, path), 'utf8')),
    );
    assert.deepEqual(wrong, []);
  });

  it('what is waited for, rested or measured does not go by a clock that may be set', () => {
    const arithmetic = /Date\.now\(\)\s*[-+<>]|[-+<>]=?\s*Date\.now\(\)/;
    const found = sources().filter((path) =>
      arithmetic.test(readFileSync(join(SRC, path), 'utf8')),
    );
    assert.deepEqual(found.sort(), [
      // Two clocks against each other, ages of what outlives the process, and times of day.
      ...['base/clock.ts', 'cli/outcome-lines.ts', 'drift/certificate.ts', 'schedule/scheduler.ts'],
    ]);
  });

  it('files can be held in mind', () => {
    const long = sources()
      .map((path) => ({ path, lines: readFileSync(join(SRC, path), 'utf8').split('\n').length }))
      .filter(({ lines }) => lines > MAX_LINES);
    assert.deepEqual(long, []);
  });

  it('has no default exports and no barrels', () => {
    const wrong = sources().filter((path) =>
      /^\s*export\s+(default\b|\*)/m.test(readFileSync(join(SRC, path), 'utf8')),
    );
    assert.deepEqual(wrong, []);
  });
});
