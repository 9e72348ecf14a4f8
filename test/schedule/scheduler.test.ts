import assert from 'node:assert/strict';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { TasksResult } from '../../src/protocol/tasks.js';
import { startProgram } from '../cli/program.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const EVERY = `
schedule_jobs:
  - { name: often, table_name: t }
  - { name: all, type: mtree-table-diff, table_name: 'public.*' }
  - { name: elsewhere, table_name: t, cluster_name: other }
schedule_config:
  - { job_name: often, run_frequency: 1s }
  - { job_name: all, crontab_schedule: '* * * * * *' }
  - { job_name: elsewhere, run_frequency: 1s }
`;

/** A daemon with jobs, as a process of its own, on real nodes. */
describe('scheduled jobs', () => {
  let mesh: Mesh;
  let root: string;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    mesh = await startMesh({
      nodes: 2,
      tables: 'CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)',
    });
    root = await scratchDirectory();
    await mkdir(join(root, 'reports'));
    env = {
      HOME: root,
      PGSERVICEFILE: await mesh.writeServiceFile(root),
      ACED_CLUSTER: mesh.cluster,
      ACED_STATE_DIR: join(root, 'state'),
      ACED_SOCKET: join(root, 'aced.sock'),
      ACED_SCHEDULE_REPORT_DIR: join(root, 'reports'),
    };
  });

  after(async () => {
    await mesh.stop();
    await removeDirectory(root);
  });

  function startDaemon() {
    const { child, ended } = startProgram('aced', [], { cwd: root, env });
    const lines: Record<string, unknown>[] = [];
    let rest = '';
    child.stdout?.on('data', (text: string) => {
      const parts = `${rest}${text}`.split('\n');
      rest = parts.pop() ?? '';
      lines.push(...parts.map((line) => JSON.parse(line) as Record<string, unknown>));
    });
    const count = (event: string, job?: string): number =>
      lines.filter((line) => line['event'] === event && (job ?? line['job']) === line['job'])
        .length;
    const logged = (event: string, job?: string, times = 1): Promise<void> =>
      waitFor(() => count(event, job) >= times, {
        what: `${event} of ${job ?? 'any job'}, ${times} times`,
        timeoutMs: 60_000,
      });
    const stop = async (): Promise<void> => {
      child.kill('SIGTERM');
      assert.equal((await ended).exitCode, 0);
    };
    return { child, ended, lines, count, logged, stop };
  }

  async function tasks(...args: string[]): Promise<TasksResult> {
    const { ended } = startProgram('acectl', ['tasks', '--json', ...args], { cwd: root, env });
    const { stdout, stderr, exitCode } = await ended;
    assert.equal(exitCode, 0, stderr);
    return JSON.parse(stdout) as TasksResult;
  }

  it('run at their times, are remembered, and are read again on SIGHUP', async () => {
    await writeFile(join(root, 'aced.yaml'), EVERY);
    const daemon = startDaemon();
    try {
      await daemon.logged('job_finished', 'often', 2);
      // Before mtree init there is nothing to compare by.
      await daemon.logged('job_failed', 'all');
      assert.equal(daemon.count('job_left', 'elsewhere'), 1);
      const init = startProgram('acectl', ['mtree', 'init'], { cwd: root, env });
      assert.equal((await init.ended).exitCode, 0);
      const build = startProgram('acectl', ['mtree', 'build', '--all'], { cwd: root, env });
      assert.equal((await build.ended).exitCode, 0);
      await daemon.logged('job_finished', 'all');

      await mesh.driftSql('n1', 'UPDATE t SET v = 2');
      await waitFor(async () => (await tasks('--job', 'often')).tasks[0]?.outcome === 'drift', {
        what: 'the drift to be found',
        timeoutMs: 60_000,
      });
      const { jobs, tasks: runs } = await tasks('--job', 'often', '--limit', '3');
      assert.equal(runs.length, 3);
      assert.deepEqual(
        [runs[0]?.command, runs[0]?.subject, runs[0]?.job],
        ['table-diff', 't', 'often'],
      );
      const [report] = runs[0]?.files ?? [];
      assert.ok((await readdir(join(root, 'reports'))).includes(report ?? ''), report);
      assert.deepEqual(
        jobs.map(({ name, rhythm }) => [name, rhythm]),
        [['often', { kind: 'every', ms: 1000 }]],
      );
      const all = await tasks();
      const asked = all.tasks.filter(({ job }) => job === null).map(({ command }) => command);
      assert.deepEqual(asked.toSorted(), ['mtree-build-many', 'mtree-init']);
      const failed = (await tasks('--job', 'all', '--limit', '5000')).tasks.at(-1);
      assert.equal(failed?.outcome, 'NOT_INITIALISED');
      assert.match(failed.message ?? '', /not initialised/);

      await writeFile(join(root, 'aced.yaml'), 'schedule_jobs: often\n');
      daemon.child.kill('SIGHUP');
      await daemon.logged('schedule_refused');
      const before = daemon.count('job_finished', 'often');
      await daemon.logged('job_finished', 'often', before + 1);
      await writeFile(
        join(root, 'aced.yaml'),
        EVERY.replace('run_frequency: 1s', 'run_frequency: 5h'),
      );
      daemon.child.kill('SIGHUP');
      await daemon.logged('schedule_loaded', undefined, 2);
      const next = (await tasks('--job', 'often')).jobs[0]?.nextAt ?? '';
      assert.ok(Date.parse(next) - Date.now() > 4 * 3_600_000, next);
    } finally {
      await daemon.stop();
    }
  });

  it('never overlap themselves; what was due while no aced ran is said once', async () => {
    await writeFile(join(root, 'aced.yaml'), EVERY);
    const [last] = (await tasks('--job', 'often', '--limit', '1')).tasks;
    await waitFor(() => Date.now() - Date.parse(last?.startedAt ?? '') > 1_500, {
      what: 'the job to be overdue',
    });
    // Reading waits for the lock, so the next runs come due meanwhile.
    await mesh.node('n1').session(mesh.database, async (query) => {
      await query('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE');
      const daemon = startDaemon();
      try {
        await daemon.logged('job_skipped', 'often');
        await daemon.logged('job_missed', 'often');
        const { jobs } = await tasks('--job', 'often');
        assert.equal(jobs[0]?.isRunning, true);
        await query('COMMIT');
        await daemon.logged('job_finished', 'often');
        assert.equal(daemon.count('job_skipped', 'often'), 1, 'once a run');
        assert.equal(daemon.count('job_missed', 'often'), 1, 'once a start');
      } finally {
        await daemon.stop();
      }
    });
  });

  it('are to be seen without a daemon too, by what they did', async () => {
    const { tasks: runs, jobs } = await tasks('--job', 'often', '--limit', '1');
    assert.deepEqual([runs.length, jobs.length], [1, 0]);
  });
});
