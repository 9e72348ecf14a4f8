import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { loadConfig } from '../../src/config/load.js';
import type { Config } from '../../src/config/config.js';
import type { FailpointName } from '../../src/base/failpoint.js';
import type { CommandName, CommandParams, CommandResults } from '../../src/protocol/commands.js';
import { DaemonClient } from '../../src/server/client.js';
import type { Mesh } from '../support/mesh.js';

const ACED = join(import.meta.dirname, '../../src/main/aced.js');
const START_TIMEOUT_MS = 30_000;
const LOG_LINES_KEPT = 400;

/** None outlives this process. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** The built daemon as a process, asked through its socket. */
export class Daemon {
  readonly #directory: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #cluster: string;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #isFailpointArmed = false;
  #log: string[] = [];
  kills = 0;

  private constructor(directory: string, env: Record<string, string>, cluster: string) {
    this.#directory = directory;
    this.#env = env;
    this.#cluster = cluster;
  }

  static async create(
    mesh: Mesh,
    directory: string,
    settings: Readonly<Record<string, string>>,
  ): Promise<Daemon> {
    await mkdir(directory, { recursive: true });
    const services = await mesh.writeServiceFile(directory);
    const env = {
      PATH: process.env['PATH'] ?? '',
      HOME: directory,
      PGSERVICEFILE: services,
      ACED_CLUSTER: mesh.cluster,
      ACED_STATE_DIR: join(directory, 'state'),
      ACED_SOCKET: join(directory, 'aced.sock'),
      ACED_LOG_LEVEL: 'info',
      ...settings,
    };
    return new Daemon(directory, env, mesh.cluster);
  }

  get directory(): string {
    return this.#directory;
  }

  get reportDir(): string {
    return join(this.#directory, 'reports');
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  /** The process that runs now may end by itself. */
  get isFailpointArmed(): boolean {
    return this.#isFailpointArmed;
  }

  /** The last lines of its log. */
  get log(): string {
    return this.#log.join('\n');
  }

  async config(): Promise<Config> {
    const { config } = await loadConfig({
      cluster: this.#cluster,
      overrides: {},
      env: { ...this.#env, ACED_LOG_LEVEL: 'silent' },
      cwd: this.#directory,
      home: this.#directory,
    });
    return config;
  }

  /** Resolves when it is ready, or when a failpoint has ended it before. */
  async start(failpoint: { name: FailpointName; hit: number } | null = null): Promise<void> {
    if (this.#child !== undefined) return;
    await mkdir(this.reportDir, { recursive: true });
    const armed =
      failpoint === null ? {} : { ACED_FAILPOINT: `${failpoint.name}:${failpoint.hit}` };
    const child = spawn(process.execPath, [ACED, '--cluster', this.#cluster], {
      cwd: this.#directory,
      env: { ...this.#env, ...armed },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    running.add(child);
    this.#isFailpointArmed = failpoint !== null;
    this.#exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#keep(`[exit ${code ?? signal ?? ''}]`);
        running.delete(child);
        if (signal === 'SIGKILL') this.kills += 1;
        if (this.#child === child) this.#child = undefined;
        resolve();
      });
    });
    const ready = new Promise<void>((resolve) => {
      const lines = createInterface({ input: child.stdout });
      lines.on('line', (line) => {
        this.#keep(line);
        if (line.includes('"event":"ready"')) resolve();
      });
    });
    child.stderr.on('data', (text: Buffer) => this.#keep(text.toString()));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`aced is not ready:\n${this.log}`)),
        START_TIMEOUT_MS,
      );
    });
    try {
      await Promise.race([ready, this.#exited, late]);
    } finally {
      clearTimeout(timer);
    }
    if (!this.isRunning && failpoint === null) {
      throw new Error(`aced did not start:\n${this.log}`);
    }
  }

  /** After its connections were cut. Whatever it is doing then, it has no time left for it. */
  async ended(): Promise<void> {
    const timer = setTimeout(() => this.#child?.kill('SIGTERM'), START_TIMEOUT_MS);
    await this.#exited;
    clearTimeout(timer);
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#exited;
  }

  async run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    options: { readonly inputPath?: string; readonly signal?: AbortSignal } = {},
  ): Promise<CommandResults[Name]> {
    const client = new DaemonClient(this.#env['ACED_SOCKET'] ?? '', { cluster: this.#cluster });
    return client.run(name, params, { reportDir: this.reportDir, ...options });
  }

  async dispose(): Promise<void> {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }

  async keepLog(path: string): Promise<void> {
    await writeFile(path, this.log);
  }

  #keep(line: string): void {
    this.#log.push(line);
    if (this.#log.length > LOG_LINES_KEPT) this.#log = this.#log.slice(-LOG_LINES_KEPT / 2);
  }
}
