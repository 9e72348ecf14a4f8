import { OPTIONS } from '../../src/config/options.js';
import type { Config } from '../../src/config/config.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { benchTable } from './tables.js';

export const CUSTOMERS = 'public.customers';

/**
 * Durable as in real life. A checkpoint or an autovacuum in the middle of one measure and not of its
 * floor would spoil the ratio, so neither happens by itself.
 */
export const SERVER_SETTINGS: Readonly<Record<string, string>> = {
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  shared_buffers: '256MB',
  max_wal_size: '16GB',
  checkpoint_timeout: '1h',
  autovacuum: 'off',
};

/** Three nodes, each loaded by itself with the same rows before replication begins. */
export async function startLoadedMesh(
  rows: number,
  names: readonly string[] = ['customers'],
): Promise<Mesh> {
  const mesh = await startMesh({
    nodes: 3,
    cluster: 'bench',
    settings: SERVER_SETTINGS,
    tables: names
      .map((name) => `${benchTable(name).ddl}; INSERT INTO ${name} ${benchTable(name).rows(rows)}`)
      .join('; '),
  });
  for (const name of names) await mesh.queryAll(`VACUUM (ANALYZE) ${name}`);
  await mesh.queryAll('CHECKPOINT');
  return mesh;
}

/** A server does not get along with less. */
const LEAST_BUFFER_BYTES = 8 * 2 ** 20;

/** One table, and servers whose buffers hold a quarter of it. */
export async function startScarceMesh(rows: number, table: string): Promise<Mesh> {
  const mesh = await startLoadedMesh(rows, [table]);
  const [[size] = []] = await mesh.query('n1', `SELECT pg_table_size('public.${table}')`);
  const bytes = Math.max(LEAST_BUFFER_BYTES, Number(size) / 4);
  const buffers = `${Math.ceil(bytes / 1024)}kB`;
  await mesh.queryAll(`ALTER SYSTEM SET shared_buffers = '${buffers}'`);
  await Promise.all(mesh.names.map((name) => mesh.node(name).restart()));
  console.log(`${table}: ${Math.ceil(Number(size) / 1024)}kB, shared_buffers ${buffers}`);
  return mesh;
}

/** What a user who sets nothing gets. */
export function defaultConfig(
  mesh: Mesh,
  stateDir: string,
  overrides: Partial<Config['tree']> = {},
): Config {
  const value = <T>(option: { readonly defaultValue?: T }): T => {
    if (option.defaultValue === undefined) throw new RangeError('an option without a default');
    return option.defaultValue;
  };
  return mesh.config(stateDir, {
    maxCommands: value(OPTIONS.maxCommands),
    logLevel: process.env['ACED_BENCH_LOG'] ?? 'silent',
    tree: {
      blockRows: value(OPTIONS.blockRows),
      maxBlocks: value(OPTIONS.maxBlocks),
      maxCpuRatio: value(OPTIONS.maxCpuRatio),
      refreshQuietMs: value(OPTIONS.refreshQuietMs),
      refreshBudget: value(OPTIONS.refreshBudget),
      rowDigestBytes: value(OPTIONS.rowDigestBytes),
      catalogWatchMs: value(OPTIONS.catalogWatchMs),
      ...overrides,
    },
    scrub: {
      budget: value(OPTIONS.scrubBudget),
      intervalMs: value(OPTIONS.scrubIntervalMs),
      maxActiveBackends: value(OPTIONS.scrubMaxActiveBackends),
    },
    diff: {
      maxDiffRows: value(OPTIONS.maxDiffRows),
      compareUnitSize: value(OPTIONS.compareUnitSize),
      concurrencyFactor: value(OPTIONS.concurrencyFactor),
      settleTimeoutMs: value(OPTIONS.settleTimeoutMs),
    },
    stream: {
      flushIntervalMs: value(OPTIONS.flushIntervalMs),
      connectTimeoutMs: value(OPTIONS.connectTimeoutMs),
      tcpUserTimeoutMs: value(OPTIONS.tcpUserTimeoutMs),
      fenceTimeoutMs: value(OPTIONS.fenceTimeoutMs),
      maxSlotWalBytes: value(OPTIONS.maxSlotWalBytes),
      failoverSlot: value(OPTIONS.failoverSlot),
    },
    drift: {
      isEnabled: value(OPTIONS.driftEnabled),
      openRowsBytes: value(OPTIONS.openRowsBytes),
    },
  });
}
