import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { FailpointName } from '../../src/base/failpoint.js';
import type { Config } from '../../src/config/config.js';
import type { CommandName, CommandParams } from '../../src/protocol/commands.js';

const CHILD = fileURLToPath(new URL('./engine-child.js', import.meta.url));

export interface EngineProcessOptions {
  readonly config: Config;
  /** Dies there, the `hit`-th time that it gets there. */
  readonly failpoint?: { readonly name: FailpointName; readonly hit: number };
}

/** An engine-child and what it says. */
export class EngineProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  readonly #opened: Promise<void>;
  #stderr = '';
  #lastId = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once('exit', () => resolve());
    });
    this.#opened = new Promise((resolve) => {
      if (child.stdout === null) throw new Error('the child has no output');
      createInterface({ input: child.stdout }).once('line', () => resolve());
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-20_000);
    });
    child.stdin?.on('error', () => undefined);
  }

  /** Resolves when the engine is open, or when it has died before. */
  static async start({ config, failpoint }: EngineProcessOptions): Promise<EngineProcess> {
    const path = join(config.stateDir, 'child-config.json');
    await writeFile(path, JSON.stringify({ ...config, logLevel: 'info' }));
    const env = { ...process.env };
    if (failpoint !== undefined) env['ACED_FAILPOINT'] = `${failpoint.name}:${failpoint.hit}`;
    const engine = new EngineProcess(
      spawn(process.execPath, [CHILD, path], { env, stdio: ['pipe', 'pipe', 'pipe'] }),
    );
    await Promise.race([engine.#opened, engine.#exited]);
    return engine;
  }

  /** Asks for a command whose answer nobody waits for. */
  send<Name extends CommandName>(command: Name, params: CommandParams[Name]): void {
    this.#lastId += 1;
    this.#child.stdin?.write(`${JSON.stringify({ id: this.#lastId, command, params })}\n`);
  }

  /** Waits until the process has killed itself; fails when it does not, or ends otherwise. */
  async died(timeoutMs = 60_000): Promise<void> {
    const timer = setTimeout(() => this.#child.kill('SIGTERM'), timeoutMs);
    await this.#exited;
    clearTimeout(timer);
    assert.equal(this.#child.signalCode, 'SIGKILL', `the engine did not die:\n${this.#stderr}`);
  }

  /** The end of what it has logged. */
  get log(): string {
    return this.#stderr;
  }

  /** Lets it end in order. */
  async end(): Promise<void> {
    this.#child.stdin?.end();
    await this.#exited;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
