import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { silentLogger } from '../../src/base/log.js';
import { runCli } from '../../src/cli/run.js';
import type { CliFlags, CliOptions } from '../../src/cli/run.js';
import { Terminal, progressLine } from '../../src/cli/terminal.js';
import { startServer } from '../../src/server/server.js';
import type { RunningServer } from '../../src/server/server.js';
import { EchoRunner, SERVERS } from '../server/echo-runner.js';

let root: string;
let socketPath: string;
let daemon: EchoRunner;
let local: EchoRunner;
let server: RunningServer | undefined;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'aced-cli-'));
  socketPath = join(root, 'aced.sock');
  daemon = new EchoRunner();
  local = new EchoRunner();
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(root, { recursive: true });
});

async function startDaemon(): Promise<void> {
  server = await startServer({
    socketPath,
    runner: daemon,
    spoolDir: join(root, '.spool'),
    log: silentLogger(),
    version: '1.2.3',
    cluster: 'hub',
    servers: SERVERS,
  });
}

interface Ran {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly closed: number;
  readonly flags: readonly CliFlags[];
}

async function acectl(line: string, more: Partial<CliOptions> = {}): Promise<Ran> {
  let stdout = '';
  let stderr = '';
  let closed = 0;
  const flags: CliFlags[] = [];
  const exitCode = await runCli({
    argv: line.split(' '),
    env: {},
    tty: () => ({ input: process.stdin, output: process.stdout }),
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
    definedClusters: () => ['hub'],
    cwd: root,
    version: '9.9.9',
    locate: (given) =>
      Promise.resolve({
        cluster: given.cluster ?? 'hub',
        socketPaths: [socketPath],
        servers: () => undefined,
      }),
    connectInProcess: (given) => {
      flags.push(given);
      return Promise.resolve({
        run: (name, params, context) => local.run(name, params, context),
        close: () => {
          closed += 1;
          return Promise.resolve();
        },
      });
    },
    runDaemon: (given) => {
      flags.push(given);
      return Promise.resolve();
    },
    configTemplate: () => Promise.resolve('# options\n'),
    showConfig: () => Promise.resolve({ config: { cluster: 'hub' }, ignored: ['x.yaml: y'] }),
    ...more,
  });
  return { exitCode, stdout, stderr, closed, flags };
}

describe('where a command runs', () => {
  it('in the daemon where there is one', async () => {
    await startDaemon();
    const ran = await acectl('mtree table-diff public.match');
    assert.equal(ran.exitCode, 0);
    assert.deepEqual([daemon.calls.length, local.calls.length], [1, 0]);
  });

  it('in this process where there is none, and lets go of it', async () => {
    const ran = await acectl('mtree table-diff -d other -v hub public.drift --state-dir s');
    assert.equal(ran.exitCode, 1);
    assert.deepEqual([daemon.calls.length, local.calls.length, ran.closed], [0, 1, 1]);
    const overrides = { stateDir: 's', logLevel: 'debug' };
    assert.deepEqual(ran.flags, [{ cluster: 'hub', database: 'other', isDebug: true, overrides }]);
    assert.ok(existsSync(join(root, 't_diffs-20260101000000.json')), 'reports go to the cwd');
  });

  it('in this process, which is let go of after an error too', async () => {
    const ran = await acectl('table-diff public.fail');
    assert.deepEqual([ran.exitCode, ran.closed], [2, 1]);
  });

  it('never in a daemon of another cluster or database', async () => {
    await startDaemon();
    const cluster = await acectl('status elsewhere');
    assert.equal(cluster.exitCode, 2);
    assert.match(cluster.stderr, /ERROR this aced serves cluster hub, not elsewhere/);
    const database = await acectl('status --dbname other');
    assert.match(database.stderr, /ERROR this aced serves database app, not other\nHINT /);
    assert.equal((await acectl('status --dbname app')).exitCode, 0);
    assert.equal(local.calls.length, 0);
  });

  it('mtree listen is the daemon itself', async () => {
    const ran = await acectl('mtree listen hub --debug');
    assert.equal(ran.exitCode, 0);
    assert.equal(ran.flags[0]?.cluster, 'hub');
    assert.equal(ran.flags[0].overrides['logLevel'], 'debug');
    const quiet = await acectl('mtree listen hub -q -n all');
    assert.equal(quiet.flags[0]?.overrides['logLevel'], 'error');
  });
});

