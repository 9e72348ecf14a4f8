import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { waitFor } from './wait.js';

const HARNESS = fileURLToPath(new URL('./postgres.js', import.meta.url));
const SCRIPT = `
  const { startServer } = await import(${JSON.stringify(HARNESS)});
  const server = await startServer();
  console.log(JSON.stringify({ pid: server.pid, dataDir: server.dataDir }));
`;

interface Started {
  readonly pid: number;
  readonly dataDir: string;
}

async function startInChild(
  ending: string,
): Promise<{ owner: ReturnType<typeof spawn>; started: Started }> {
  const args = ['--input-type=module', '-e', SCRIPT + ending];
  const owner = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: owner.stdout })) {
    return { owner, started: JSON.parse(line) as Started };
  }
  throw new Error('the child ended before its server was up');
}

async function waitUntilGone({ pid, dataDir }: Started): Promise<void> {
  const isGone = (): boolean => {
    try {
      process.kill(pid, 0);
      return false;
    } catch {
      return !existsSync(dataDir);
    }
  };
  await waitFor(isGone, { what: 'the server of a dead process to be cleaned up' });
}

describe('a server whose process ends without stopping it', () => {
  it('is cleaned up after SIGKILL', async () => {
    const { owner, started } = await startInChild('setInterval(() => undefined, 1000);');
    assert.ok(existsSync(started.dataDir));
    owner.kill('SIGKILL');
    await waitUntilGone(started);
  });

  it('does not keep the process alive, and is cleaned up then', async () => {
    const { started } = await startInChild('');
    await waitUntilGone(started);
  });

  it('stays when it was detached', async () => {
    const { owner, started } = await startInChild('server.detach();');
    if (owner.exitCode === null) await new Promise((resolve) => owner.once('exit', resolve));
    try {
      process.kill(started.pid, 0);
    } finally {
      process.kill(started.pid, 'SIGQUIT');
      await waitFor(() => !existsSync(`${started.dataDir}/postmaster.pid`), {
        what: 'the detached server to end',
      });
      await rm(dirname(started.dataDir), { recursive: true });
    }
  });
});
