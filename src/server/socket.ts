import { lstatSync, mkdirSync, unlinkSync, type Stats } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { AcedError, errorMessage } from '../base/errors.js';

/** Owner and group may talk to the daemon: it can do whatever its database role can. */
const UMASK_FOR_0660 = 0o117;
const PROBE_TIMEOUT_MS = 2_000;

/**
 * Listens on `path` with mode 0660 from the first moment. A socket that nobody answers on is
 * replaced; one that somebody listens on never is. Errors: SOCKET_IN_USE, BAD_CONFIG.
 */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  } catch (error) {
    throw cannotListen(path, error);
  }
  await removeStaleSocket(path);
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => reject(cannotListen(path, error));
    server.once('error', onError);
    // bind() happens inside listen(), so that no other file is made under this umask.
    const previous = process.umask(UMASK_FOR_0660);
    try {
      server.listen(path, () => {
        server.off('error', onError);
        resolve();
      });
    } finally {
      process.umask(previous);
    }
  });
}

/** sd_listen_fds(3): the first descriptor that the service manager hands over. */
const FIRST_INHERITED = 3;

/**
 * The descriptor of a socket that systemd listens on for us (socket activation); null: there is none.
 * Clients that come while the daemon starts again wait there. Takes the variables out of `env`: they
 * are not for the programs that the daemon starts. Errors: BAD_CONFIG when there are several.
 */
export function takeInheritedSocket(env: NodeJS.ProcessEnv): number | null {
  const { LISTEN_PID: pid, LISTEN_FDS: count } = env;
  delete env['LISTEN_PID'];
  delete env['LISTEN_FDS'];
  delete env['LISTEN_FDNAMES'];
  if (pid !== String(process.pid) || count === undefined || count === '0') return null;
  if (count === '1') return FIRST_INHERITED;
  throw new AcedError('BAD_CONFIG', `${count} sockets were handed over; aced wants one`, {
    hint: 'Have one ListenStream= in the socket unit.',
  });
}

/** Whoever made the socket keeps it, and its file. Errors: BAD_CONFIG. */
export async function listenOnInherited(server: Server, fd: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const onError = (error: Error): void => reject(cannotListen(`descriptor ${fd}`, error));
    server.once('error', onError);
    server.listen({ fd }, () => {
      server.off('error', onError);
      resolve();
    });
  });
}

async function removeStaleSocket(path: string): Promise<void> {
  const before = statOf(path);
  if (before === undefined) return;
  if (!before.isSocket()) {
    throw new AcedError('BAD_CONFIG', `${path} is not a socket, and is left alone`, {
      hint: 'Remove it, or set ACED_SOCKET to another path.',
    });
  }
  if (await somebodyListens(path)) throw inUse(path);
  // Another daemon may have taken the stale one's place while we asked.
  const now = statOf(path);
  if (now === undefined) return;
  if (now.ino !== before.ino || now.dev !== before.dev) throw inUse(path);
  try {
    unlinkSync(path);
  } catch (error) {
    throw cannotListen(path, error);
  }
}

/** A connection that is neither refused nor accepted (a full backlog) counts as somebody. */
async function somebodyListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (answer: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => settle(true), PROBE_TIMEOUT_MS);
    socket.once('connect', () => settle(true));
    socket.once('error', (error: NodeJS.ErrnoException) =>
      settle(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    );
  });
}

function statOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function inUse(path: string): AcedError {
  return new AcedError('SOCKET_IN_USE', `somebody already listens on ${path}`, {
    hint: 'Stop the other aced, or set ACED_SOCKET to another path.',
  });
}

function cannotListen(path: string, error: unknown): AcedError {
  return new AcedError('BAD_CONFIG', `cannot listen on ${path}: ${errorMessage(error)}`, {
    hint: 'Check the directory and its permissions, or set ACED_SOCKET to another path.',
    cause: error,
  });
}
