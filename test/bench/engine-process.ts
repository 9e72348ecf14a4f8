import { fork, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Config } from '../../src/config/config.js';
import type { CommandName, CommandParams } from '../../src/protocol/commands.js';
import type { ChildAnswer, ChildWork, DrainAnswer, RunAnswer } from './engine-messages.js';

const CHILD = fileURLToPath(new URL('./engine-child.js', import.meta.url));

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** An engine in a process of its own, so that time, CPU and memory are the engine's alone. */
export class EngineProcess {
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  #reportDir = '';

  private constructor(child: string) {
    // V8 options such as --cpu-prof reach the child through NODE_OPTIONS or ACED_BENCH_NODE_ARGS.
    const execArgv = (process.env['ACED_BENCH_NODE_ARGS'] ?? '').split(' ').filter(Boolean);
    this.#child = fork(child, { execArgv });
    this.#child.on('message', (answer: ChildAnswer) => {
      const pending = this.#pending.get(answer.id);
      this.#pending.delete(answer.id);
      if (answer.ok) pending?.resolve(answer.value);
      else pending?.reject(new Error(answer.message));
    });
    this.#child.on('exit', (code) => {
      for (const pending of this.#pending.values()) {
        pending.reject(new Error(`the measured process ended with ${code ?? 'a signal'}`));
      }
    });
  }

  /** A process without an open engine. */
  static async start(child = CHILD): Promise<EngineProcess> {
    const engine = new EngineProcess(child);
    engine.#reportDir = await mkdtemp(join(tmpdir(), 'aced-bench-'));
    return engine;
  }

  /** @param child the measured program of another build; default: of this one */
  static async open(
    config: Config,
    mode: 'daemon' | 'command',
    child?: string,
  ): Promise<EngineProcess> {
    const engine = await EngineProcess.start(child);
    await engine.#ask({ kind: 'open', config, mode });
    return engine;
  }

  /** Where the reports of its commands are. */
  get reportDir(): string {
    return this.#reportDir;
  }

  async run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    inputPath?: string,
  ): Promise<RunAnswer<Name>> {
    const answer = await this.#ask({
      kind: 'run',
      name,
      params,
      reportDir: this.#reportDir,
      ...(inputPath === undefined ? {} : { inputPath }),
    });
    return answer as RunAnswer<Name>;
  }

  /** Time and CPU for applying all that waits in the slots up to `fence`. */
  async drain(config: Config, fence: string): Promise<DrainAnswer> {
    return (await this.#ask({ kind: 'drain', config, fence })) as DrainAnswer;
  }

  /** CPU time used so far, and resident size now. */
  async usage(): Promise<{ readonly cpuUs: number; readonly rssMb: number }> {
    return (await this.#ask({ kind: 'usage' })) as { cpuUs: number; rssMb: number };
  }

  /** Closes the engine and ends its process; its reports go with it. */
  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      await this.#ask({ kind: 'close' }).catch(() => undefined);
      if (this.#child.connected) this.#child.disconnect();
      await ended;
    }
    await rm(this.#reportDir, { recursive: true, force: true });
  }

  #ask(work: ChildWork): Promise<unknown> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#child.send({ ...work, id });
    });
  }
}
