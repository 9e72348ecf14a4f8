import { randomUUID } from 'node:crypto';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { defaultConfig, SERVER_SETTINGS } from './bench-cluster.js';
import type { BenchRun } from './bench-run.js';
import { countBytes } from './byte-counter.js';
import { EngineProcess } from './engine-process.js';
import { median } from './figures.js';

const FLOOR_SLOT = 'bench_floor';
/** Keys of the rows that are there from the start; others fall between them, hence in all blocks. */
const KEY_STEP = 16;

interface Backlog {
  readonly name: string;
  /** SQL that makes `changes` row changes; `round` makes inserted keys new. */
  readonly sql: (changes: number, round: number) => string;
  readonly maxCpuUs: number;
}

const BACKLOGS: readonly Backlog[] = [
  {
    name: 'narrow inserts in one transaction',
    sql: (changes, round) =>
      `INSERT INTO narrow SELECT i * ${KEY_STEP} + ${round}, i, i FROM generate_series(1, ${changes}) i`,
    maxCpuUs: 3,
  },
  {
    name: 'narrow updates in one transaction',
    sql: (changes) =>
      `UPDATE narrow SET a = a + 1 WHERE id % ${KEY_STEP} = 0 AND id <= ${changes} * ${KEY_STEP}`,
    maxCpuUs: 3,
  },
  {
    name: 'single-row commits',
    sql: (changes, round) =>
      `SET synchronous_commit = off; DO $$ BEGIN
         FOR i IN 1..${changes} LOOP
           INSERT INTO narrow VALUES (i::bigint * ${KEY_STEP} + 8 + ${round}, i, i); COMMIT;
         END LOOP; END $$`,
    maxCpuUs: 15,
  },
];

/** A backlog that waits in two identical slots, drained by a byte counter and by the daemon. */
export async function measureDrain(run: BenchRun): Promise<void> {
  const { changes, repeat } = run.options;
  const mesh = await startMesh({
    nodes: 1,
    cluster: 'drain',
    settings: SERVER_SETTINGS,
    tables: `CREATE TABLE narrow (id bigint PRIMARY KEY, a integer, b integer);
      INSERT INTO narrow SELECT i * ${KEY_STEP}::bigint, i, i FROM generate_series(1, ${changes}) i`,
  });
  try {
    await mesh.query('n1', 'VACUUM (ANALYZE) narrow');
    const config = defaultConfig(mesh, await run.scratch());
    const first = await EngineProcess.open(config, 'command');
    await first.run('mtree-init', {});
    await first.run('mtree-build', { table: 'narrow' });
    await first.close();
    for (const backlog of BACKLOGS) {
      const floors: number[] = [];
      const ours: number[] = [];
      const cpuUs: number[] = [];
      for (let round = 1; round <= repeat; round++) {
        const floor = await drainBoth(mesh, config, { backlog, changes, round });
        floors.push(changes / floor.floorMs);
        ours.push(changes / floor.ms);
        cpuUs.push(floor.cpuUs / changes);
      }
      report(run, backlog, { floors, ours, cpuUs });
    }
  } finally {
    await mesh.stop();
  }
}

async function drainBoth(
  mesh: Mesh,
  config: ReturnType<typeof defaultConfig>,
  work: { backlog: Backlog; changes: number; round: number },
): Promise<{ floorMs: number; ms: number; cpuUs: number }> {
  await slotIsFree(mesh, config.slotName);
  // A copy: a new slot would not read the log again that ours has to begin in.
  await mesh.query(
    'n1',
    `SELECT pg_catalog.pg_copy_logical_replication_slot('${config.slotName}', '${FLOOR_SLOT}')`,
  );
  await mesh.node('n1').session(mesh.database, async (query) => {
    for (const statement of work.backlog.sql(work.changes, work.round).split(/;(?= DO)/)) {
      await query(statement);
    }
  });
  const endMark = randomUUID();
  const [row] = await mesh.query(
    'n1',
    `SELECT pg_catalog.pg_logical_emit_message(true, 'bench', '${endMark}')`,
  );
  const [node] = mesh.nodeConfigs();
  if (node === undefined) throw new Error('no node');
  const publication = config.publicationName;
  const floor = await countBytes({ node, slot: FLOOR_SLOT, publication, endMark });
  await slotIsFree(mesh, FLOOR_SLOT);
  await mesh.query('n1', `SELECT pg_catalog.pg_drop_replication_slot('${FLOOR_SLOT}')`);
  const engine = await EngineProcess.start();
  try {
    const { ms, cpuUs } = await engine.drain(config, row?.[0] ?? '');
    return { floorMs: floor.ms, ms, cpuUs };
  } finally {
    await engine.close();
  }
}

async function slotIsFree(mesh: Mesh, slot: string): Promise<void> {
  const sql = 'SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active';
  await waitFor(async () => (await mesh.query('n1', sql, [slot])).length === 0, {
    what: `slot ${slot} to be free`,
  });
}

function report(
  run: BenchRun,
  { name, maxCpuUs }: Backlog,
  rates: {
    readonly floors: readonly number[];
    readonly ours: readonly number[];
    readonly cpuUs: readonly number[];
  },
): void {
  const measure = 'drain';
  const what = `draining ${run.options.changes} ${name}`;
  run.report({
    measure,
    what,
    value: median(rates.ours),
    unit: 'changes/ms',
    floor: { what: 'byte counter', value: median(rates.floors) },
    target: { of: 'ratio', at: 'least', limit: 0.9 },
  });
  run.report({
    measure,
    what: `${what}: CPU a change`,
    value: median(rates.cpuUs),
    unit: 'us',
    target: { of: 'value', at: 'most', limit: maxCpuUs },
  });
}
