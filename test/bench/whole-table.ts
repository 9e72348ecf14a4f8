import type { BenchRun } from './bench-run.js';
import { median } from './figures.js';

/** Work over whole tables, against the bare pass of the same digest on all nodes at once. */
export async function measureBuild(run: BenchRun): Promise<void> {
  const { engine } = await run.cluster();
  await againstPass(run, 'build', 'mtree build', async () => {
    const { ms } = await engine.run('mtree-build', { table: 'customers' });
    return ms;
  });
}

export async function measureTableDiff(run: BenchRun): Promise<void> {
  const { engine } = await run.cluster();
  await againstPass(run, 'table-diff', 'table-diff of equal tables', async () => {
    const { ms, result } = await engine.run('table-diff', { table: 'customers' });
    if (result.verdict !== 'match')
      throw new Error(`equal tables are said to be ${result.verdict}`);
    return ms;
  });
}

async function againstPass(
  run: BenchRun,
  measure: string,
  what: string,
  work: () => Promise<number>,
): Promise<void> {
  const { floors } = await run.cluster();
  const times: number[] = [];
  const passes: number[] = [];
  for (let i = 0; i < run.options.repeat; i++) {
    passes.push(await floors.digestPass('customers'));
    times.push(await work());
  }
  run.report({
    measure,
    what,
    value: median(times) / 1000,
    unit: 's',
    floor: { what: 'bare digest pass', value: median(passes) / 1000 },
    target: { of: 'ratio', at: 'most', limit: 1.25 },
  });
}
