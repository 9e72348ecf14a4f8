import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { parseLsn, type Lsn } from '../../src/base/lsn.js';
import { currentInsertLsn, emitBarrier } from '../../src/replication/positions.js';
import { waitForReplication } from '../../src/replication/replication-wait.js';
import { Session } from '../../src/postgres/session.js';
import { dropSlot } from '../../src/replication/slot.js';
import {
  buildTopology,
  originNodes,
  readTopology,
  type SlotRow,
  type SubscriptionRow,
} from '../../src/replication/topology.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

describe('buildTopology', () => {
  const subscription = (node: string, slot: string): SubscriptionRow => ({
    node,
    name: `on_${slot}`,
    slot,
    origin: `origin_of_${slot}`,
    isEnabled: true,
    originMode: 'any',
    kind: 'native',
    publications: [],
  });
  const slotOn = (node: string, slot: string): SlotRow => ({ node, slot, isActive: true });
  const pairs = (subscriptions: SubscriptionRow[], slots: SlotRow[]): string[] =>
    buildTopology(subscriptions, slots).edges.map(({ from, to }) => `${from}>${to}`);

  it('finds publishers by slot, and keeps every candidate', () => {
    assert.deepEqual(
      pairs(
        [subscription('n2', 's'), subscription('n3', 'unknown')],
        [slotOn('n1', 's'), slotOn('n2', 's'), slotOn('n3', 's'), slotOn('n1', 'aced_demo')],
      ),
      ['n1>n2', 'n3>n2'],
    );
  });

  it('lists the subscriptions that none of the nodes publishes for', () => {
    const { fromOutside } = buildTopology(
      [subscription('n2', 's'), subscription('n3', 'unknown'), subscription('n1', 'own')],
      [slotOn('n1', 's'), slotOn('n1', 'own')],
    );
    assert.deepEqual(
      fromOutside.map(({ name, node }) => `${name} on ${node}`),
      ['on_unknown on n3', 'on_own on n1'],
    );
  });

  it('tells whose changes an origin stands for, unless there are several candidates', () => {
    const { edges } = buildTopology(
      [subscription('n3', 'a'), subscription('n3', 'b'), subscription('n1', 'b')],
      [slotOn('n1', 'a'), slotOn('n1', 'b'), slotOn('n2', 'b')],
    );
    assert.deepEqual([...originNodes(edges, 'n3')], [['origin_of_a', 'n1']]);
    assert.deepEqual([...originNodes(edges, 'n1')], [['origin_of_b', 'n2']]);
    assert.deepEqual([...originNodes(edges, 'n2')], []);
  });

  it('counts the hops of a chain', () => {
    const chain = buildTopology(
      [subscription('n2', 'a'), subscription('n3', 'b'), subscription('n4', 'c')],
      [slotOn('n1', 'a'), slotOn('n2', 'b'), slotOn('n3', 'c')],
    );
    assert.equal(chain.rounds, 3);
  });

  it('counts one round for a mesh, and for nothing', () => {
    const names = ['n1', 'n2', 'n3'];
    const links = names.flatMap((from) =>
      names.filter((to) => to !== from).map((to) => ({ from, to })),
    );
    const mesh = buildTopology(
      links.map(({ from, to }) => subscription(to, `${from}_${to}`)),
      links.map(({ from, to }) => slotOn(from, `${from}_${to}`)),
    );
    assert.equal(mesh.edges.length, 6);
    assert.equal(mesh.rounds, 1);
    const { edges, rounds, fromOutside } = buildTopology([], []);
    assert.deepEqual({ edges, rounds, fromOutside }, { edges: [], rounds: 1, fromOutside: [] });
  });

  it('counts a ring', () => {
    const ring = buildTopology(
      [subscription('n2', 'a'), subscription('n3', 'b'), subscription('n1', 'c')],
      [slotOn('n1', 'a'), slotOn('n2', 'b'), slotOn('n3', 'c')],
    );
    assert.equal(ring.rounds, 2);
  });
});

