import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { METRICS, type MetricSpec } from '../../src/observe/metric-names.js';
import { startProgram, type Ended } from '../cli/program.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { get, Scrape } from '../support/scrape.js';
import { waitFor } from '../support/wait.js';

const TABLES = `
  CREATE TABLE t (id int PRIMARY KEY, v text);
  CREATE TABLE "odd ""name\\" (id int PRIMARY KEY, v text)`;

/** As the text format has it back: quote and backslash unescaped. */
const ODD = 'public.odd "name\\';

describe('metrics of a daemon on real nodes', () => {
  let mesh: Mesh;
  let root: string;
  let port: number;
  let running: ReturnType<typeof start> | null = null;

  before(async () => {
    mesh = await startMesh({
      nodes: 2,
      tables: TABLES,
      settings: { track_commit_timestamp: 'on' },
    });
    await mesh.query('n1', "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) AS i");
    await mesh.waitForReplication();
    root = await scratchDirectory();
    await mesh.writeServiceFile(root);
    await writeFile(
      join(root, 'aced.yaml'),
      `schedule_jobs: [{ name: often, type: mtree-table-diff, table_name: public.t }]
schedule_config: [{ job_name: often, run_frequency: 2s }]`,
    );
    port = await freePort();
  });

  after(async () => {
    running?.child.kill('SIGKILL');
    await running?.ended;
    await mesh.stop();
    await removeDirectory(root);
  });

  function start(env: NodeJS.ProcessEnv = {}) {
    return startProgram('aced', ['--cluster', 'demo'], { cwd: root, env: environment(env) });
  }

  function environment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
    return {
      HOME: root,
      PGSERVICEFILE: join(root, 'pg_service.conf'),
      ACED_STATE_DIR: join(root, 'state'),
      ACED_SOCKET: join(root, 'aced.sock'),
      ACED_METRICS_PORT: String(port),
      ...env,
    };
  }

  async function startDaemon(env: NodeJS.ProcessEnv = {}): Promise<void> {
    const daemon = start(env);
    running = daemon;
    let log = '';
    daemon.child.stdout?.on('data', (text: string) => (log += text));
    await waitFor(() => log.includes('"event":"ready"'), { what: 'aced to be ready' });
  }

  async function acectl(...args: string[]): Promise<Ended> {
    const options = { cwd: root, env: environment({ ACED_CLUSTER: 'demo' }) };
    return startProgram('acectl', args, options).ended;
  }

  async function scrape(): Promise<Scrape> {
    const { status, contentType, text } = await get({ host: '127.0.0.1', port });
    assert.equal(status, 200, text);
    assert.match(contentType, /^text\/plain; version=0\.0\.4/);
    return new Scrape(text);
  }

  async function until(
    name: string,
    labels: Readonly<Record<string, string>>,
    isRight: (value: number | undefined) => boolean,
  ): Promise<Scrape> {
    let last = await scrape();
    await waitFor(async () => isRight((last = await scrape()).value(name, labels)), {
      what: `${name} ${JSON.stringify(labels)}`,
      timeoutMs: 30_000,
    });
    return last;
  }

  it('shows nodes, tables and slots, and what a row of drift does', async () => {
    await startDaemon();
    for (const args of [['init'], ['build', 't'], ['build', '"odd ""name\\"']]) {
      const { exitCode, stderr } = await acectl('mtree', ...args);
      assert.equal(exitCode, 0, stderr);
    }
    const equal = await until('aced_tables', { verdict: 'match' }, (count) => count === 2);
    assert.equal(equal.value('aced_table_verdict', { table: ODD, verdict: 'match' }), 1);
    assert.equal(equal.value('aced_up', { node: 'n1', cluster: 'demo' }), 1);
    assert.equal(equal.value('aced_commands_total', { command: 'mtree-build' }), 2);
    assert.deepEqual(equal.all('aced_incidents_open'), []);
    const proved = equal.value('aced_oldest_block_verified_timestamp_seconds', {
      table: 'public.t',
    });
    assert.ok(Math.abs(Date.now() / 1000 - (proved ?? 0)) < 120, String(proved));

    await mesh.driftSql('n2', "UPDATE t SET v = 'drifted' WHERE id <= 3");
    const table = 'public.t';
    const drifted = await until('aced_incident_rows', { table }, (rows) => rows === 3);
    assert.equal(drifted.value('aced_incidents_open', { table }), 1);
    const cause = drifted.all('aced_incidents_open')[0]?.labels['cause'] ?? '';
    assert.equal(drifted.value('aced_incidents_opened_total', { table, cause }), 1);
    assert.equal(drifted.value('aced_tables', { verdict: 'drift' }), 1);
    assert.equal(drifted.value('aced_detection_seconds_count'), 1);
    assert.equal(drifted.value('aced_changes_total', { node: 'n2' }), 3);
    const commit = drifted.value('aced_stream_last_commit_timestamp_seconds', { node: 'n2' }) ?? 0;
    assert.ok(Math.abs(Date.now() / 1000 - commit) < 120, String(commit));

    const list = JSON.parse((await acectl('drift', 'list', '--json')).stdout) as {
      incidents: { id: string }[];
    };
    const id = list.incidents[0]?.id ?? '';
    const repaired = await acectl('drift', 'repair', id, '--source-of-truth=n1');
    assert.equal(repaired.exitCode, 0, repaired.stderr);
    const after_ = await until(
      'aced_incidents_closed_total',
      { table, how: 'repair' },
      (n) => n === 1,
    );
    assert.equal(after_.value('aced_repairs_total', { table, result: 'applied' }), 3);
    assert.deepEqual(after_.all('aced_incident_rows'), []);
  });

  it('shows the runs of jobs, and when a canary was last found', async () => {
    const runs = 'aced_job_runs_total';
    const before = await until(runs, { job: 'often', result: 'match' }, (n) => (n ?? 0) > 0);
    const results = before.all(runs).map(({ labels }) => labels['result']);
    assert.ok(results.includes('NOT_INITIALISED'), results.join());
    const succeeded = before.value('aced_job_last_success_timestamp_seconds', { job: 'often' });
    assert.ok(Math.abs(Date.now() / 1000 - (succeeded ?? 0)) < 60, String(succeeded));
    const matched = { table: 'public.t' };
    const verified = before.value('aced_table_verified_timestamp_seconds', matched);
    assert.ok(Math.abs(Date.now() / 1000 - (verified ?? 0)) < 60, String(verified));
    assert.deepEqual(before.all('aced_canary_age_seconds'), [], 'none was tried');
    const canary = await acectl('drift', 'canary');
    assert.equal(canary.exitCode, 0, canary.stderr);
    const found = await until('aced_canary_age_seconds', {}, (age) => age !== undefined);
    assert.ok((found.value('aced_canary_age_seconds') ?? 60) < 60);
  });

  it('has every metric of the list, with its labels and no others, here and on the socket', async () => {
    await until('aced_slot_retained_bytes', { node: 'n1' }, (bytes) => (bytes ?? 0) > 0);
    const { text } = await get({ socketPath: join(root, 'aced.sock') });
    for (const shown of [await scrape(), new Scrape(text)]) {
      const specs: readonly MetricSpec[] = Object.values(METRICS);
      for (const { name, kind, labels } of specs) {
        assert.equal(shown.types.get(name), kind, name);
        for (const sample of shown.all(name)) {
          const extra = Object.keys(sample.labels).filter((label) => !labels.includes(label));
          assert.deepEqual(extra, ['cluster'], name);
        }
      }
      const known = new Set(specs.map(({ name }) => name));
      const unknown = [...shown.types.keys()].filter(
        (name) => name.startsWith('aced_') && !known.has(name),
      );
      assert.deepEqual(unknown, []);
      for (const name of ['process_cpu_seconds_total', 'process_resident_memory_bytes']) {
        assert.equal(shown.all(name).length, 1, name);
      }
      const retained = shown.value('aced_slot_retained_bytes', { node: 'n1' }) ?? NaN;
      assert.ok((shown.value('aced_slot_budget_bytes', { node: 'n1' }) ?? 0) > retained);
      assert.ok((shown.value('aced_stream_lag_bytes', { node: 'n1' }) ?? -1) >= 0);
    }
  });

  it('answers nothing else, and many at once', async () => {
    for (const path of ['/', '/v1/ping', '/metrics/x', '/healthy']) {
      assert.equal((await get({ host: '127.0.0.1', port }, path)).status, 404, path);
    }
    const answers = await Promise.all(Array.from({ length: 12 }, () => scrape()));
    assert.equal(answers.length, 12);
  });

  it('asks no node: one that is down is told, as fast as before', async () => {
    await mesh.node('n2').stop('immediate');
    const down = await until('aced_up', { node: 'n2' }, (up) => up === 0);
    await until('aced_conditions_open', {}, (count) => (count ?? 0) > 0);
    assert.equal(down.value('aced_up', { node: 'n1' }), 1);
    assert.ok((down.value('aced_tables', { verdict: 'unverified' }) ?? 0) > 0);
    const beganMs = performance.now();
    await scrape();
    assert.ok(performance.now() - beganMs < 1_000);
    const health = await get({ host: '127.0.0.1', port }, '/health');
    assert.deepEqual([health.status, health.text], [200, '1/2 streaming, 3 tables, 0 incidents\n']);
  });

  it('ends with 2 where the port is taken, and says what to do', async () => {
    running?.child.kill('SIGTERM');
    await running?.ended;
    const taken = createServer().listen(port, '127.0.0.1');
    await once(taken, 'listening');
    try {
      const { exitCode, stderr, stdout } = await start().ended;
      assert.equal(exitCode, 2, stderr);
      assert.match(stderr, new RegExp(`metrics\\.port: cannot listen on 127\\.0\\.0\\.1:${port}`));
      assert.match(stderr, /hint: .*ACED_METRICS_PORT/);
      assert.ok(!stdout.includes('"event":"ready"'));
    } finally {
      taken.close();
    }
  });

  it('gives tables no series of their own where that is asked for', async () => {
    await startDaemon({ ACED_METRICS_PER_TABLE: 'never' });
    const shown = await until('aced_tables', { verdict: 'unverified' }, (count) => count === 3);
    const withTable = shown.samples.filter(({ labels }) => 'table' in labels);
    assert.deepEqual(withTable, []);
    assert.equal(shown.all('aced_open_rows').length, 1);
    assert.equal(shown.all('aced_dirty_blocks').length, 2);
  });

  it('refuses a port that is none', async () => {
    const { exitCode, stderr } = await start({ ACED_METRICS_PORT: '70000' }).ended;
    assert.equal(exitCode, 2);
    assert.match(stderr, /ACED_METRICS_PORT.*70000/);
  });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
