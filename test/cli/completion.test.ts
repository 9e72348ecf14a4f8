import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { COMMANDS } from '../../src/cli/commands.js';
import { readShellLine, shellText, type Quote } from '../../src/cli/shell-line.js';
import type { RunningServer } from '../../src/server/server.js';
import { EchoRunner } from '../server/echo-runner.js';
import { hubEnv, startHub } from './hub.js';

const ACECTL = join(import.meta.dirname, '../../src/main/acectl.js');

const TABLES = [
  { schema: 'public', name: 'orders' },
  { schema: 'public', name: 'Invoice Lines' },
  { schema: 'public', name: "it's $HOME" },
  { schema: 'Sales EU', name: 'Big' },
  { schema: 'odd', name: 'dotted.name' },
  { schema: 'odd', name: 'quo"te' },
  { schema: 'odd', name: 'new\nline' },
];

let root: string;
let server: RunningServer;
let env: NodeJS.ProcessEnv;

before(async () => {
  root = mkdtempSync(join(tmpdir(), 'aced-completion-'));
  writeFileSync(
    join(root, 'pg_service.conf'),
    '[hub.n1]\nhost=127.0.0.1\nport=1\n[hub.n2]\nhost=127.0.0.1\nport=2\n[other.n1]\nhost=h\n',
  );
  writeFileSync(join(root, 'acectl'), `#!/bin/sh\nexec '${process.execPath}' '${ACECTL}' "$@"\n`);
  chmodSync(join(root, 'acectl'), 0o755);
  env = {
    PATH: `${root}:${process.env['PATH'] ?? ''}`,
    ...hubEnv(root),
    TERM: 'dumb',
    // The machine may be busy.
    ACED_COMPLETION_TIMEOUT_MS: '20000',
  };
  const runner = new EchoRunner();
  runner.names = { ...runner.names, tables: TABLES };
  server = await startHub(root, runner);
});
after(async () => {
  await server.close();
  rmSync(root, { recursive: true });
});

interface Ran {
  readonly stdout: string;
  readonly stderr: string;
}

/** Not spawnSync: the daemon that is asked lives in this process. */
async function run(program: string, args: readonly string[], input = '', more = {}): Promise<Ran> {
  const child = spawn(program, args, { cwd: root, env: { ...env, ...more } });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.end(input);
  await new Promise((resolve) => child.on('close', resolve));
  return { stdout, stderr };
}

const KEYS = { tab: '\t', toStart: '\u0001' };

/**
 * Types each line into a bash of its own with readline, presses the tab key at its end, and tells what
 * arguments a program gets then.
 */
async function typedIntoBash(lines: readonly string[]): Promise<string[]> {
  const { stdout: script } = await run('acectl', ['completion', 'bash']);
  writeFileSync(join(root, 'completion.bash'), script);
  const input = [
    `. ./completion.bash`,
    `show() { printf '\\n=> '; printf '<%s>' "$@"; echo; }`,
    ...lines.map((line) => `${line}${KEYS.tab}${KEYS.toStart}show `),
    'exit',
  ];
  const { stdout } = await run('bash', ['--norc', '--noprofile', '-i'], `${input.join('\n')}\n`);
  return [...stdout.matchAll(/^=> (.*)$/gm)].map(([, args = '']) => args);
}

const lines = async (line: string, shell = 'zsh', more = {}): Promise<string[]> =>
  (await run('acectl', ['__complete', shell, line], '', more)).stdout.trimEnd().split('\n');

