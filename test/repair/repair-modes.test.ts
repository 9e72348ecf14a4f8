import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { CommandContext } from '../../src/protocol/commands.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { RepairHarness } from './harness.js';

const TABLES = `
CREATE TABLE many (id bigint PRIMARY KEY, note text);
CREATE TABLE kept (id bigint PRIMARY KEY, note text);
`;

let mesh: Mesh;
let harness: RepairHarness;

before(async () => {
  mesh = await startMesh({ nodes: 3, tables: TABLES, settings: { track_commit_timestamp: 'on' } });
  harness = await RepairHarness.create(mesh);
});

after(async () => {
  await harness.close();
  await mesh.stop();
});

const NOTHING = { upserted: 0, deleted: 0, skipped: 0, failed: 0, alreadyEqual: 0, left: 0 };

function table(name: string): { schema: string; name: string } {
  return { schema: 'public', name };
}

async function load(sql: string): Promise<void> {
  await mesh.query('n1', sql);
  await mesh.waitForReplication();
}

async function diff(name: string): Promise<string | null> {
  return harness.diff('public', name);
}

describe('a repair that is interrupted', () => {
  it('tells what it committed, which are whole batches; the next one goes on', async () => {
    await load("INSERT INTO many SELECT i, 'x' FROM generate_series(1, 9000) i");
    await mesh.driftSql('n2', "UPDATE many SET note = 'y' WHERE id % 3 <> 0");
    const file = await diff('many');
    const stop = new AbortController();
    let told = 0;
    const emit: CommandContext['emit'] = (event) => {
      if (event.type !== 'progress' || !event.phase.startsWith('Repairing')) return;
      told = event.done;
      if (told > 0) stop.abort();
    };
    await assert.rejects(
      harness.repair(file, table('many'), {}, { signal: stop.signal, emit }),
      (error: { code?: unknown }) => error.code === 'CANCELLED',
    );
    const rows = await mesh.query(
      'n2',
      "SELECT count(*) FROM many WHERE note = 'x' AND id % 3 <> 0",
    );
    assert.equal(Number(rows[0]?.[0]), told);
    assert.ok(told > 0 && told < 6000, String(told));
    const { nodes } = await harness.repair(file, table('many'));
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 6000 - told, alreadyEqual: told });
    assert.equal(await diff('many'), null);
  });
});

describe('rows that a mode leaves', () => {
  it('are counted, and make the exit code 1', async () => {
    await load("INSERT INTO kept SELECT i, 'x' FROM generate_series(1, 6) i");
    await mesh.driftSql(
      'n2',
      "DELETE FROM kept WHERE id = 1; UPDATE kept SET note = 'y' WHERE id = 2; INSERT INTO kept VALUES (7, 'z')",
    );
    const { nodes } = await harness.repair(await diff('kept'), table('kept'), { insertOnly: true });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 1, left: 2 });
    const again = await harness.repair(await diff('kept'), table('kept'), { upsertOnly: true });
    assert.deepEqual(again.nodes['n2'], { ...NOTHING, upserted: 1, left: 1 });
    assert.match(again.warnings.join(), /1 row was left as they are|1 row.* left/);
  });
});
