import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { RunningServer } from '../../src/server/server.js';
import { hubEnv, makeHub, startHub } from '../cli/hub.js';
import { startProgram, type Ended } from '../cli/program.js';
import { EchoRunner } from '../server/echo-runner.js';

const BUNDLE = join(import.meta.dirname, '../../src/main/acectl.cjs');

describe('acectl as it is installed', () => {
  let root: string;
  let runner: EchoRunner;
  let server: RunningServer;

  before(async () => {
    const built = spawnSync('npm', ['run', '--silent', 'build:client'], { encoding: 'utf8' });
    assert.equal(built.status, 0, built.stderr);
    root = makeHub();
    runner = new EchoRunner();
    server = await startHub(root, runner);
  });
  after(async () => {
    await server.close();
    rmSync(root, { recursive: true });
  });

  const acectl = (...args: string[]): Promise<Ended> =>
    startProgram('bundle', args, { cwd: root, env: hubEnv(root) }).ended;

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
    assert.match(wrong.stderr, /Did you mean table-diff\?/);
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    assert.equal((await acectl('--version')).stdout, `acectl ${version}\n`);
  });
});
