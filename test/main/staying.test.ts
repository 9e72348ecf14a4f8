import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { StateLock } from '../../src/store/state-lock.js';
import { startProgram } from '../cli/program.js';
import { waitFor } from '../support/wait.js';

const ACED = join(import.meta.dirname, '../../src/main/aced.js');

/** What the daemon does for its own sake: its nodes are down all the time. */
describe('aced stays up', () => {
  let root: string;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'aced-staying-'));
    await mkdir(join(root, 'state'));
    const nodes = ['n1', 'n2'].map(
      (name, index) => `[demo.${name}]\nhost=127.0.0.1\nport=${index + 1}\ndbname=app\n`,
    );
    await writeFile(join(root, 'pg_service.conf'), nodes.join(''));
    env = {
      HOME: root,
      PGSERVICEFILE: join(root, 'pg_service.conf'),
      ACED_CLUSTER: 'demo',
      ACED_STATE_DIR: join(root, 'state'),
      ACED_SOCKET: join(root, 'aced.sock'),
    };
  });

  after(() => rm(root, { recursive: true }));

  function startDaemon() {
    const { child, ended } = startProgram('aced', [], { cwd: root, env });
    const daemon = { child, ended, log: '' };
    child.stdout?.on('data', (text: string) => (daemon.log += text));
    return daemon;
  }

  const acectl = (...args: string[]) => startProgram('acectl', args, { cwd: root, env }).ended;

  it('waits for the lock, and so does an acectl until it finds the daemon', async () => {
    const lock = StateLock.acquire(join(root, 'state'));
    const daemon = startDaemon();
    try {
      await waitFor(() => daemon.log.includes('"event":"state_lock_waits"'), { what: 'waiting' });
      const asked = acectl('status', '--json');
      lock.release();
      await waitFor(() => daemon.log.includes('"event":"ready"'), { what: 'aced to be ready' });
      const { stdout, stderr } = await asked;
      assert.doesNotMatch(stdout + stderr, /STATE_LOCKED|another process/);
      assert.equal(daemon.log.split('state_lock_waits').length, 2, 'said once');
    } finally {
      daemon.child.kill('SIGKILL');
    }
    await daemon.ended;
  });

  it('reads its settings again at SIGHUP, says which need a restart, and goes on', async () => {
    const daemon = startDaemon();
    const says = (text: string): Promise<void> =>
      waitFor(() => daemon.log.includes(text), { what: text });
    await says('"event":"ready"');
    daemon.child.kill('SIGHUP');
    await says('"event":"reloaded"');
    await writeFile(
      join(root, 'aced.yaml'),
      'stream:\n  fence_timeout_ms: 1\ntree:\n  block_rows: 9\n',
    );
    daemon.child.kill('SIGHUP');
    await says('"settings":["tree.blockRows","stream.fenceTimeoutMs"]');
    await writeFile(join(root, 'aced.yaml'), 'tree:\n  block_rows: none\n');
    daemon.child.kill('SIGHUP');
    await says('"event":"reload_failed","code":"BAD_CONFIG"');
    await rm(join(root, 'aced.yaml'));
    daemon.child.kill('SIGTERM');
    assert.equal((await daemon.ended).exitCode, 0);
  });

  it('marks its lines for the journal, and only for that', async () => {
    const lines: string[] = [];
    for (const isJournal of [true, false]) {
      const path = join(root, `log-${isJournal}`);
      const file = await open(path, 'w');
      const { dev, ino } = await file.stat();
      const child = spawn(process.execPath, [ACED, '--cluster', 'nosuch'], {
        cwd: root,
        env: { ...env, JOURNAL_STREAM: `${dev}:${isJournal ? ino : ino + 1}` },
        stdio: ['ignore', file.fd, 'ignore'],
      });
      await once(child, 'exit');
      await file.close();
      lines.push(await readFile(path, 'utf8'));
    }
    assert.match(lines[0] ?? '', /^<3>\{"level":"error",.*"event":"start_failed"/m);
    assert.match(lines[1] ?? '', /^\{"level":"error",.*"event":"start_failed"/m);
  });

  it('an error has its code in --json, also one of the command line', async () => {
    for (const [args, code] of [
      [['table-diff', 't', '--json'], 'NODE_UNREACHABLE'],
      [['table-diff', '--nope', '--json'], 'BAD_USAGE'],
    ] as const) {
      const { exitCode, stdout } = await acectl(...args);
      assert.equal(exitCode, 2);
      const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
      assert.equal(error.code, code);
      assert.notEqual(error.message, '');
    }
  });
});
