import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { DiffResult } from '../../src/protocol/commands.js';
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

      const hour = (offset: number): string =>
        new Date(Date.now() + offset * 3_600_000).toISOString().slice(11, 16);
      const until = hour(1);
      const window = `not_between: '${hour(-1)}-${until}', time_zone: UTC`;
      await writeFile(
        join(root, 'aced.yaml'),
        EVERY.replace('run_frequency: 1s', `run_frequency: 1s, ${window}`),
      );
      await waitFor(async () => (await tasks('--job', 'often')).jobs[0]?.isRunning === false, {
        what: 'the last run to end',
      });
      const finished = daemon.count('job_finished', 'often');
      daemon.child.kill('SIGHUP');
      await daemon.logged('schedule_loaded', undefined, 3);
      const end = (await tasks('--job', 'often')).jobs[0]?.nextAt ?? '';
      assert.equal(end.slice(11, 16), until, 'at the end of its window');
      // The job that has no window goes on, and the other does not.
      await daemon.logged('job_finished', 'all', daemon.count('job_finished', 'all') + 2);
      assert.equal(daemon.count('job_finished', 'often'), finished);
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

  it('a repair is remembered: who, from what, which rows, and what became of it', async () => {
    const acectl = async (...args: string[]) =>
      startProgram('acectl', args, { cwd: root, env }).ended;
    const found = await acectl('table-diff', 't', '--json');
    const { files } = JSON.parse(found.stdout) as DiffResult;
    const file = files[0] ?? '';
    const diff = await readFile(join(root, file), 'utf8');
    const digests = [...diff.matchAll(/"digest": "([0-9a-f]{16})"/g)].map(([, hex]) => hex);
    const plan = JSON.stringify({
      version: 1,
      tables: { 'public.t': { default_action: { type: 'keep_n2' } } },
    });
    await writeFile(join(root, 'plan.json'), plan);
    const planHash = createHash('sha256').update(plan).digest('hex');
    const line = ['table-repair', 't', '--diff-file', file, '--repair-plan', 'plan.json'];
    const daemon = startDaemon();
    try {
      await daemon.logged('ready');
      const other = await acectl(...line, '--plan-hash', '0'.repeat(64));
      assert.deepEqual([other.exitCode, /SHA-256 is/.test(other.stderr)], [2, true], other.stderr);
      assert.deepEqual(await mesh.query('n1', 'SELECT v FROM t'), [['2']], 'nothing was written');
      const dry = await acectl(...line, '--dry-run');
      assert.equal(dry.exitCode, 0, dry.stderr);
      const done = await acectl(...line, '--plan-hash', planHash);
      assert.equal(done.exitCode, 0, done.stderr);
      await daemon.logged('repair_recorded', undefined, 2);
    } finally {
      await daemon.stop();
    }
    assert.deepEqual(await mesh.query('n1', 'SELECT v FROM t'), [['1']]);
    // Without a daemon, from the file.
    const { tasks: all } = await tasks('--limit', '5000');
    const [repaired, rehearsed, refused] = all.filter(({ command }) => command === 'table-repair');
    const known = {
      uid: process.getuid?.(),
      file,
      fileHash: createHash('sha256').update(diff).digest('hex'),
      planHash,
      flags: [],
    };
    const none = { deleted: 0, skipped: 0, failed: 0 };
    const nothing = { digestBefore: '0'.repeat(16), digestAfter: '0'.repeat(16) };
    assert.deepEqual(repaired?.repair, {
      ...known,
      nodes: {
        n1: { upserted: 1, ...none, digestBefore: digests[0], digestAfter: digests[1] },
        n2: { upserted: 0, ...none, ...nothing },
      },
    });
    assert.equal(rehearsed?.repair, null, 'it was not to write anything');
    assert.deepEqual([refused?.outcome, refused?.repair], ['BAD_USAGE', { ...known, nodes: null }]);
    const recorded = daemon.lines.filter(({ event }) => event === 'repair_recorded');
    assert.deepEqual(
      recorded.map(({ uid, outcome }) => [uid, outcome]),
      [
        [process.getuid?.(), 'BAD_USAGE'],
        [process.getuid?.(), 'done'],
      ],
    );
    const alone = await acectl('table-repair', 't', '--diff-file', file, '--source-of-truth=n2');
    assert.equal(alone.exitCode, 0, alone.stderr);
    const shown = await acectl('tasks', '--limit', '1');
    assert.match(
      shown.stdout,
      new RegExp(
        `Task \\d+: by uid ${process.getuid?.() ?? ''}, from ${file} \\(SHA-256 [0-9a-f]{64}\\)`,
      ),
    );
    assert.match(shown.stdout, /--source-of-truth=n2\n {2}n1: 0 upserted, 0 deleted/);
  });
});
