import { spawn } from 'node:child_process';
import { nativeAddon } from '../base/native.js';

/** What a service manager of the systemd kind is told; see sd_notify(3). */
export type ServiceState =
  | 'READY=1'
  | 'RELOADING=1'
  | 'STOPPING=1'
  | 'WATCHDOG=1'
  | `STATUS=${string}`
  | `MONOTONIC_USEC=${bigint}`
  | `EXTEND_TIMEOUT_USEC=${number}`;

/** `absent`: nobody asked, which is normal outside systemd. */
export type NotifyOutcome = 'sent' | 'absent' | 'failed';

const TIMEOUT_MS = 5_000;

/**
 * Tells systemd about a change, where `NOTIFY_SOCKET` asks for it. Never throws; a service of
 * `Type=notify` whose READY=1 comes back `failed` will be ended by systemd, so log that.
 *
 * The addon sends it. Without it, or when systemd does not take it at once, the program
 * systemd-notify does; it stays until systemd has read it, and the unit needs `NotifyAccess=all` then,
 * as it is another process.
 */
export async function notifyServiceManager(
  states: readonly ServiceState[],
  environment: NodeJS.ProcessEnv = process.env,
): Promise<NotifyOutcome> {
  const socket = environment['NOTIFY_SOCKET'];
  if (socket === undefined || socket === '') return 'absent';
  if (nativeAddon()?.sendDatagram?.(socket, states.join('\n')) === 0) return 'sent';
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
