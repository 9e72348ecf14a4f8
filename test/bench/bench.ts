// Measures what the speed and size targets are about, each against a floor taken in the same run.
// npm run bench -- [--rows 2000000] [--only build,table-diff,cold] [--tables customers,orders,orders_uuid]
//   [--against COMMIT] [--json out.json]
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { stopAllServers } from '../support/postgres.js';
import { BenchRun } from './bench-run.js';
import { measureCommandLine } from './command-line.js';
import { measureDrain } from './drain.js';
import { measureDrift } from './drift-delay.js';
import { measureHarm } from './harm.js';
import { measureInjections } from './injected.js';
import { measureManyTables } from './many-tables.js';
import { measureMemory } from './memory.js';
import { measureFewDifferences, measureManyDifferences, measureRepair } from './row-differences.js';
import { measureManyUpdates, measureScatteredUpdates } from './tree-diff.js';
import { measureBuild, measureCold, measureTableDiff } from './whole-table.js';

const MEASURES: Readonly<Record<string, (run: BenchRun) => Promise<void>>> = {
  build: measureBuild,
  'table-diff': measureTableDiff,
  cold: measureCold,
  'command-line': measureCommandLine,
  'many-tables': measureManyTables,
  'mtree-1000': measureScatteredUpdates,
  'mtree-250000': measureManyUpdates,
  'differences-100': measureFewDifferences,
  'differences-many': measureManyDifferences,
  repair: measureRepair,
  drain: measureDrain,
  memory: measureMemory,
  harm: measureHarm,
  drift: async (run) => {
    await measureDrift(run);
    await measureInjections(run);
  },
};

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '2000000' },
    changes: { type: 'string', default: '500000' },
    repeat: { type: 'string', default: '3' },
    'block-rows': { type: 'string' },
    'drift-rows': { type: 'string', default: '60' },
    'load-seconds': { type: 'string', default: '120' },
    tables: { type: 'string', default: 'customers' },
    against: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'string' },
  },
});

const names = values.only?.split(',') ?? Object.keys(MEASURES);
const run = new BenchRun({
  rows: Number(values.rows),
  changes: Number(values.changes),
  repeat: Number(values.repeat),
  ...(values['block-rows'] === undefined ? {} : { blockRows: Number(values['block-rows']) }),
  driftRows: Number(values['drift-rows']),
  loadSeconds: Number(values['load-seconds']),
  tables: values.tables.split(','),
  ...(values.against === undefined ? {} : { against: values.against }),
});
process.once('SIGINT', () => {
  void run.end().finally(() => process.exit(130));
});
try {
  for (const name of names) {
    const measure = MEASURES[name];
    if (measure === undefined) {
      throw new Error(`no measure ${name}; there are ${Object.keys(MEASURES).join(', ')}`);
    }
    await measure(run);
  }
  const missed = run.figures.filter(({ isMet }) => isMet === false);
  console.log(
    missed.length === 0
      ? 'every target is met'
      : `missed: ${missed.map(({ what }) => what).join('; ')}`,
  );
  if (values.json !== undefined) {
    await writeFile(values.json, `${JSON.stringify(run.figures, null, 2)}\n`);
  }
} finally {
  await run.end();
  await stopAllServers();
}
