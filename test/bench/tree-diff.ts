import type { BenchRun } from './bench-run.js';
import { median, type Figure } from './figures.js';

/**
 * The same change on every node, none of which replicates: the nodes are equal again afterwards,
 * and each has exactly these rows to account for.
 */
async function changeEverywhere(run: BenchRun, sql: string): Promise<void> {
  const { mesh } = await run.cluster();
  await Promise.all(mesh.names.map((node) => mesh.driftSql(node, sql)));
}

/** Seconds of one `mtree table-diff` that must find the tables equal. */
async function equalDiffSeconds(run: BenchRun): Promise<number> {
  const { engine } = await run.clusterWithTree();
  const { ms, result } = await engine.run('mtree-table-diff', { table: 'customers' });
  if (result.verdict !== 'match') throw new Error(`equal tables are said to be ${result.verdict}`);
  return ms / 1000;
}

/** A diff with nothing to do: fence, catalog and walk. What comes on top is the dirty blocks. */
async function idleSeconds(run: BenchRun): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 5; i++) times.push(await equalDiffSeconds(run));
  return median(times);
}

/** Waits until the streams have passed everything: their lag is the fence's, not the diff's. */
async function letStreamsPass(run: BenchRun): Promise<void> {
  const { engine } = await run.cluster();
  const started = performance.now();
  for (;;) {
    const { result } = await engine.run('status', {});
    if (result.nodes.every(({ lagBytes }) => lagBytes !== null && lagBytes < 100_000)) return;
    if (performance.now() - started > 120_000) throw new Error('the streams do not catch up');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export async function measureScatteredUpdates(run: BenchRun): Promise<void> {
  const { rows } = run.options;
  const updates = 1000;
  await run.clusterWithTree();
  await idleSeconds(run);
  const idle = await idleSeconds(run);
  run.report({
    measure: 'mtree-1000',
    what: 'mtree table-diff, nothing changed, in process',
    value: idle,
    unit: 's',
  });
  const step = Math.max(1, Math.floor(rows / updates));
  const times: number[] = [];
  // The same blocks each time, and other rows of them: only the first round finds rows that nothing kept.
  for (let round = 0; round <= run.options.repeat; round++) {
    await changeEverywhere(
      run,
      `UPDATE customers SET notes = 'round ${round} ' || id
       WHERE id IN (SELECT ${round + 1} + i * ${step}::bigint FROM generate_series(0, ${updates - 1}) i)`,
    );
    await letStreamsPass(run);
    times.push((await equalDiffSeconds(run)) - idle);
  }
  const [first = Number.NaN, ...later] = times;
  const shapes = [
    { name: 'in blocks at rest', seconds: first },
    { name: 'in blocks whose rows are kept', seconds: median(later) },
  ];
  for (const { name, seconds } of shapes) {
    run.report({
      measure: 'mtree-1000',
      what: `mtree table-diff after 1,000 scattered updates on each node, ${name}, beyond an idle one`,
      value: seconds,
      unit: 's',
      target: { of: 'value', at: 'most', limit: 1 },
    });
  }
}

const SHARE_OF_BUILD = 0.2;
const OVER_BARE_PASS = 1.25;

function atMost(limit: number): Pick<Figure, 'target'> {
  return { target: { of: 'ratio', at: 'most', limit } };
}

export async function measureManyUpdates(run: BenchRun): Promise<void> {
  const { engine, floors } = await run.clusterWithTree();
  const { rows } = run.options;
  const updates = Math.round(rows / 8);
  const buildMs: number[] = [];
  for (let i = 0; i < run.options.repeat; i++) {
    buildMs.push((await engine.run('mtree-build', { table: 'customers' })).ms);
  }
  const idle = await idleSeconds(run);
  const adjacent = `id BETWEEN ${updates} AND ${2 * updates - 1}`;
  const shapes = [
    { name: 'adjacent', where: adjacent, rowsOfDirtyBlocks: adjacent },
    { name: 'scattered', where: 'id % 8 = 3', rowsOfDirtyBlocks: 'true' },
  ];
  for (const { name, where, rowsOfDirtyBlocks } of shapes) {
    const seconds: number[] = [];
    const passes: number[] = [];
    const update = async (round: number): Promise<void> => {
      const notes = `'${name} ${round} ' || id`;
      await changeEverywhere(run, `UPDATE customers SET notes = ${notes} WHERE ${where}`);
      await letStreamsPass(run);
    };
    const pass = async (): Promise<number> =>
      (await floors.digestPass('customers', rowsOfDirtyBlocks)) / 1000;
    // The first round finds blocks at rest; the rows of few enough blocks are kept for the later ones.
    for (let round = 0; round <= run.options.repeat; round++) {
      await update(round);
      seconds.push((await equalDiffSeconds(run)) - idle);
      passes.push(await pass());
    }
    // Whoever reads an updated row first has more work with it.
    await update(run.options.repeat + 1);
    const firstPass = await pass();
    await equalDiffSeconds(run);
    const measure = 'mtree-250000';
    const what = `mtree table-diff after ${updates} ${name} updates on each node, beyond an idle one`;
    const [first = Number.NaN, ...later] = seconds;
    const build = { what: 'mtree build', value: median(buildMs) / 1000 };
    for (const [when, value] of [
      ['at first', first],
      ['later', median(later)],
    ] as const) {
      const figure = { measure, what: `${what}, ${when}`, value, unit: 's' };
      // A fifth of a build, or as little as the dirty blocks cost: as close to that as a build is.
      const isSmall = value <= SHARE_OF_BUILD * build.value;
      run.report({ ...figure, floor: build, ...(isSmall ? atMost(SHARE_OF_BUILD) : {}) });
      const bare = 'bare digest pass over the dirty blocks';
      run.report({ ...figure, floor: { what: `${bare}, read before`, value: median(passes) } });
      const justUpdated = { what: `${bare}, just updated`, value: firstPass };
      run.report({ ...figure, floor: justUpdated, ...(isSmall ? {} : atMost(OVER_BARE_PASS)) });
    }
  }
}
