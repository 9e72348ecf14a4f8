import type { BenchRun } from './bench-run.js';
import type { EngineProcess } from './engine-process.js';
import { median } from './figures.js';

interface Work {
  readonly measure: string;
  readonly what: string;
  /** Milliseconds. */
  readonly run: (engine: EngineProcess, table: string) => Promise<number>;
}

/** Work over whole tables, against the bare pass of the same digest on all nodes at once. */
export async function measureBuild(run: BenchRun): Promise<void> {
  await onEveryTable(run, {
    measure: 'build',
    what: 'mtree build',
    run: async (engine, table) => (await engine.run('mtree-build', { table })).ms,
  });
}

export async function measureTableDiff(run: BenchRun): Promise<void> {
  await onEveryTable(run, {
    measure: 'table-diff',
    what: 'table-diff of equal tables',
    run: async (engine, table) => {
      const { ms, result } = await engine.run('table-diff', { table });
      if (result.verdict !== 'match')
        throw new Error(`equal tables are said to be ${result.verdict}`);
      return ms;
    },
  });
}

async function onEveryTable(run: BenchRun, work: Work): Promise<void> {
  for (const table of run.options.tables) await againstPass(run, work, table);
}

/** The pass, this build and the one to measure against take turns; the medians count. */
async function againstPass(run: BenchRun, work: Work, table: string): Promise<void> {
  const { floors, engine, baseline } = await run.cluster();
  const times: number[] = [];
  const passes: number[] = [];
  const before: number[] = [];
  for (let i = 0; i < run.options.repeat; i++) {
    passes.push(await floors.digestPass(table));
    times.push(await work.run(engine, table));
    if (baseline !== null) before.push(await work.run(baseline, table));
  }
  const { measure } = work;
  const what = `${work.what}, ${table}`;
  const value = median(times) / 1000;
  run.report({
    ...{ measure, what, value, unit: 's' },
    floor: { what: 'bare digest pass', value: median(passes) / 1000 },
    target: { of: 'ratio', at: 'most', limit: 1.25 },
  });
  if (baseline === null) return;
  const floor = { what: run.options.against ?? '', value: median(before) / 1000 };
  run.report({ ...{ measure, what, value, unit: 's' }, floor });
}
