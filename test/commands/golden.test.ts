import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { build } from '../../src/commands/build.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { initialise } from '../../src/commands/init.js';
import { refreshDirty, rehashOnNodes, splitOversize } from '../../src/cluster/tree-work.js';
import type { TrackedTable } from '../../src/ingest/tracked-table.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

/** Tables whose leaves are kept in different ways. */
const TABLES = `
  CREATE TABLE plain (id bigint PRIMARY KEY, v text, n numeric);
  CREATE TABLE whole (id integer PRIMARY KEY, v text, big text);
  ALTER TABLE whole REPLICA IDENTITY FULL;
  CREATE TABLE "Weird ""Name" ("Key" text, "order" uuid, v bytea, PRIMARY KEY ("order", "Key"));
  CREATE TABLE worded (word text PRIMARY KEY, v int);
`;
const NAMES = ['public.plain', 'public.whole', 'public."Weird ""Name"', 'public.worded'];

const ROUNDS = 24;
const CHANGES_PER_ROUND = 500;

/** Deterministic pseudo-random numbers (mulberry32), so that a failure can be repeated. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** One statement on one table, over a small key space so that rows collide. */
function statement(random: (below: number) => number): string {
  const id = random(3000);
  const other = random(3000);
  const value = random(5) === 0 ? 'NULL' : `'v${random(1e6)}'`;
  const uuid = `md5('${id % 500}')::uuid`;
  const big = `(SELECT string_agg(md5(i::text || '${id}'), '') FROM generate_series(1, 300) i)`;
  const choices = [
    `INSERT INTO plain VALUES (${id}, ${value}, ${random(100)}.${random(10)}0) ON CONFLICT DO NOTHING`,
    `UPDATE plain SET v = ${value} WHERE id BETWEEN ${id} AND ${id + random(20)}`,
    `UPDATE plain SET id = ${5000 + other} WHERE id = ${id} AND NOT EXISTS (SELECT 1 FROM plain WHERE id = ${5000 + other})`,
    `DELETE FROM plain WHERE id BETWEEN ${id} AND ${id + random(5)}`,
    `INSERT INTO whole VALUES (${id}, ${value}, ${big}) ON CONFLICT (id) DO UPDATE SET v = excluded.v`,
    `UPDATE whole SET v = ${value} WHERE id BETWEEN ${id} AND ${id + random(50)}`,
    `DELETE FROM whole WHERE id BETWEEN ${id} AND ${id + random(10)}`,
    `INSERT INTO "Weird ""Name" VALUES ('k|${id}', ${uuid}, '\\x${id.toString(16).padStart(4, '0')}') ON CONFLICT DO NOTHING`,
    `UPDATE "Weird ""Name" SET v = NULL WHERE "order" = ${uuid}`,
    `DELETE FROM "Weird ""Name" WHERE "order" = ${uuid}`,
    `INSERT INTO worded VALUES ('Wört-${id}', ${random(10)}) ON CONFLICT (word) DO UPDATE SET v = excluded.v`,
    `UPDATE worded SET word = upper(word) || '${random(1e9)}' WHERE word = 'Wört-${id}'`,
    `DELETE FROM worded WHERE word > 'wört-${id}' AND word < 'wört-${id + 5}'`,
  ];
  if (random(200) === 0) return random(2) === 0 ? 'TRUNCATE whole' : 'TRUNCATE worded, plain';
  return choices[random(choices.length)] ?? '';
}

function transaction(random: (below: number) => number): string {
  const statements = Array.from({ length: 1 + random(4) }, () => statement(random));
  if (random(8) === 0) statements.push(`SAVEPOINT s; ${statement(random)}; ROLLBACK TO s`);
  statements.push(random(10) === 0 ? 'ROLLBACK' : 'COMMIT');
  return `BEGIN; ${statements.join('; ')}`;
}

