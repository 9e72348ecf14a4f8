import { silentLogger } from '../../src/base/log.js';
import { parseLsn } from '../../src/base/lsn.js';
import { PgoutputDecoder } from '../../src/pgoutput/decoder.js';
import { openReplicationStream } from '../../src/stream/replication-stream.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { countSlot, type Count, type CountOptions } from './floor.js';

/**
 * Draining a backlog: our stream and decoder against the floor consumer, on identical slots, in
 * turns. Run: node <build>/test/bench/stream-bench.js [changes] [rounds]
 */
const CHANGES = Number(process.argv[2] ?? 500_000);
const ROUNDS = Number(process.argv[3] ?? 3);
const DATABASE = 'stream_bench';
const PUBLICATION = 'bench';

/** As countSlot, with our stream and every message decoded. */
async function drainSlot(options: CountOptions): Promise<Count> {
  const decoder = new PgoutputDecoder();
  let messages = 0;
  const startedMs = performance.now();
  const startedCpu = process.cpuUsage();
  let onDone: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    onDone = resolve;
  });
  const stream = await openReplicationStream({
    ...options,
    applicationName: 'aced bench',
    log: silentLogger(),
    signal: new AbortController().signal,
    handler: {
      onData: (buffer, start, end) => {
        const message = decoder.decode(buffer, start, end);
        messages += 1;
        if (message.kind === 'commit' && message.endLsn >= options.untilLsn) onDone();
      },
      onKeepalive: () => undefined,
    },
  });
  await done;
  const cpu = process.cpuUsage(startedCpu);
  const seconds = (performance.now() - startedMs) / 1000;
  const { bytes } = stream.stats;
  await stream.close();
  return { bytes, messages, seconds, cpuSeconds: (cpu.user + cpu.system) / 1e6 };
}

async function prepare(server: TestServer, slot: string, work: string): Promise<CountOptions> {
  const rows = await server.query(
    DATABASE,
    `SELECT lsn FROM pg_create_logical_replication_slot('${slot}', 'pgoutput')`,
  );
  await server.session(DATABASE, (query) => query(work));
  const end = await server.query(DATABASE, 'SELECT pg_current_wal_insert_lsn()');
  // With asynchronous commit the end of the log is known before it is written: one more commit
  // beyond it is what the consumers wait for.
  await server.query(DATABASE, "INSERT INTO t (name, amount) VALUES ('barrier', 0)");
  return {
    node: server.nodeConfig(DATABASE),
    slot,
    publication: PUBLICATION,
    startLsn: parseLsn(rows[0]?.[0] ?? ''),
    untilLsn: parseLsn(end[0]?.[0] ?? ''),
  };
}

function report(name: string, count: Count, changes: number): void {
  const micros = (seconds: number): string => ((seconds / changes) * 1e6).toFixed(2);
  console.log(
    `  ${name.padEnd(8)} ${micros(count.cpuSeconds)} µs CPU a change, ${micros(count.seconds)} µs elapsed, ` +
      `${Math.round(changes / count.seconds)} changes/s, ${count.messages} messages, ${count.bytes} bytes`,
  );
}

async function main(): Promise<void> {
  const server = await startServer({ settings: { synchronous_commit: 'off', autovacuum: 'off' } });
  try {
    await server.createDatabase(DATABASE);
    await server.query(
      DATABASE,
      `CREATE TABLE t (id bigserial PRIMARY KEY, name text, amount int);
       CREATE PUBLICATION ${PUBLICATION} FOR TABLE t;
       CREATE PROCEDURE single_commits(n int) LANGUAGE plpgsql AS $$
       BEGIN
         FOR i IN 1..n LOOP
           INSERT INTO public.t (name, amount) VALUES ('customer ' || i, i);
           COMMIT;
         END LOOP;
       END $$`,
    );
    const insert = `INSERT INTO t (name, amount) SELECT 'customer ' || i, i FROM generate_series(1, ${CHANGES}) i`;
    for (const [slot, work] of [
      ['one_transaction', insert],
      ['single_commits', `CALL single_commits(${CHANGES})`],
    ] as const) {
      const options = await prepare(server, slot, work);
      console.log(`${slot}, ${CHANGES} changes`);
      for (let round = 0; round < ROUNDS; round++) {
        report('floor', await countSlot(options), CHANGES);
        await waitUntilFree(server, slot);
        report('ours', await drainSlot(options), CHANGES);
        await waitUntilFree(server, slot);
      }
      await server.query(DATABASE, `SELECT pg_drop_replication_slot('${slot}')`);
    }
  } finally {
    await server.stop('immediate');
  }
}

async function waitUntilFree(server: TestServer, slot: string): Promise<void> {
  const sql = 'SELECT active FROM pg_replication_slots WHERE slot_name = $1';
  const deadlineMs = performance.now() + 30_000;
  while ((await server.query(DATABASE, sql, [slot]))[0]?.[0] !== 'f') {
    if (performance.now() > deadlineMs) throw new Error(`slot ${slot} stays busy`);
  }
}

await main();
