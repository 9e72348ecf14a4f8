import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { notifyServiceManager } from '../../src/main/notify.js';

describe('notifyServiceManager', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'aced-notify-'));
  });
  after(() => rm(directory, { recursive: true }));

  const environment = (): NodeJS.ProcessEnv => ({
    PATH: `${directory}:/usr/bin:/bin`,
    NOTIFY_SOCKET: join(directory, 'notify'),
  });

  async function installStub(body: string): Promise<void> {
    const path = join(directory, 'systemd-notify');
    await writeFile(path, `#!/bin/sh\n${body}\n`);
    await chmod(path, 0o755);
  }

  it('does nothing outside systemd', async () => {
    await installStub('exit 0');
    const outside = { PATH: environment()['PATH'] };
    assert.equal(await notifyServiceManager(['READY=1'], outside), 'absent');
    assert.equal(
      await notifyServiceManager(['READY=1'], { ...outside, NOTIFY_SOCKET: '' }),
      'absent',
    );
  });

  it('hands every state over as one argument', async () => {
    await installStub(`printf '%s|' "$NOTIFY_SOCKET" "$@" > ${directory}/seen`);
    const outcome = await notifyServiceManager(['READY=1', 'STATUS=3 nodes'], environment());
    assert.equal(outcome, 'sent');
    const seen = await readFile(join(directory, 'seen'), 'utf8');
    assert.equal(seen, `${directory}/notify|READY=1|STATUS=3 nodes|`);
  });

  it('reports failure of the program, and its absence', async () => {
    await installStub('exit 1');
    assert.equal(await notifyServiceManager(['READY=1'], environment()), 'failed');
    await rm(join(directory, 'systemd-notify'));
    const without = { ...environment(), PATH: directory };
    assert.equal(await notifyServiceManager(['READY=1'], without), 'failed');
  });

  const hasTools = existsSync('/usr/bin/python3');
  it('reaches a datagram socket without any program', { skip: !hasTools }, async () => {
    await rm(join(directory, 'systemd-notify'), { force: true });
    const socket = join(directory, 'notify');
    const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.settimeout(10)
print("bound", flush=True)
text = ""
while "READY=1" not in text:
    text += s.recv(4096).decode() + "\\n"
print(text)
`;
    const listener = spawn('/usr/bin/python3', ['-c', script, socket], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let seen = '';
    listener.stdout.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await once(listener.stdout, 'data');
    const closed = once(listener, 'close');
    assert.equal(await notifyServiceManager(['READY=1'], environment()), 'sent');
    await closed;
    assert.match(seen, /READY=1/);
  });
});
