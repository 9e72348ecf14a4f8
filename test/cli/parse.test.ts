import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { COMMANDS } from '../../src/cli/commands.js';
import type { AnyRequest } from '../../src/cli/commands.js';
import { parseCommandLine } from '../../src/cli/parse.js';

interface Understood {
  readonly cluster: string | undefined;
  readonly request: AnyRequest;
}

/** Splits at blanks; no argument of these tests has one. */
function words(line: string): string[] {
  return line.split(' ').filter((word) => word !== '');
}

function understand(line: string): Understood {
  const parsed = parseCommandLine(words(line));
  assert.ok(parsed.kind === 'command' && parsed.command.action.kind === 'request');
  const { flags, argument, cluster, command } = parsed;
  assert.ok(command.action.kind === 'request');
  return { cluster, request: command.action.make({ flags, argument }) };
}

function refusal(line: string): AcedError {
  try {
    understand(line);
  } catch (error) {
    assert.ok(error instanceof AcedError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: `accepted: ${line}` });
}

describe('requests', () => {
  const table = 'public.t';
  const cases: readonly [line: string, cluster: string | undefined, expected: object][] = [
    ['mtree init', undefined, { name: 'mtree-init', params: {} }],
    ['mtree init hub', 'hub', { name: 'mtree-init', params: {} }],
    ['mtree teardown hub -n all', 'hub', { name: 'mtree-teardown', params: {} }],
    ['status -n n2,n1,n2', undefined, { name: 'status', params: { nodes: ['n2', 'n1'] } }],
    ['mtree build public.t', undefined, { name: 'mtree-build', params: { table } }],
    ['mtree build hub public.t', 'hub', { name: 'mtree-build', params: { table } }],
    [
      '-b 5 mtree --analyse build -m=0.25 hub --recreate-objects public.t -B',
      'hub',
      {
        name: 'mtree-build',
        params: { table, blockRows: 5, maxCpuRatio: 0.25, analyse: true, recreateObjects: true },
      },
    ],
    [
      'mtree update -l -U --cdc-timeout 7 public.t',
      undefined,
      {
        name: 'mtree-update',
        params: { table, rebalance: true, skipCdc: true, cdcTimeoutMs: 7000 },
      },
    ],
    ['mtree verify', undefined, { name: 'mtree-verify', params: {} }],
    ['mtree verify hub', 'hub', { name: 'mtree-verify', params: {} }],
    ['mtree verify public.t', undefined, { name: 'mtree-verify', params: { table } }],
    [
      'mtree verify --rate 5000 a.b -m 0.5 public.t -n n2',
      'a.b',
      {
        name: 'mtree-verify',
        params: { table, nodes: ['n2'], rowsPerSecond: 5000, maxCpuRatio: 0.5 },
      },
    ],
    [
      'mtree table-diff --cdc-timeout=0 -o html public.t',
      undefined,
      { name: 'mtree-table-diff', params: { table, output: 'html' } },
    ],
    ['mtree teardown-table c public.t', 'c', { name: 'mtree-teardown-table', params: { table } }],
    [
      'table-diff -b1000 -c 4 -u 1 -F id<100 --ensure-pgcrypto -M 0 public.t',
      undefined,
      {
        name: 'table-diff',
        params: {
          table,
          blockSize: 1000,
          compareUnitSize: 1,
          concurrencyFactor: 4,
          tableFilter: 'id<100',
        },
      },
    ],
    [
      'table-diff --table-filter=-1<id public.t',
      undefined,
      { name: 'table-diff', params: { table, tableFilter: '-1<id' } },
    ],
    [
      'table-diff -q=false -q=true --json=false public.t -q=false',
      undefined,
      { name: 'table-diff', params: { table } },
    ],
    [
      'table-diff --quiet=false --json -qv public.t',
      undefined,
      { name: 'table-diff', params: { table } },
    ],
    [
      'mtree build hub public.* -T audit,"a.b".c --rebuild -b 5',
      'hub',
      {
        name: 'mtree-build-many',
        params: {
          tables: ['public.*'],
          skipTables: ['audit,"a.b".c'],
          rebuild: true,
          blockRows: 5,
        },
      },
    ],
    ['mtree build public.t --rebuild', undefined, { name: 'mtree-build', params: { table } }],
    [
      'mtree table-diff --all hub -n n1,n2 -U',
      'hub',
      { name: 'mtree-table-diff-many', params: { all: true, nodes: ['n1', 'n2'], skipCdc: true } },
    ],
    [
      'table-diff --schema Sales --publication p',
      undefined,
      { name: 'table-diff-many', params: { schemas: ['Sales'], publication: 'p' } },
    ],
    [
      'mtree update --repset default public.a,public.b',
      undefined,
      {
        name: 'mtree-update-many',
        params: { repset: 'default', tables: ['public.a,public.b'] },
      },
    ],
    [
      'mtree verify hub public.?',
      'hub',
      { name: 'mtree-verify-many', params: { tables: ['public.?'] } },
    ],
    [
      'mtree teardown-table hub *',
      'hub',
      { name: 'mtree-teardown-table-many', params: { tables: ['*'] } },
    ],
    ['table-diff "a*".b', undefined, { name: 'table-diff', params: { table: '"a*".b' } }],
    [
      'schema-diff hub sales -T audit -o html',
      'hub',
      {
        name: 'table-diff-many',
        params: { schemas: ['sales'], skipTables: ['audit'], output: 'html' },
      },
    ],
    [
      'schema-diff -L sales -n n1,n2',
      undefined,
      { name: 'structure-diff', params: { schema: 'sales', nodes: ['n1', 'n2'] } },
    ],
    [
      'schema-diff --compare=structure sales --ace-exit-codes --skip-tables a',
      undefined,
      {
        name: 'structure-diff',
        params: { schema: 'sales', skipTables: ['a'], aceExitCodes: true },
      },
    ],
    [
      'repset-diff hub default --skip-tables a',
      'hub',
      { name: 'table-diff-many', params: { repset: 'default', skipTables: ['a'] } },
    ],
    ['spock-diff hub -o json', 'hub', { name: 'replication-diff', params: {} }],
    [
      'replication-diff -n n1,n2',
      undefined,
      { name: 'replication-diff', params: { nodes: ['n1', 'n2'] } },
    ],
    [
      'tasks hub --job nightly --limit 5',
      'hub',
      { name: 'tasks', params: { job: 'nightly', limit: 5 } },
    ],
    ['table-diff -- -odd', undefined, { name: 'table-diff', params: { table: '-odd' } }],
    [
      'table-repair -f d.json --source-of-truth n1 -ygit public.t',
      undefined,
      {
        name: 'table-repair',
        params: {
          table,
          sourceOfTruth: 'n1',
          dryRun: true,
          generateReport: true,
          insertOnly: true,
          fireTriggers: true,
        },
        inputFile: 'd.json',
      },
    ],
    [
      'table-rerun hub -f d.json -o html',
      'hub',
      { name: 'table-rerun', params: { output: 'html' }, inputFile: 'd.json' },
    ],
    [
      'table-repair -f d.json -r n1 -P --bidirectional=false public.t',
      undefined,
      {
        name: 'table-repair',
        params: { table, sourceOfTruth: 'n1', upsertOnly: true },
        inputFile: 'd.json',
      },
    ],
  ];
  for (const [line, cluster, expected] of cases) {
    it(line, () => {
      const understood = understand(line);
      assert.deepEqual(understood.request, expected);
      assert.equal(understood.cluster, cluster);
    });
  }
});