describe('a mesh', () => {
  let mesh: Mesh;
  let sessions: Map<string, Session>;

  before(async () => {
    mesh = await startMesh({ nodes: 3, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    await mesh.query('n1', 'CREATE ROLE reader LOGIN');
    const opened = mesh.nodeConfigs().map(async (node): Promise<[string, Session]> => {
      // n1 is read as a role without any rights.
      const user = node.name === 'n1' ? 'reader' : node.user;
      return [node.name, await Session.connect({ ...node, user }, { applicationName: 'test' })];
    });
    sessions = new Map(await Promise.all(opened));
  });

  after(async () => {
    await Promise.all([...sessions.values()].map((session) => session.close()));
    await mesh.stop();
  });

  const fencesOf = async (fence: (session: Session) => Promise<Lsn>): Promise<Map<string, Lsn>> => {
    const entries = [...sessions].map(async ([node, session]): Promise<[string, Lsn]> => [
      node,
      await fence(session),
    ]);
    return new Map(await Promise.all(entries));
  };

  it('has an active edge between any two nodes', async () => {
    await mesh.query('n1', "SELECT pg_create_logical_replication_slot('aced_demo', 'pgoutput')");
    const topology = await readTopology(sessions);
    await mesh.query('n1', "SELECT pg_drop_replication_slot('aced_demo')");
    assert.deepEqual(topology.edges.map(({ from, to }) => `${from}>${to}`).toSorted(), [
      'n1>n2',
      'n1>n3',
      'n2>n1',
      'n2>n3',
      'n3>n1',
      'n3>n2',
    ]);
    assert.equal(topology.rounds, 1);
    for (const edge of topology.edges) {
      assert.deepEqual(
        [edge.isActive, edge.isEnabled, edge.originMode, edge.kind],
        [true, true, 'none', 'native'],
      );
    }
  });

  it('does not let a slot be dropped that is in use', async () => {
    const { edges } = await readTopology(sessions);
    const edge = edges.find(({ from }) => from === 'n2');
    const session = sessions.get('n2');
    assert.ok(edge && session);
    await assert.rejects(
      dropSlot(session, edge.slot, { waitMs: 30 }),
      (error) => error instanceof AcedError && error.code === 'SLOT_BUSY',
    );
  });

  it('reaches a barrier when nothing else happens', async () => {
    const topology = await readTopology(sessions);
    for (let round = 0; round < 20; round++) {
      const fences = await fencesOf((session) => emitBarrier(session, `round ${round}`));
      const result = await waitForReplication({ sessions, topology, fences, timeoutMs: 10_000 });
      assert.deepEqual(result, { passed: true, starved: [], ahead: [] });
    }
  });

  it('puts the barrier past every commit that was visible, asynchronous ones too', async () => {
    const session = sessions.get('n2');
    assert.ok(session);
    for (let id = 1000; id < 1020; id++) {
      const rows = await mesh.node('n2').session(mesh.database, async (query) => {
        await query('SET synchronous_commit = off');
        await query(`INSERT INTO t VALUES (${id}, 'x')`);
        return query('SELECT pg_current_wal_insert_lsn()');
      });
      const visible = parseLsn(rows[0]?.[0] ?? '');
      const fence = await emitBarrier(session, "no'nce\\");
      assert.ok(fence > visible);
      const flushed = await session.query('SELECT pg_current_wal_flush_lsn()');
      assert.ok(parseLsn(flushed[0]?.[0] ?? '') >= fence);
      assert.ok((await currentInsertLsn(session)) >= fence);
    }
  });

  it('falls back to the insert position for a role that may not write messages', async () => {
    const reader = sessions.get('n1');
    assert.ok(reader);
    const revoke = (verb: string): Promise<unknown> =>
      mesh.query(
        'n1',
        `${verb} EXECUTE ON FUNCTION pg_logical_emit_message(bool, text, text, bool) ${verb === 'GRANT' ? 'TO' : 'FROM'} PUBLIC`,
      );
    await revoke('REVOKE');
    const before = await currentInsertLsn(reader);
    assert.ok((await emitBarrier(reader, 'x')) >= before);
    assert.equal(reader.isIdle, true);
    await revoke('GRANT');
  });

  it('has every row once the fences have passed', async () => {
    const topology = await readTopology(sessions);
    await mesh.query('n3', "INSERT INTO t SELECT i, 'y' FROM generate_series(1, 500) AS i");
    const fences = await fencesOf((session) => emitBarrier(session, 'after the rows'));
    const result = await waitForReplication({ sessions, topology, fences, timeoutMs: 10_000 });
    assert.equal(result.passed, true);
    for (const node of ['n1', 'n2']) {
      assert.deepEqual(await mesh.query(node, "SELECT count(*) FROM t WHERE v = 'y'"), [['500']]);
    }
  });

  it('reports a disabled subscription at once, with what it lacks', async () => {
    await mesh.pauseReplication('n1', 'n2');
    await mesh.query('n1', "INSERT INTO t VALUES (5000, 'z')");
    const topology = await readTopology(sessions);
    const edge = topology.edges.find(({ from, to }) => from === 'n1' && to === 'n2');
    assert.deepEqual([edge?.isEnabled, edge?.isActive], [false, false]);
    const fences = await fencesOf((session) => emitBarrier(session, 'paused'));
    const result = await waitForReplication({ sessions, topology, fences, timeoutMs: 60_000 });
    assert.equal(result.passed, false);
    assert.deepEqual(
      result.starved.map((one) => `${one.edge.from}>${one.edge.to}`),
      ['n1>n2'],
    );
    assert.ok((result.starved[0]?.missingBytes ?? 0n) > 0n);
    await mesh.resumeReplication('n1', 'n2');
    const caughtUp = async (): Promise<boolean> =>
      (
        await waitForReplication({
          sessions,
          topology: await readTopology(sessions),
          fences,
          timeoutMs: 10_000,
        })
      ).passed;
    await waitFor(caughtUp, { what: 'the subscription to catch up' });
  });

  it('reads subscriptions of Spock by their slots', async () => {
    // Only the columns that its extension scripts declare and that we read.
    await mesh.query(
      'n3',
      `CREATE SCHEMA spock;
       CREATE TABLE spock.subscription (sub_id oid PRIMARY KEY, sub_name name, sub_slot_name name,
         sub_enabled boolean, sub_forward_origins text[]);
       INSERT INTO spock.subscription VALUES (1, 'sub_n3_n1', 'spk_app_n1_sub', true, '{}'),
         (2, 'sub_n3_n2', 'spk_app_n2_sub', false, '{all}')`,
    );
    for (const node of ['n1', 'n2']) {
      await mesh.query(
        node,
        `SELECT pg_create_logical_replication_slot('spk_app_${node}_sub', 'pgoutput')`,
      );
    }
    const { edges } = await readTopology(sessions);
    assert.deepEqual(
      edges
        .filter(({ kind }) => kind === 'spock')
        .map(({ from, to, subscription, isEnabled, originMode, origin }) =>
          [from, to, subscription, isEnabled, originMode, origin].join(' '),
        )
        .toSorted(),
      ['n1 n3 sub_n3_n1 true none spk_app_n1_sub', 'n2 n3 sub_n3_n2 false any spk_app_n2_sub'],
    );
    await mesh.query('n3', 'DROP SCHEMA spock CASCADE');
  });

  it('gives up at the deadline, naming a subscriber that stands still', async () => {
    const topology = await readTopology(sessions);
    const [[, end] = []] = await fencesOf(currentInsertLsn);
    assert.ok(end !== undefined);
    const fences = new Map([['n1', (end + 1_000_000_000n) as Lsn]]);
    const result = await waitForReplication({ sessions, topology, fences, timeoutMs: 50 });
    assert.equal(result.passed, false);
    assert.equal(result.starved.length, 2);
  });
});
