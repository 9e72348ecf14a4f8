// CPU time of one backend per row: the digest by text and by value, blocks along the key and in one pass. Says
// something on a busy machine too, where wall time does not.
// Run: node <compiled>/test/bench/server-cpu.js [rows] [major] [tables]
import { readFileSync } from 'node:fs';
import { readClusterTable } from '../../src/cluster/cluster-table.js';
import { digestExpression } from '../../src/digest/digest-sql.js';
import { findBoundaries } from '../../src/ingest/partition.js';
import { rangesBetween } from '../../src/diff/table-diff.js';
import { BlockSql, blocksPerStatement, type BlockQuery } from '../../src/merkle/block-sql.js';
import type { Session } from '../../src/postgres/session.js';
import { SessionPool } from '../../src/postgres/session-pool.js';
import { startServer, type PostgresMajor } from '../support/postgres.js';
import { BENCH_TABLES, benchTable } from './tables.js';

const SEED = { seed: 0x1234_5678_9abc_def0n, nullToken: '0123456789abcdef'.repeat(2) };
const ROUNDS = 5;
const BLOCK_ROWS = 200;
const SIGNAL = new AbortController().signal;

const rows = Number(process.argv[2] ?? 300_000);
const major = Number(process.argv[3] ?? 18) as PostgresMajor;

/** Least of some rounds, in nanoseconds per row. */
async function nsPerRow(session: Session, queries: readonly BlockQuery[]): Promise<number> {
  const cpuNs = (): number =>
    Number(readFileSync(`/proc/${session.backendPid}/schedstat`, 'utf8').split(' ')[0]);
  const rounds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const before = cpuNs();
    for (const { text, params } of queries) await session.query(text, params);
    rounds.push((cpuNs() - before) / rows);
  }
  return Math.min(...rounds);
}

async function measure(pool: SessionPool, name: string): Promise<void> {
  const pools = new Map([['n1', pool]]);
  const { spec } = await readClusterTable(pools, { schema: 'public', name }, SIGNAL);
  const sql = new BlockSql({ spec, seed: SEED });
  const range = { lower: null, upper: null };
  const cut = { sql, pool, range, blockRows: BLOCK_ROWS, signal: SIGNAL };
  const boundaries = await findBoundaries(cut);
  const ranges = rangesBetween(range, boundaries).map((one, number) => ({ ...one, number }));
  const byKey: BlockQuery[] = [];
  const perStatement = blocksPerStatement(BLOCK_ROWS);
  for (let first = 0; first < ranges.length; first += perStatement) {
    byKey.push(sql.hashBlocks(ranges.slice(first, first + perStatement)));
  }
  const bare = (digest: string): BlockQuery[] => [
    { text: `SELECT count(*), sum(${digest}) FROM public.${name} t`, params: [] },
  ];
  const asText = spec.columns.map(({ name: column, textForm }) => ({ name: column, textForm }));
  const works: Readonly<Record<string, readonly BlockQuery[]>> = {
    'bare pass by text': bare(digestExpression(asText, SEED, 't')),
    'bare pass by value': bare(digestExpression(spec.columns, SEED, 't')),
    'blocks along the key': byKey,
    'blocks in one pass': [sql.hashTable(boundaries)],
  };
  for (const [work, queries] of Object.entries(works)) {
    const ns = await pool.use((session) => nsPerRow(session, queries));
    console.log(`${name}, ${work}: ${ns.toFixed(0)} ns/row`);
  }
}

const names = process.argv[4]?.split(',') ?? Object.keys(BENCH_TABLES);

const server = await startServer({
  major,
  settings: { shared_buffers: '512MB', autovacuum: 'off', max_parallel_workers_per_gather: '0' },
});
try {
  await server.createDatabase('bench');
  const pool = new SessionPool(server.nodeConfig('bench'), { max: 1, applicationName: 'bench' });
  for (const name of names) {
    const table = benchTable(name);
    await server.query('bench', `${table.ddl}; INSERT INTO ${name} ${table.rows(rows)}`);
    await server.query('bench', `VACUUM (ANALYZE) ${name}`);
    await measure(pool, name);
  }
  await pool.close();
} finally {
  await server.stop();
}
