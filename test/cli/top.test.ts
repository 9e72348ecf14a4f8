import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { TopResult } from '../../src/protocol/top.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { startProgram, type Ended } from './program.js';

const ACECTL = join(import.meta.dirname, '../../src/main/acectl.js');
/** util-linux's: a real pseudo-terminal. */
const hasScript = spawnSync('script', ['--version']).status === 0;
const ODD = 'public.odd \\u001b[2J';

const ENTER = '\u001b[?1049h';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const KEYS = {
  down: '\u001b[B',
  end: '\u001b[F',
  home: '\u001b[H',
  interrupt: '\u0003',
  stop: '\u001a',
};

let mesh: Mesh;
let root: string;
let daemon: ReturnType<typeof startProgram>;

function environment(more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  return {
    HOME: root,
    PGSERVICEFILE: join(root, 'pg_service.conf'),
    ACED_STATE_DIR: join(root, 'state'),
    ACED_SOCKET: join(root, 'aced.sock'),
    ACED_CLUSTER: 'demo',
    ...more,
  };
}

async function startDaemon(): Promise<void> {
  daemon = startProgram('aced', [], { cwd: root, env: environment() });
  let log = '';
  daemon.child.stdout?.on('data', (text: string) => (log += text));
  await waitFor(() => log.includes('"event":"ready"'), { what: 'aced to be ready' });
}

async function acectl(line: string, more: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const options = { cwd: root, env: environment(more) };
  return startProgram('acectl', line.split(' '), options).ended;
}

async function waitForVerdicts(wanted: readonly string[]): Promise<void> {
  await waitFor(
    async () => {
      const { stdout } = await acectl('top --once --json --interval 250ms');
      const { tables } = JSON.parse(stdout) as TopResult;
      const shown = tables.map(({ verdict }) => verdict ?? 'never');
      return shown.sort().join() === [...wanted].sort().join();
    },
    { what: `verdicts ${wanted.join()}`, timeoutMs: 60_000 },
  );
}

before(async () => {
  mesh = await startMesh({
    nodes: 2,
    tables: `CREATE TABLE t (id int PRIMARY KEY, v text);
             CREATE TABLE "odd \u001b[2J" (id int PRIMARY KEY, v text)`,
  });
  await mesh.query('n1', "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 2000) AS i");
  await mesh.waitForReplication();
  root = await scratchDirectory();
  await mesh.writeServiceFile(root);
  await startDaemon();
  for (const args of ['mtree init', 'mtree build --all']) {
    const { exitCode, stderr } = await acectl(args);
    assert.equal(exitCode, 0, stderr);
  }
  await waitForVerdicts(['match', 'match']);
});

after(async () => {
  daemon.child.kill('SIGKILL');
  await daemon.ended;
  await mesh.stop();
  await removeDirectory(root);
});

describe('acectl top --once', () => {
  it('prints a frame of the size that COLUMNS and LINES say, and ends as status does', async () => {
    const equal = await acectl('top --once', { COLUMNS: '80', LINES: '24' });
    assert.equal(equal.exitCode, 0, equal.stderr);
    assert.match(equal.stdout, /^2 tables: 2 match; 0 incidents\nno problems\n/m);
    await mesh.driftSql('n2', "UPDATE t SET v = 'drifted' WHERE id <= 3");
    await waitForVerdicts(['drift', 'match']);
    const drifted = await acectl('top demo --once --interval 250ms', {
      COLUMNS: '80',
      LINES: '24',
    });
    assert.equal(drifted.exitCode, (await acectl('status')).exitCode);
    assert.equal(drifted.exitCode, 1);
    const lines = drifted.stdout.split('\n');
    assert.ok(lines.length <= 25 && lines.every((line) => line.length <= 80), drifted.stdout);
    assert.match(drifted.stdout, /^n1 +streaming +\d.* +\d+\.\d s +\d+ +\d+.* +\d/m);
    assert.match(drifted.stdout, /^public\.t +drift /m);
    assert.match(drifted.stdout, /^public\.t +3 +different /m);
    assert.match(drifted.stdout, /^Blocks of public\.t: \d+$/m);
    assert.match(drifted.stdout, /^n2 {10}X\.+$/m);
    assert.ok(drifted.stdout.includes(`${ODD} `), drifted.stdout);
    assert.ok(!drifted.stdout.includes('\u001b'));
  });

  it('prints for programs what the daemon has said', async () => {
    const { stdout, exitCode } = await acectl('top --once --json --interval 250ms');
    assert.equal(exitCode, 1);
    const { map, incidents, nodes } = JSON.parse(stdout) as TopResult;
    assert.equal(map?.table, 'public.t');
    assert.equal(
      map.differing.reduce((sum, one) => sum + one, 0),
      1,
    );
    assert.deepEqual(Object.keys(map.nodes), ['n1', 'n2']);
    assert.equal(incidents.length, 1);
    assert.ok(nodes.every(({ endBytes }) => endBytes !== null && endBytes > 0));
    assert.equal((await acectl('top --once --quiet')).stdout, '');
  });

  it('is refused without a terminal or a daemon, with what to do', async () => {
    const piped = await acectl('top');
    assert.deepEqual([piped.exitCode, piped.stdout], [2, '']);
    assert.match(piped.stderr, /needs a terminal[^]*HINT Give --once/);
    const json = await acectl('top --json');
    assert.match(json.stderr, /--json is for top --once/);
    const short = await acectl('top --once --interval 1ms');
    assert.match(short.stderr, /--interval: "1ms" is not accepted\nHINT Accepted: .*250ms/);
    const nobody = await acectl('top --once', { ACED_SOCKET: join(root, 'none.sock') });
    assert.equal(nobody.exitCode, 2);
    assert.match(nobody.stderr, /no aced for cluster demo listens on .*none\.sock\nHINT Start it/);
  });
});

