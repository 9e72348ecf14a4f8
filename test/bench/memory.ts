import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../../src/config/config.js';
import { BlockLayout } from '../../src/merkle/layout.js';
import { Store } from '../../src/store/store.js';
import { CUSTOMERS_LOAD, startLoad } from '../support/load.js';
import { defaultConfig } from './bench-cluster.js';
import type { BenchRun } from './bench-run.js';
import { EngineProcess } from './engine-process.js';
import { median } from './figures.js';

const SIMULATED_ROWS = 10_000_000;
const LOAD_PER_SECOND = 300;
const SAMPLE_MS = 1_000;
/** In less time the heap and the kept row digests are still growing to their bounds. */
const FLAT_OVER_SECONDS = 1_800;

/** A daemon that believes in 10,000,000 rows on each node, at rest and under load. */
export async function measureMemory(run: BenchRun): Promise<void> {
  const { mesh } = await run.cluster();
  const config: Config = {
    ...defaultConfig(mesh, await run.scratch()),
    slotName: 'bench_memory',
    publicationName: 'bench_memory',
    nodeSchema: 'bench_memory',
  };
  const first = await EngineProcess.open(config, 'command');
  await first.run('mtree-init', {});
  await first.run('mtree-build', { table: 'customers' });
  await first.close();
  enlarge(config);
  const engine = await EngineProcess.open(config, 'daemon');
  try {
    await engine.run('status', {});
    const load = startLoad({
      mesh,
      statements: CUSTOMERS_LOAD,
      existingRows: run.options.rows,
      ratePerSecond: LOAD_PER_SECOND,
    });
    const samples: number[] = [];
    const end = Date.now() + run.options.loadSeconds * 1000;
    while (Date.now() < end) {
      await delay(SAMPLE_MS);
      samples.push((await engine.usage()).rssMb);
    }
    await load.stop();
    reportMemory(run, samples);
    await engine.run('mtree-teardown', {});
  } finally {
    await engine.close();
  }
}

function reportMemory(run: BenchRun, samples: readonly number[]): void {
  const { loadSeconds } = run.options;
  const quarter = Math.floor(samples.length / 4);
  run.report({
    measure: 'memory',
    what: `daemon of three nodes with ${SIMULATED_ROWS} rows each, highest under ${loadSeconds} s of load`,
    value: Math.max(...samples),
    unit: 'MB',
    target: { of: 'value', at: 'most', limit: 250 },
  });
  run.report({
    measure: 'memory',
    what: 'resident size in the last quarter of the load',
    value: median(samples.slice(-quarter)),
    unit: 'MB',
    floor: { what: 'second quarter', value: median(samples.slice(quarter, 2 * quarter)) },
    ...(loadSeconds < FLAT_OVER_SECONDS
      ? {}
      : { target: { of: 'ratio' as const, at: 'most' as const, limit: 1.1 } }),
  });
}

/** Extends the stored tree to the simulated size; all nodes agree on the blocks that are made up. */
function enlarge(config: Config): void {
  const store = Store.open(config.stateDir, config.cluster);
  try {
    const [table] = store.tables();
    if (table === undefined) throw new Error('nothing was built');
    const { blockRows } = table;
    // Over the one block that is open on both sides.
    store.addTable(table.spec, table.readings, blockRows);
    const [empty] = store.tables();
    if (empty === undefined) throw new Error('the table is gone');
    const count = Math.ceil(SIMULATED_ROWS / blockRows);
    const bounds = Array.from({ length: count - 1 }, (_, i) => [String((i + 1) * blockRows + 1)]);
    const change = BlockLayout.single().split(0, bounds);
    store.saveLayout(empty.id, change);
    store.setTableState(empty.id, 'live', null);
    for (const { name } of config.nodes) {
      const position = store.node(name)?.position;
      if (position === undefined) throw new Error(`node ${name} is not in the store`);
      const leaves = change.layout.ids.map((id) => ({
        tableId: empty.id,
        leaf: {
          blockId: id,
          rows: blockRows,
          sumLow: Math.imul(id, 0x7f4a_7c15),
          sumHigh: Math.imul(id, 0x1e37_79b9),
          isDirty: false,
          filter: 0,
          provedAtMs: 0,
        },
      }));
      store.saveBatch({ node: name, position, leaves, filters: store.filters(name) });
    }
  } finally {
    store.close();
  }
}
