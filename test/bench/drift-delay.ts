import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from '../../src/config/config.js';
import { CUSTOMERS_DDL, customerRows } from '../support/customers.js';
import { CUSTOMERS_LOAD, isLoadKey, startLoad, type Load } from '../support/load.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import type { QueryFunction } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import { defaultConfig, SERVER_SETTINGS } from './bench-cluster.js';
import type { BenchRun } from './bench-run.js';
import { EngineProcess } from './engine-process.js';
import { median } from './figures.js';

/** Replicated changes a second that go on beside the rows that are spoiled. */
const LOAD_PER_SECOND = 1_000;
const EVENT_TIMEOUT_MS = 60_000;
const POLL_MS = 10;

interface Event {
  readonly event: string;
  /** When the daemon said it. */
  readonly time: string;
  readonly keys?: readonly (readonly string[])[];
}

interface Spoiled {
  readonly key: number;
  /** From the commit on the server to the event, by one and the same clock. */
  readonly afterMs: number;
  /** What a change took to be applied on all nodes just before. */
  readonly replicationMs: number;
}

/**
 * How long drift stays unnoticed: rows that one node changes alone, one after the other and each put
 * right again, while all nodes write; and whether the daemon names a row that nobody has spoiled.
 */
export async function measureDrift(run: BenchRun): Promise<void> {
  const { rows, driftRows } = run.options;
  const mesh = await startMesh({
    nodes: 3,
    cluster: 'drift',
    settings: { ...SERVER_SETTINGS, track_commit_timestamp: 'on' },
    tables: `${CUSTOMERS_DDL}; INSERT INTO customers ${customerRows(1, rows)}`,
  });
  try {
    await mesh.queryAll('VACUUM (ANALYZE) customers');
    const base = defaultConfig(mesh, await run.scratch());
    const eventsFile = join(base.stateDir, 'events.jsonl');
    const config: Config = { ...base, drift: { ...base.drift, eventsFile, eventsHaveKeys: true } };
    const engine = await EngineProcess.open(config, 'daemon');
    try {
      await engine.run('mtree-init', {});
      await engine.run('mtree-build', { table: 'customers' });
      const load = startLoad({
        mesh,
        statements: CUSTOMERS_LOAD,
        existingRows: rows,
        ratePerSecond: LOAD_PER_SECOND,
      });
      const startedAt = performance.now();
      const spoiled = await spoilRows(mesh, { load, rows, count: driftRows, eventsFile });
      const seconds = (performance.now() - startedAt) / 1000;
      const { writes } = await load.stop();
      await mesh.waitForReplication();
      report(run, spoiled, {
        perSecond: writes / seconds,
        falseAlarms: falseAlarms(await readEvents(eventsFile), spoiled),
      });
    } finally {
      await engine.close();
    }
  } finally {
    await mesh.stop();
  }
}

interface Spoiling {
  readonly load: Load;
  readonly rows: number;
  readonly count: number;
  readonly eventsFile: string;
}

async function spoilRows(mesh: Mesh, options: Spoiling): Promise<Spoiled[]> {
  return withSessions(mesh, mesh.names, async (sessions) => {
    const spoiled: Spoiled[] = [];
    const ask: Mesh['query'] = (node, sql, params) => {
      const query = sessions.get(node);
      if (query === undefined) throw new Error(`no session of ${node}`);
      return query(sql, params);
    };
    for (const [index, key] of keysOfNobody(mesh, options).entries()) {
      if (options.load.hasFailed) await options.load.stop();
      const startedAt = performance.now();
      await mesh.waitForReplication(EVENT_TIMEOUT_MS, ask);
      const replicationMs = performance.now() - startedAt;
      const node = mesh.names[index % mesh.names.length] ?? 'n1';
      spoiled.push({ key, replicationMs, afterMs: await spoil(mesh, node, { ...options, key }) });
    }
    return spoiled;
  });
}

