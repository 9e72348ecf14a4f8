import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { serverUser } from '../support/binaries.js';
import type { TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';

/** Makes a certificate for `localhost`, gives it to the server and turns TLS on; returns its file. */
export async function turnTlsOn(server: TestServer, directory: string): Promise<string> {
  const args = 'req -x509 -newkey rsa:2048 -nodes -days 2 -keyout server.key -out server.crt';
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  execFileSync('openssl', [...args.split(' '), ...subject], { cwd: directory, stdio: 'ignore' });
  const user = serverUser();
  for (const file of ['server.crt', 'server.key']) {
    const target = join(server.dataDir, file);
    writeFileSync(target, readFileSync(join(directory, file)));
    chmodSync(target, 0o600);
    if (user !== undefined) chownSync(target, user.uid, user.gid);
  }
  await setTls(server, 'on');
  return join(directory, 'server.crt');
}

/** Returns when new connections get it, and whatever else was to be loaded again. */
export async function setTls(server: TestServer, value: 'on' | 'off'): Promise<void> {
  await server.query('postgres', `ALTER SYSTEM SET ssl = ${value}`);
  await server.query('postgres', 'SELECT pg_reload_conf()');
  await waitFor(async () => (await server.query('postgres', 'SHOW ssl'))[0]?.[0] === value, {
    what: `ssl = ${value}`,
  });
}
