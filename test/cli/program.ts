import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';

const MAIN = join(import.meta.dirname, '../../src/main');
/**
 * Far beyond what any test takes: a daemon waits 20 s for the lock on its state alone. A process that does
 * not end is a failure.
 */
const PROCESS_TIMEOUT_MS = 90_000;

export interface ProgramOptions {
  readonly cwd: string;
  /** All of it, beside PATH. */
  readonly env: NodeJS.ProcessEnv;
  /** No file may grow beyond so many KiB: writing more fails, as on a full disk, for root too. */
  readonly maxFileKib?: number;
  /** 0: none. */
  readonly timeoutMs?: number;
}

export interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Main files: as they are compiled, and the bundle that packages install as acectl. */
const FILES = { acectl: 'acectl.js', aced: 'aced.js', bundle: 'acectl.cjs' } as const;

/** The built program as a process of its own. */
export function startProgram(
  program: keyof typeof FILES,
  args: readonly string[],
  { cwd, env, maxFileKib, timeoutMs = PROCESS_TIMEOUT_MS }: ProgramOptions,
): { child: ChildProcess; ended: Promise<Ended> } {
  const command = [process.execPath, join(MAIN, FILES[program]), ...args];
  const [file = '', ...rest] =
    maxFileKib === undefined
      ? command
      : ['bash', '-c', 'ulimit -f "$0" && exec "$@"', String(maxFileKib), ...command];
  const child = spawn(file, rest, {
    cwd,
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (exitCode, signal) => resolve({ exitCode, signal, stdout, stderr }));
  });
  return { child, ended };
}
