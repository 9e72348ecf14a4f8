import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../../src/base/log.js';
import { startServer, type RunningServer } from '../../src/server/server.js';
import type { EchoRunner } from '../server/echo-runner.js';

/** A directory of its own that defines the cluster `hub`, whose one node answers nobody. */
export function makeHub(): string {
  const root = mkdtempSync(join(tmpdir(), 'aced-hub-'));
  writeFileSync(
    join(root, 'pg_service.conf'),
    '[hub]\nuser=u\npassword=hunter2\n[hub.n1]\nhost=127.0.0.1\nport=1\n',
  );
  return root;
}

/** What finds that cluster, and the daemon of startHub. */
export function hubEnv(root: string): Record<string, string> {
  return {
    HOME: root,
    ACED_STATE_DIR: join(root, 'state'),
    ACED_SOCKET: join(root, 'aced.sock'),
    ACED_CLUSTER: 'hub',
  };
}

/** A daemon's server there, in this process: the runner stands for the engine. */
export async function startHub(root: string, runner: EchoRunner): Promise<RunningServer> {
  return startServer({
    socketPath: join(root, 'aced.sock'),
    runner,
    spoolDir: join(root, 'spool'),
    log: silentLogger(),
    version: '1.2.3',
  });
}
