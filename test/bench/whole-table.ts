import { dropPageCache, whyNoPageCacheDrop } from './page-cache.js';
import type { BenchRun, LoadedCluster } from './bench-run.js';
import type { EngineProcess } from './engine-process.js';
import { median, type Figure } from './figures.js';
import { benchTable } from './tables.js';

interface Work {
  readonly measure: string;
  readonly what: string;
  /** Milliseconds. */
  readonly run: (engine: EngineProcess, table: string) => Promise<number>;
}

const BUILD: Work = {
  measure: 'build',
  what: 'mtree build',
  run: async (engine, table) => (await engine.run('mtree-build', { table })).ms,
};

const TABLE_DIFF: Work = {
  measure: 'table-diff',
  what: 'table-diff of equal tables',
  run: async (engine, table) => {
    const { ms, result } = await engine.run('table-diff', { table });
    if (result.verdict !== 'match')
      throw new Error(`equal tables are said to be ${result.verdict}`);
    return ms;
  },
};

/** Work over whole tables, against the bare pass of the same digest on all nodes at once. */
export async function measureBuild(run: BenchRun): Promise<void> {
  await onEveryTable(run, BUILD);
}

export async function measureTableDiff(run: BenchRun): Promise<void> {
  await onEveryTable(run, TABLE_DIFF);
}

/** Both, with the page cache dropped before each run of each side, on servers with small buffers. */
export async function measureCold(run: BenchRun): Promise<void> {
  const why = await whyNoPageCacheDrop();
  if (why !== null) {
    console.log(`cold: skipped, the page cache cannot be dropped: ${why}`);
    return;
  }
  for (const table of run.options.tables) {
    await run.withScarceMemory(table, async (cluster) => {
      for (const work of [BUILD, TABLE_DIFF]) {
        const cold = { ...work, measure: 'cold', what: `${work.what} from disk` };
        await againstPass(run, cold, { cluster, table, prepare: dropPageCache, targets: COLD });
      }
    });
  }
}

interface Targets {
  /** Of the time of a bare pass, and of that of the commit to measure against. */
  readonly pass?: number;
  readonly against?: number;
}

const COLD: Targets = { pass: 1.5 };

async function onEveryTable(run: BenchRun, work: Work): Promise<void> {
  for (const table of run.options.tables) {
    const cluster = await run.cluster();
    const { targets = {} } = benchTable(table);
    await againstPass(run, work, { cluster, table, targets, prepare: () => Promise.resolve() });
  }
}

/** The pass, this build and the one to measure against take turns; the medians count. */
async function againstPass(
  run: BenchRun,
  work: Work,
  {
    cluster: { floors, engine, baseline },
    table,
    targets,
    prepare,
  }: {
    readonly cluster: LoadedCluster;
    readonly table: string;
    readonly targets: Targets;
    /** Before each run. */
    readonly prepare: () => Promise<void>;
  },
): Promise<void> {
  const times: number[] = [];
  const passes: number[] = [];
  const before: number[] = [];
  for (let i = 0; i < run.options.repeat; i++) {
    await prepare();
    passes.push(await floors.digestPass(table));
    await prepare();
    times.push(await work.run(engine, table));
    if (baseline === null) continue;
    await prepare();
    before.push(await work.run(baseline, table));
  }
  const { measure } = work;
  const what = `${work.what}, ${table}`;
  const value = median(times) / 1000;
  const target = (limit: number | undefined): Pick<Figure, 'target'> =>
    limit === undefined ? {} : { target: { of: 'ratio', at: 'most', limit } };
  run.report({
    ...{ measure, what, value, unit: 's' },
    floor: { what: 'bare digest pass', value: median(passes) / 1000 },
    ...target(targets.pass),
  });
  if (baseline === null) return;
  const floor = { what: run.options.against ?? '', value: median(before) / 1000 };
  run.report({ ...{ measure, what, value, unit: 's', floor }, ...target(targets.against) });
}