/** The newest process whose command line, its words ended by NUL, has this in it. */
function processOf(words: string): number {
  const pids = readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(words);
    } catch {
      return false;
    }
  });
  return Math.max(...pids.map(Number));
}

/** A shell in a terminal of its own. What it prints stays in `text`. */
class Terminal {
  text = '';
  readonly child: ChildProcess;

  constructor(env: NodeJS.ProcessEnv = {}) {
    const shell = 'bash --norc --noprofile -i';
    this.child = spawn('script', ['-qec', shell, '/dev/null'], {
      cwd: root,
      env: { PATH: process.env['PATH'], TERM: 'xterm', PS1: '', ...environment(env) },
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.text += text));
  }

  type(keys: string): void {
    this.child.stdin?.write(keys);
  }

  async waitFor(pattern: RegExp, what = String(pattern)): Promise<void> {
    await waitFor(() => pattern.test(this.text), { what, timeoutMs: 30_000 }).catch(
      (error: unknown) => {
        throw new Error(`${String(error)}: ${JSON.stringify(this.text.slice(-3_000))}`);
      },
    );
  }

  /** What is printed from now on. */
  clear(): void {
    this.text = '';
  }

  async end(): Promise<void> {
    this.child.kill('SIGKILL');
    await new Promise((resolve) => this.child.on('close', resolve));
  }
}

