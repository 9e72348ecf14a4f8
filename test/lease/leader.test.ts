import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Lease, type Reign } from '../../src/lease/lease.js';
import { putLeader, type LeaderKey } from '../../src/mirror/leader.js';
import { Session } from '../../src/postgres/session.js';
import { TargetSession } from '../../src/repair/target-session.js';
import { startServer, type TestServer } from '../support/postgres.js';

const CLUSTER = 'demo';
const DATABASE = 'app';

/** One server that is a node, and holds the lease too. */
describe('the leader of a node', () => {
  let server: TestServer;
  const leases: Lease[] = [];

  before(async () => {
    server = await startServer({ settings: { track_commit_timestamp: 'on' } });
    await server.createDatabase(DATABASE);
    await server.query(DATABASE, 'CREATE TABLE t (id int PRIMARY KEY)');
  });

  after(async () => {
    for (const lease of leases) await lease.release();
    await server.stop();
  });

  /** The one before has been deposed, and does not know. */
  async function next(): Promise<LeaderKey> {
    await leases.at(-1)?.release();
    const lease = new Lease({
      ...{
        schema: 'aced',
        cluster: CLUSTER,
        instance: null,
        log: silentLogger(),
      },
      database: server.nodeConfig(DATABASE, 'lease'),
      onLost: (reason) => {
        throw new Error(reason);
      },
    });
    leases.push(lease);
    const reign: Reign = await lease.acquire();
    return { schema: 'aced', cluster: CLUSTER, reign };
  }

  const connect = (): Promise<Session> =>
    Session.connect(server.nodeConfig(DATABASE, 'n1'), {
      applicationName: 'test',
    });

  async function openTarget(session: Session, leader: LeaderKey): Promise<TargetSession> {
    const [[oid] = []] = await server.query(DATABASE, "SELECT 't'::regclass::oid");
    return TargetSession.open(session, {
      ...{ firesTriggers: false, leader, signal: new AbortController().signal },
      tableOid: Number(oid),
    });
  }

  const rows = async (): Promise<number> =>
    Number((await server.query(DATABASE, 'SELECT count(*) FROM t'))[0]?.[0]);

  it('keeps a deposed one from beginning, and from committing what it had begun', async () => {
    const [session, other, third] = [await connect(), await connect(), await connect()];
    try {
      const first = await next();
      const target = await openTarget(session, first);
      await target.begin(null);
      await session.query('INSERT INTO public.t VALUES (1)');
      await target.commit();
      assert.equal(await rows(), 1);
      await target.begin(null);
      await session.query('INSERT INTO public.t VALUES (2)');
      const second = await next();
      assert.equal(second.reign.epoch, first.reign.epoch + 1);
      // Waits for the transaction of the one before, and ends it: that one is stopped, say.
      await putLeader(other, second);
      await assert.rejects(target.commit());
      assert.equal(await rows(), 1);
      await assert.rejects(putLeader(third, first), { code: 'STANDBY' });
      await assert.rejects(openTarget(third, first), { code: 'STANDBY' });
      const successor = await openTarget(other, second);
      await successor.begin(null);
      await other.query('INSERT INTO public.t VALUES (3)');
      await successor.commit();
      await successor.close();
      assert.equal(await rows(), 2);
    } finally {
      for (const one of [session, other, third]) await one.close();
    }
  });

  it('a repair under way is refused its next transaction', async () => {
    const [session, other] = [await connect(), await connect()];
    try {
      const first = await next();
      const target = await openTarget(session, first);
      await putLeader(other, await next());
      await assert.rejects(target.begin(null), { code: 'STANDBY' });
      await target.rollback();
      await target.close();
    } finally {
      for (const one of [session, other]) await one.close();
    }
  });

  it('what was left is written by the holder alone', async () => {
    const first = await next();
    await first.reign.writeHandover(
      new Map([
        ['state', '1'],
        ['table t', '2'],
      ]),
    );
    const second = await next();
    await assert.rejects(first.reign.writeHandover(new Map([['state', null]])), /somebody else/);
    await second.reign.writeHandover(
      new Map([
        ['state', '3'],
        ['table t', null],
      ]),
    );
    assert.deepEqual([...(await second.reign.readHandover())], [['state', '3']]);
  });
});
