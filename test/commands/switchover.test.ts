import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import type { Config } from '../../src/config/config.js';
import { build } from '../../src/commands/build.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { Mesh } from '../support/mesh.js';
import { STANDBY_SLOT, startServer, startStandby, type TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import { Proxy } from '../stream/proxy.js';

const TABLE = 'public.exact';
const DDL = `
  CREATE TABLE exact (id bigint PRIMARY KEY, v int NOT NULL);
  ALTER TABLE exact REPLICA IDENTITY FULL;
  INSERT INTO exact SELECT i, 0 FROM generate_series(1, 500) i;
`;
const STANDBY_SETTINGS = { sync_replication_slots: 'on', hot_standby_feedback: 'on' };

interface LogLine {
  readonly event?: string;
  readonly node?: string;
  readonly msg?: string;
}

/**
 * n2 is a primary with a physical standby, behind an address that moves from one to the other. The same
 * writes go to both nodes by hand: nothing but our own slots depends on their logs.
 */
class Site {
  lines: LogLine[] = [];
  /** Whom n2's address leads to. */
  current: TestServer;
  readonly config: Config;
  #writes = 0;

  private constructor(
    readonly mesh: Mesh,
    readonly standby: TestServer,
    readonly address: Proxy,
    readonly stateDir: string,
    failoverSlot: Config['stream']['failoverSlot'],
  ) {
    this.current = mesh.node('n2');
    const config = mesh.config(stateDir, { stream: { fenceTimeoutMs: 20_000, failoverSlot } });
    const nodes = config.nodes.map((node) =>
      node.name === 'n2' ? { ...node, port: address.port } : node,
    );
    this.config = { ...config, nodes };
  }

  static async start(
    settings: Readonly<Record<string, string>>,
    failoverSlot: Config['stream']['failoverSlot'],
  ): Promise<Site> {
    const servers = await Promise.all([startServer({ major: 17 }), startServer({ major: 17 })]);
    const mesh = new Mesh(new Map(servers.map((one, i) => [`n${i + 1}`, one])), 'app', 'demo');
    for (const server of servers) await server.createDatabase('app');
    await mesh.queryAll(DDL);
    const primary = mesh.node('n2');
    const standby = await startStandby(primary, STANDBY_SETTINGS);
    for (const [name, value] of Object.entries(settings)) {
      await primary.query('postgres', `ALTER SYSTEM SET ${name} = '${value}'`);
    }
    await primary.query('postgres', 'SELECT pg_reload_conf()');
    const site = new Site(
      mesh,
      standby,
      await Proxy.start(primary),
      await scratchDirectory(),
      failoverSlot,
    );
    await site.with(async (cluster) => {
      const context = testContext(site.stateDir);
      await initialise(cluster, context);
      await build(cluster, { table: TABLE, blockRows: 20 }, context);
      await catchUp(cluster);
    });
    return site;
  }

  async stop(): Promise<void> {
    await this.address.stop();
    await this.standby.stop('immediate');
    await this.mesh.stop();
    await removeDirectory(this.stateDir);
  }

  async with(work: (cluster: Cluster) => Promise<void>): Promise<void> {
    const log = createLogger('info', {
      write: (line: string) => void this.lines.push(JSON.parse(line) as LogLine),
    });
    const cluster = new Cluster(this.config, log);
    try {
      await work(cluster);
    } finally {
      await cluster.close();
    }
  }

  leadTo(server: TestServer): void {
    this.current = server;
    this.address.leadTo(server);
  }

  /** On both nodes; each changes some sum. */
  async write(): Promise<void> {
    this.#writes += 1;
    const sql = `UPDATE exact SET v = ${this.#writes} WHERE id % 50 = ${this.#writes % 50};
                 INSERT INTO exact VALUES (${1000 + this.#writes}, 0)`;
    await this.mesh.query('n1', sql);
    await this.current.query('app', sql);
  }

  async assertRight(cluster: Cluster): Promise<void> {
    await catchUp(cluster);
    await assertLeavesMatchServer(cluster, cluster.requireTable(TABLE));
  }

  verdict = async (cluster: Cluster): Promise<string> =>
    (await diffTree(cluster, { table: TABLE }, testContext(this.stateDir))).verdict;

  /** Our slot on a server: whether standbys are to copy it, and whether it is such a copy. */
  async slot(server: TestServer): Promise<readonly (string | null)[]> {
    const rows = await server.query(
      'postgres',
      `SELECT failover::text, synced::text FROM pg_replication_slots
        WHERE slot_name = $1 AND NOT temporary`,
      [this.config.slotName],
    );
    return rows[0] ?? [];
  }

  /**
   * The standby's copy of our slot survives a promotion, and stands where we do. A first copy only lasts
   * once the slot has moved past what the standby had when it began to copy: hence the loop.
   */
  async copySlot(cluster: Cluster): Promise<void> {
    await waitFor(
      async () => {
        await this.current.query('app', 'SELECT pg_log_standby_snapshot()');
        await catchUp(cluster);
        const pipeline = cluster.pipeline('n2');
        pipeline.flush();
        const [failover, synced] = await this.slot(this.standby);
        return failover === 'true' && synced === 'true';
      },
      { what: 'a copy of our slot on the standby', timeoutMs: 60_000 },
    );
  }

  gaps = (): string[] =>
    this.lines.flatMap(({ event, node, msg }) =>
      event === 'stream_gap' && node === 'n2' ? [msg ?? ''] : [],
    );
}

describe('a switchover to a standby that has all that we have seen', () => {
  let site: Site;
  let old: TestServer;

  before(async () => {
    site = await Site.start({ synchronized_standby_slots: STANDBY_SLOT }, 'auto');
    old = site.mesh.node('n2');
  });

  after(() => site.stop());

  beforeEach(() => {
    site.lines = [];
  });

  it('our slot is one for standbys to copy, since the primary waits for standbys', async () => {
    assert.deepEqual(await site.slot(old), ['true', 'false']);
  });

  it('a standby that is down holds the stream: STARVED says so, and nothing is reported equal', async () => {
    await site.with(async (cluster) => {
      cluster.startStreaming();
      await catchUp(cluster);
      await site.standby.kill();
      await site.write();
      await assert.rejects(
        diffTree(cluster, { table: TABLE, cdcTimeoutMs: 500 }, testContext(site.stateDir)),
        (error: { code?: string; hint?: string }) =>
          error.code === 'STARVED' && error.hint?.includes('synchronized_standby_slots') === true,
      );
      await site.standby.start();
      await site.assertRight(cluster);
      assert.equal(await site.verdict(cluster), 'match');
    });
  });

  it('after the promotion the stream goes on where it was, with the daemon running', async () => {
    await site.with(async (cluster) => {
      cluster.startStreaming();
      await site.write();
      await site.copySlot(cluster);
      await site.write();
      await site.assertRight(cluster);
      await old.kill();
      await site.standby.promote();
      site.leadTo(site.standby);
      await site.write();
      await site.assertRight(cluster);
      assert.equal(await site.verdict(cluster), 'match');
    });
    assert.deepEqual(site.gaps(), []);
    assert.equal((await site.slot(site.standby))[0], 'true');
  });

  it('the old primary comes back in its place: another history, all blocks are read again', async () => {
    await old.start();
    // Nobody stands by for it any more.
    await old.query('postgres', 'ALTER SYSTEM RESET synchronized_standby_slots');
    await old.query('postgres', 'SELECT pg_reload_conf()');
    site.leadTo(old);
    await site.with(async (cluster) => {
      cluster.startStreaming();
      await site.assertRight(cluster);
      assert.equal(await site.verdict(cluster), 'drift', 'it lacks what the new primary was given');
    });
    assert.equal(site.gaps().length, 1);
  });
});

describe('a failover to a standby that lacks what we have seen', () => {
  let site: Site;

  before(async () => {
    site = await Site.start({}, 'on');
  });

  after(() => site.stop());

  it('all blocks are read again: the lost rows differ', async () => {
    const old = site.mesh.node('n2');
    await site.with(async (cluster) => {
      cluster.startStreaming();
      await site.copySlot(cluster);
      site.lines = [];
      await site.standby.kill();
      await site.write();
      await site.assertRight(cluster);
      await old.kill();
      await site.standby.start();
      await site.standby.promote();
      site.leadTo(site.standby);
      await site.write();
      await site.assertRight(cluster);
      assert.equal(await site.verdict(cluster), 'drift');
    });
    assert.equal(site.gaps().length, 1, site.gaps().join());
  });
});
