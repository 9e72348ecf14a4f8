import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { startServer } from '../../src/server/server.js';
import type { RunningServer } from '../../src/server/server.js';
import { EchoRunner } from '../server/echo-runner.js';
import { waitFor } from '../support/wait.js';
import { hubEnv, makeHub, startHub } from './hub.js';
import { startProgram, type Ended } from './program.js';

let root: string;
let runner: EchoRunner;
let server: RunningServer;

before(() => {
  root = makeHub();
});
after(() => rmSync(root, { recursive: true }));
beforeEach(async () => {
  runner = new EchoRunner();
  server = await startHub(root, runner);
});
afterEach(() => server.close());

function start(
  program: 'acectl' | 'aced',
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): ReturnType<typeof startProgram> {
  return startProgram(program, args, {
    cwd: root,
    env: {
      ...hubEnv(root),
      ...env,
    },
  });
}

const acectl = (...args: string[]): Promise<Ended> => start('acectl', args).ended;

describe('acectl', () => {
  it('runs again and again with --schedule, and ends with the worst code', async () => {
    const { child, ended } = start('acectl', ['table-diff', 'drift', '-S', '--every', '1s']);
    await waitFor(() => runner.calls.length >= 3, { what: 'a third run', timeoutMs: 30_000 });
    child.kill('SIGINT');
    const { exitCode, stdout } = await ended;
    assert.equal(exitCode, 1);
    assert.ok(stdout.split('TABLES DO NOT MATCH').length > 2, stdout);
  });

  it('ends by itself once it has the answer, with its exit code', async () => {
    for (const [table, exitCode] of [
      ['match', 0],
      ['drift', 1],
      ['starved', 2],
      ['fail', 2],
    ] as const) {
      const ended = await acectl('mtree', 'table-diff', `public.${table}`);
      assert.deepEqual([ended.exitCode, ended.signal], [exitCode, null], ended.stderr);
    }
  });

  it('hands a long repair plan to the daemon, beside the diff file', async () => {
    const plan = `version: 1 # ${'é'.repeat(500_000)}\n`;
    writeFileSync(join(root, 'plan.yaml'), plan);
    writeFileSync(join(root, 'diff.json'), '{}');
    const ended = await acectl('table-repair', 'public.t', '-f', 'diff.json', '-p', 'plan.yaml');
    assert.equal(ended.exitCode, 0, ended.stderr);
    assert.deepEqual(runner.calls.at(-1)?.params, { table: 'public.t', repairPlan: plan });
    const none = await acectl('table-repair', 'public.t', '-f', 'diff.json', '-p', 'no-such.yaml');
    assert.equal(none.exitCode, 2);
    assert.match(none.stderr, /the repair plan no-such\.yaml: .*\nHINT Give the path/);
  });

  it('ends by itself after an upload too', async () => {
    writeFileSync(join(root, 'diff.json'), 'x'.repeat(3_000_000));
    const startedAt = performance.now();
    await acectl('mtree', 'table-diff', 'public.match');
    const withoutUploadMs = performance.now() - startedAt;
    const ended = await acectl('table-repair', '-f', 'diff.json', '-r', 'n1', 'public.t');
    // A server keeps a connection that is to be kept for 5 s.
    const uploadMs = performance.now() - startedAt - withoutUploadMs;
    assert.ok(uploadMs < withoutUploadMs + 4_500, `${uploadMs} ms, without ${withoutUploadMs} ms`);
    assert.deepEqual([ended.exitCode, ended.signal], [0, null], ended.stderr);
    assert.equal(runner.calls.at(-1)?.inputBytes, 3_000_000);
  });

  it('prints a large JSON object whole, through a pipe', async () => {
    const names = Array.from({ length: 3000 }, (_, i) => `report-${i}-${'x'.repeat(100)}`);
    const liar = await startServer({
      socketPath: join(root, 'big.sock'),
      runner: {
        run: () => {
          const nodes = Object.fromEntries(names.map((n) => [n, 'x']));
          return Promise.resolve({ nodes, servers: {} } as never);
        },
      },
      spoolDir: join(root, 'spool-big'),
      log: silentLogger(),
      version: '1',
    });
    const ended = await acectl('mtree', 'init', '--json', '--socket', 'big.sock');
    await liar.close();
    const { nodes } = JSON.parse(ended.stdout) as { nodes: Record<string, string> };
    assert.equal(Object.keys(nodes).length, 3000);
  });

  it('keeps stdout clean of errors, and exits 2 on bad usage', async () => {
    const ended = await acectl('mtree', 'build', '--no-such-flag', 'public.t');
    assert.deepEqual([ended.exitCode, ended.stdout], [2, '']);
    assert.match(
      ended.stderr,
      /^ERROR acectl mtree build has no flag --no-such-flag\nHINT See: acectl mtree build --help\n$/,
    );
  });

  it('cancels in the daemon on SIGINT, and exits 2', async () => {
    const { child, ended } = start('acectl', ['table-diff', 'public.hang']);
    await waitFor(() => runner.calls.length === 1, { what: 'the command to run' });
    child.kill('SIGINT');
    const { exitCode, stderr } = await ended;
    assert.equal(exitCode, 2);
    assert.match(stderr, /ERROR cancelled/);
    await waitFor(() => runner.cancelled === 1, { what: 'the command to be cancelled' });
  });

  it('is cancelled in the daemon when it is killed', async () => {
    const { child, ended } = start('acectl', ['table-diff', 'public.hang']);
    await waitFor(() => runner.calls.length === 1, { what: 'the command to run' });
    child.kill('SIGKILL');
    await ended;
    await waitFor(() => runner.cancelled === 1, { what: 'the command to be cancelled' });
  });

  it('says so when the daemon dies under it', async () => {
    const { ended } = start('acectl', ['table-diff', 'public.stubborn']);
    await waitFor(() => runner.calls.length === 1, { what: 'the command to run' });
    // The command does not stop, so its connection is cut as a crash would.
    await server.close();
    const { exitCode, stderr } = await ended;
    assert.equal(exitCode, 2);
    assert.match(stderr, /ERROR lost the connection to aced/);
  });

  it('survives a reader that goes away', async () => {
    const { child, ended } = start('acectl', ['--help']);
    child.stdout?.destroy();
    const { exitCode, stderr } = await ended;
    assert.deepEqual([exitCode, stderr], [0, '']);
  });

  it('shows the configuration without secrets', async () => {
    const ended = await acectl('config', 'show');
    assert.equal(ended.exitCode, 0, ended.stderr);
    assert.match(ended.stdout, /"password": "\(set\)"/);
    assert.doesNotMatch(ended.stdout + ended.stderr, /hunter2/);
  });

  it('names the clusters that there are', async () => {
    const ended = await acectl('--socket', 'nobody.sock', 'status', 'nope');
    assert.equal(ended.exitCode, 2);
    assert.match(ended.stderr, /^ERROR no cluster "nope" in .*\nHINT Defined there: hub\.\n$/);
  });

  it('needs nothing heavy to talk to a daemon', async () => {
    const hook = join(root, 'list-modules.mjs');
    // Reports what was loaded by the end, ES modules included.
    writeFileSync(
      hook,
      `import { register } from 'node:module';
       register('data:text/javascript,' + encodeURIComponent(
         "import { appendFileSync } from 'node:fs'; export async function load(url, c, next) { appendFileSync(" +
         JSON.stringify(process.env.MODULES) + ", url + '\\\\n'); return next(url, c); }"));`,
    );
    const list = join(root, 'modules.txt');
    const env = { NODE_OPTIONS: `--import ${hook}`, MODULES: list };
    const { exitCode, stderr } = await start('acectl', ['mtree', 'table-diff', 'public.match'], env)
      .ended;
    assert.equal(exitCode, 0, stderr);
    const modules = readFileSync(list, 'utf8');
    assert.match(modules, /acectl\.js/);
    const heavy = /node_modules\/(?!commander\/)|config\/load|commands\/engine|base\/log/;
    assert.doesNotMatch(modules, heavy);
  });
});

