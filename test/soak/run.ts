// Whether the daemon ever calls drift what is none: writes on three nodes, with everything going on beside
// that delays changes and nothing that loses them.
// npm run soak -- [--minutes 30] [--seed 1] [--out summary.json]
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { silentLogger } from '../../src/base/log.js';
import type { Config } from '../../src/config/config.js';
import { Engine } from '../../src/commands/engine.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { Disturbances } from './disturbances.js';
import { fillSoakTables, idleRow, SOAK_DDL, SOAK_TABLES, SoakWriters } from './writers.js';

interface Told {
  readonly event: string;
  readonly table?: string;
  readonly rows?: number;
  readonly keys?: readonly (readonly string[])[];
  readonly time: string;
}

const SETTLE_MS = 120_000;
const IDLE_ROWS = new Set(Array.from({ length: 1_000 }, (_, number) => String(idleRow(number))));

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Date.now() % 100_000) },
    out: { type: 'string' },
  },
});
const seed = Number(values.seed);
console.log(`seed ${seed}`);

const directory = await scratchDirectory();
const mesh = await startMesh({
  nodes: 3,
  settings: {
    track_commit_timestamp: 'on',
    max_wal_size: '1GB',
    wal_retrieve_retry_interval: '500ms',
  },
  tables: SOAK_DDL,
});
const eventsFile = join(directory, 'events.ndjson');
try {
  await fillSoakTables(mesh);
  await mesh.waitForReplication();
  const config = mesh.config(directory, { drift: { eventsFile, eventsHaveKeys: true } });
  const engine = await Engine.open(config, { log: silentLogger(), mode: 'command' });
  await engine.run('mtree-init', {}, testContext(directory));
  for (const table of SOAK_TABLES) {
    await engine.run('mtree-build', { table }, testContext(directory));
  }
  await engine.close();
  const disturbances = new Disturbances(mesh, config, seed, isTold);
  await disturbances.start();
  const startedAtMs = Date.now();
  const writers = new SoakWriters(mesh);
  const progress = setInterval(() => {
    void readTold().then((told) => {
      const alarms = told.filter(isFalseAlarm).length;
      console.log(
        `${writers.changes} changes, ${alarms} alarms, ${JSON.stringify(disturbances.counts)}`,
      );
    });
  }, 60_000);
  await disturbances.run(startedAtMs + Number(values.minutes) * 60_000, writers);
  await writers.stop();
  clearInterval(progress);
  const minutes = (Date.now() - startedAtMs) / 60_000;
  await mesh.waitForReplication(SETTLE_MS);
  // The last word of a daemon that nobody disturbs any more.
  await disturbances.differ();
  const alarms = (await readTold()).filter(isFalseAlarm);
  const isEqual = await haveEqualRows(mesh);
  await disturbances.stop();
  const wrongLeaves = await countWrongLeaves(config);
  const summary = {
    seed,
    minutes: Number(minutes.toFixed(1)),
    changes: writers.changes,
    replicatedChanges: writers.changes * (mesh.names.length - 1),
    ...disturbances.counts,
    isEqual,
    falseAlarms: alarms.length,
    alarms: alarms.slice(0, 10),
    wrongLeaves,
  };
  console.log(JSON.stringify(summary, null, 2));
  if (values.out !== undefined) await writeFile(values.out, JSON.stringify(summary, null, 2));
  const { made, told } = disturbances.counts;
  if (alarms.length > 0 || !isEqual || told < made || wrongLeaves > 0) process.exitCode = 1;
} finally {
  await mesh.stop();
  await removeDirectory(directory);
}

/** What the daemon went by, against the tables. */
async function countWrongLeaves(config: Config): Promise<number> {
  const verifying = await Engine.open(config, { log: silentLogger(), mode: 'command' });
  try {
    const { tables } = await verifying.run('mtree-verify', {}, testContext(directory));
    return tables.reduce((sum, { wrongLeaves }) => sum + wrongLeaves, 0);
  } finally {
    await verifying.close();
  }
}

async function readTold(): Promise<Told[]> {
  const text = await readFile(eventsFile, 'utf8').catch(() => '');
  const lines = text.split('\n').filter((line) => line !== '');
  // A daemon that was killed may have left half a line.
  return lines.flatMap((line): Told[] => {
    try {
      return [JSON.parse(line) as Told];
    } catch {
      return [];
    }
  });
}

async function haveEqualRows(of: Mesh): Promise<boolean> {
  const sums = await Promise.all(
    of.names.map((node) =>
      Promise.all(
        SOAK_TABLES.map((table) =>
          of.query(node, `SELECT count(*), sum(hashtextextended(t::text, 0)) FROM ${table} t`),
        ),
      ),
    ),
  );
  return new Set(sums.map((sum) => JSON.stringify(sum))).size === 1;
}

/** Of a row that was not made to differ. */
function isFalseAlarm({ event, keys = [], rows = 0 }: Told): boolean {
  const isOwn = rows <= 1 && keys.every(([key = '']) => IDLE_ROWS.has(key));
  return (event === 'drift_opened' || event === 'drift_updated') && !isOwn;
}

/** Since it is made to differ again only after a thousand others, any event of the row is of this time. */
async function isTold(event: string, row: number): Promise<boolean> {
  const isAbout = (told: Told): boolean =>
    told.event === event && (told.keys ?? []).some(([key]) => key === String(row));
  const isThere = async (): Promise<boolean> => (await readTold()).some(isAbout);
  await waitFor(isThere, { what: event, timeoutMs: SETTLE_MS, intervalMs: 100 }).catch(
    () => undefined,
  );
  return isThere();
}