describe('streamed leaves equal leaves read from the server', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let stateDir: string;

  before(async () => {
    // Each node is on its own here: the invariant is per node, and conflicts would stop replication.
    mesh = await startMesh({ nodes: 2 });
    for (const node of mesh.names) {
      await mesh.query(node, TABLES);
      await mesh.query(
        node,
        `INSERT INTO plain SELECT i, 'v', i FROM generate_series(1, 3000) i;
         INSERT INTO whole SELECT i, 'v', NULL FROM generate_series(1, 3000) i;
         INSERT INTO worded SELECT 'Wört-' || i, i FROM generate_series(1, 1000) i;
         INSERT INTO "Weird ""Name" SELECT 'k|' || i, md5((i % 500)::text)::uuid, '\\x00'
           FROM generate_series(1, 2000) i;
         ANALYZE`,
      );
    }
    stateDir = await scratchDirectory();
    cluster = new Cluster(mesh.config(stateDir), silentLogger());
    await initialise(cluster, testContext(stateDir));
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  it('after any mix of changes, refreshes, splits and reconnects', async () => {
    const seed = Number(process.env.ACED_TEST_SEED ?? Date.now() % 1e6);
    console.log(`ACED_TEST_SEED=${seed}`);
    const context = testContext(stateDir);
    // Built while writes run already.
    let isWriting = true;
    const writers = mesh.names.map(async (node, index) => {
      const random = generator(seed + index);
      await mesh.node(node).session(mesh.database, async (query) => {
        for (let i = 0; isWriting; i++) await query(transaction(random));
      });
    });
    for (const table of NAMES) await build(cluster, { table, blockRows: 100 }, context);
    const work = { nodes: mesh.names, concurrency: 2, signal: context.signal };
    const random = generator(seed + 99);
    for (let round = 1; round <= ROUNDS; round++) {
      await waitFor(
        () =>
          [...cluster.pipelines.values()].every(
            ({ changes }) => changes >= round * CHANGES_PER_ROUND,
          ),
        { what: `${CHANGES_PER_ROUND} more changes on each node`, timeoutMs: 30_000 },
      );
      const table = cluster.requireTable(NAMES[random(NAMES.length)] ?? '');
      await cluster.mutex(table.spec.schema, table.spec.name).run(async () => {
        await refreshDirty(cluster, table, work);
        await splitOversize(cluster, table, work);
      });
      if (round % 8 === 3) {
        const node = mesh.names[random(mesh.names.length)] ?? '';
        await mesh.query(
          node,
          'SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1',
          [cluster.config.slotName],
        );
      }
    }
    isWriting = false;
    await Promise.all(writers);
    await catchUp(cluster);
    for (const name of NAMES) {
      const table: TrackedTable = cluster.requireTable(name);
      const first = await assertLeavesMatchServer(cluster, table);
      await refreshDirty(cluster, table, work);
      const second = await assertLeavesMatchServer(cluster, table);
      assert.equal(second.dirty, 0);
      assert.ok(second.clean > 0, `${name} has leaves`);
      // Under FULL nothing ever needs to be read again but after a reconnect's replay.
      if (name === 'public.whole') assert.equal(first.dirty, 0, 'FULL leaves stay exact');
    }
  });

  it('changes of rows that are kept leave nothing to be read', async () => {
    const work = { nodes: mesh.names, concurrency: 2, signal: new AbortController().signal };
    const names = ['public.plain', 'public.worded', 'public."Weird ""Name"'];
    const tables = names.map((name) => cluster.requireTable(name));
    for (const table of tables) {
      const all = Array.from({ length: table.layout.size }, (_, position) => position);
      const blocks = new Map(mesh.names.map((node) => [node, all]));
      // Rows are kept of blocks that are read for the second time.
      for (let time = 1; time <= 2; time++) await rehashOnNodes(cluster, table, blocks, work);
    }
    const changes = [
      `UPDATE plain SET v = NULL WHERE id % 7 = 1; DELETE FROM plain WHERE id % 7 = 2;
       UPDATE plain SET id = -id WHERE id % 7 = 3; UPDATE plain SET n = n + 1 WHERE id < 0`,
      `INSERT INTO plain SELECT i, 'new', 1.50 FROM generate_series(1, 3000, 9) i
         ON CONFLICT (id) DO UPDATE SET v = excluded.v`,
      `UPDATE worded SET v = 1 WHERE word < 'm'; UPDATE worded SET word = 'x' || word WHERE v = 0;
       DELETE FROM worded WHERE word LIKE 'W%3'`,
      `UPDATE "Weird ""Name" SET "Key" = "Key" || '|' WHERE "Key" LIKE '%5%';
       DELETE FROM "Weird ""Name" WHERE "Key" LIKE '%7%'`,
      'TRUNCATE plain; INSERT INTO plain VALUES (1), (2); UPDATE plain SET v = 2 WHERE id = 2',
    ];
    for (const change of changes) {
      await mesh.queryAll(`BEGIN; ${change}; COMMIT`);
      await catchUp(cluster);
      for (const table of tables) {
        const { dirty } = await assertLeavesMatchServer(cluster, table);
        assert.equal(dirty, 0, `${table.label} after ${change}`);
      }
    }
  });
});
