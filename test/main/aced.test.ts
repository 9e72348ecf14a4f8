import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { StatusResult } from '../../src/protocol/commands.js';
import { startProgram, type Ended } from '../cli/program.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const PASSWORD = 'hunter2-the-password';
const VALUE = 'a-value-that-nobody-logs';

interface LogLine {
  readonly event?: string;
  readonly level?: string;
  readonly time?: string;
  readonly decision?: string;
}

/** The daemon as a process, on real nodes that are written to. */
describe('aced', () => {
  let mesh: Mesh;
  let root: string;
  let writes = 0;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    root = await mkdtemp(join(tmpdir(), 'aced-main-'));
    const services = await mesh.writeServiceFile(root);
    await writeFile(services, `${await readFile(services, 'utf8')}\npassword=${PASSWORD}\n`);
    // Stands for systemd's own, and notes what it was told.
    const notify = join(root, 'systemd-notify');
    await writeFile(notify, `#!/bin/sh\necho "$@" >> ${join(root, 'told')}\n`);
    await chmod(notify, 0o755);
  });

  after(async () => {
    await mesh.stop();
    await rm(root, { recursive: true });
  });

  function start(program: 'aced' | 'acectl', args: readonly string[]) {
    return startProgram(program, args, {
      cwd: root,
      env: {
        PATH: `${root}:${process.env['PATH'] ?? ''}`,
        HOME: root,
        PGSERVICEFILE: join(root, 'pg_service.conf'),
        ACED_CLUSTER: 'demo',
        ACED_STATE_DIR: join(root, 'state'),
        ACED_SOCKET: join(root, 'aced.sock'),
        ACED_LOG_LEVEL: 'trace',
        NOTIFY_SOCKET: join(root, 'notify'),
      },
    });
  }

  async function acectl(...args: string[]): Promise<Ended> {
    const ended = await start('acectl', args).ended;
    assert.equal(ended.exitCode, 0, ended.stderr);
    return ended;
  }

  async function startDaemon() {
    const { child, ended } = start('aced', ['--cluster', 'demo']);
    const daemon = { child, ended, log: '' };
    child.stdout?.on('data', (text: string) => (daemon.log += text));
    const isReady = (): boolean => daemon.log.includes('"event":"ready"');
    await waitFor(isReady, { what: 'aced to be ready' });
    return daemon;
  }

  async function write(): Promise<void> {
    writes += 1;
    await mesh.query('n1', 'INSERT INTO t VALUES ($1, $2)', [String(writes), `${VALUE} ${writes}`]);
  }

  /** Every line is an object with level, time and event. */
  function linesOf(stdout: string): LogLine[] {
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as LogLine);
    for (const { level, time, event } of lines) {
      assert.ok(typeof level === 'string' && typeof event === 'string');
      assert.match(time ?? '', /^\d{4}-\d\d-\d\dT.*Z$/);
    }
    return lines;
  }

  it('on SIGTERM makes its position durable, confirms it and ends with 0', async () => {
    const daemon = await startDaemon();
    await acectl('mtree', 'init');
    await acectl('mtree', 'build', 't');
    await mesh.query('n1', 'CREATE TABLE "Not Followed" ()');
    // Under load a node's answer may come too late to be offered.
    const offered = async (): Promise<boolean> =>
      (await acectl('__complete', 'zsh', 'acectl table-diff demo public.')).stdout ===
      'words\npublic.t\ttable\npublic.Not Followed\ttable\n';
    await waitFor(offered, { what: 'both tables to be offered' });
    await mesh.query('n1', 'DROP TABLE "Not Followed"');
    let isWriting = true;
    const load = (async () => {
      while (isWriting) await write();
    })();
    await waitFor(() => writes > 200, { what: 'some load' });
    daemon.child.kill('SIGTERM');
    const { exitCode, stdout, stderr } = await daemon.ended;
    isWriting = false;
    await load;
    assert.deepEqual([exitCode, stderr], [0, '']);
    const lines = linesOf(stdout);
    assert.equal(lines.at(-1)?.event, 'stopped');
    const bad = lines.filter(({ level }) => level === 'error' || level === 'warn');
    assert.ok(
      bad.every(({ event }) => event === 'superuser_role'),
      stdout,
    );
    assert.ok(!stdout.includes(PASSWORD) && !stdout.includes(VALUE));
    const told = (await readFile(join(root, 'told'), 'utf8')).trimEnd().split('\n');
    // Beside these it is told how many tables and incidents there are.
    const turns = told.filter((line) => !line.startsWith('STATUS='));
    assert.deepEqual(turns, ['READY=1', 'STOPPING=1']);

    const without = await start('acectl', ['--json', 'status']).ended;
    assert.equal(without.exitCode, 2, 'no aced is running');
    const status = JSON.parse(without.stdout) as StatusResult;
    assert.equal(status.daemon, false);
    for (const { name, position } of status.nodes) {
      const sql =
        "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'aced_demo'";
      assert.deepEqual(await mesh.query(name, sql), [[position]], name);
    }
  });

  it('goes on where it was, and a second signal ends it at once', async () => {
    const daemon = await startDaemon();
    await write();
    await mesh.waitForReplication();
    const diff = await acectl('mtree', 'table-diff', 't', '--json');
    assert.equal((JSON.parse(diff.stdout) as { verdict: string }).verdict, 'match');
    const decisions = linesOf(daemon.log).filter(({ event }) => event === 'start_decision');
    assert.deepEqual(
      decisions.map(({ decision }) => decision),
      ['stream', 'stream'],
    );

    // A server that does not answer keeps the first signal's orderly end waiting.
    const sql = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'aced_demo'";
    const walSender = Number((await mesh.query('n1', sql))[0]?.[0]);
    process.kill(walSender, 'SIGSTOP');
    try {
      daemon.child.kill('SIGTERM');
      await waitFor(() => daemon.log.includes('"event":"stopping"'), { what: 'the first signal' });
      daemon.child.kill('SIGTERM');
      const { exitCode, stdout } = await daemon.ended;
      assert.equal(exitCode, 1);
      assert.ok(!stdout.includes('"event":"stopped"'));
    } finally {
      process.kill(walSender, 'SIGCONT');
    }
  });
});
