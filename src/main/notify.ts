import { spawn } from 'node:child_process';

/** What a service manager of the systemd kind is told; see sd_notify(3). */
export type ServiceState = 'READY=1' | 'STOPPING=1' | `STATUS=${string}`;

/** `absent`: nobody asked, which is normal outside systemd. */
export type NotifyOutcome = 'sent' | 'absent' | 'failed';

const TIMEOUT_MS = 5_000;

/**
 * Tells systemd about a change, where `NOTIFY_SOCKET` asks for it. Never throws; a service of
 * `Type=notify` whose READY=1 comes back `failed` will be ended by systemd, so log that.
 *
 * Node has no unix datagram sockets, so the program systemd-notify sends the message. It stays
 * until systemd has read it, and the unit needs `NotifyAccess=all` as it is another process.
 */
export async function notifyServiceManager(
  states: readonly ServiceState[],
  environment: NodeJS.ProcessEnv = process.env,
): Promise<NotifyOutcome> {
  const socket = environment['NOTIFY_SOCKET'];
  if (socket === undefined || socket === '') return 'absent';
  return new Promise((resolve) => {
    const child = spawn('systemd-notify', [...states], {
      env: environment,
      stdio: 'ignore',
      timeout: TIMEOUT_MS,
    });
    child.once('error', () => resolve('failed'));
    child.once('exit', (exitCode) => resolve(exitCode === 0 ? 'sent' : 'failed'));
  });
}
