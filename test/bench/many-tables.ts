import { setTimeout as sleep } from 'node:timers/promises';
import { DaemonClient } from '../../src/server/client.js';
import { startMesh } from '../support/mesh.js';
import type { BenchRun } from './bench-run.js';
import { withDaemon, type CommandLine } from './command-line.js';
import { median } from './figures.js';

const TABLES = 400;
const ROWS = 200;
/** Commands on one table; their median stands for all of them. */
const SINGLES = 40;
const PAIRS = 7;
/** How long the daemon is looked at, idle and watched. */
const WATCHED_S = 10;

const DDL = Array.from(
  { length: TABLES },
  (_, i) => `CREATE TABLE t${i} (
      id int PRIMARY KEY, name text, placed timestamptz, amount numeric(10, 2), is_open boolean);
    INSERT INTO t${i}
      SELECT g, 'n' || g, timestamptz '2026-01-01 00:00Z' + g * interval '1 hour', g, g % 2 = 0
        FROM generate_series(1, ${ROWS}) g;`,
).join('\n');

/** Whole schemas at once: one command against as many single ones, whole processes. */
export async function measureManyTables(run: BenchRun): Promise<void> {
  const mesh = await startMesh({ nodes: 3, tables: DDL });
  run.onEnd(() => mesh.stop());
  await withDaemon(run, mesh, async (line) => {
    const { acectl } = line;
    const { cluster } = mesh;
    await acectl('mtree', 'init', cluster);
    const builds: number[] = [];
    for (let i = 0; i < SINGLES; i++) builds.push(await acectl('mtree', 'build', cluster, `t${i}`));
    run.report({
      measure: 'many-tables',
      what: `one mtree build of ${TABLES} tables of ${ROWS} rows`,
      value: await acectl('mtree', 'build', cluster, 'public.*', '--rebuild'),
      unit: 'ms',
      floor: { what: `${TABLES} commands on one each`, value: median(builds) * TABLES },
      target: { of: 'ratio', at: 'most', limit: 0.08 },
    });
    const one: number[] = [];
    const all: number[] = [];
    for (let i = 0; i < PAIRS; i++) {
      one.push(await acectl('mtree', 'table-diff', cluster, 't1'));
      all.push(await acectl('mtree', 'table-diff', cluster, 'public.*'));
    }
    run.report({
      measure: 'many-tables',
      what: `one mtree table-diff of ${TABLES} tables, nothing changed`,
      value: median(all),
      unit: 'ms',
      floor: { what: 'that of one table', value: median(one) },
      target: { of: 'ratio', at: 'most', limit: 3 },
    });
    await measureTop(run, line);
  });
}

/** The daemon's CPU while `acectl top` asks every second, as shares of a core, in turn with none of it. */
async function measureTop(run: BenchRun, { socketPath, daemonCpuMs }: CommandLine): Promise<void> {
  const client = new DaemonClient(socketPath);
  const ask = (): Promise<unknown> =>
    client.run('top', { table: 'public.t1', cells: 68 }, { reportDir: '.' });
  const nothing = (): Promise<void> => Promise.resolve();
  const shareOf = async (everySecond: () => Promise<unknown>): Promise<number> => {
    const before = daemonCpuMs();
    for (let second = 0; second < WATCHED_S; second++) {
      await Promise.all([sleep(1_000), everySecond()]);
    }
    return (100 * (daemonCpuMs() - before)) / (WATCHED_S * 1_000);
  };
  // What the diffs have left to do is done then.
  await shareOf(nothing);
  const idle: number[] = [];
  const watched: number[] = [];
  for (let i = 0; i < PAIRS; i++) {
    idle.push(await shareOf(nothing));
    watched.push(await shareOf(ask));
  }
  run.report({
    measure: 'many-tables',
    what: `the daemon with ${TABLES} tables while acectl top asks every second`,
    value: median(watched),
    unit: '% of a core',
    floor: { what: 'while nobody asks', value: median(idle) },
  });
}