describe('completion', () => {
  it('completes what is typed into a real bash', async () => {
    const cases: [string, string][] = [
      ['acectl table-re', '<acectl><table-re>'],
      ['acectl mtree teardown-', '<acectl><mtree><teardown-table>'],
      ['acectl table-diff --output=h', '<acectl><table-diff><--output=html>'],
      ['acectl table-repair --stale ap', '<acectl><table-repair><--stale><apply>'],
      ['acectl -n n1,n', '<acectl><-n><n1,n2>'],
      ['acectl table-diff hub public.o', '<acectl><table-diff><hub><public.orders>'],
      ['acectl table-diff public.Inv', '<acectl><table-diff><public.Invoice Lines>'],
      ["acectl table-diff 'public.Inv", '<acectl><table-diff><public.Invoice Lines>'],
      ['acectl table-diff \'public."Inv', '<acectl><table-diff><public."Invoice Lines">'],
      ['acectl table-diff public.\\"Inv', '<acectl><table-diff><public."Invoice Lines">'],
      ['acectl table-diff public.it', "<acectl><table-diff><public.it's $HOME>"],
      ['acectl table-diff "public.it', "<acectl><table-diff><public.it's $HOME>"],
      ["acectl table-diff 'public.it", "<acectl><table-diff><public.it's $HOME>"],
      ['acectl table-diff Sales\\ EU', '<acectl><table-diff><Sales EU.Big>'],
      ['acectl table-diff hub odd.\\"qu', '<acectl><table-diff><hub><odd."quo""te">'],
      ['acectl drift show 31', '<acectl><drift><show><3162d2b6-63a3-459c-be9a-8f8dd228c11f>'],
      ['acectl table-rerun -f pg_s', '<acectl><table-rerun><-f><pg_service.conf>'],
      ['aced --cluster oth', '<aced><--cluster><other>'],
    ];
    const typed = await typedIntoBash(cases.map(([line]) => line));
    cases.forEach(([line, args], i) => assert.equal(typed[i], args, line));
  });

  it('offers every command, and every flag that a command takes', async () => {
    const first = await lines('acectl ', 'fish');
    for (const { words } of COMMANDS) {
      assert.ok(
        first.some((line) => line.startsWith(`${words[0] ?? ''}\t`)),
        words.join(' '),
      );
    }
    const flags = await lines('acectl mtree build --', 'fish');
    assert.ok(flags.includes('--block-size\trows per block'), flags.join('\n'));
    assert.ok(!flags.some((line) => line.startsWith('--write-ranges')));
    assert.deepEqual(await lines('acectl table-diff -- --'), ['words']);
  });

  it('knows nodes and clusters of the files where no daemon is', async () => {
    const nobody = { ACED_SOCKET: join(root, 'nobody.sock') };
    assert.deepEqual(await lines('acectl table-repair -r ', 'zsh', nobody), ['words', 'n1', 'n2']);
    const operands = await lines('acectl table-diff ', 'zsh', nobody);
    assert.deepEqual(operands, ['words', 'hub\tcluster', 'other\tcluster']);
    const group = { name: 'n9', public_ip: 'h' };
    writeFileSync(join(root, 'ace.json'), JSON.stringify({ node_groups: [group] }));
    try {
      assert.ok((await lines('acectl table-diff ', 'zsh', nobody)).includes('ace\tcluster'));
      assert.deepEqual(await lines('acectl table-diff ace -n ', 'zsh', nobody), [
        'words',
        'n9',
        'all',
      ]);
    } finally {
      rmSync(join(root, 'ace.json'));
    }
  });

  it('says nothing, and soon, beside a daemon that is frozen or files that are broken', async () => {
    const frozen = createServer(() => undefined).listen(join(root, 'frozen.sock'));
    try {
      const startedMs = performance.now();
      const more = {
        ACED_SOCKET: join(root, 'frozen.sock'),
        ACED_COMPLETION_TIMEOUT_MS: undefined,
      };
      const args = ['__complete', 'zsh', 'acectl drift ack '];
      const stdout = 'words\nhub\tcluster\nother\tcluster\n';
      assert.deepEqual(await run('acectl', args, '', more), { stdout, stderr: '' });
      // A command would wait for 15 s.
      assert.ok(performance.now() - startedMs < 10_000);
    } finally {
      frozen.close();
    }
    writeFileSync(join(root, 'broken.conf'), 'no section');
    const more = { PGSERVICEFILE: join(root, 'broken.conf'), ACED_SOCKET: join(root, 'nobody') };
    const broken = await run('acectl', ['__complete', 'zsh', 'acectl table-diff '], '', more);
    assert.deepEqual(broken, { stdout: 'words\n', stderr: '' });
  });

  it('has scripts that their shells can read', async () => {
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { stdout } = await run('acectl', ['completion', shell]);
      assert.match(stdout, /__complete/);
      writeFileSync(join(root, shell), stdout);
      const checked = spawnSync(shell, ['-n', join(root, shell)], { encoding: 'utf8' });
      // Only bash is everywhere.
      if (shell === 'bash') assert.equal(checked.error, undefined);
      if (checked.error === undefined) assert.deepEqual([checked.status, checked.stderr], [0, '']);
    }
    const { stderr } = await run('acectl', ['completion', 'tcsh']);
    assert.match(stderr, /ERROR there is no completion for tcsh\nHINT .*bash, zsh, fish/);
  });

  it('reads a line as a shell does, and writes what is read as the same', () => {
    const { words, current } = readShellLine(`cd /x; acectl 'a b' "c\\"d" e\\ f 'g`);
    assert.deepEqual(words, ['acectl', 'a b', 'c"d', 'e f']);
    assert.deepEqual(current, { raw: "'g", text: 'g', quote: "'" });
    for (const quote of ['', "'", '"'] as Quote[]) {
      for (const text of ['plain', `it's "q" $x \`y\` \\z`, 'ü *?~#!', '-a=b']) {
        const written = readShellLine(`${quote}${shellText(text, quote)}`).current;
        assert.equal(written.text, text, quote);
      }
    }
  });
});
