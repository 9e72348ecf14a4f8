import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parseLsn } from '../../src/base/lsn.js';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { repair } from '../../src/commands/repair.js';
import type {
  DiffResult,
  RepairParams,
  RepairResult,
  TableDiffParams,
} from '../../src/protocol/commands.js';
import { furthestSurvivor } from '../../src/repair/recovery.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { differingKeys } from '../support/verdict.js';

const TABLES = `
  CREATE TABLE came (id int PRIMARY KEY, v text);
  CREATE TABLE times (id int PRIMARY KEY, v text);
  CREATE TABLE sums (id int PRIMARY KEY, amount numeric, f float8, n bigint, note text);
  CREATE TABLE lost (id int PRIMARY KEY, v text);
  CREATE TABLE big (id int PRIMARY KEY, v int);
  CREATE TABLE many (id int PRIMARY KEY, v int)`;

describe('a diff of less than the whole table', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let directory: string;

  before(async () => {
    mesh = await startMesh({
      nodes: 3,
      tables: TABLES,
      settings: { track_commit_timestamp: 'on' },
    });
    await mesh.query('n1', `INSERT INTO came SELECT i, 'n1' FROM generate_series(1, 10) i`);
    await mesh.query('n3', `INSERT INTO came SELECT i, 'n3' FROM generate_series(11, 20) i`);
    await mesh.query('n1', `INSERT INTO times SELECT i, i FROM generate_series(1, 10) i`);
    await mesh.query(
      'n1',
      `INSERT INTO sums SELECT i, i, i / 3.0::float8, i, i FROM generate_series(1, 10) i`,
    );
    await mesh.query('n1', 'INSERT INTO many SELECT i, i FROM generate_series(1, 20000) i');
    await mesh.waitForReplication();
    directory = await scratchDirectory();
    cluster = new Cluster(mesh.config(directory), silentLogger());
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(directory);
  });

  function diff(table: string, params: Partial<TableDiffParams> = {}): Promise<DiffResult> {
    return diffTable(cluster, { table, ...params }, testContext(directory));
  }

  async function summaryOf({ files }: DiffResult): Promise<Record<string, unknown>> {
    const text = await readFile(join(directory, files[0] ?? ''), 'utf8');
    return (JSON.parse(text) as { summary: Record<string, unknown> }).summary;
  }

  describe('--against-origin', () => {
    it('equal rows are no difference, however they came to a node', async () => {
      for (const againstOrigin of ['n1', 'n2', 'n3']) {
        const run = diff('came', { againstOrigin });
        if (againstOrigin === 'n2') assert.equal((await run).differences['n1/n2'], undefined);
        else assert.equal((await run).verdict, 'match', againstOrigin);
      }
    });

    it('takes whole rows of the keys that any node has from there', async () => {
      await mesh.driftSql(
        'n2',
        `DELETE FROM came WHERE id = 12; UPDATE came SET v = 'x' WHERE id = 13`,
      );
      await mesh.driftSql('n1', `UPDATE came SET v = 'y' WHERE id = 3`);
      await mesh.driftSql('n2', 'DELETE FROM came WHERE id = 4');
      const fromN3 = await diff('came', { againstOrigin: 'n3' });
      assert.equal(fromN3.verdict, 'drift');
      assert.deepEqual(await differingKeys(directory, fromN3, 'id'), {
        'n1/n2': { n1: [12, 13], n2: [13] },
        'n2/n3': { n2: [13], n3: [12, 13] },
      });
      const summary = await summaryOf(fromN3);
      assert.deepEqual([summary['against_origin'], summary['origin_only']], ['n3', true]);
      const fromN1 = await diff('came', { againstOrigin: 'n1' });
      assert.deepEqual(await differingKeys(directory, fromN1, 'id'), {
        'n1/n2': { n1: [3, 4], n2: [3] },
        'n1/n3': { n1: [3], n3: [3] },
        'n2/n3': { n2: [], n3: [4] },
      });
    });

    it('where a node knows no such origin the others decide; where none does it is refused', async () => {
      const two = await diff('came', { againstOrigin: 'mesh_drift', nodes: ['n2', 'n3'] });
      assert.deepEqual(await differingKeys(directory, two, 'id'), {
        'n2/n3': { n2: [13], n3: [13] },
      });
      await assert.rejects(diff('came', { againstOrigin: 'n9' }), {
        code: 'BAD_USAGE',
        message: /no compared node knows an origin n9/,
      });
    });
  });

  it('--until leaves out what some node has written later, and says how much', async () => {
    await mesh.driftSql('n2', `UPDATE times SET v = 'early' WHERE id = 1`);
    const [[until]] = (await mesh.query(
      'n1',
      `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`,
    )) as [[string]];
    await mesh.driftSql('n3', `UPDATE times SET v = 'late' WHERE id IN (1, 2)`);
    const all = await diff('times');
    assert.equal(all.differences['n2/n3'], 2);
    const early = await diff('times', { until });
    assert.deepEqual([early.verdict, early.newerRows, early.differences], ['match', 2, {}]);
    const later = await diff('times', { until: '2199-01-01T00:00:00+05:00' });
    assert.deepEqual([later.differences, later.newerRows], [all.differences, undefined]);
    assert.equal((await summaryOf(later))['until'], '2199-01-01T00:00:00+05:00');
    for (const wrong of ['yesterday', '2026-01-01', '2026-01-01T00:00:00']) {
      await assert.rejects(diff('times', { until: wrong }), { code: 'BAD_USAGE' });
    }
  });

  it('--tolerance counts what is close enough apart, and never says equal', async () => {
    await mesh.driftSql(
      'n2',
      `UPDATE sums SET amount = amount + 0.010, f = f + 1e-12 WHERE id = 1;
       UPDATE sums SET amount = amount - 0.0100001 WHERE id = 2;
       UPDATE sums SET amount = amount + 0.001, note = 'other' WHERE id = 3;
       UPDATE sums SET amount = 'NaN' WHERE id = 4; UPDATE sums SET amount = NULL WHERE id = 5`,
    );
    const tolerances = ['amount=0.01', 'f=1e-9'];
    const found = await diff('sums', { tolerances });
    assert.deepEqual(found.toleratedRows, { 'n1/n2': 1, 'n2/n3': 1 });
    assert.equal(found.agreement, undefined);
    assert.deepEqual((await differingKeys(directory, found, 'id'))['n1/n2'], {
      n1: [2, 3, 4, 5],
      n2: [2, 3, 4, 5],
    });
    const aced = (await summaryOf(found))['aced'] as Record<string, unknown>;
    assert.deepEqual(aced['tolerated_rows'], { 'n1/n2': 1, 'n2/n3': 1 });
    await mesh.driftSql('n2', 'UPDATE sums SET amount = id, note = id WHERE id > 1');
    const close = await diff('sums', { tolerances });
    assert.deepEqual([close.verdict, close.differences, close.files], ['drift', {}, []]);
    for (const wrong of ['amount', 'amount=-1', 'note=1', 'id=1', 'nope=1', '=1']) {
      await assert.rejects(diff('sums', { tolerances: [wrong] }), { code: 'BAD_USAGE' }, wrong);
    }
  });

  it('--sample finds what lies in it, and is never a match', async () => {
    const some = await diff('many', { samplePercent: 20 });
    assert.equal(some.verdict, 'unverified');
    assert.ok(some.warnings.some((text) => /A sample was compared: 4 of 20 ranges/.test(text)));
    assert.equal((await diff('many', { samplePercent: 100 })).verdict, 'unverified');
    assert.equal((await diff('many')).verdict, 'match');
    await mesh.driftSql('n2', 'UPDATE many SET v = -v WHERE id % 1000 = 7');
    const { verdict, differences } = await diff('many', { samplePercent: 20 });
    assert.deepEqual([verdict, differences['n1/n2']], ['drift', 4]);
  });

  it('--max-diff-rows ends the search', async () => {
    const result = await diff('many', { maxDiffRows: 3 });
    assert.equal(result.rowLimitReached, true);
    assert.equal(result.agreement, undefined);
    const { 'n1/n2': pair } = await differingKeys(directory, result, 'id');
    assert.deepEqual(pair?.['n1'], [7, 1007, 2007]);
  });

  describe('--resume', () => {
    const ROWS = 250_000;
    const nodes = ['n1', 'n2'];

    /** Ends once so many ranges have been hashed, over both nodes. */
    async function interrupted(
      ranges: number,
      params: Partial<TableDiffParams> = {},
    ): Promise<void> {
      const stop = new AbortController();
      const context = testContext(directory, { signal: stop.signal });
      const run = diffTable(
        cluster,
        { table: 'big', nodes, ...params },
        {
          ...context,
          emit: (event) => {
            if (event.type === 'progress' && event.done >= ranges) stop.abort();
          },
        },
      );
      await assert.rejects(run, { code: 'CANCELLED' });
    }

    const resumed = (params: Partial<TableDiffParams> = {}): Promise<DiffResult> =>
      diff('big', { nodes, resume: true, ...params });

    before(async () => {
      const fill = `INSERT INTO big SELECT i, i FROM generate_series(1, ${ROWS}) i`;
      await Promise.all(nodes.map((node) => mesh.driftSql(node, fill)));
    });

    it('reads again what was not proved equal, and says from when the rest is', async () => {
      await mesh.driftSql('n2', `UPDATE big SET v = 0 WHERE id IN (50, ${ROWS - 50})`);
      await interrupted(300);
      const [before] = await mesh.query('n1', 'SELECT pg_current_wal_insert_lsn()');
      // In a range that was equal, and is not read again.
      await mesh.driftSql('n2', 'UPDATE big SET v = 0 WHERE id = 5050');
      const found = await resumed();
      assert.equal(found.verdict, 'drift');
      assert.deepEqual(await differingKeys(directory, found, 'id'), {
        'n1/n2': { n1: [50, ROWS - 50], n2: [50, ROWS - 50] },
      });
      const [first, second] = found.parts ?? [];
      assert.ok(first !== undefined && second !== undefined && first.ranges >= 50);
      assert.equal(first.ranges + second.ranges, ROWS / 1000);
      // What was committed before the first beginning was compared, and no more is claimed.
      assert.deepEqual(found.positions, first.positions);
      assert.ok(parseLsn(first.positions['n1'] ?? '') <= parseLsn(before?.[0] ?? ''));
      assert.match(
        found.warnings.join(),
        new RegExp(`${first.ranges} of 250 ranges are not read again`),
      );
      const summary = await summaryOf(found);
      assert.equal(summary['total_rows_checked'], ROWS);
      // It has come to its end: the next one begins anew.
      const anew = await resumed();
      assert.deepEqual([anew.parts, anew.differences], [undefined, { 'n1/n2': 3 }]);
    });

    it('takes nothing from a diff of something else, nor from before a restart', async () => {
      await interrupted(300);
      for (const params of [{ columns: ['id'] }, { tableFilter: 'id > 0' }]) {
        assert.equal((await resumed(params)).parts, undefined, JSON.stringify(params));
      }
      await interrupted(300);
      await interrupted(100, { resume: true });
      const { parts = [] } = await resumed();
      assert.ok(parts.length >= 2);
      assert.equal(
        parts.reduce((sum, { ranges }) => sum + ranges, 0),
        ROWS / 1000,
      );
      await interrupted(300);
      await mesh.node('n2').restart();
      await cluster.close();
      cluster = new Cluster(mesh.config(directory), silentLogger());
      const told = testContext(directory);
      const anew = await diffTable(cluster, { table: 'big', nodes, resume: true }, told);
      assert.deepEqual([anew.parts, anew.differences], [undefined, { 'n1/n2': 3 }]);
      assert.match(
        told.messages().join(),
        /starts again from the beginning: the server of n2 was started again since/,
      );
      await assert.rejects(resumed({ againstOrigin: 'n1' }), { code: 'BAD_USAGE' });
    });
  });

  describe('--recovery-mode', () => {
    const survivors = ['n1', 'n2'];
    let file: string;

    function recover(params: Partial<RepairParams> = {}): Promise<RepairResult> {
      const context = testContext(directory, { inputPath: file });
      return repair(
        cluster,
        { table: 'lost', nodes: survivors, recoveryMode: true, ...params },
        context,
      );
    }

    /** Whose role may read little. */
    async function recoverAs(user: string): Promise<RepairResult> {
      const config = mesh.config(await scratchDirectory());
      const plain = new Cluster(
        { ...config, nodes: config.nodes.map((node) => ({ ...node, user })) },
        silentLogger(),
      );
      try {
        return await repair(
          plain,
          { table: 'lost', nodes: survivors, recoveryMode: true, dryRun: true },
          testContext(directory, { inputPath: file }),
        );
      } finally {
        await plain.close();
        await removeDirectory(config.stateDir);
      }
    }

    async function fromN3(origin = 'n3'): Promise<DiffResult> {
      const found = await diff('lost', { againstOrigin: origin, nodes: survivors });
      if (found.files[0] !== undefined) file = join(directory, found.files[0]);
      return found;
    }

    it('takes the survivor that has applied most of the lost node, once nothing comes from it', async () => {
      await mesh.query('n3', `INSERT INTO lost SELECT i, 'n3' FROM generate_series(1, 10) i`);
      await mesh.waitForReplication();
      await mesh.pauseReplication('n3', 'n2');
      await mesh.query(
        'n3',
        `INSERT INTO lost VALUES (11, 'late'), (12, 'late'); UPDATE lost SET v = 'late' WHERE id = 3`,
      );
      await mesh.waitForReplication();
      await fromN3();
      // It answers, and has something for n2 yet.
      await assert.rejects(recover(), { code: 'NOT_PROVED', message: /mesh_n2_from_n3/ });
      await mesh.node('n3').stop('immediate');
      const found = await fromN3();
      assert.deepEqual([found.verdict, found.differences], ['starved', { 'n1/n2': 3 }]);
      await assert.rejects(recover({ recoveryMode: false, sourceOfTruth: 'n1' }), {
        code: 'BAD_USAGE',
      });
      await assert.rejects(recover({ nodes: ['n3', 'n1'] }), {
        code: 'NODE_UNREACHABLE',
        hint: /--nodes <survivors>/,
      });
      const planned = await recover({ dryRun: true });
      assert.deepEqual([planned.recovery?.lost, planned.recovery?.source], ['n3', 'n1']);
      const done = await recover();
      assert.equal(done.nodes['n2']?.upserted, 3);
      assert.match(done.warnings.join(), /mesh_n1_from_n3 on n1 is still enabled/);
      const [[rows]] = (await mesh.query('n2', 'SELECT count(*) FROM lost')) as [[string]];
      assert.equal(rows, '12');
    });

    it('a role that may read no connection strings names the subscriptions, and needs one GRANT', async () => {
      for (const node of survivors) {
        await mesh.query(node, 'CREATE ROLE plain LOGIN; GRANT SELECT ON lost TO plain');
      }
      await mesh.driftSql('n2', "UPDATE lost SET v = 'other' WHERE id = 12");
      await fromN3();
      await assert.rejects(recoverAs('plain'), {
        code: 'BAD_USAGE',
        message: /how far n3 was applied is not known on n1, n2/,
      });
      await fromN3('n3,n1=mesh_n1_from_n3,n2=mesh_n2_from_n3');
      await assert.rejects(recoverAs('plain'), {
        code: 'MISSING_PRIVILEGE',
        hint: /GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_progress/,
      });
      for (const node of survivors) {
        await mesh.query(
          node,
          'GRANT EXECUTE ON FUNCTION pg_catalog.pg_replication_origin_progress(text, boolean) TO plain',
        );
      }
      assert.equal((await recoverAs('plain')).recovery?.source, 'n1');
    });

    it('without the subscription a person names the origin, and the source', async () => {
      const numbers: string[] = [];
      for (const node of survivors) {
        const [[id] = []] = await mesh.query(
          node,
          `SELECT o.roident::text FROM pg_replication_origin o JOIN pg_subscription s
             ON o.roname = 'pg_' || s.oid WHERE s.subname = 'mesh_${node}_from_n3'`,
        );
        numbers.push(`${node}=${id ?? ''}`);
      }
      // n2's own write has another origin; n1's row has that of n3.
      assert.deepEqual((await fromN3()).differences, { 'n1/n2': 1 });
      const drop = `ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s`;
      for (const sql of drop.split('; ')) {
        await mesh.query('n2', sql.replace(' s', ' mesh_n2_from_n3'));
      }
      await assert.rejects(recover(), {
        code: 'BAD_USAGE',
        message: /how far n3 was applied is not known on n2/,
        hint: /--source-of-truth <n1\|n2>/,
      });
      for (const sql of drop.split('; ')) {
        await mesh.query('n1', sql.replace(' s', ' mesh_n1_from_n3'));
      }
      await assert.rejects(diff('lost', { againstOrigin: 'n3', nodes: survivors }), {
        code: 'BAD_USAGE',
        message: /no compared node knows an origin n3/,
      });
      await fromN3(`n3,${numbers.join(',')}`);
      assert.equal((await recover({ sourceOfTruth: 'n1' })).nodes['n2']?.upserted, 1);
      await fromN3(numbers.join(','));
      for (const wrong of ['n3,n4', 'n1=', 'n9=1', 'n1=1,n1=2']) {
        const refused = diff('lost', { againstOrigin: wrong, nodes: survivors });
        await assert.rejects(refused, { code: 'BAD_USAGE' }, wrong);
      }
    });

    it('never guesses', () => {
      const applied = { n1: '0/FF', n2: '1/0', n4: '0/100' };
      assert.equal(furthestSurvivor({ lost: 'n3', applied }), 'n2');
      for (const other of [{ ...applied, n4: '1/0' }, { ...applied, n1: null }, { n1: null }]) {
        assert.throws(() => furthestSurvivor({ lost: 'n3', applied: other }), {
          code: 'BAD_USAGE',
          hint: /--source-of-truth/,
        });
      }
    });
  });
});