describe('exit codes and what a person sees', () => {
  const cases: readonly [line: string, exitCode: number, stdout: RegExp][] = [
    [
      'table-diff public.match',
      0,
      /^INFO ✔ TABLES MATCH\nINFO As of 0\/1 on n1 \(app at db1:5432\)\n/m,
    ],
    [
      'table-diff public.drift',
      1,
      /^WARN Column g was not compared: generated\nWARN ✘ TABLES DO NOT MATCH\nWARN Found 99 differences between n1\/n2\nINFO Diff report written to t_diffs-20260101000000\.json\n/m,
    ],
    ['table-diff public.in_flight', 2, /WARN NOT PROVED EQUAL: 7 rows are still being replicated/],
    ['table-diff public.starved', 2, /WARN NOT PROVED EQUAL: a stream/],
    ['table-diff public.schema_mismatch', 2, /WARN NOT COMPARABLE/],
    ['table-diff public.unverified', 2, /WARN node n3 could not be read\nWARN NOT PROVED EQUAL/],
    ['mtree table-diff public.drift', 1, /✘ TABLES DO NOT MATCH/],
    [
      'mtree build public.t',
      0,
      /n1 \(app at db1:5432\): 10 rows\n[^]*✔ Built the tree of t, 3 blocks/,
    ],
    ['mtree update public.t', 0, /n1 \(.*\): 1 blocks rehashed/],
    ['mtree verify', 0, /✔ public\.t: 4 leaves proved, 1 read again\n[^]*✔ public\.u[^]*Verified/],
    ['mtree verify hub public.t', 0, /^(?!.*public\.u)[^]*✔ public\.t: 4 leaves proved/],
    [
      'mtree verify public.rotten',
      1,
      /WARN n2 \(app at db2:5432\): block 7 of public\.rotten was 5 rows, 0{14}ff; [^]*✘ public\.rotten: 1 leaves/,
    ],
    ['mtree verify public.away', 2, /✘ public\.away could not be verified: node n2 is down/],
    ['mtree init', 0, /n2 \(app at db2:5432\): already initialised/],
    ['mtree teardown', 0, /n1 \(app at db1:5432\): created/],
    ['mtree teardown-table public.t', 0, /n1 \(app at db1:5432\): created/],
    [
      'table-repair -f diff.json -r n1 public.t',
      0,
      /n2 \(app at db2:5432\): 5 rows upserted, 1 deleted\n[^]*✔ Repair/,
    ],
    ['table-repair -f diff.json -r n1 public.skips', 1, /WARN n2: 2 rows skipped[^]*✘ Repair/],
    ['table-repair -f diff.json -r n1 public.fails', 1, /WARN n2: 1 rows failed/],
    ['table-repair -f diff.json -r n1 -i public.leaves', 1, /✘ Repair of leaves had to leave rows/],
    [
      'status',
      0,
      /^Cluster hub: aced 1\.2\.3, [^]*n1 +streaming +0\/16B3748 +2\.0 KiB[^]*public\.t.* \d+ (s|min|h|d) +2 +never +- +by key: 1 blocks are few$/m,
    ],
  ];
  for (const [line, exitCode, stdout] of cases) {
    it(`acectl ${line}`, async () => {
      await startDaemon();
      writeFileSync(join(root, 'diff.json'), '{}');
      const ran = await acectl(line);
      assert.match(ran.stdout, stdout);
      assert.equal(ran.exitCode, exitCode);
      assert.equal(ran.stderr, '');
    });
  }

  it('only match is ever told as one', async () => {
    await startDaemon();
    for (const verdict of ['drift', 'in_flight', 'starved', 'schema_mismatch', 'unverified']) {
      const ran = await acectl(`table-diff public.${verdict}`);
      assert.doesNotMatch(ran.stdout, /TABLES MATCH/);
      assert.notEqual(ran.exitCode, 0);
    }
  });

  it('errors go to stderr with their hint, nothing to stdout', async () => {
    await startDaemon();
    for (const line of ['table-diff public.fail', 'table-diff -q public.fail']) {
      const ran = await acectl(line);
      assert.equal(ran.exitCode, 2);
      assert.match(ran.stderr, /^ERROR no table public\.fail\nHINT check the name\n$/m);
      assert.doesNotMatch(ran.stdout, /ERROR|HINT|\{/);
    }
    const json = await acectl('table-diff --json public.fail');
    const { error } = JSON.parse(json.stdout) as { error: { code: string; hint: string } };
    assert.deepEqual(
      [json.exitCode, error.code, error.hint],
      [2, 'NO_SUCH_TABLE', 'check the name'],
    );
    const wrong = await acectl('table-diff --nope');
    assert.deepEqual([wrong.exitCode, wrong.stdout], [2, '']);
    assert.match(wrong.stderr, /^ERROR acectl table-diff has no flag --nope\nHINT /);
  });

  it('a diff file that is not there is an error, with and without a daemon', async () => {
    const line = 'table-repair -f nope.json -r n1 public.t';
    await startDaemon();
    const ran = await acectl(line);
    assert.equal(ran.exitCode, 2);
    assert.match(ran.stderr, /ERROR cannot read .*nope\.json/);
    assert.equal(daemon.calls.length, 0);
  });

  it('uploads the diff file, from the working directory, with its name', async () => {
    await startDaemon();
    writeFileSync(join(root, 'diff.json'), '{"diffs":{}}');
    await acectl('table-repair -f ./diff.json -r n1 public.t');
    const [call] = daemon.calls;
    assert.deepEqual([call?.inputName, call?.inputBytes], ['diff.json', 12]);
  });

  it('fetches reports into the working directory', async () => {
    await startDaemon();
    await acectl('table-diff public.drift');
    assert.equal(readFileSync(join(root, 't_diffs-20260101000000.json'), 'utf8'), '{}\n');
  });
});

describe('help', () => {
  it('goes to stdout when it was asked for, else to stderr, and nothing was done: exit 2', async () => {
    for (const line of ['help', 'mtree --help', 'help status']) {
      const ran = await acectl(line);
      assert.deepEqual([ran.exitCode, ran.stderr], [0, ''], line);
      assert.match(ran.stdout, /^Usage: acectl /);
    }
    for (const line of ['mtree', 'drift']) {
      const ran = await acectl(line);
      assert.deepEqual([ran.exitCode, ran.stdout], [2, ''], line);
      assert.match(ran.stderr, /^Usage: acectl /);
    }
  });
});

describe('--json', () => {
  it('prints one object on stdout and nothing else', async () => {
    await startDaemon();
    const ran = await acectl('table-diff --json public.drift');
    const result = JSON.parse(ran.stdout) as { verdict: string; files: string[] };
    assert.equal(result.verdict, 'drift');
    assert.deepEqual(result.files, ['t_diffs-20260101000000.json']);
    assert.equal(ran.exitCode, 1);
    assert.equal(ran.stderr, 'INFO Table drift is comparable\n');
  });

  it('with --quiet, nothing on stderr either', async () => {
    await startDaemon();
    const ran = await acectl('table-diff --json -q public.match');
    assert.equal((JSON.parse(ran.stdout) as { verdict: string }).verdict, 'match');
    assert.equal(ran.stderr, '');
  });

  it('is what config show prints, ignored settings aside', async () => {
    const ran = await acectl('config show');
    assert.deepEqual(JSON.parse(ran.stdout), { cluster: 'hub' });
    assert.equal(ran.stderr, 'WARN x.yaml: y\n');
  });
});

describe('--quiet', () => {
  it('says nothing when there is an answer', async () => {
    await startDaemon();
    for (const [table, exitCode] of [
      ['match', 0],
      ['drift', 1],
    ] as const) {
      const ran = await acectl(`table-diff -q public.${table}`);
      assert.deepEqual([ran.exitCode, ran.stdout, ran.stderr], [exitCode, '', '']);
    }
  });

  it('says why there is none', async () => {
    await startDaemon();
    const ran = await acectl('table-diff -q public.starved');
    assert.deepEqual([ran.exitCode, ran.stdout], [2, '']);
    assert.match(ran.stderr, /^WARN NOT PROVED EQUAL/);
  });
});

describe('cancelling', () => {
  it('ends a command in this process', async () => {
    const controller = new AbortController();
    const running = acectl('table-diff public.hang', { signal: controller.signal });
    controller.abort();
    const ran = await running;
    assert.equal(ran.exitCode, 2);
    assert.match(ran.stderr, /^ERROR cancelled$/m);
    assert.equal(ran.closed, 1);
  });
});

describe('terminal', () => {
  interface Screen {
    readonly terminal: Terminal;
    readonly out: () => string;
    readonly err: () => string;
    nowMs: number;
  }

  function screen(isTTY: boolean, env: NodeJS.ProcessEnv = {}, columns?: number): Screen {
    let stdout = '';
    let stderr = '';
    const made: Screen = {
      nowMs: 0,
      out: () => stdout,
      err: () => stderr,
      terminal: new Terminal({
        stdout: { isTTY, write: (text) => (stdout += text) },
        stderr: { isTTY, columns, write: (text) => (stderr += text) },
        env,
        isJson: false,
        isQuiet: false,
        nowMs: () => made.nowMs,
      }),
    };
    return made;
  }

  it('draws a bar on a terminal, and takes it away before other text', () => {
    const { terminal, err } = screen(true);
    terminal.event({ type: 'progress', phase: 'Hashing', done: 1, total: 4 });
    assert.equal(err(), '\r\u001b[KHashing: 1 / 4 [=====>--------------] 0s | 0s');
    terminal.line({ level: 'info', text: 'x' });
    assert.ok(err().endsWith('\r\u001b[K'));
  });

  it('draws at most ten times a second, and the last one always', () => {
    const made = screen(true);
    for (let done = 0; done <= 1000; done += 1) {
      made.nowMs = done;
      made.terminal.event({ type: 'progress', phase: 'Hashing', done, total: 1000 });
    }
    assert.equal(made.err().split('\r').length - 1, 11);
    assert.match(made.err(), /1000 \/ 1000 \[={20}\] 1s \| 0s$/);
  });

  it('prints a line now and then elsewhere', () => {
    const made = screen(false);
    for (let second = 0; second <= 12; second += 1) {
      made.nowMs = second * 1000;
      made.terminal.event({ type: 'progress', phase: 'Hashing', done: second, total: 12 });
    }
    assert.equal(made.err(), 'Hashing: 5 / 12\nHashing: 10 / 12\n');
  });

  it('colours on a terminal only, and not with NO_COLOR', () => {
    const colours = (isTTY: boolean, env: NodeJS.ProcessEnv): boolean => {
      const { terminal, out } = screen(isTTY, env);
      terminal.line({ level: 'warn', text: '✘ TABLES DO NOT MATCH' });
      return out().includes('\u001b[');
    };
    assert.equal(colours(true, {}), true);
    assert.equal(colours(true, { NO_COLOR: '' }), true);
    assert.equal(colours(true, { NO_COLOR: '1' }), false);
    assert.equal(colours(false, {}), false);
  });

  it('keeps to the width of the terminal', () => {
    const line = (columns: number): string =>
      progressLine({ phase: 'Hashing ranges', done: 7, total: 20, elapsedMs: 7000, columns });
    assert.equal(line(80), 'Hashing ranges: 7 / 20 [=======>------------] 7s | 13s');
    assert.equal(line(40), 'Hashing ranges: 7 / 20 7s | 13s');
    assert.equal(line(30), 'Hashing ranges: 7 / 20');
    assert.equal(line(15), 'Hashing ranges');
    const narrow = screen(true, {}, 40);
    for (const done of [1, 2]) {
      narrow.nowMs += 1000;
      narrow.terminal.event({ type: 'progress', phase: 'Hashing initial ranges', done, total: 9 });
    }
    for (const drawn of narrow.err().split('\r\u001b[K')) assert.ok(drawn.length < 40, drawn);
  });

  it('estimates the time to go', () => {
    const line = (done: number, total: number, elapsedMs: number): string =>
      progressLine({ phase: 'P', done, total, elapsedMs });
    assert.equal(line(171, 177, 1000), 'P: 171 / 177 [===================>] 1s | 0s');
    assert.equal(line(0, 10, 61_000), 'P: 0 / 10 [>-------------------] 1m1s | ?');
    assert.equal(line(1, 3601, 1000), 'P: 1 / 3601 [>-------------------] 1s | 1h0m');
    assert.equal(line(0, 0, 0), 'P: 0 / 0 [====================] 0s | 0s');
  });
});

describe('what cannot be expected', () => {
  it('a defect is an error too, never a success', async () => {
    const ran = await acectl('status', {
      locate: () => Promise.reject(new TypeError('a defect')),
    });
    assert.deepEqual([ran.exitCode, ran.stderr], [2, 'ERROR a defect\n']);
  });

  it('a socket that is no aced is an error, not a reason to go on alone', async () => {
    writeFileSync(socketPath, '');
    const ran = await acectl('status');
    // Nobody listens on a plain file: the kernel refuses as it does for a stale socket.
    assert.equal(ran.exitCode, 0);
    assert.equal(local.calls.length, 1);
    const forbidden = await acectl('status', {
      locate: () => Promise.reject(new AcedError('DAEMON_UNREACHABLE', 'not for you')),
    });
    assert.equal(forbidden.exitCode, 2);
    assert.deepEqual(readdirSync(root), ['aced.sock']);
  });
});
