import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ChildProcess } from 'node:child_process';
import type { StatusResult } from '../../src/protocol/commands.js';
import { startProgram, type Ended } from '../cli/program.js';
import type { Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

export interface LogLine {
  readonly event: string;
  readonly time: string;
  readonly epoch?: number;
  readonly incident?: string;
  readonly table?: string;
  readonly revision?: number;
}

export interface LeaseServer {
  readonly host: string;
  readonly port: number;
  readonly user: string;
}

export interface AcedOptions {
  readonly root: string;
  /** `a`, `b`: its directory, its socket and its name in the lease. */
  readonly name: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** One of several aced for a cluster, as a process of its own, started as often as is needed. */
export class Aced {
  readonly name: string;
  readonly #cwd: string;
  readonly #env: NodeJS.ProcessEnv;
  child: ChildProcess | null = null;
  #ended: Promise<Ended> | null = null;
  /** All lines of all its processes. */
  readonly lines: LogLine[] = [];
  #log = '';

  constructor({ root, name, env = {} }: AcedOptions) {
    this.name = name;
    this.#cwd = join(root, name);
    this.#env = {
      HOME: this.#cwd,
      PGSERVICEFILE: join(this.#cwd, 'pg_service.conf'),
      ACED_CLUSTER: 'demo',
      ACED_STATE_DIR: join(this.#cwd, 'state'),
      ACED_SOCKET: join(this.#cwd, 'aced.sock'),
      ACED_STANDBY_SERVICE: 'lease',
      ACED_STANDBY_NAME: name,
      ...env,
    };
  }

  /** What it knows of the servers. */
  async configure(mesh: Mesh, { host, port, user }: LeaseServer): Promise<void> {
    await mkdir(this.#cwd, { recursive: true });
    const path = await mesh.writeServiceFile(this.#cwd);
    const lease = `[lease]\nhost=${host}\nport=${port}\nuser=${user}\ndbname=postgres\nsslmode=disable\n`;
    await writeFile(path, `${await readFile(path, 'utf8')}\n${lease}`);
  }

  /** Resolves once it answers. */
  async start(env: NodeJS.ProcessEnv = {}): Promise<void> {
    const before = this.count('standby');
    const { child, ended } = startProgram('aced', [], {
      cwd: this.#cwd,
      env: { ...this.#env, ...env },
      timeoutMs: 0,
    });
    this.child = child;
    this.#ended = ended;
    this.#log = '';
    child.stdout?.on('data', (text: string) => this.#take(text));
    await waitFor(() => this.count('standby') > before, {
      what: `aced ${this.name} to answer`,
    });
  }

  #take(text: string): void {
    const lines = (this.#log + text).split('\n');
    this.#log = lines.pop() ?? '';
    this.lines.push(...lines.map((line) => JSON.parse(line) as LogLine));
  }

  count(event: string): number {
    return this.lines.filter((line) => line.event === event).length;
  }

  /** Waits until it is active for the `times`-th time. */
  async active(times = 1): Promise<void> {
    await waitFor(() => this.count('ready') >= times, {
      what: `${this.name} to be active`,
    });
  }

  signal(name: NodeJS.Signals): void {
    this.child?.kill(name);
  }

  async ended(): Promise<Ended> {
    if (this.#ended === null) throw new Error(`${this.name} was never started`);
    return this.#ended;
  }

  /** Incidents that it told this event of, in order. */
  told(event: string, table: string): string[] {
    return this.lines
      .filter((line) => line.event === event && line.table === `public.${table}`)
      .map(({ incident }) => incident ?? '');
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#ended;
  }

  acectl(...args: string[]): Promise<Ended> {
    return startProgram('acectl', args, { cwd: this.#cwd, env: this.#env }).ended;
  }

  async status(): Promise<StatusResult> {
    const { stdout } = await this.acectl('status', '--json');
    return JSON.parse(stdout) as StatusResult;
  }
}

/** What was told by all of them, oldest first: they run on one host. */
export function toldBy(...all: readonly Aced[]): LogLine[] {
  return all.flatMap(({ lines }) => lines).sort((x, y) => x.time.localeCompare(y.time));
}

/**
 * What must hold of all that was told together: epochs never go back, an incident is opened once, ends
 * once, and is never heard of again; a line that is told twice is the same line.
 */
export function assertNoContradiction(...all: readonly Aced[]): void {
  const open = new Map<string, string>();
  const revisions = new Map<string, number>();
  const over = new Map<string, number>();
  let epoch = 0;
  for (const line of toldBy(...all).filter(({ event }) => event.startsWith('drift_'))) {
    const { event, incident = '', revision = 0, table = '' } = line;
    assert.ok((line.epoch ?? 0) >= epoch, `an earlier epoch: ${JSON.stringify(line)}`);
    epoch = line.epoch ?? 0;
    const before = revisions.get(incident) ?? 0;
    const isAgain = revision === before;
    assert.ok(revision >= before, `an earlier revision: ${JSON.stringify(line)}`);
    revisions.set(incident, revision);
    const endedAs = over.get(incident);
    if (endedAs !== undefined)
      assert.equal(revision, endedAs, `told after its end: ${JSON.stringify(line)}`);
    if (event === 'drift_resolved') {
      over.set(incident, revision);
      open.delete(table);
    } else if (event === 'drift_opened' && !isAgain) {
      assert.equal(open.get(table), undefined, `opened twice: ${JSON.stringify(line)}`);
      open.set(table, incident);
    } else assert.equal(open.get(table), incident, `of no open incident: ${JSON.stringify(line)}`);
  }
}
