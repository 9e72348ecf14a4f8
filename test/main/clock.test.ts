import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { StatusResult } from '../../src/protocol/commands.js';
import { startProgram } from '../cli/program.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const HOUR_MS = 3_600_000;

/** Stands for somebody who sets the host's clock: what the process takes for now goes by a file. */
const CLOCK = `import { readFileSync } from 'node:fs';
const RealDate = Date;
let shiftMs = 0;
globalThis.Date = class extends RealDate {
  constructor(...args) {
    super(...(args.length === 0 ? [RealDate.now() + shiftMs] : args));
  }
  static now() {
    return RealDate.now() + shiftMs;
  }
};
setInterval(() => {
  shiftMs = Number(readFileSync(process.env.CLOCK_SHIFT, 'utf8'));
}, 10).unref();
`;

interface LogLine {
  readonly time: string;
  readonly event: string;
  readonly openForMs?: number;
  readonly tookMs?: number;
}

describe('a host whose clock is set by an hour', () => {
  let mesh: Mesh;
  let root: string;
  let log = '';
  let daemon: ReturnType<typeof startProgram>;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v int)' });
    root = await mkdtemp(join(tmpdir(), 'aced-clock-'));
    await mesh.writeServiceFile(root);
    await writeFile(join(root, 'clock.mjs'), CLOCK);
    await setClock(0);
    await writeFile(
      join(root, 'aced.yaml'),
      `schedule_jobs:
  - { name: often, type: mtree-table-diff, table_name: public.t }
schedule_config:
  - { job_name: often, run_frequency: 1s }
`,
    );
    daemon = start('aced', [], { NODE_OPTIONS: `--import=${join(root, 'clock.mjs')}` });
    daemon.child.stdout?.on('data', (text: string) => (log += text));
    await waitFor(() => log.includes('"event":"ready"'), { what: 'aced to be ready' });
    await mesh.query('n1', 'INSERT INTO t SELECT i, 0 FROM generate_series(1, 500) i');
    await acectl('mtree', 'init');
    await acectl('mtree', 'build', 't');
    await waitFor(async () => (await verdict()) === 'match', { what: 'the tables to match' });
  });

  after(async () => {
    daemon.child.kill('SIGTERM');
    await daemon.ended;
    await mesh.stop();
    await rm(root, { recursive: true });
  });

  function start(program: 'aced' | 'acectl', args: readonly string[], env: NodeJS.ProcessEnv = {}) {
    return startProgram(program, args, {
      cwd: root,
      env: {
        HOME: root,
        PGSERVICEFILE: join(root, 'pg_service.conf'),
        ACED_CLUSTER: 'demo',
        ACED_STATE_DIR: join(root, 'state'),
        ACED_SOCKET: join(root, 'aced.sock'),
        CLOCK_SHIFT: join(root, 'shift'),
        ...env,
      },
    });
  }

  async function acectl(...args: string[]): Promise<string> {
    const { stdout, stderr, exitCode } = await start('acectl', args).ended;
    assert.notEqual(exitCode, 2, stderr);
    return stdout;
  }

  async function status(): Promise<StatusResult> {
    const { stdout } = await start('acectl', ['status', '--json']).ended;
    return JSON.parse(stdout) as StatusResult;
  }

  async function verdict(): Promise<string | undefined> {
    return (await status()).tables[0]?.live?.verdict;
  }

  async function setClock(shiftMs: number): Promise<void> {
    await writeFile(join(root, 'shift'), String(shiftMs));
  }

  const lines = (): LogLine[] =>
    log
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as LogLine);

  /** Lines that the daemon wrote with its clock standing so. */
  function linesAt(shiftMs: number, event: string): LogLine[] {
    return lines().filter((line) => {
      const aheadMs = Date.parse(line.time) - Date.now();
      return line.event === event && Math.abs(aheadMs - shiftMs) < HOUR_MS / 2;
    });
  }

  for (const [title, shiftMs] of [
    ['back', -HOUR_MS],
    ['forward again', 0],
  ] as const) {
    it(`goes on as before when it is set ${title}`, async () => {
      const jobs = linesAt(shiftMs, 'job_finished').length;
      await setClock(shiftMs);
      await waitFor(() => linesAt(shiftMs, 'job_finished').length > jobs + 2, {
        what: 'the job to go on running',
      });
      const [[end] = []] = await mesh.query('n1', 'SELECT pg_current_wal_insert_lsn()');
      const opened = lines().filter(({ event }) => event === 'drift_opened').length;
      await mesh.driftSql('n1', `UPDATE t SET v = v + 1 WHERE id = 7`);
      await waitFor(() => lines().filter(({ event }) => event === 'drift_opened').length > opened, {
        what: 'what differs to be told',
      });
      await waitFor(
        async () => {
          const [row] = await mesh.query(
            'n1',
            `SELECT confirmed_flush_lsn > $1::pg_lsn FROM pg_replication_slots WHERE slot_name = 'aced_demo'`,
            [end ?? null],
          );
          return row?.[0] === 't';
        },
        { what: 'what was read to be made durable and confirmed' },
      );
      await mesh.driftSql('n1', `UPDATE t SET v = v - 1 WHERE id = 7`);
      await waitFor(async () => (await verdict()) === 'match', { what: 'the tables to match' });
      assert.ok((await status()).uptimeSeconds >= 0);
    });
  }

  it('tells of nothing that the clock alone would have made', () => {
    const events = new Set(lines().map(({ event }) => event));
    assert.deepEqual(
      ['replication_starved', 'coverage', 'slot_lags'].filter((event) => events.has(event)),
      [],
    );
    assert.deepEqual(
      lines().filter(
        ({ openForMs = 0, tookMs = 0 }) => openForMs < 0 || tookMs < 0 || tookMs > HOUR_MS / 2,
      ),
      [],
    );
  });
});