describe('refusals name what was typed and what to do', () => {
  const cases: readonly [line: string, code: string, message: RegExp, hint: RegExp][] = [
    ['destroy', 'BAD_USAGE', /^unknown command destroy$/, /^See: acectl --help$/],
    ['help nonsense', 'BAD_USAGE', /^unknown command nonsense$/, /^See: acectl --help$/],
    ['nonsense --help', 'BAD_USAGE', /^unknown command nonsense$/, /^See: acectl --help$/],
    ['help mtree nonsense', 'BAD_USAGE', /^unknown command mtree nonsense$/, /^See: acectl mtree /],
    [
      'table-dif hub t',
      'BAD_USAGE',
      /unknown command table-dif/,
      /^Did you mean table-diff\? See: /,
    ],
    ['repair t', 'BAD_USAGE', /unknown command repair/, /mean table-repair, or drift repair\?/],
    ['build t', 'BAD_USAGE', /unknown command build/, /Did you mean mtree build\?/],
    ['mtree grow', 'BAD_USAGE', /^unknown command mtree grow$/, /^See: acectl mtree --help$/],
    ['mtree biuld t', 'BAD_USAGE', /unknown command mtree biuld/, /Did you mean mtree build\?/],
    [
      'status --frobnicate',
      'BAD_USAGE',
      /^acectl status has no flag --frobnicate$/,
      /^See: acectl status --help$/,
    ],
    [
      'table-repair t --dryrun',
      'BAD_USAGE',
      /no flag --dryrun/,
      /mean --dry-run\? See: acectl table-repair --help/,
    ],
    [
      'mtree build t --blocksize=5',
      'BAD_USAGE',
      /no flag --blocksize/,
      /Did you mean --block-size\?/,
    ],
    ['--hepl', 'BAD_USAGE', /^acectl has no flag --hepl$/, /Did you mean --help\?/],
    [
      'mtree --quite',
      'BAD_USAGE',
      /^acectl mtree has no flag --quite$/,
      /^See: acectl mtree --help$/,
    ],
    ['status -K', 'BAD_USAGE', /^acectl status has no flag -K$/, /--help/],
    [
      'mtree init --block-size 5',
      'BAD_USAGE',
      /^acectl mtree init has no flag --block-size$/,
      /See: acectl mtree init --help/,
    ],
    ['mtree init -b 5', 'BAD_USAGE', /^acectl mtree init has no flag -b$/, /--help/],
    [
      'mtree build',
      'BAD_USAGE',
      /mtree build needs <schema.table\|pattern>/,
      /\[cluster\] <schema/,
    ],
    ['mtree build hub public.t -T a', 'BAD_USAGE', /--skip-tables .* many tables/, /'public\.\*'/],
    ['table-diff p.* --skip-file /nonsense', 'BAD_USAGE', /cannot read \/nonsense/, /readable/],
    ['mtree build a b c', 'BAD_USAGE', /too many arguments: c/, /Write: acectl/],
    ['mtree init a b', 'BAD_USAGE', /too many arguments: b/, /Write: acectl/],
    ['mtree build t -q=maybe', 'BAD_USAGE', /--quiet takes no value/, /Write --quiet alone/],
    ['mtree build t -b', 'BAD_USAGE', /-b needs a value/, /integer from 1/],
    ['mtree build --dbname --quiet t', 'BAD_USAGE', /--dbname needs a value/, /--dbname=--quiet/],
    ['mtree build t -b 0', 'BAD_USAGE', /--block-size\/-b: "0"/, /an integer from 1/],
    ['mtree build t -b 1.5', 'BAD_USAGE', /"1.5"/, /an integer/],
    ['mtree build t -b 0x10', 'BAD_USAGE', /"0x10"/, /an integer/],
    ['mtree build t -m 1.1', 'BAD_USAGE', /--max-cpu-ratio\/-m: "1.1"/, /from 0 to 1/],
    ['table-diff t -c 5', 'BAD_USAGE', /--concurrency-factor\/-c: "5"/, /from 0 to 4/],
    ['table-diff t -c=-1', 'BAD_USAGE', /"-1"/, /from 0 to 4/],
    ['table-diff t -o xml', 'BAD_USAGE', /--output\/-o: "xml"/, /json or html/],
    ['mtree build t -M 8', 'BAD_USAGE', /--max-connections\/-M: "8"/, /--max-cpu-ratio/],
    ['schema-diff --compare=structure s -o html', 'BAD_USAGE', /no page of structures/, /--json/],
    ['table-diff t -M 8', 'BAD_USAGE', /--max-connections\/-M: "8"/, /--concurrency-factor/],
    ['table-diff t --nodes=n1,,n2', 'BAD_USAGE', /"n1,,n2"/, /commas/],
    ['mtree listen -n n1', 'BAD_USAGE', /--nodes\/-n: "n1"/, /all only.* whole cluster/],
    ['config show --nodes=n1,n2', 'BAD_USAGE', /--nodes\/-n: "n1,n2"/, /all only/],
    ['table-diff t --quiet=maybe', 'BAD_USAGE', /--quiet takes no value/, /--quiet alone/],
    ['mtree update t --cdc-timeout 1.5', 'BAD_USAGE', /--cdc-timeout: "1.5"/, /whole seconds/],
    ['table-repair t -r n1', 'BAD_USAGE', /needs --diff-file/, /file/],
    ['table-repair t -f x', 'BAD_USAGE', /needs --source-of-truth/, /node/],
    ['table-repair t -f x -r n -iP', 'BAD_USAGE', /exclude each other/, /one of them/],
    ['table-diff t --sample 0', 'BAD_USAGE', /--sample/, /percent/],
    ['table-diff t --schedule -e soon', 'BAD_USAGE', /"soon"/, /as 30m or 1h30m/],
    ['table-diff t --schedule -e 10ms', 'BAD_USAGE', /"10ms"/, /at least 1s/],
    ['table-repair t -f x -r n -Z', 'BAD_USAGE', /--bidirectional and --source-of-truth/, /one of/],
    ['table-repair t -f x -XP', 'BAD_USAGE', /--fix-nulls and --upsert-only/, /one of/],
    [
      'table-repair t -f x -p plan.yaml -i',
      'BAD_USAGE',
      /--repair-plan and --insert-only/,
      /one of/,
    ],
    ['table-repair t --undo x -f y', 'BAD_USAGE', /--undo and --diff-file/, /one of/],
    ['table-repair t -f x -r n --stale=never', 'BAD_USAGE', /--stale/, /skip, apply or fail/],
    [
      'table-repair t -f x --no-preserve-origin',
      'UNSUPPORTED',
      /--no-preserve-origin is not supported/,
      /Leave it out/,
    ],
    ['mtree build t -w', 'UNSUPPORTED', /--write-ranges\/-w/, /Leave it out/],
    ['mtree build t -k r.json', 'UNSUPPORTED', /--ranges-file\/-k/, /Leave it out/],
    ['schema-diff', 'BAD_USAGE', /schema-diff needs <schema>/, /\[cluster\] <schema>/],
    ['schema-diff hub s --compare=both', 'BAD_USAGE', /"both"/, /data or structure/],
    ['spock-diff hub -o html', 'BAD_USAGE', /"html"/, /json only/],
    ['table-rerun hub', 'BAD_USAGE', /needs --diff-file/, /that a diff has written/],
    ['cluster init prod --sslmode maybe', 'BAD_USAGE', /"maybe"/, /verify-full/],
    ['tasks --limit 0', 'BAD_USAGE', /"0"/, /from 1 to 5000/],
    ['start -C none', 'BAD_USAGE', /"none"/, /all, scheduler or api/],
  ];
  for (const [line, code, message, hint] of cases) {
    it(`acectl ${line}`, () => {
      const error = refusal(line);
      assert.equal(error.code, code);
      assert.match(error.message, message);
      assert.match(error.hint ?? '', hint);
    });
  }
});

