import { isAbsolute, join, basename } from 'node:path';
import { AcedError } from '../base/errors.js';

/** Where the process runs; tests give their own. */
export interface Surroundings {
  readonly env: NodeJS.ProcessEnv;
  readonly home: string;
  readonly isRoot: boolean;
  readonly uid: number;
}

/** sockaddr_un.sun_path is 108 bytes on Linux, one of which ends the string (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107;

/** systemd's `$STATE_DIRECTORY` and `$RUNTIME_DIRECTORY` may name several, joined by colons. */
function systemdDirectory(value: string | undefined): string | undefined {
  const first = value?.split(':')[0];
  return first === undefined || first === '' ? undefined : first;
}

/** The base directory specification says to ignore a relative path. */
function xdgDirectory(value: string | undefined): string | undefined {
  return value !== undefined && isAbsolute(value) ? value : undefined;
}

/** systemd's directory may already be the instance's own, as with `StateDirectory=aced/%i`. */
function ofCluster(directory: string, cluster: string): string {
  return basename(directory) === cluster ? directory : join(directory, cluster);
}

/** Used when neither a flag, the environment nor a file names one. */
export function defaultStateDir(cluster: string, { env, home, isRoot }: Surroundings): string {
  const systemd = systemdDirectory(env['STATE_DIRECTORY']);
  if (systemd !== undefined) return ofCluster(systemd, cluster);
  if (isRoot) return join('/var/lib/aced', cluster);
  const base = xdgDirectory(env['XDG_STATE_HOME']) ?? join(home, '.local/state');
  return join(base, 'aced', cluster);
}

/**
 * Where the daemon of this process's user would listen, then the other places where one may:
 * another login session's, or the system's. acectl tries them in this order.
 */
export function defaultSocketPaths(
  cluster: string,
  surroundings: Surroundings,
  stateDir: string,
): readonly [string, ...string[]] {
  const { env, isRoot, uid } = surroundings;
  const system = join('/run/aced', `${cluster}.sock`);
  const systemd = systemdDirectory(env['RUNTIME_DIRECTORY']);
  if (systemd !== undefined) return [join(systemd, `${cluster}.sock`), system];
  const inState = join(stateDir, 'aced.sock');
  if (isRoot) return [system, inState];
  const session = xdgDirectory(env['XDG_RUNTIME_DIR']);
  const others = [join('/run/user', String(uid), `aced-${cluster}.sock`), inState, system];
  const own = session === undefined ? inState : join(session, `aced-${cluster}.sock`);
  return [own, ...others.filter((path) => path !== own)];
}

/** The kernel would cut the path off, or refuse it with a code that says nothing. */
export function checkSocketPath(path: string): string {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_SOCKET_PATH_BYTES) return path;
  throw new AcedError(
    'BAD_CONFIG',
    `the socket path ${path} has ${bytes} bytes; a unix socket allows ${MAX_SOCKET_PATH_BYTES}`,
    { hint: 'Set ACED_SOCKET, or socket in aced.yaml, to a shorter path.' },
  );
}
