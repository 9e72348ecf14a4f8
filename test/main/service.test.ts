import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { nativeAddon } from '../../src/base/native.js';
import type { Lsn } from '../../src/base/lsn.js';
import type { PipelineState } from '../../src/ingest/pipeline-state.js';
import { StreamHealth } from '../../src/observe/health.js';
import { passwordFiles, passwordOf } from '../../src/config/password-file.js';
import { startProgram } from '../cli/program.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { NotifySocket } from '../support/notify-socket.js';
import { waitFor } from '../support/wait.js';

const ACED = join(import.meta.dirname, '../../src/main/aced.js');

/** Stands for systemd's end of a socket unit: listens, and starts the service anew for each line on stdin. */
const SUPERVISOR = `
use strict; use Socket; use POSIX (); $| = 1; $^F = 10;
my ($path, @command) = @ARGV;
socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die $!;
bind($s, sockaddr_un($path)) or die $!; listen($s, 64) or die $!;
while (<STDIN>) {
  my $pid = fork();
  if ($pid == 0) {
    POSIX::dup2(fileno($s), 3);
    $ENV{LISTEN_PID} = $$; $ENV{LISTEN_FDS} = 1;
    exec @command;
  }
  print "started $pid\\n";
  waitpid($pid, 0);
  print "ended $pid\\n";
}
`;

describe('aced as a service of systemd', () => {
  let mesh: Mesh;
  let root: string;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    await mesh.query('n1', "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) AS i");
    await mesh.waitForReplication();
    root = await scratchDirectory();
    // As LoadCredential= hands it over: the only place where the nodes are named.
    await mkdir(join(root, 'credentials'));
    await mesh.writeServiceFile(join(root, 'credentials'));
  });

  after(async () => {
    await mesh.stop();
    await removeDirectory(root);
  });

  const env = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({
    PATH: process.env['PATH'],
    HOME: root,
    CREDENTIALS_DIRECTORY: join(root, 'credentials'),
    ACED_CLUSTER: 'demo',
    ACED_STATE_DIR: join(root, 'state'),
    ACED_SOCKET: join(root, 'aced.sock'),
    ...more,
  });

  const acectl = (...args: string[]) =>
    startProgram('acectl', args, { cwd: root, env: env() }).ended;

  it('tells that it is ready, alive, what it does, that it reloads, and that it stops', async () => {
    const systemd = await NotifySocket.open(join(root, 'notify'));
    try {
      const more = { NOTIFY_SOCKET: systemd.path, WATCHDOG_USEC: '2000000' };
      const daemon = startProgram('aced', [], { cwd: root, env: env(more) });
      await systemd.has('READY=1');
      assert.deepEqual(systemd.messages[0], ['READY=1']);
      await systemd.has('WATCHDOG=1');
      await systemd.has('STATUS=0/2 streaming, 0 tables, 0 incidents');
      for (const args of [['init'], ['build', 't']]) {
        const { exitCode, stderr } = await acectl('mtree', ...args);
        assert.equal(exitCode, 0, stderr);
      }
      await systemd.has('STATUS=2/2 streaming, 1 table, 0 incidents');
      await mesh.driftSql('n2', 'DELETE FROM t WHERE id = 5');
      await systemd.has('STATUS=2/2 streaming, 1 table, 1 incident');

      const from = systemd.messages.length;
      const beforeUs = process.hrtime.bigint() / 1000n;
      daemon.child.kill('SIGHUP');
      await systemd.has('READY=1', from);
      const turns = systemd.messages.slice(from);
      const reloading = turns.findIndex(([first]) => first === 'RELOADING=1');
      const ready = turns.findIndex(([first]) => first === 'READY=1');
      assert.ok(reloading !== -1 && reloading < ready, JSON.stringify(turns));
      const at = BigInt(/^MONOTONIC_USEC=(\d+)$/.exec(turns[reloading]?.[1] ?? '')?.[1] ?? 0);
      assert.ok(at >= beforeUs && at <= process.hrtime.bigint() / 1000n, String(at));

      const pings = systemd.messages.length;
      await systemd.has('WATCHDOG=1', pings);
      daemon.child.kill('SIGTERM');
      await systemd.has('STOPPING=1');
      const { exitCode, stdout } = await daemon.ended;
      assert.equal(exitCode, 0);
      assert.ok(!stdout.includes('notify_failed'), stdout);
    } finally {
      await systemd.close();
    }
  });

  it('takes the socket that systemd listens on: who comes during a restart waits', async () => {
    const supervisor = spawn(
      'perl',
      ['-e', SUPERVISOR, join(root, 'aced.sock'), process.execPath, ACED],
      { cwd: root, env: env(), stdio: ['pipe', 'pipe', 'inherit'] },
    );
    let log = '';
    supervisor.stdout.setEncoding('utf8').on('data', (text: string) => (log += text));
    const count = (text: string): number => log.split(text).length - 1;
    const pid = (): number => Number([...log.matchAll(/^started (\d+)$/gm)].at(-1)?.[1]);
    try {
      supervisor.stdin.write('start\n');
      await waitFor(() => count('"event":"ready"') === 1, { what: 'aced to be ready' });
      assert.equal((await acectl('mtree', 'table-diff', 't', '--json')).exitCode, 1);
      process.kill(pid(), 'SIGTERM');
      await waitFor(() => count('ended ') === 1, { what: 'aced to end' });
      // Nobody serves now. Without the socket acectl would work on the state itself.
      const asked = acectl('status', '--json');
      supervisor.stdin.write('start\n');
      const status = JSON.parse((await asked).stdout) as { daemon: boolean };
      assert.equal(status.daemon, true);
      assert.equal(count('"event":"ready"'), 2);
      process.kill(pid(), 'SIGTERM');
      await waitFor(() => count('ended ') === 2, { what: 'aced to end' });
    } finally {
      const closed = once(supervisor, 'close');
      supervisor.stdin.end();
      if ([...log.matchAll(/^started /gm)].length > [...log.matchAll(/^ended /gm)].length)
        process.kill(pid(), 'SIGKILL');
      await closed;
    }
  });

  it('a reader that does not read costs an error, and no wait', async () => {
    const systemd = await NotifySocket.open(join(root, 'deaf'));
    systemd.pause();
    const send = nativeAddon()?.sendDatagram;
    assert.ok(send !== undefined, 'the addon of this version');
    let error = 0;
    for (let sent = 0; sent < 100_000 && error === 0; sent++)
      error = send(systemd.path, 'WATCHDOG=1');
    assert.notEqual(error, 0);
    await systemd.close();
    assert.notEqual(send(join(root, 'nobody'), 'READY=1'), 0);
    assert.notEqual(send('x'.repeat(200), 'READY=1'), 0);
  });

  it('takes passwords from its credentials, whatever their mode looks like', async () => {
    const directory = join(root, 'credentials');
    const [node] = mesh.nodeConfigs();
    assert.ok(node !== undefined);
    await writeFile(join(directory, 'pgpass'), '*:*:*:*:of the credential\n');
    await chmod(join(directory, 'pgpass'), 0o440);
    const from = (env: NodeJS.ProcessEnv) =>
      passwordOf({ ...node, passwordFiles: passwordFiles({ env, cwd: root, home: root }) });
    assert.equal(await from({ CREDENTIALS_DIRECTORY: directory }), 'of the credential');
    // Another file with such rights is ignored, as libpq does.
    assert.equal(await from({ PGPASSFILE: join(directory, 'pgpass') }), undefined);
    await writeFile(join(directory, 'pgpass'), '#');
    assert.equal(await from({ CREDENTIALS_DIRECTORY: directory }), undefined);
  });
});