describe('help', () => {
  const help = (line: string, columns?: number): string => {
    const parsed = parseCommandLine(words(line), columns);
    assert.ok(parsed.kind === 'help', line);
    return parsed.text;
  };

  it('is had by flag or word, anywhere', () => {
    const of: readonly [title: string, lines: readonly string[]][] = [
      ['<command>', ['--help', '-h', 'help', 'help --json']],
      ['mtree <command>', ['help mtree', 'mtree -h']],
      ['mtree build', ['help mtree build', 'mtree build -h', '-h mtree build --nonsense t u v']],
      ['status', ['-h status', 'help status -n n1']],
    ];
    for (const [title, lines] of of) {
      for (const line of lines) {
        assert.ok(help(line).startsWith(`Usage: acectl ${title} [flags] [cluster]`), line);
      }
    }
    assert.equal(parseCommandLine(['--version']).kind, 'version');
  });

  it('is what a line without a command gets, unasked', () => {
    for (const line of ['', 'mtree', 'drift', 'config']) {
      const parsed = parseCommandLine(words(line));
      assert.ok(parsed.kind === 'help' && !parsed.isAsked, line);
      assert.match(parsed.text, /^Commands:$/m);
    }
    const parsed = parseCommandLine(['help']);
    assert.ok(parsed.kind === 'help' && parsed.isAsked);
  });

  it('shows every command and flag that we have, and none that we refuse, with an example', () => {
    for (const { words: name, flags } of COMMANDS) {
      const group = help(['help', ...name.slice(0, -1)].join(' '));
      const verb = name.at(-1) ?? '';
      assert.match(group, new RegExp(`\\n  ${verb} [[<]`), name.join(' '));
      const text = help(`help ${name.join(' ')}`);
      assert.match(text, new RegExp(`^Examples?:\n  acectl ${name.join(' ')} `, 'm'));
      for (const flag of flags) {
        assert.equal(text.includes(`--${flag.name}`), flag.refused === undefined, flag.name);
      }
    }
  });

  it('the examples are command lines that are understood', () => {
    const texts = COMMANDS.map(({ words: name }) => help(`help ${name.join(' ')}`));
    const examples = texts.flatMap((text) => text.match(/(?<=^ {2}acectl ).*$/gm) ?? []);
    assert.ok(examples.length >= 10);
    for (const example of examples) {
      const args = example.match(/"[^"]*"|\S+/g)?.map((arg) => arg.replaceAll('"', '')) ?? [];
      const parsed = parseCommandLine(args);
      assert.ok(parsed.kind === 'command', example);
      const { action } = parsed.command;
      if (action.kind === 'request') assert.ok(action.make(parsed).params, example);
      const isOfCluster = action.kind !== 'config-init' && action.kind !== 'completion';
      assert.equal(parsed.cluster, isOfCluster ? 'prod' : undefined, example);
    }
  });

  it('keeps to the width of the terminal', () => {
    for (const columns of [80, 120]) {
      for (const { words: name } of COMMANDS) {
        const [top] = help(`help ${name.join(' ')}`, columns).split(/^Examples?:$/m);
        const long = (top ?? '').split('\n').filter((line) => line.length > columns);
        assert.deepEqual(long, [], name.join(' '));
      }
    }
  });

  it('no command has two flags of one name or letter', () => {
    for (const { words: name, flags } of COMMANDS) {
      const names = flags.flatMap(({ name: flag, short }) =>
        short === undefined ? [flag] : [flag, short],
      );
      assert.equal(new Set(names).size, names.length, name.join(' '));
    }
  });

  it('a letter takes a value either in every command or in none', () => {
    const takes = new Map<string, boolean>();
    for (const { short, read } of COMMANDS.flatMap(({ flags }) => flags)) {
      if (short === undefined) continue;
      const known = takes.get(short) ?? read !== undefined;
      assert.equal(read !== undefined, known, short);
      takes.set(short, known);
    }
  });
});
