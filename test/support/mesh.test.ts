import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { startMesh, type Mesh } from './mesh.js';

const TABLES = 'CREATE TABLE item (id bigint PRIMARY KEY, note text)';
const CONTENT = 'SELECT id, note FROM item ORDER BY id';

describe('mesh of three', () => {
  let mesh: Mesh;
  before(async () => {
    mesh = await startMesh({ nodes: 3, tables: TABLES });
  });
  after(() => mesh.stop());

  it('converges on writes from every node', async () => {
    for (const [index, name] of mesh.names.entries()) {
      await mesh.query(name, `INSERT INTO item VALUES (${index}, 'from ${name}')`);
    }
    await mesh.waitForReplication();
    await mesh.query('n3', "UPDATE item SET note = 'changed on n3' WHERE id = 0");
    await mesh.waitForReplication();
    for (const name of mesh.names) {
      assert.deepEqual(await mesh.query(name, CONTENT), [
        ['0', 'changed on n3'],
        ['1', 'from n2'],
        ['2', 'from n3'],
      ]);
    }
  });

  it('keeps drift on its node', async () => {
    await mesh.driftSql(
      'n2',
      "INSERT INTO item VALUES (100, 'drift'); DELETE FROM item WHERE id = 1",
    );
    await mesh.driftSql('n2', "UPDATE item SET note = 'more' WHERE id = 100");
    // Replicated after the drift, so the drift would have arrived before it.
    await mesh.query('n2', "INSERT INTO item VALUES (101, 'replicated')");
    await mesh.waitForReplication();
    const ids = async (name: string): Promise<unknown[]> =>
      (await mesh.query(name, CONTENT)).map(([id]) => id);
    assert.deepEqual(await ids('n1'), ['0', '1', '2', '101']);
    assert.deepEqual(await ids('n2'), ['0', '2', '100', '101']);
    assert.deepEqual(await ids('n3'), ['0', '1', '2', '101']);
  });

  it('pauses and resumes one direction', async () => {
    await mesh.pauseReplication('n1', 'n3');
    await mesh.query('n1', "INSERT INTO item VALUES (200, 'late on n3')");
    await mesh.waitForReplication();
    const count = async (name: string): Promise<unknown> =>
      (await mesh.query(name, 'SELECT count(*) FROM item WHERE id = 200'))[0]?.[0];
    assert.equal(await count('n2'), '1');
    assert.equal(await count('n3'), '0');
    await mesh.resumeReplication('n1', 'n3');
    await mesh.waitForReplication();
    assert.equal(await count('n3'), '1');
  });

  it('replicates tables that come later', async () => {
    await mesh.addTables('CREATE TABLE "Later One" (id int PRIMARY KEY)');
    await mesh.query('n2', 'INSERT INTO "Later One" VALUES (1)');
    await mesh.waitForReplication();
    assert.deepEqual(await mesh.query('n3', 'SELECT id FROM "Later One"'), [['1']]);
  });
});

describe('a mesh that has stopped', () => {
  it('has left no process behind, and below 16 it publishes from n1', async () => {
    const mesh = await startMesh({ nodes: 2, major: 15, tables: TABLES });
    const pids = [...mesh.nodes.values()].map((server) => server.pid ?? 0);
    try {
      await mesh.query('n1', "INSERT INTO item VALUES (1, 'a')");
      await mesh.waitForReplication();
      assert.deepEqual(await mesh.query('n2', CONTENT), [['1', 'a']]);
    } finally {
      await mesh.stop();
    }
    assert.equal(pids.length, 2);
    for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
  });
});