describe('aced', () => {
  it('tells its release and its options', async () => {
    assert.match((await start('aced', ['--version']).ended).stdout, /^aced \d+\.\d+\.\d+\n$/);
    const { stdout, exitCode } = await start('aced', ['--help']).ended;
    assert.equal(exitCode, 0);
    assert.match(stdout, /tree\.block_rows \(ACED_TREE_BLOCK_ROWS\)/);
  });

  it('fails with one JSON line, a plain line and a hint, and exits 2', async () => {
    for (const args of [['--cluster', 'nope'], ['--no-such-flag']]) {
      const ended = await start('aced', args).ended;
      assert.equal(ended.exitCode, 2);
      const lines = ended.stdout.trimEnd().split('\n');
      assert.equal(lines.length, 1);
      const line = JSON.parse(lines[0] ?? '') as { event: string; level: string };
      assert.deepEqual([line.event, line.level], ['start_failed', 'error']);
      assert.match(ended.stderr, /^aced: .*\nhint: .*\n$/);
    }
  });

  it('does not take the socket of another, and ends', async () => {
    mkdirSync(join(root, 'state'), { recursive: true });
    const ended = await start('aced', []).ended;
    assert.equal(ended.exitCode, 2, ended.stderr);
    assert.match(ended.stderr, /somebody already listens on/);
  });

  it('serves until SIGTERM, then ends with 0 and takes its socket away', async () => {
    const socket = join(root, 'own.sock');
    writeFileSync(join(root, 'misspelt.yaml'), 'tree: {blok_rows: 5}\n');
    const { child, ended } = start('aced', ['--socket', socket, '--state-dir', 'own-state'], {
      ACED_CONFIG: 'misspelt.yaml',
    });
    let log = '';
    child.stdout?.on('data', (text: string) => (log += text));
    await waitFor(() => log.includes('"event":"ready"'), { what: 'aced to be ready' });
    assert.equal(statSync(socket).mode & 0o777, 0o660);
    const asked = await acectl('--socket', socket, 'status');
    assert.match(asked.stdout, /^WARN .*misspelt\.yaml: tree\.blok_rows has no meaning here$/m);
    // Each waits for the lock for a while.
    const [locked, second] = await Promise.all([
      acectl('--socket', 'none.sock', '--state-dir', 'own-state', 'status'),
      start('aced', ['--socket', 'second.sock', '--state-dir', 'own-state']).ended,
    ]);
    assert.match(
      locked.stderr,
      /ERROR another process is using .*no aced listens on .*none\.sock$/m,
    );
    assert.match(locked.stderr, /^HINT .*--socket/m);
    assert.match(second.stderr, /^aced: another process is using .*own-state\nhint: .*\n$/);
    assert.equal(second.exitCode, 1, 'a supervisor may start it again');
    child.kill('SIGTERM');
    const { exitCode, stdout, stderr } = await ended;
    assert.deepEqual([exitCode, stderr], [0, '']);
    assert.match(stdout, /"event":"stopped"/);
    assert.equal(statSync(socket, { throwIfNoEntry: false }), undefined);
    assert.doesNotMatch(stdout, /hunter2/);
  });
});
