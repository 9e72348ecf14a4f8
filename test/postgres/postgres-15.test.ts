import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { readTable } from '../../src/table/catalog.js';
import { ensureNodeSchema } from '../../src/mirror/mirror-schema.js';
import { emitBarrier } from '../../src/replication/positions.js';
import { addTableToPublication, ensurePublication } from '../../src/replication/publication.js';
import { Session } from '../../src/postgres/session.js';
import { createSlot, dropSlot, identifySystem, readSlot } from '../../src/replication/slot.js';
import { readTopology } from '../../src/replication/topology.js';
import { startMesh, type Mesh } from '../support/mesh.js';

/** The oldest server that we support has other catalogs: the same queries must run there. */
describe('PostgreSQL 15', () => {
  let mesh: Mesh;
  let session: Session;
  let sessions: Map<string, Session>;

  before(async () => {
    mesh = await startMesh({
      nodes: 2,
      major: 15,
      tables: 'CREATE TABLE t (id text PRIMARY KEY, v numeric)',
    });
    const opened = mesh
      .nodeConfigs()
      .map(async (node): Promise<[string, Session]> => [
        node.name,
        await Session.connect(node, { applicationName: 'test' }),
      ]);
    sessions = new Map(await Promise.all(opened));
    const first = sessions.get('n1');
    assert.ok(first);
    session = first;
  });

  after(async () => {
    await Promise.all([...sessions.values()].map((one) => one.close()));
    await mesh.stop();
  });

  it('has a readable catalog', async () => {
    const table = await readTable(session, 'public', 't');
    assert.deepEqual(table.primaryKey, ['id']);
    const collation = table.columns[0]?.collation;
    assert.equal(collation?.provider, 'i');
    assert.equal(collation.locale, 'en-US');
    assert.notEqual(collation.version, null);
  });

  it('has slots and publications', async () => {
    assert.equal(await ensurePublication(session, 'aced_test'), 'created');
    const added = await addTableToPublication(session, 'aced_test', 'public', 't', {
      timeoutMs: 5_000,
    });
    assert.equal(added, 'added');
    const start = await createSlot(session, 'aced_test', { lockTimeoutMs: 5_000 });
    const slot = await readSlot(session, 'aced_test');
    assert.equal(slot?.confirmedFlushLsn, start);
    assert.equal(slot.invalidationReason, null);
    assert.equal(await dropSlot(session, 'aced_test'), 'dropped');
    assert.equal((await identifySystem(session)).timeline, 1);
  });

  it('has a topology, fences and our schema', async () => {
    const { edges } = await readTopology(sessions);
    assert.deepEqual(
      edges.map(({ from, to, originMode, isActive }) => [from, to, originMode, isActive]),
      [['n1', 'n2', 'any', true]],
    );
    assert.ok((await emitBarrier(session, 'fifteen')) > 0n);
    assert.equal(await ensureNodeSchema(session, 'aced'), 'created');
  });
});
