import { execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import type { BenchRun } from './bench-run.js';
import { median } from './figures.js';

const ACECTL = fileURLToPath(new URL('../../src/main/acectl.cjs', import.meta.url));
const ACED = fileURLToPath(new URL('../../src/main/aced.js', import.meta.url));
const PAIRS = 15;

/** What a person waits for at the prompt: a whole process, through a daemon that runs. */
export async function measureCommandLine(run: BenchRun): Promise<void> {
  const { mesh } = await run.cluster();
  await withDaemon(run, mesh, async ({ acectl, node }) => {
    await acectl('mtree', 'init', mesh.cluster);
    await acectl('mtree', 'build', mesh.cluster, 'public.customers');
    const floor: number[] = [];
    const diff: number[] = [];
    for (let i = 0; i < PAIRS; i++) {
      floor.push(await node('-e', '0'));
      diff.push(await acectl('mtree', 'table-diff', mesh.cluster, 'public.customers'));
    }
    run.report({
      measure: 'command-line',
      what: 'acectl mtree table-diff, nothing changed, through the daemon',
      value: median(diff),
      unit: 'ms',
      floor: { what: 'node -e 0', value: median(floor) },
      target: { of: 'ratio', at: 'most', limit: 3 },
    });
    await acectl('mtree', 'teardown', mesh.cluster);
  });
}

/** Each runs a process to its end, which must be 0, and says how long that took (ms). */
export interface CommandLine {
  readonly acectl: (...args: string[]) => Promise<number>;
  readonly node: (...args: string[]) => Promise<number>;
  readonly socketPath: string;
  /** CPU time of the daemon so far, in ms. */
  readonly daemonCpuMs: () => number;
}

/** With the daemon of a cluster as a process of its own. */
export async function withDaemon(
  run: BenchRun,
  mesh: Mesh,
  work: (line: CommandLine) => Promise<void>,
): Promise<void> {
  const directory = await run.scratch();
  const env = {
    ...process.env,
    PGSERVICEFILE: await mesh.writeServiceFile(directory),
    ACED_STATE_DIR: join(directory, 'state'),
    ACED_SOCKET: join(directory, 'aced.sock'),
  };
  const daemon = spawn(process.execPath, [ACED, '--cluster', mesh.cluster], {
    env,
    cwd: directory,
    stdio: 'ignore',
  });
  const hasEnded = new Promise((resolve) => daemon.once('exit', resolve));
  const node = (...args: string[]): Promise<number> => wallMs(args, { env, cwd: directory });
  try {
    // Not by asking acectl: without a daemon it would do the work itself, and keep the daemon out.
    await waitFor(() => existsSync(env.ACED_SOCKET), {
      what: 'the daemon to listen',
      timeoutMs: 30_000,
    });
    const { pid = 0 } = daemon;
    await work({
      node,
      acectl: (...args) => node(ACECTL, ...args),
      socketPath: env.ACED_SOCKET,
      // In ticks of 10 ms, after the name in brackets: fields 14 and 15 of proc(5).
      daemonCpuMs: () => {
        const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
        return 10 * (Number(fields[11]) + Number(fields[12]));
      },
    });
  } finally {
    daemon.kill('SIGTERM');
    await hasEnded;
  }
}

/** From spawn to exit. Rejects unless the program ends with 0. */
async function wallMs(
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; cwd: string },
): Promise<number> {
  const startedAt = performance.now();
  await new Promise<void>((resolve, reject) => {
    execFile(process.execPath, args, options, (error, _stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(`${args.slice(1).join(' ')}: ${stderr}`, { cause: error }));
    });
  });
  return performance.now() - startedAt;
}
