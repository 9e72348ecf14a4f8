import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { ProgressEvent } from '../../src/protocol/commands.js';
import type { TableVerdict } from '../../src/protocol/drift.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { CUSTOMERS_DDL, customerRows } from '../support/customers.js';
import { CUSTOMERS_LOAD, startLoad } from '../support/load.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { validateEvent } from './event-schema.js';

const ROWS = 2000;
/** More than are looked at at once. */
const MANY_ROWS = 45_000;
const MANY = `SELECT g, 'v' || g FROM generate_series(1, ${MANY_ROWS}) g`;

type LogLine = Readonly<Record<string, unknown>>;

/** What a daemon logs, line by line. */
class LogLines extends Writable {
  readonly lines: LogLine[] = [];
  #rest = '';

  override _write(chunk: Buffer, _: string, done: () => void): void {
    const parts = (this.#rest + chunk.toString('utf8')).split('\n');
    this.#rest = parts.pop() ?? '';
    for (const part of parts) this.lines.push(JSON.parse(part) as LogLine);
    done();
  }

  drift(): LogLine[] {
    return this.lines.filter(({ event }) => String(event).startsWith('drift_'));
  }

  /** The first such event after `from` of the lines. */
  async event(name: string, from: number, timeoutMs = 20_000): Promise<LogLine> {
    const find = (): LogLine | undefined =>
      this.lines.slice(from).find(({ event }) => event === name);
    await waitFor(() => find() !== undefined, { what: `the event ${name}`, timeoutMs });
    return find() ?? {};
  }
}

describe('the daemon judges tables all the time', () => {
  let mesh: Mesh;
  let stateDir: string;
  let engine: Engine;
  let log: LogLines;

  before(async () => {
    mesh = await startMesh({
      nodes: 3,
      settings: {
        track_commit_timestamp: 'on',
        shared_preload_libraries: 'pg_stat_statements',
        'pg_stat_statements.track': 'all',
      },
      tables: `${CUSTOMERS_DDL}; CREATE TABLE many (id int PRIMARY KEY, v text);
        CREATE TABLE visits (id int PRIMARY KEY, n int NOT NULL);
        ALTER TABLE visits REPLICA IDENTITY FULL;
        CREATE EXTENSION pg_stat_statements`,
    });
    await mesh.query('n1', `INSERT INTO customers ${customerRows(1, ROWS)}`);
    await mesh.query('n1', `INSERT INTO many ${MANY}`);
    await mesh.query('n1', 'INSERT INTO visits SELECT i, 0 FROM generate_series(1, 3000) i');
    await mesh.waitForReplication();
    stateDir = await scratchDirectory();
    log = new LogLines();
    engine = await open();
    await engine.run('mtree-init', {}, testContext(stateDir));
    await engine.run('mtree-build', { table: 'customers' }, testContext(stateDir));
    await engine.run('mtree-build', { table: 'many' }, testContext(stateDir));
    await engine.run('mtree-build', { table: 'visits', blockRows: 1000 }, testContext(stateDir));
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  function open(): Promise<Engine> {
    const config = mesh.config(stateDir, { drift: { eventsHaveKeys: true } });
    return Engine.open(config, { log: createLogger('info', log), mode: 'daemon' });
  }

  it('says nothing of changes that replicate', async () => {
    const from = log.lines.length;
    const load = startLoad({
      mesh,
      statements: CUSTOMERS_LOAD,
      existingRows: ROWS,
      ratePerSecond: 300,
    });
    await waitFor(() => load.writes > 1500, { what: 'the load', timeoutMs: 60_000 });
    await load.stop();
    await mesh.waitForReplication();
    assert.deepEqual(
      log.lines.slice(from).filter(({ event }) => String(event).startsWith('drift_')),
      [],
    );
  });

  it('reads nothing of a table whose rows converge', async () => {
    const reads = async (): Promise<string[]> => {
      const perNode = await Promise.all(
        mesh.names.map((node) =>
          mesh.query(
            node,
            `SELECT query FROM pg_stat_statements
              WHERE query LIKE '%visits%' AND query !~ '^(UPDATE|INSERT|DELETE|COPY|CREATE|ALTER)'`,
          ),
        ),
      );
      return perNode.flat().map(([query]) => query ?? '');
    };
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
    await mesh.waitForReplication();
    for (const node of mesh.names) await mesh.query(node, 'SELECT pg_stat_statements_reset()');
    const load = startLoad({
      mesh,
      statements: { update: 'UPDATE visits SET n = n + 1 WHERE id = $1' },
      existingRows: 3000,
      ratePerSecond: 400,
    });
    await waitFor(() => load.writes > 800, { what: 'the load', timeoutMs: 60_000 });
    await load.stop();
    await mesh.waitForReplication();
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
    assert.deepEqual(await reads(), []);
    // That would be seen: what differs is read.
    await mesh.driftSql('n2', 'UPDATE visits SET n = n + 1 WHERE id = 1');
    await log.event('drift_opened', 0);
    assert.ok((await reads()).length > 0);
    await mesh.driftSql('n2', 'UPDATE visits SET n = n - 1 WHERE id = 1');
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
  });

  it('reports a row that one node changed alone, and that it is equal again', async () => {
    const from = log.lines.length;
    const watching = new AbortController();
    const watched: LogLine[] = [];
    const watch = engine.run(
      'drift-watch',
      {},
      {
        ...testContext(stateDir),
        signal: watching.signal,
        emit: (event) => {
          if (event.type === 'drift') watched.push(event.fields);
        },
      },
    );
    await mesh.driftSql('n2', 'UPDATE customers SET balance = balance + 1 WHERE id = 7');
    const opened = await log.event('drift_opened', from);
    assert.equal(opened['table'], 'public.customers');
    assert.equal(opened['kind'], 'different');
    assert.equal(opened['rows'], 1);
    assert.deepEqual(opened['agree'], [['n1', 'n3'], ['n2']]);
    assert.deepEqual(opened['keys'], [['7']]);
    assert.equal(opened['level'], 'warn');
    await mesh.driftSql('n2', 'DELETE FROM customers WHERE id = 11');
    await mesh.driftSql('n3', `INSERT INTO customers ${customerRows(900_001, 900_001)}`);
    await waitFor(() => log.drift().at(-1)?.['rows'] === 3, { what: 'all three rows' });
    const updated = log.drift().at(-1) ?? {};
    assert.equal(updated['event'], 'drift_updated');
    assert.equal(updated['incident'], opened['incident']);
    assert.equal(updated['kind'], 'mixed');
    assert.deepEqual([updated['missing'], updated['extra'], updated['different']], [1, 1, 1]);
    await mesh.driftSql('n2', `UPDATE customers SET balance = balance - 1 WHERE id = 7`);
    await mesh.driftSql('n2', `INSERT INTO customers ${customerRows(11, 11)}`);
    await mesh.driftSql('n3', 'DELETE FROM customers WHERE id = 900001');
    const resolved = await log.event('drift_resolved', from);
    assert.equal(resolved['incident'], opened['incident']);
    assert.equal(resolved['rows'], 0);
    watching.abort();
    await watch;
    assert.deepEqual(
      watched.map(({ event, revision }) => [event, revision]),
      driftSince(from).map(({ event, revision }) => [event, revision]),
    );
    for (const line of watched) {
      assert.ok(validateEvent(line), JSON.stringify(validateEvent.errors));
    }
  });

  it('calls a subscription that stands still starved, and what it brings late no drift', async () => {
    const from = log.lines.length;
    await mesh.pauseReplication('n1', 'n2');
    await mesh.query('n1', 'UPDATE customers SET balance = balance + 1 WHERE id <= 50');
    await waitFor(async () => (await verdict()).verdict === 'starved', { what: 'starved' });
    await mesh.resumeReplication('n1', 'n2');
    await waitFor(async () => (await verdict()).verdict === 'match', { what: 'match' });
    assert.deepEqual(driftSince(from), []);
  });

  it('finds drift between two nodes while changes do not get to a third one', async () => {
    const from = log.lines.length;
    await mesh.pauseReplication('n1', 'n2');
    await mesh.query(
      'n1',
      'UPDATE customers SET balance = balance + 1 WHERE id BETWEEN 300 AND 600',
    );
    await waitFor(async () => (await verdict()).verdict === 'starved', { what: 'starved' });
    await mesh.driftSql('n3', 'UPDATE customers SET balance = balance + 3 WHERE id IN (400, 1500)');
    const opened = await log.event('drift_opened', from);
    assert.deepEqual([opened['rows'], opened['agree']], [2, [['n1'], ['n3']]]);
    assert.deepEqual((opened['keys'] as string[][]).map(([key]) => key).sort(), ['1500', '400']);
    assert.equal((await verdict()).verdict, 'drift');
    await mesh.resumeReplication('n1', 'n2');
    // Only now it is known which node is alone.
    await waitFor(() => log.drift().at(-1)?.['agree']?.toString() === 'n1,n2,n3', {
      what: 'all nodes to be compared',
    });
    assert.deepEqual(log.drift().at(-1)?.['agree'], [['n1', 'n2'], ['n3']]);
    await mesh.driftSql('n3', 'UPDATE customers SET balance = balance - 3 WHERE id IN (400, 1500)');
    await log.event('drift_resolved', from);
    await waitFor(async () => (await verdict()).verdict === 'match', { what: 'match' });
    assert.deepEqual(
      driftSince(from).filter(({ rows }) => Number(rows) > 2),
      [],
      'what had not got there was never drift',
    );
  });

  it('an incident grows and ends while changes do not get to one node', async () => {
    const from = log.lines.length;
    await mesh.driftSql('n2', 'UPDATE customers SET credit = credit + 1 WHERE id IN (21, 22)');
    await waitFor(() => log.drift().at(-1)?.['rows'] === 2, { what: 'both rows' });
    await mesh.pauseReplication('n1', 'n3');
    await mesh.pauseReplication('n2', 'n3');
    await mesh.query('n1', 'UPDATE customers SET balance = balance + 1 WHERE id BETWEEN 30 AND 59');
    await waitFor(async () => (await verdict()).openRows > 0, { what: 'rows that wait for n3' });
    await mesh.driftSql('n2', 'UPDATE customers SET credit = credit + 1 WHERE id IN (23, 1900)');
    await waitFor(() => log.drift().at(-1)?.['rows'] === 4, { what: 'two rows more' });
    // One is mended by replication, which does not get to n3, and the others on n2 alone.
    await mesh.query('n1', 'UPDATE customers SET credit = 700 WHERE id = 22');
    await mesh.driftSql('n2', 'UPDATE customers SET credit = credit - 1 WHERE id IN (21, 1900)');
    await waitFor(() => lastRows(from) === 2, { what: 'two rows less' });
    await mesh.driftSql('n2', 'UPDATE customers SET credit = credit - 1 WHERE id = 23');
    await waitFor(() => lastRows(from) === 1, { what: 'the one that n3 has not got yet' });
    await mesh.query('n1', 'UPDATE customers SET credit = (1 * 22) % 850 WHERE id = 22');
    await log.event('drift_resolved', from);
    await mesh.resumeReplication('n1', 'n3');
    await mesh.resumeReplication('n2', 'n3');
    await waitFor(async () => (await verdict()).verdict === 'match', { what: 'match' });
    const told = driftSince(from);
    assert.deepEqual(new Set(told.map(({ incident }) => incident)).size, 1);
    assert.ok(
      told.every(({ rows }) => Number(rows) <= 4),
      'what waited for n3 was no drift',
    );
  });

  it('a node that differs and lags keeps its rows in the incident', async () => {
    await mesh.query('n1', 'UPDATE visits SET n = 0 WHERE id IN (5, 6)');
    await mesh.waitForReplication();
    const from = log.lines.length;
    await mesh.driftSql('n3', 'DELETE FROM visits WHERE id IN (5, 6)');
    await waitFor(() => log.drift().at(-1)?.['rows'] === 2, { what: 'both rows' });
    await mesh.pauseReplication('n1', 'n3');
    await mesh.pauseReplication('n2', 'n3');
    await mesh.query('n1', 'UPDATE visits SET n = n + 1 WHERE id BETWEEN 3 AND 6');
    await mesh.driftSql('n3', 'INSERT INTO visits VALUES (5, 1)');
    await waitFor(() => log.drift().at(-1)?.['rows'] === 1, { what: 'the row that is left' });
    await mesh.resumeReplication('n1', 'n3');
    await mesh.resumeReplication('n2', 'n3');
    await waitFor(async () => (await verdict('visits')).openRows === 0, { what: 'all to be read' });
    assert.equal((await verdict('visits')).verdict, 'drift');
    await mesh.driftSql('n3', 'INSERT INTO visits VALUES (6, 1)');
    await log.event('drift_resolved', from);
    assert.equal(new Set(driftSince(from).map(({ incident }) => incident)).size, 1);
  });

  it('a row that never rests keeps no drift beside it from being told, nor its end', async () => {
    const from = log.lines.length;
    const stopping = new AbortController();
    const busy = mesh.node('n1').session(mesh.database, async (query) => {
      while (!stopping.signal.aborted) await query('UPDATE visits SET n = n + 1 WHERE id = 10');
    });
    // In its block, and in another one.
    const delays: number[] = [];
    const ids = [20, 2500, 21, 2501, 22, 2502, 23, 2503];
    for (const id of ids) {
      const atMs = performance.now();
      await mesh.driftSql('n2', `UPDATE visits SET n = n - 1 WHERE id = ${id}`);
      await waitFor(() => lastRows(from) === delays.length + 1, { what: `row ${id}` });
      delays.push(performance.now() - atMs);
    }
    for (const id of ids) {
      await mesh.driftSql('n2', `UPDATE visits SET n = n + 1 WHERE id = ${id}`);
    }
    await log.event('drift_resolved', from);
    stopping.abort();
    await busy;
    assert.ok(Math.max(...delays) < 3_000, `${delays.map(Math.round).join(', ')} ms`);
  });

  it('what is made to differ and taken back at once leaves nothing open, nor do rows that go and come', async () => {
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
    const from = log.lines.length;
    for (let id = 100; id < 130; id++) {
      await mesh.driftSql('n2', `UPDATE visits SET n = n + 7 WHERE id = ${id}`);
      await mesh.query('n1', `DELETE FROM visits WHERE id = ${id + 500}`);
      await mesh.query('n1', `INSERT INTO visits VALUES (${id + 500}, ${id})`);
      await mesh.query('n3', `UPDATE visits SET id = -id WHERE id = ${id + 900}`);
      await mesh.driftSql('n2', `UPDATE visits SET n = n - 7 WHERE id = ${id}`);
    }
    await mesh.waitForReplication();
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
    const told = driftSince(from);
    const ids = (name: string): unknown[] =>
      told.flatMap(({ event, incident }) => (event === name ? [incident] : []));
    assert.deepEqual(ids('drift_opened'), ids('drift_resolved'));
    for (const { keys = [] } of told) {
      for (const [key] of keys as string[][]) {
        assert.ok(Number(key) >= 100 && Number(key) < 130, `row ${key} never was drift`);
      }
    }
  });

  it('a command that is always at work on a table keeps no drift of it from being told', async () => {
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
    const from = log.lines.length;
    const stopping = new AbortController();
    const busy = [1, 2, 3].map(async () => {
      while (!stopping.signal.aborted) {
        await engine.run('mtree-update', { table: 'visits' }, testContext(stateDir));
      }
    });
    await mesh.driftSql('n2', 'UPDATE visits SET n = n - 1 WHERE id = 40');
    await log.event('drift_opened', from);
    await mesh.driftSql('n2', 'UPDATE visits SET n = n + 1 WHERE id = 40');
    await log.event('drift_resolved', from);
    stopping.abort();
    await Promise.all(busy);
  });

  it('an incident outlives the rebuild of its table, and drift that is made meanwhile is told', async () => {
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
    const from = log.lines.length;
    await mesh.driftSql('n2', 'UPDATE visits SET n = n - 1 WHERE id = 60');
    const opened = await log.event('drift_opened', from);
    for (const node of mesh.names) {
      await mesh.query(node, 'ALTER TABLE visits ADD COLUMN seen boolean DEFAULT false');
    }
    await mesh.driftSql('n2', 'UPDATE visits SET n = n - 1 WHERE id = 61');
    await waitFor(() => lastRows(from) === 2, { what: 'both rows', timeoutMs: 60_000 });
    await mesh.driftSql('n2', 'UPDATE visits SET n = n + 1 WHERE id IN (60, 61)');
    await log.event('drift_resolved', from, 60_000);
    const told = driftSince(from).filter(({ table }) => table === 'public.visits');
    assert.deepEqual(new Set(told.map(({ incident }) => incident)), new Set([opened['incident']]));
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
  });

  it('a table that cannot be read for long holds up none of the others', async () => {
    await waitFor(async () => (await verdict('visits')).verdict === 'match', { what: 'match' });
    const from = log.lines.length;
    await mesh.node('n3').session(mesh.database, async (query) => {
      await query('BEGIN');
      await query('LOCK TABLE visits IN ACCESS EXCLUSIVE MODE');
      await mesh.driftSql('n2', 'UPDATE visits SET n = n - 1 WHERE id = 7');
      await waitFor(
        async () =>
          (
            await query(
              `SELECT 1 FROM pg_locks WHERE relation = 'visits'::regclass AND NOT granted`,
            )
          ).length > 0,
        { what: 'somebody to wait for the table' },
      );
      await mesh.driftSql('n2', 'UPDATE customers SET balance = balance + 1 WHERE id = 9');
      const opened = await log.event('drift_opened', from);
      assert.equal(opened['table'], 'public.customers');
      await query('ROLLBACK');
    });
    await mesh.driftSql('n2', 'UPDATE customers SET balance = balance - 1 WHERE id = 9');
    await mesh.driftSql('n2', 'UPDATE visits SET n = n + 1 WHERE id = 7');
    for (const table of ['customers', 'visits']) {
      await waitFor(async () => (await verdict(table)).verdict === 'match', { what: 'match' });
    }
  });

  it('follows rows that conflict and end up equal, and reports those that do not', async () => {
    const from = log.lines.length;
    await mesh.pauseReplication('n1', 'n2');
    await mesh.pauseReplication('n2', 'n1');
    await mesh.query('n1', "UPDATE customers SET city = 'from n1' WHERE id = 100");
    await mesh.query('n2', "UPDATE customers SET city = 'from n2' WHERE id = 100");
    await mesh.resumeReplication('n1', 'n2');
    await mesh.resumeReplication('n2', 'n1');
    // Each has applied the other's: n1 has n2's name and the other way round.
    const opened = await log.event('drift_opened', from);
    assert.deepEqual(opened['keys'], [['100']]);
    await mesh.query('n3', "UPDATE customers SET city = 'settled' WHERE id = 100");
    await log.event('drift_resolved', from);
  });

  it('reports a TRUNCATE of one node, a key that moved on one, and repairs by the incident', async () => {
    const from = log.lines.length;
    await mesh.driftSql('n3', 'TRUNCATE customers');
    const opened = await log.event('drift_opened', from);
    assert.equal(opened['trigger'], 'whole_table');
    assert.equal(opened['kind'], 'missing');
    assert.equal(
      opened['rows'],
      Number((await mesh.query('n1', 'SELECT count(*) FROM customers'))[0]?.[0]),
    );
    assert.deepEqual(opened['agree'], [['n1', 'n2'], ['n3']]);
    assert.equal((await verdict()).verdict, 'drift');
    const incident = String(opened['incident']).slice(0, 8);
    const result = await engine.run(
      'drift-repair',
      { incident, sourceOfTruth: 'n1' },
      testContext(stateDir),
    );
    assert.equal(result.isResolved, true);
    assert.equal((await log.event('drift_resolved', from))['how'], 'repair');
    await mesh.driftSql('n2', 'UPDATE customers SET id = 800001 WHERE id = 9');
    await waitFor(() => log.drift().at(-1)?.['rows'] === 2, {
      what: 'the old key and the new one',
    });
    await mesh.driftSql('n2', 'UPDATE customers SET id = 9 WHERE id = 800001');
    await waitFor(async () => (await verdict()).verdict === 'match', { what: 'match' });
  });

  it('tells of a large table bit by bit, counts all its rows in the end, and keeps no other table waiting', async () => {
    await mesh.driftSql('n3', 'TRUNCATE many');
    await mesh.driftSql('n2', "UPDATE customers SET city = 'meanwhile' WHERE id = 60");
    const from = log.lines.length;
    const of = (table: string): LogLine[] =>
      driftSince(from).filter((line) => line['table'] === table);
    await waitFor(() => of('public.customers').length > 0, { what: 'the small table' });
    await waitFor(() => of('public.many').at(-1)?.['rows'] === MANY_ROWS, {
      what: 'all rows of the large table',
      timeoutMs: 30_000,
    });
    assert.equal(of('public.many')[0]?.['event'], 'drift_opened');
    assert.equal(of('public.many')[0]?.['trigger'], 'whole_table');
    await mesh.driftSql('n2', `DELETE FROM customers WHERE id = 60`);
    await mesh.driftSql('n2', `INSERT INTO customers SELECT * FROM (${customerRows(60, 60)}) r`);
    await mesh.driftSql('n3', `INSERT INTO many ${MANY}`);
    await waitFor(() => of('public.many').some(({ event }) => event === 'drift_resolved'), {
      what: 'that the large table is equal',
      timeoutMs: 30_000,
    });
  });

  it('leaves rows to the repair that writes them, and tells what else differs', async () => {
    const from = log.lines.length;
    const told = (): LogLine[] => driftSince(from).filter(({ table }) => table === 'public.many');
    await mesh.driftSql('n3', 'DELETE FROM many WHERE id <= 20000');
    await waitFor(() => told().at(-1)?.['rows'] === 20_000, { what: 'all rows that are missing' });
    const { files } = await engine.run(
      'mtree-table-diff',
      { table: 'many' },
      testContext(stateDir),
    );
    const spoiling: Promise<void>[] = [];
    const context = {
      ...testContext(stateDir, { inputPath: join(stateDir, files[0] ?? '') }),
      emit: (event: ProgressEvent) => {
        if (event.type !== 'progress' || event.phase !== 'Repairing n3') return;
        if (spoiling.length > 0) return;
        spoiling.push(mesh.driftSql('n2', "UPDATE many SET v = 'spoiled' WHERE id = 44000"));
      },
    };
    const { nodes } = await engine.run(
      'table-repair',
      { table: 'many', sourceOfTruth: 'n1' },
      context,
    );
    assert.equal(nodes['n3']?.upserted, 20_000);
    assert.equal(spoiling.length, 1);
    await Promise.all(spoiling);
    await waitFor(() => told().at(-1)?.['rows'] === 1, {
      what: 'the row that was spoiled meanwhile',
    });
    await mesh.driftSql('n2', "UPDATE many SET v = 'v44000' WHERE id = 44000");
    await waitFor(() => told().at(-1)?.['event'] === 'drift_resolved', { what: 'equal rows' });
  });

  it('an incident outlives the daemon, with its number, and ends when its rows were mended meanwhile', async () => {
    const from = log.lines.length;
    await mesh.driftSql('n2', 'DELETE FROM customers WHERE id IN (103, 107)');
    const opened = await log.event('drift_opened', from);
    await engine.run(
      'drift-ack',
      { incident: String(opened['incident']), by: 'ann' },
      testContext(stateDir),
    );
    await engine.close();
    let again = log.lines.length;
    engine = await open();
    const reminder = await log.event('drift_reminder', again);
    assert.equal(reminder['incident'], opened['incident']);
    assert.equal(reminder['acknowledgedBy'], 'ann');
    assert.ok(Number(reminder['revision']) > Number(opened['revision']));
    await waitFor(async () => (await verdict()).verdict === 'drift', { what: 'drift' });
    await engine.close();
    await mesh.driftSql(
      'n2',
      `INSERT INTO customers ${customerRows(103, 103)} UNION ALL ${customerRows(107, 107)}`,
    );
    again = log.lines.length;
    engine = await open();
    const resolved = await log.event('drift_resolved', again);
    assert.equal(resolved['incident'], opened['incident']);
    await waitFor(async () => (await verdict()).verdict === 'match', { what: 'match' });
  });

  it('reports rows that were changed while no daemon was there', async () => {
    await engine.close();
    const from = log.lines.length;
    await mesh.driftSql('n1', 'UPDATE customers SET balance = balance + 5 WHERE id = 33');
    await mesh.query('n2', 'UPDATE customers SET balance = balance + 5 WHERE id = 34');
    engine = await open();
    const opened = await log.event('drift_opened', from);
    assert.deepEqual(opened['keys'], [['33']]);
    await mesh.driftSql('n1', 'UPDATE customers SET balance = balance - 5 WHERE id = 33');
    await log.event('drift_resolved', from);
  });

  function lastRows(from: number): unknown {
    return driftSince(from).at(-1)?.['rows'];
  }

  function driftSince(from: number): LogLine[] {
    return log.lines.slice(from).filter(({ event }) => String(event).startsWith('drift_'));
  }

  async function verdict(name = 'customers'): Promise<TableVerdict> {
    const { tables } = await engine.run('drift-list', {}, testContext(stateDir));
    const found = tables.find(({ table }) => table === `public.${name}`);
    assert.ok(found !== undefined);
    return found;
  }
});
