import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../../src/config/config.js';
import { INJECTIONS, ITEMS_DDL, prepareItems, type Injection } from '../drift/injections.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { defaultConfig, SERVER_SETTINGS } from './bench-cluster.js';
import type { BenchRun } from './bench-run.js';
import { EngineProcess } from './engine-process.js';
import { median } from './figures.js';

const EVENT_TIMEOUT_MS = 60_000;
const POLL_MS = 5;
/** How often each class is injected. */
const TIMES = 5;
/** A row that is changed below the log is looked at again after so long. */
const SCRUB_INTERVAL_MS = 2_000;

interface Told {
  readonly event: string;
  readonly time: string;
}

/** How fast each class of drift is told, from its taking effect to `drift_opened`, with nothing else going on. */
export async function measureInjections(run: BenchRun): Promise<void> {
  const mesh = await startMesh({
    nodes: 3,
    cluster: 'injected',
    settings: {
      ...SERVER_SETTINGS,
      track_commit_timestamp: 'on',
      wal_retrieve_retry_interval: '200ms',
    },
    tables: ITEMS_DDL,
  });
  try {
    await prepareItems(mesh);
    const base = defaultConfig(mesh, await run.scratch());
    const eventsFile = join(base.stateDir, 'events.jsonl');
    const config: Config = {
      ...base,
      drift: { ...base.drift, eventsFile },
      scrub: { budget: 1, intervalMs: SCRUB_INTERVAL_MS, maxActiveBackends: 100 },
    };
    const engine = await EngineProcess.open(config, 'daemon');
    try {
      await engine.run('mtree-init', {});
      await engine.run('mtree-build', { table: 'items' });
      for (const injection of INJECTIONS) {
        const afterMs: number[] = [];
        for (let time = 0; time < TIMES; time++) {
          afterMs.push(await measureOne(mesh, injection, eventsFile));
        }
        run.report({
          measure: 'drift',
          what: `${injection.name}: to its event, median of ${TIMES}`,
          value: median(afterMs),
          unit: 'ms',
        });
      }
    } finally {
      await engine.close();
    }
  } finally {
    await mesh.stop();
  }
}

async function measureOne(mesh: Mesh, injection: Injection, eventsFile: string): Promise<number> {
  await mesh.waitForReplication();
  const from = (await readTold(eventsFile)).length;
  const find = async (event: string): Promise<Told | undefined> =>
    (await readTold(eventsFile)).slice(from).find((one) => one.event === event);
  const wait = (event: string): Promise<void> =>
    waitFor(async () => (await find(event)) !== undefined, {
      what: `${event} of "${injection.name}"`,
      timeoutMs: EVENT_TIMEOUT_MS,
      intervalMs: POLL_MS,
    });
  await injection.inject(mesh);
  const injectedAtMs = Date.now();
  await wait('drift_opened');
  const opened = await find('drift_opened');
  await injection.mend(mesh);
  await wait('drift_resolved');
  return Math.max(0, Date.parse(opened?.time ?? '') - injectedAtMs);
}

async function readTold(path: string): Promise<Told[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  // What follows the last line end is still being written.
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Told);
}
