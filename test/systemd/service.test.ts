import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { defaultSocketPaths } from '../../src/config/paths.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';

// Tests run from the root of the checkout.
const FOLDER = 'systemd';
const PROGRAM = '/usr/bin/aced';
/** Of 10: the lower, the better confined. */
const MAX_EXPOSURE = 20;
const isThere = (program: string): boolean => spawnSync(program, ['--version']).status === 0;

const UNITS = readdirSync(FOLDER).filter((name) => /\.(service|socket)$/.test(name));
const SERVICES = UNITS.filter((name) => name.endsWith('.service'));

const unit = (name: string): string => readFileSync(join(FOLDER, name), 'utf8');

function values(name: string, key: string): string[] {
  return unit(name)
    .split('\n')
    .filter((line) => line.startsWith(`${key}=`))
    .map((line) => line.slice(key.length + 1));
}

describe('units for systemd', () => {
  let directory: string;
  before(async () => {
    directory = await scratchDirectory();
    // verify wants the program to exist, and it is not installed on the machine of the tests.
    for (const name of UNITS) {
      const text = unit(name).replaceAll(PROGRAM, process.execPath);
      await writeFile(join(directory, name), text);
      if (name.includes('@')) await writeFile(join(directory, name.replace('@', '@prod')), text);
    }
  });
  after(() => removeDirectory(directory));

  it('are these', () => {
    assert.deepEqual(UNITS, ['aced.service', 'aced.socket', 'aced@.service', 'aced@.socket']);
  });

  it('pass systemd-analyze verify', { skip: !isThere('systemd-analyze') }, () => {
    for (const name of UNITS) {
      const path = join(directory, name.replace('@', '@prod'));
      const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', path], {
        encoding: 'utf8',
      });
      assert.deepEqual(
        stderr.split('\n').filter((line) => line.includes('aced')),
        [],
      );
      assert.equal(status, 0, stderr);
    }
  });

  it('pass systemd-analyze security', { skip: !isThere('systemd-analyze') }, () => {
    for (const name of SERVICES) {
      const path = join(directory, name.replace('@', '@prod'));
      const args = ['security', '--offline=true', `--threshold=${MAX_EXPOSURE}`, path];
      const { status, stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
      assert.equal(status, 0, stdout);
    }
  });

  it('make user, group and directory', { skip: !isThere('systemd-sysusers') }, async () => {
    const root = join(directory, 'root');
    await mkdir(join(root, 'etc'), { recursive: true });
    for (const [program, file] of [
      ['systemd-sysusers', 'sysusers.d/aced.conf'],
      ['systemd-tmpfiles', 'tmpfiles.d/aced.conf'],
    ] as const) {
      const args = program === 'systemd-tmpfiles' ? ['--create'] : [];
      const { status, stderr } = spawnSync(
        program,
        [...args, `--root=${root}`, join(process.cwd(), FOLDER, file)],
        { encoding: 'utf8' },
      );
      assert.equal(status, 0, stderr);
    }
    assert.match(readFileSync(join(root, 'etc/passwd'), 'utf8'), /^aced:.*:\/var\/lib\/aced:/m);
    assert.deepEqual(readdirSync(join(root, 'run')), ['aced']);
  });

  it('start the daemon as a service that says when it is ready, and is watched', () => {
    for (const name of SERVICES) {
      assert.deepEqual(values(name, 'Type'), ['notify']);
      assert.deepEqual(values(name, 'NotifyAccess'), ['main']);
      assert.deepEqual(values(name, 'WatchdogSec'), ['60s']);
      assert.deepEqual(values(name, 'Restart'), ['on-failure']);
      assert.deepEqual(values(name, 'ExecReload'), ['/bin/kill -HUP $MAINPID']);
    }
    assert.deepEqual(values('aced.service', 'ExecStart'), [
      `${PROGRAM} --cluster \${ACED_CLUSTER}`,
    ]);
    assert.deepEqual(values('aced@.service', 'ExecStart'), [`${PROGRAM} --cluster %i`]);
  });

  it('have state, socket and settings where they may write and read', () => {
    assert.deepEqual(values('aced.service', 'StateDirectory'), ['aced']);
    assert.ok(values('aced.service', 'Environment').includes('ACED_STATE_DIR=/var/lib/aced'));
    assert.ok(
      !unit('aced.service').includes('ACED_SOCKET'),
      'the name is the one acectl looks for',
    );
    assert.deepEqual(values('aced@.service', 'StateDirectory'), ['aced/%i']);
    const [, mode] = /^d \/etc\/aced (\d+) /m.exec(unit('tmpfiles.d/aced.conf')) ?? [];
    // Others are warned of at each start.
    for (const name of SERVICES)
      assert.deepEqual(values(name, 'ConfigurationDirectoryMode'), [mode]);
    for (const name of SERVICES) {
      assert.deepEqual(values(name, 'RuntimeDirectory'), ['aced']);
      assert.equal(values(name, 'EnvironmentFile')[0], '-/etc/aced/aced.env');
    }
    const surroundings = { home: '/', isRoot: false, uid: 990 };
    const env = { RUNTIME_DIRECTORY: '/run/aced' };
    const [listens] = defaultSocketPaths('prod', { ...surroundings, env }, '/var/lib/aced');
    assert.equal(listens, '/run/aced/prod.sock');
    assert.deepEqual(values('aced@.socket', 'ListenStream'), ['/run/aced/%i.sock']);
    assert.ok(values('aced@.service', 'Environment').includes('ACED_SOCKET=/run/aced/%i.sock'));
    for (const isRoot of [true, false]) {
      const person = { env: {}, home: '/home/me', isRoot, uid: isRoot ? 0 : 1000 };
      assert.ok(defaultSocketPaths('prod', person, '/state').includes(listens));
    }
  });

  it('are confined', () => {
    for (const [key, value] of [
      ['User', 'aced'],
      ['NoNewPrivileges', 'yes'],
      ['ProtectSystem', 'strict'],
      ['ProtectHome', 'yes'],
      ['PrivateTmp', 'yes'],
      ['CapabilityBoundingSet', ''],
      ['MemoryMax', '1G'],
    ] as const) {
      for (const name of SERVICES) assert.deepEqual(values(name, key), [value], key);
    }
  });
});
