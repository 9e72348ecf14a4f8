import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { silentLogger } from '../../src/base/log.js';
import { startServer, type RunningServer } from '../../src/server/server.js';
import { EchoRunner } from '../server/echo-runner.js';

const BUNDLE = join(import.meta.dirname, '../../src/main/acectl.cjs');

interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

describe('acectl as it is installed', () => {
  let root: string;
  let runner: EchoRunner;
  let server: RunningServer;

  before(async () => {
    const built = spawnSync('npm', ['run', '--silent', 'build:client'], { encoding: 'utf8' });
    assert.equal(built.status, 0, built.stderr);
    root = mkdtempSync(join(tmpdir(), 'aced-bundle-'));
    writeFileSync(
      join(root, 'pg_service.conf'),
      '[hub]\nuser=u\npassword=hunter2\n[hub.n1]\nhost=127.0.0.1\nport=1\n',
    );
    runner = new EchoRunner();
    server = await startServer({
      socketPath: join(root, 'aced.sock'),
      runner,
      spoolDir: join(root, 'spool'),
      log: silentLogger(),
      version: '1.2.3',
    });
  });
  after(async () => {
    await server.close();
    rmSync(root, { recursive: true });
  });

  async function acectl(...args: string[]): Promise<Ended> {
    const env = {
      PATH: process.env['PATH'],
      HOME: root,
      ACED_STATE_DIR: join(root, 'state'),
      ACED_SOCKET: join(root, 'aced.sock'),
      ACED_CLUSTER: 'hub',
    };
    try {
      const run = promisify(execFile)(process.execPath, [BUNDLE, ...args], { cwd: root, env });
      return { exitCode: 0, ...(await run) };
    } catch (error) {
      const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
      return { exitCode: code, stdout, stderr };
    }
  }

  it('asks a daemon, from one file', async () => {
    for (const [table, exitCode] of [
      ['match', 0],
      ['drift', 1],
      ['fail', 2],
    ] as const) {
      const ended = await acectl('mtree', 'table-diff', `public.${table}`);
      assert.equal(ended.exitCode, exitCode, ended.stderr);
    }
    assert.equal(runner.calls.length, 3);
    assert.doesNotMatch(readFileSync(BUNDLE, 'utf8'), /better-sqlite3/);
  });

  it('begins anew with the engine where no daemon is, once', async () => {
    const ended = await acectl('--socket', 'nobody.sock', 'table-diff', 'public.t');
    assert.equal(ended.exitCode, 2);
    assert.match(ended.stderr, /^ERROR .*n1[^]*\nHINT /);
    assert.equal(ended.stderr.match(/^ERROR/gm)?.length, 1);
    assert.equal(ended.stdout, '');
  });

  it('shows the configuration, and refuses what it does not know', async () => {
    const shown = await acectl('config', 'show');
    assert.equal(shown.exitCode, 0, shown.stderr);
    assert.match(shown.stdout, /"password": "\(set\)"/);
    const wrong = await acectl('table-dif', 'public.t');
    assert.equal(wrong.exitCode, 2);
    assert.match(wrong.stderr, /did you mean table-diff\?/);
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    assert.equal((await acectl('--version')).stdout, `acectl ${version}\n`);
  });
});
