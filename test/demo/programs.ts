import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Guardian } from '../support/guardian.js';
import { waitFor } from '../support/wait.js';
import { DemoFailure } from './failure.js';

export interface ProgramResult {
  readonly exitCode: number | null;
  /** stdout and stderr, line by line as they came. */
  readonly lines: readonly string[];
}

export interface ProgramsOptions {
  /** Scratch directory: reports are written there, and the daemon keeps its state below it. */
  readonly directory: string;
  readonly serviceFile: string;
  readonly cluster: string;
  /** Ends the daemon when the demo is killed. */
  readonly guardian: Guardian;
}

const DAEMON_START_TIMEOUT_MS = 20_000;
const DAEMON_STOP_TIMEOUT_MS = 15_000;
const LOG_TIMEOUT_MS = 30_000;
const LOG_TAIL_LINES = 15;

export type LogLine = Readonly<Record<string, unknown>>;

/** Runs the real `aced` and `acectl` as processes, as a user would after `npm install -g`. */
export class Programs {
  readonly #options: ProgramsOptions;

  constructor(options: ProgramsOptions) {
    this.#options = options;
  }

  /** What the programs read from the environment; the person who follows the demo needs it too. */
  get settings(): Readonly<Record<string, string>> {
    const { directory, serviceFile } = this.#options;
    return {
      PGSERVICEFILE: serviceFile,
      ACED_STATE_DIR: join(directory, 'state'),
      ACED_SOCKET: join(directory, 'aced.sock'),
    };
  }

  get daemonLog(): string {
    return join(this.#options.directory, 'aced.log');
  }

  /** Runs acectl to its end; each line of output goes to `onLine` at once. */
  async acectl(args: readonly string[], onLine: (line: string) => void): Promise<ProgramResult> {
    const child = spawn(process.execPath, [programPath('acectl'), ...args], {
      cwd: this.#options.directory,
      env: this.#environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const lines: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        onLine(line);
      });
    }
    const [exitCode] = (await once(child, 'close')) as [number | null];
    return { exitCode, lines };
  }

  /** Starts `aced`, with its log in a file, and waits until its socket is there. */
  async startDaemon(): Promise<Daemon> {
    const log = await open(this.daemonLog, 'a');
    const child = spawn(
      process.execPath,
      [programPath('aced'), '--cluster', this.#options.cluster],
      {
        cwd: this.#options.directory,
        env: this.#environment(),
        // Ctrl-C is for the demo, which then ends the daemon in an orderly way.
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
      },
    );
    await log.close();
    child.unref();
    const hasExited = (): boolean => child.exitCode !== null || child.signalCode !== null;
    const pid = child.pid ?? 0;
    this.#options.guardian.watch(pid);
    const daemon: Daemon = {
      pid,
      stop: async () => {
        child.kill('SIGTERM');
        await waitFor(hasExited, {
          what: 'aced to end after SIGTERM',
          timeoutMs: DAEMON_STOP_TIMEOUT_MS,
        }).finally(() => {
          if (!hasExited()) child.kill('SIGKILL');
          this.#options.guardian.watch(undefined);
        });
        return child.exitCode;
      },
    };
    const socket = this.settings['ACED_SOCKET'] ?? '';
    await waitFor(() => hasExited() || existsSync(socket), {
      what: `aced to open ${socket}`,
      timeoutMs: DAEMON_START_TIMEOUT_MS,
    }).catch(async (error: unknown) => {
      await daemon.stop().catch(() => null);
      throw error;
    });
    if (hasExited()) {
      this.#options.guardian.watch(undefined);
      throw new DemoFailure(`aced ended at once, with exit code ${child.exitCode ?? 'none'}`);
    }
    return daemon;
  }

  /** Waits for a line of the daemon's log. */
  async logLine(isWanted: (line: LogLine) => boolean, what: string): Promise<LogLine> {
    let found: LogLine | undefined;
    const isThere = async (): Promise<boolean> => {
      const lines = await this.logLines(/^\{/);
      found = lines.map((line) => JSON.parse(line) as LogLine).find(isWanted);
      return found !== undefined;
    };
    await waitFor(isThere, { what: `${what} in the daemon's log`, timeoutMs: LOG_TIMEOUT_MS });
    return found ?? {};
  }

  /** Whole lines of the daemon's log. */
  async logLines(pattern: RegExp): Promise<string[]> {
    const text = await readFile(this.daemonLog, 'utf8');
    return text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => pattern.test(line));
  }

  async daemonLogTail(): Promise<string> {
    const text = await readFile(this.daemonLog, 'utf8').catch(() => '');
    return text.trimEnd().split('\n').slice(-LOG_TAIL_LINES).join('\n');
  }

  #environment(): NodeJS.ProcessEnv {
    // A PGHOST or ACE_CONFIG of the person's own would point the demo at their cluster.
    const own = Object.entries(process.env).filter(([name]) => !/^(PG|ACE_|ACED_)/.test(name));
    return { ...Object.fromEntries(own), ...this.settings };
  }
}

export interface Daemon {
  readonly pid: number;
  /** Orderly; returns the exit code. */
  stop(): Promise<number | null>;
}

export function programPath(name: 'aced' | 'acectl'): string {
  return fileURLToPath(new URL(`../../src/main/${name}.js`, import.meta.url));
}