describe(
  'acectl top in a terminal',
  { skip: hasScript ? false : 'no script of util-linux' },
  () => {
    /** Runs it between two looks at the terminal's settings. */
    async function withTop(
      work: (terminal: Terminal, pid: () => number) => Promise<void> | void,
      {
        exitCode,
        env = {},
        args = '',
      }: { exitCode: number | RegExp; env?: NodeJS.ProcessEnv; args?: string },
    ): Promise<string> {
      const terminal = new Terminal(env);
      try {
        terminal.type('stty rows 24 cols 80; echo be"fore" $(stty -g)\n');
        await terminal.waitFor(/before \S+/);
        const settings = /before (\S+)/.exec(terminal.text)?.[1];
        terminal.clear();
        terminal.type(
          `'${process.execPath}' '${ACECTL}' top --interval 250ms ${args}; echo en"ded" $? $(stty -g)\n`,
        );
        await terminal.waitFor(/q quit/);
        const pid = (): number => processOf(`${ACECTL}\0top\0`);
        await work(terminal, pid);
        await terminal.waitFor(/ended \d+ \S+/);
        const [, code = '', left] = /ended (\d+) (\S+)/.exec(terminal.text) ?? [];
        assert.match(code, exitCode instanceof RegExp ? exitCode : new RegExp(`^${exitCode}$`));
        assert.equal(left, settings);
        assert.ok(terminal.text.lastIndexOf(LEAVE) > terminal.text.lastIndexOf(ENTER));
        return terminal.text;
      } finally {
        await terminal.end();
      }
    }

    it('draws, chooses tables by keys, and gives the terminal back on q', async () => {
      const text = await withTop(
        async (terminal) => {
          await terminal.waitFor(/Blocks of public\.t: /);
          terminal.clear();
          terminal.type(KEYS.down);
          await terminal.waitFor(/Blocks of public\.odd \\u001b\[2J: [^]*table 2 of 2/);
          terminal.type(KEYS.home);
          terminal.clear();
          await terminal.waitFor(/Blocks of public\.t: /);
          terminal.type(KEYS.end);
          await terminal.waitFor(/table 2 of 2/);
          terminal.type('q');
        },
        { exitCode: 0 },
      );
      assert.ok(text.includes('\u001b[31m'), 'in colours');
    });

    it('uses no colours where they are not wanted', async () => {
      for (const [env, args] of [
        [{ NO_COLOR: '1' }, ''],
        [{}, '--no-color'],
      ] as const) {
        const text = await withTop((terminal) => terminal.type('q'), {
          exitCode: 0,
          env,
          args,
        });
        assert.doesNotMatch(text, /\[3\dm/);
      }
    });

    it('gives it back on Ctrl-C, SIGTERM, SIGHUP, and when it crashes', async () => {
      await withTop((terminal) => terminal.type(KEYS.interrupt), { exitCode: 0 });
      for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
        await withTop((_, pid) => void process.kill(pid(), signal), { exitCode: 2 });
      }
      const boom = "process.on('SIGUSR2', () => { throw new Error('boom'); })";
      const text = await withTop((_, pid) => void process.kill(pid(), 'SIGUSR2'), {
        exitCode: /^[1-9]\d*$/,
        env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(boom)}` },
      });
      assert.ok(
        text.lastIndexOf('Error: boom') > text.lastIndexOf(LEAVE),
        'told where it can be read',
      );
    });

    it('stops on Ctrl-Z and SIGTSTP with the terminal as it was, and goes on', async () => {
      await withTop(
        async (terminal, pid) => {
          for (const stop of [
            () => terminal.type(KEYS.stop),
            () => process.kill(pid(), 'SIGTSTP'),
          ]) {
            terminal.clear();
            stop();
            await terminal.waitFor(/Stopped/);
            assert.ok(terminal.text.lastIndexOf(LEAVE) > terminal.text.lastIndexOf(ENTER));
            terminal.clear();
            terminal.type('stty -a; echo a"gain"\n');
            await terminal.waitFor(/again/);
            assert.match(terminal.text, / icanon[^]* echo /);
            terminal.clear();
            terminal.type('fg; echo en"ded" $? $(stty -g)\n');
            await terminal.waitFor(/\[\?1049h[^]*q quit/);
          }
          terminal.type('q');
          terminal.type('echo en"ded" $? $(stty -g)\n');
        },
        { exitCode: 0 },
      );
    });

    it('follows the size of the terminal', async () => {
      await withTop(
        async (terminal, pid) => {
          const tty = readlinkSync(`/proc/${pid()}/fd/0`);
          terminal.clear();
          spawnSync('stty', ['-F', tty, 'rows', '10', 'cols', '30']);
          await terminal.waitFor(/\[H/);
          terminal.clear();
          await terminal.waitFor(/\[H[^]*q quit/);
          const frame = terminal.text.slice(terminal.text.lastIndexOf('\u001b[H'));
          assert.ok(frame.split('\r\n').length <= 10, JSON.stringify(frame));
          terminal.type('q');
        },
        { exitCode: 0 },
      );
    });

    it('says that aced does not answer, and shows it again when it is back', async () => {
      await withTop(
        async (terminal) => {
          daemon.child.kill('SIGKILL');
          await daemon.ended;
          terminal.clear();
          await terminal.waitFor(/aced is not answering; this is \d+ s old: /);
          await startDaemon();
          terminal.clear();
          await terminal.waitFor(new RegExp(`pid ${daemon.child.pid ?? 0}, up [^]*public\\.t`));
          assert.doesNotMatch(
            terminal.text.slice(terminal.text.lastIndexOf('\u001b[H')),
            /not answering/,
          );
          daemon.child.kill('SIGSTOP');
          terminal.clear();
          await terminal.waitFor(/aced is not answering; this is \d+ s old/);
          daemon.child.kill('SIGCONT');
          await terminal.waitFor(/no problems|public\.t: |compared yet/);
          terminal.type('q');
        },
        { exitCode: 0 },
      );
    });
  },
);