async function spoil(
  mesh: Mesh,
  node: string,
  { eventsFile, key }: Spoiling & { readonly key: number },
): Promise<number> {
  const from = (await readEvents(eventsFile)).length;
  await mesh.driftSql(node, `UPDATE customers SET balance = balance + 1 WHERE id = ${key}`);
  const [[committed] = []] = await mesh.query(
    node,
    `SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000 FROM customers WHERE id = ${key}`,
  );
  const isNamed = ({ event, keys }: Event): boolean =>
    ['drift_opened', 'drift_updated'].includes(event) && keys?.[0]?.[0] === String(key);
  const told = await eventAfter(eventsFile, from, isNamed);
  await mesh.driftSql(node, `UPDATE customers SET balance = balance - 1 WHERE id = ${key}`);
  await eventAfter(eventsFile, from, ({ event }) => event === 'drift_resolved');
  return Date.parse(told.time) - Number(committed);
}

/** Rows that the load never writes, spread over the table. */
function keysOfNobody(mesh: Mesh, { rows, count }: Spoiling): number[] {
  const step = Math.max(1, Math.floor(rows / (count + 1)));
  return Array.from({ length: count }, (_, index) => {
    let key = (index + 1) * step;
    while (isLoadKey(mesh, key)) key -= 1;
    return key;
  });
}

function report(
  run: BenchRun,
  spoiled: readonly Spoiled[],
  { perSecond, falseAlarms }: { readonly perSecond: number; readonly falseAlarms: number },
): void {
  const beyond = spoiled.map(({ afterMs, replicationMs }) => afterMs - replicationMs);
  const told = `of ${spoiled.length} rows under ${perSecond.toFixed(0)} changes/s`;
  const figure = { measure: 'drift', unit: 'ms' };
  run.report({
    ...figure,
    what: `replication delay, median ${told}`,
    value: median(spoiled.map(({ replicationMs }) => replicationMs)),
  });
  run.report({
    ...figure,
    what: `commit to event, beyond the replication delay, median ${told}`,
    value: median(beyond),
  });
  run.report({
    ...figure,
    what: `commit to event, beyond the replication delay, 99th percentile ${told}`,
    value: percentile(beyond, 0.99),
  });
  run.report({
    measure: 'drift',
    what: 'events that name other rows than the spoiled one',
    value: falseAlarms,
    unit: '',
    target: { of: 'value', at: 'most', limit: 0 },
  });
}

/** Events that name a row nobody has spoiled, openings that name none, and more openings than rows spoiled. */
function falseAlarms(events: readonly Event[], spoiled: readonly Spoiled[]): number {
  const keys = new Set(spoiled.map(({ key }) => String(key)));
  const opened = events.filter(({ event }) => event === 'drift_opened');
  const unnamed = opened.filter(({ keys: named = [] }) => named.length === 0);
  const foreign = events.filter(({ keys: named = [] }) =>
    named.some(([key]) => !keys.has(key ?? '')),
  );
  return unnamed.length + foreign.length + Math.max(0, opened.length - spoiled.length);
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
}

async function eventAfter(
  path: string,
  from: number,
  isWanted: (event: Event) => boolean,
): Promise<Event> {
  let found: Event | undefined;
  await waitFor(
    async () => {
      found = (await readEvents(path)).slice(from).find(isWanted);
      return found !== undefined;
    },
    { what: 'the event', timeoutMs: EVENT_TIMEOUT_MS, intervalMs: POLL_MS },
  );
  if (found === undefined) throw new Error('the event is gone');
  return found;
}

async function readEvents(path: string): Promise<Event[]> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    // The first event makes the file.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  });
  // What follows the last line end is still being written.
  const lines = text.split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Event);
}

/** One session a node, for questions whose connection would cost more than their answer. */
async function withSessions<T>(
  mesh: Mesh,
  names: readonly string[],
  work: (sessions: ReadonlyMap<string, QueryFunction>) => Promise<T>,
): Promise<T> {
  const [name, ...others] = names;
  if (name === undefined) return work(new Map());
  return mesh
    .node(name)
    .session(mesh.database, (query) =>
      withSessions(mesh, others, (sessions) => work(new Map([...sessions, [name, query]]))),
    );
}
