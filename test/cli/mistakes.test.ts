import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startProgram, type Ended } from './program.js';

const SERVICES = '[hub]\nuser=u\ndbname=app\n[hub.n1]\nhost=127.0.0.1\nport=1\n';

interface Mistake {
  readonly title: string;
  readonly line: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly error: RegExp;
  readonly hint: RegExp;
}

const MISTAKES: readonly Mistake[] = [
  {
    title: 'a table is forgotten, and no cluster is set',
    line: 'table-diff hub',
    error: /^no cluster is named: hub was taken for <schema\.table\|pattern>$/,
    hint: /^Give its name as an argument/,
  },
  {
    title: 'a tree to remove that there is not',
    line: 'mtree teardown-table hub nosuch',
    error: /^table nosuch has no Merkle tree$/,
    hint: /^There is nothing to remove; acectl status hub shows/,
  },
  {
    title: 'YAML that cannot be read',
    line: 'status hub',
    env: { ACED_CONFIG: 'broken.yaml' },
    error: /broken\.yaml, line 1: /,
    hint: /quotes/,
  },
  {
    title: 'a YAML file that is a list',
    line: 'status hub',
    env: { ACED_CONFIG: 'list.yaml' },
    error: /list\.yaml: not a mapping/,
    hint: /config init/,
  },
  {
    title: 'a diff file that is not there, before a node is asked',
    line: 'table-repair hub public.x --diff-file=nofile.json --source-of-truth=n1',
    error: /nofile\.json: ENOENT/,
    hint: /^Give the file that a diff has written\.$/,
  },
  {
    title: 'a misspelt command',
    line: 'mtree tabel-diff hub public.x',
    error: /^unknown command mtree tabel-diff$/,
    hint: /^Did you mean mtree table-diff\?/,
  },
  {
    title: 'a misspelt flag',
    line: 'table-repair hub public.x --dryrun',
    error: /has no flag --dryrun$/,
    hint: /^Did you mean --dry-run\?/,
  },
  {
    title: 'a state directory below a file',
    line: 'status hub',
    env: { ACED_STATE_DIR: '/dev/null/state' },
    error: /^cannot create \/dev\/null\/state: /,
    hint: /ACED_STATE_DIR/,
  },
];

describe('a mistake is named, with one hint, without a server being asked', () => {
  let root: string;

  before(() => {
    root = mkdtempSync(join(tmpdir(), 'aced-mistakes-'));
    writeFileSync(join(root, 'pg_service.conf'), SERVICES);
    writeFileSync(join(root, 'broken.yaml'), 'a: b: c\n');
    writeFileSync(join(root, 'list.yaml'), '- a\n');
    writeFileSync(
      join(root, 'misspelt.yaml'),
      'tree: {blok_rows: 5}\nstream: {max_slot_wal_bytes: 1GB}\n',
    );
  });
  after(() => rmSync(root, { recursive: true }));

  function acectl(line: string, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
    return startProgram('acectl', line.split(' '), {
      cwd: root,
      env: { HOME: root, ACED_STATE_DIR: join(root, 'state'), ...env },
    }).ended;
  }

  for (const { title, line, env, error, hint } of MISTAKES) {
    it(title, async () => {
      const ended = await acectl(line, env);
      assert.deepEqual([ended.exitCode, ended.stdout], [2, ''], ended.stderr);
      const [first = '', second = '', ...more] = ended.stderr.trimEnd().split('\n');
      assert.match(first, /^ERROR /);
      assert.match(first.slice('ERROR '.length), error);
      assert.match(second, /^HINT /);
      assert.match(second.slice('HINT '.length), hint);
      assert.deepEqual(more, []);
    });
  }

  it('a socket that is not there is named by status', async () => {
    for (const [line, env] of [
      ['status hub --socket /nonexistent/aced.sock', {}],
      ['status hub', { ACED_SOCKET: '/nonexistent/aced.sock' }],
    ] as const) {
      const { exitCode, stdout, stderr } = await acectl(line, env);
      assert.equal(exitCode, 2);
      assert.match(
        stdout + stderr,
        /no aced is running here, none listens on \/nonexistent\/aced\.sock/,
      );
    }
  });

  it('a misspelt key of aced.yaml is told, and nothing else than it', async () => {
    const told = (await acectl('status hub', { ACED_CONFIG: 'misspelt.yaml' })).stdout;
    const warnings = told.match(/^WARN .*yaml.*$/gm) ?? [];
    assert.equal(warnings.length, 1, told);
    assert.match(warnings.join(), /misspelt\.yaml: tree\.blok_rows has no meaning here$/);
  });

  it('help says of a flag that changes nothing that it does not', async () => {
    const diff = (await acectl('table-diff --help')).stdout.replaceAll(/\s+/g, ' ');
    assert.match(diff, /--compare-unit-size <n> accepted for ACE/);
    assert.match(diff, /--block-size <n> accepted for ACE/);
    const build = (await acectl('mtree build --help')).stdout.replaceAll(/\s+/g, ' ');
    assert.match(build, /--nodes <names> accepted for ACE; all of the nodes or nothing/);
    assert.match(build, /--block-size <n> rows per block/);
  });
});