describe('whether a stream is alive', () => {
  const streaming: PipelineState = { kind: 'streaming' };
  const signs = (state: PipelineState, position: bigint, durablePosition: bigint | null) =>
    new Map([
      ['n1', { state, position: position as Lsn, durablePosition: durablePosition as Lsn | null }],
    ]);
  const MINUTE = 60_000;

  it('it is while what it applies becomes durable, however late', () => {
    const health = new StreamHealth();
    for (let minute = 0; minute < 10; minute++) {
      const at = signs(streaming, BigInt(minute + 2), BigInt(minute + 1));
      assert.deepEqual(health.check(at, minute * MINUTE), []);
    }
    assert.deepEqual(health.check(signs(streaming, 20n, 20n), 11 * MINUTE), []);
    assert.deepEqual(health.check(signs(streaming, 20n, 20n), 99 * MINUTE), []);
  });

  it('it is not when it streams and nothing becomes durable', () => {
    const health = new StreamHealth();
    assert.deepEqual(health.check(signs(streaming, 2n, 1n), 0), []);
    assert.deepEqual(health.check(signs(streaming, 3n, 1n), MINUTE), []);
    const [problem] = health.check(signs(streaming, 4n, 1n), 2 * MINUTE);
    assert.match(problem ?? '', /n1 makes nothing durable/);
    assert.deepEqual(health.check(signs(streaming, 4n, 4n), 3 * MINUTE), []);
  });

  it('it is when it says that it cannot be stored, and tries again and again', () => {
    const health = new StreamHealth();
    const error = new AcedError('STORE', 'disk full');
    for (let seconds = 0; seconds < 1200; seconds += 20) {
      const waiting: PipelineState = { kind: 'waiting', error, attempt: seconds };
      assert.deepEqual(health.check(signs(waiting, 9n, null), seconds * 1000), []);
      assert.deepEqual(health.check(signs({ ...streaming }, 9n, 1n), (seconds + 10) * 1000), []);
    }
  });

  it('it is not when nobody tries again', () => {
    const health = new StreamHealth();
    const waiting: PipelineState = {
      kind: 'waiting',
      error: new AcedError('NODE_UNREACHABLE', 'no route'),
      attempt: 3,
    };
    assert.deepEqual(health.check(signs(waiting, 1n, null), 0), []);
    assert.match(health.check(signs(waiting, 1n, null), 5 * MINUTE)[0] ?? '', /not tried again/);
  });
});
