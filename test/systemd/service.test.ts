import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { defaultSocketPaths } from '../../src/config/paths.js';

const PROGRAM = '/usr/bin/aced';
const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0;

describe('systemd/aced.service', () => {
  let unit: string;
  before(async () => {
    // Tests run from the root of the checkout.
    unit = await readFile('systemd/aced.service', 'utf8');
  });

  function values(key: string): string[] {
    return unit
      .split('\n')
      .filter((line) => line.startsWith(`${key}=`))
      .map((line) => line.slice(key.length + 1));
  }

  it('passes systemd-analyze verify', { skip: !hasSystemd }, async () => {
    const directory = await mkdtemp(join(tmpdir(), 'aced-unit-'));
    try {
      // verify wants the program to exist, and it is not installed on the machine of the tests.
      const path = join(directory, 'aced.service');
      await writeFile(path, unit.replaceAll(PROGRAM, process.execPath));
      const result = spawnSync('systemd-analyze', ['verify', '--man=no', path], {
        encoding: 'utf8',
      });
      const ours = result.stderr.split('\n').filter((line) => line.includes('aced'));
      assert.deepEqual(ours, []);
      assert.equal(result.status, 0, result.stderr);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('starts the daemon as a service that says when it is ready', () => {
    assert.deepEqual(values('Type'), ['notify']);
    assert.deepEqual(values('NotifyAccess'), ['all']);
    assert.deepEqual(values('ExecStart'), [`${PROGRAM} --cluster \${ACED_CLUSTER}`]);
    assert.deepEqual(values('Restart'), ['on-failure']);
  });

  it('has state, socket and settings where it may write and read', () => {
    assert.deepEqual(values('StateDirectory'), ['aced']);
    assert.deepEqual(values('RuntimeDirectory'), ['aced']);
    assert.deepEqual(values('EnvironmentFile'), ['-/etc/aced/aced.env']);
    const environment = values('Environment');
    assert.ok(environment.includes('ACED_STATE_DIR=/var/lib/aced'));
    assert.ok(!unit.includes('ACED_SOCKET'), 'the name is the one that acectl looks for');
    const surroundings = { home: '/', isRoot: false, uid: 990 };
    const env = { RUNTIME_DIRECTORY: '/run/aced' };
    const [listens] = defaultSocketPaths('prod', { ...surroundings, env }, '/var/lib/aced');
    for (const isRoot of [true, false]) {
      const person = { env: {}, home: '/home/me', isRoot, uid: isRoot ? 0 : 1000 };
      assert.ok(defaultSocketPaths('prod', person, '/state').includes(listens));
    }
  });

  it('is confined', () => {
    for (const [key, value] of [
      ['User', 'aced'],
      ['NoNewPrivileges', 'yes'],
      ['ProtectSystem', 'strict'],
      ['ProtectHome', 'yes'],
      ['PrivateTmp', 'yes'],
      ['CapabilityBoundingSet', ''],
      ['MemoryMax', '1G'],
    ] as const) {
      assert.deepEqual(values(key), [value], key);
    }
  });
});
