import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Config } from '../../src/config/config.js';
import { CUSTOMERS_DDL, customerRows } from '../support/customers.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { defaultConfig, SERVER_SETTINGS } from './bench-cluster.js';
import type { BenchRun } from './bench-run.js';
import { EngineProcess } from './engine-process.js';
import { median } from './figures.js';

const COUNTER = fileURLToPath(new URL('./byte-counter-child.js', import.meta.url));
const WRITER = 'n1';
const CLIENTS = 2;
const WARM_UP_MS = 1_000;
const CATCH_UP_TIMEOUT_MS = 120_000;
/** Spreads the updates over the table. */
const STRIDE = 7_919;

/**
 * What a daemon takes from those who write: commits a second of one row each, while a process reads
 * the slots and only counts bytes, and while the daemon reads the same slots, keeps the tree and
 * judges drift; in turn, on the same rows.
 */
export async function measureHarm(run: BenchRun): Promise<void> {
  const { rows, repeat, loadSeconds } = run.options;
  const mesh = await startMesh({
    nodes: 2,
    cluster: 'harm',
    settings: SERVER_SETTINGS,
    tables: `${CUSTOMERS_DDL}; INSERT INTO customers ${customerRows(1, rows)}`,
  });
  try {
    await mesh.queryAll('VACUUM (ANALYZE) customers');
    const config = defaultConfig(mesh, await run.scratch());
    const first = await EngineProcess.open(config, 'command');
    await first.run('mtree-init', {});
    await first.run('mtree-build', { table: 'customers' });
    await first.close();
    const seconds = loadSeconds / (2 * repeat);
    const counted: number[] = [];
    const judged: number[] = [];
    for (let pair = 0; pair < repeat; pair++) {
      counted.push(await withByteCounter(mesh, config, () => commitRate(mesh, rows, seconds)));
      judged.push(await withDaemon(mesh, config, () => commitRate(mesh, rows, seconds)));
    }
    const ratios = judged.map((rate, pair) => rate / (counted[pair] ?? Number.NaN));
    run.report({
      measure: 'harm',
      what: `single-row commits of ${CLIENTS} clients on one of two nodes, daemon running`,
      value: median(judged),
      unit: 'commits/s',
      floor: { what: 'slots read by a byte counter', value: median(counted) },
    });
    run.report({
      measure: 'harm',
      what: `commits with the daemon / with the byte counter, median of ${repeat} pairs of ${seconds.toFixed(0)} s`,
      value: median(ratios),
      unit: '',
      target: { of: 'value', at: 'least', limit: 0.95 },
    });
  } finally {
    await mesh.stop();
  }
}

async function withByteCounter<T>(mesh: Mesh, config: Config, work: () => Promise<T>): Promise<T> {
  const { nodes, slotName, publicationName } = config;
  const counters = nodes.map((node) =>
    spawn(process.execPath, [COUNTER, JSON.stringify({ node, slotName, publicationName })], {
      stdio: ['ignore', 'inherit', 'inherit'],
    }),
  );
  try {
    await waitForReaders(mesh, slotName);
    return await work();
  } finally {
    await Promise.all(counters.map(end));
    await waitForFreeSlots(mesh, slotName);
  }
}

async function withDaemon<T>(mesh: Mesh, config: Config, work: () => Promise<T>): Promise<T> {
  const engine = await EngineProcess.open(config, 'daemon');
  try {
    // What the byte counter has read it has not confirmed: the daemon gets it again.
    await engine.run('mtree-update', { table: 'customers', cdcTimeoutMs: CATCH_UP_TIMEOUT_MS });
    await waitForReaders(mesh, config.slotName);
    return await work();
  } finally {
    await engine.close();
    await waitForFreeSlots(mesh, config.slotName);
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** Until everything that was written before has been sent. */
async function waitForReaders(mesh: Mesh, slot: string): Promise<void> {
  for (const name of mesh.names) {
    const [[target] = []] = await mesh.query(name, 'SELECT pg_current_wal_flush_lsn()');
    await mesh.query(name, "SELECT pg_logical_emit_message(true, 'bench', '')");
    const sql = `SELECT FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
                  WHERE s.slot_name = $1 AND r.sent_lsn >= $2::pg_lsn`;
    await waitFor(async () => (await mesh.query(name, sql, [slot, target ?? null])).length === 1, {
      what: `the reader of ${slot} on ${name} to catch up`,
      timeoutMs: CATCH_UP_TIMEOUT_MS,
    });
  }
}

async function waitForFreeSlots(mesh: Mesh, slot: string): Promise<void> {
  const sql = 'SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active';
  for (const name of mesh.names) {
    await waitFor(async () => (await mesh.query(name, sql, [slot])).length === 0, {
      what: `${slot} on ${name} to be let go`,
    });
  }
}

/** Commits a second of all clients, each with rows of its own; the first second is not counted. */
async function commitRate(mesh: Mesh, rows: number, seconds: number): Promise<number> {
  let commits = 0;
  const stopping = new AbortController();
  const clients = Array.from({ length: CLIENTS }, (_, client) =>
    mesh.node(WRITER).session(mesh.database, async (query) => {
      const own = Math.floor(rows / CLIENTS);
      for (let turn = 0; !stopping.signal.aborted; turn++) {
        const id = ((turn * STRIDE) % own) * CLIENTS + client + 1;
        await query('UPDATE customers SET balance = balance + 1 WHERE id = $1', [String(id)]);
        commits += 1;
      }
    }),
  );
  await delay(WARM_UP_MS);
  const startedAt = performance.now();
  const before = commits;
  await delay(seconds * 1000);
  const rate = (commits - before) / ((performance.now() - startedAt) / 1000);
  stopping.abort();
  await Promise.all(clients);
  await mesh.waitForReplication(CATCH_UP_TIMEOUT_MS);
  return rate;
}
