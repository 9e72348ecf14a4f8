import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { formatDuration, parseDuration } from '../../src/base/duration.js';
import { loadConfig, loadSchedule } from '../../src/config/load.js';
import { nextTime, type Schedule } from '../../src/config/schedule.js';

/** As the sample in ACE's page on scheduling has it. */
const ACE = `
default_cluster: demo
schedule_jobs:
  - name: nightly-orders
    type: table-diff
    table_name: public.orders
    args: { dbname: acctg, nodes: "n1,n2", block_size: 50000, output: json }
  - name: weekly-schema
    schema_name: public
    cluster_name: reporting
    args: { nodes: "n1,n3" }
  - name: set
    repset_name: default
    args: { nodes: all, skip_tables: "public.audit_log" }
schedule_config:
  - { job_name: nightly-orders, run_frequency: 24h, enabled: true }
  - { job_name: weekly-schema, crontab_schedule: "30 2 * * 1", enabled: true }
  - { job_name: set, crontab_schedule: "*/5 * * * *", enabled: true, time_zone: Asia/Tokyo }
`;

describe('the schedule', () => {
  let root: string;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'aced-schedule-'));
    await writeFile(join(root, 'pg_service.conf'), '[demo]\nuser=u\n[demo.n1]\nhost=h\n');
  });
  after(() => rm(root, { recursive: true }));

  async function read(files: Readonly<Record<string, string>>): Promise<Schedule> {
    for (const name of ['aced.yaml', 'ace.yaml']) await rm(join(root, name), { force: true });
    for (const [name, text] of Object.entries(files)) await writeFile(join(root, name), text);
    return loadSchedule({ env: {}, cwd: root, home: root, cluster: 'demo' });
  }

  it("reads ACE's", async () => {
    const { jobs, left } = await read({ 'ace.yaml': ACE });
    assert.deepEqual(jobs, [
      {
        name: 'nightly-orders',
        request: {
          name: 'table-diff',
          params: { table: 'public.orders', nodes: ['n1', 'n2'], blockSize: 50000, output: 'json' },
        },
        rhythm: { kind: 'every', ms: 86_400_000 },
      },
      {
        name: 'set',
        request: {
          name: 'table-diff-many',
          params: { repset: 'default', skipTables: ['public.audit_log'] },
        },
        rhythm: { kind: 'cron', pattern: '*/5 * * * *', timeZone: 'Asia/Tokyo' },
      },
    ]);
    assert.deepEqual(left, [{ job: 'weekly-schema', reason: 'it is of cluster reporting' }]);
    const { config, ignored } = await loadConfig({ env: {}, cwd: root, home: root });
    assert.equal(config.schedule.jobs.length, 2);
    assert.deepEqual(ignored, []);
  });

  it('reads ours, of trees and of structures, before that of ACE', async () => {
    const own = `
schedule_jobs:
  - { name: t, type: mtree-table-diff, table_name: 'public.*', args: { skip_tables: [a, b] } }
  - { name: b, type: mtree-build, table_name: t, args: { block_size: 5 } }
  - { name: s, schema_name: sales, args: { compare: structure } }
  - { name: v, type: mtree-verify }
  - { name: r, type: spock-diff }
  - { name: idle, table_name: t }
schedule_config:
  - { job_name: t, run_frequency: 1h30m }
  - { job_name: b, run_frequency: 7d, enabled: false }
  - { job_name: s, crontab_schedule: '@daily' }
  - { job_name: v, run_frequency: 1s }
  - { job_name: r, run_frequency: 90m }
`;
    const { jobs, left } = await read({ 'aced.yaml': own, 'ace.yaml': ACE });
    assert.deepEqual(
      jobs.map(({ request }) => request),
      [
        {
          name: 'mtree-table-diff-many',
          params: { tables: ['public.*'], skipTables: ['a', 'b'] },
        },
        { name: 'structure-diff', params: { schema: 'sales' } },
        { name: 'mtree-verify', params: {} },
        { name: 'replication-diff', params: {} },
      ],
    );
    assert.deepEqual(left, [
      { job: 'b', reason: 'it is switched off' },
      { job: 'idle', reason: 'schedule_config does not name it' },
    ]);
  });

  const jobs = (job: string, config: string): string =>
    `schedule_jobs: [${job}]\nschedule_config: [${config}]\n`;
  const cases: readonly (readonly [what: string, yaml: string, message: RegExp])[] = [
    ['no rhythm', jobs('{name: a, table_name: t}', '{job_name: a}'), /"a": give either run_freq/],
    [
      'both',
      jobs(
        '{name: a, table_name: t}',
        '{job_name: a, run_frequency: 1h, crontab_schedule: "* * * * *"}',
      ),
      /give either/,
    ],
    [
      'no duration',
      jobs('{name: a, table_name: t}', '{job_name: a, run_frequency: soon}'),
      /"soon"/,
    ],
    [
      'no pattern',
      jobs('{name: a, table_name: t}', '{job_name: a, crontab_schedule: "61 * * * *"}'),
      /aced\.yaml, job "a"/,
    ],
    [
      'no such job',
      jobs('{name: a, table_name: t}', '{job_name: b, run_frequency: 1h}'),
      /"b": sched/,
    ],
    ['no table', jobs('{name: a}', '{job_name: a, run_frequency: 1h}'), /needs table_name/],
    ['a type', jobs('{name: a, type: x}', '{job_name: a, run_frequency: 1h}'), /type x is none of/],
    [
      'an argument',
      jobs('{name: a, table_name: t, args: {blocksize: 1}}', '{job_name: a, run_frequency: 1h}'),
      /blocksize/,
    ],
    [
      'a value',
      jobs('{name: a, table_name: t, args: {block_size: x}}', '{job_name: a, run_frequency: 1h}'),
      /blockSize/,
    ],
    [
      'twice',
      jobs(
        '{name: a, table_name: t}, {name: a, table_name: u}',
        '{job_name: a, run_frequency: 1h}',
      ),
      /two jobs are called a/,
    ],
    [
      'no window',
      jobs('{name: a, table_name: t}', '{job_name: a, run_frequency: 1h, not_between: "8-20"}'),
      /not_between "8-20" is not as 08:00-20:00/,
    ],
    [
      'windows that leave no time',
      jobs(
        '{name: a, table_name: t}',
        '{job_name: a, run_frequency: 1h, not_between: ["00:00-12:00", "12:00-24:00"]}',
      ),
      /it would never run/,
    ],
    [
      'a time zone that nobody knows',
      jobs(
        '{name: a, table_name: t}',
        '{job_name: a, run_frequency: 1h, not_between: "08:00-20:00", time_zone: Nowhere/Land}',
      ),
      /Nowhere\/Land/,
    ],
    ['no list', 'schedule_jobs: often\n', /line 1, schedule_jobs: not a list/],
  ];
  for (const [what, yaml, message] of cases) {
    it(`refuses what is wrong in our own file: ${what}`, async () => {
      await assert.rejects(read({ 'aced.yaml': yaml }), { code: 'BAD_CONFIG', message });
    });
  }

  it("leaves a job of ACE's that is not for us", async () => {
    const yaml = jobs('{name: a, type: x}', '{job_name: a, run_frequency: 1h, enabled: true}');
    const { jobs: none, left } = await read({ 'ace.yaml': yaml });
    assert.deepEqual([none.length, left.length, left[0]?.job], [0, 1, 'a']);
  });

  it('durations and times', () => {
    for (const [text, ms] of [
      ['30m', 1_800_000],
      ['1h30m', 5_400_000],
      ['1.5h', 5_400_000],
      ['250ms', 250],
      ['2d', 172_800_000],
    ] as const) {
      assert.equal(parseDuration(text), ms);
      assert.equal(parseDuration(formatDuration(ms)), ms);
    }
    for (const text of ['', '5', 'h', '-1h', '1 h', '1h,']) {
      assert.equal(parseDuration(text), undefined, text);
    }
    const at = Date.parse('2026-01-01T00:00:00Z');
    assert.equal(nextTime({ kind: 'every', ms: 5 }, at), at + 5);
    const daily = { kind: 'cron', pattern: '30 2 * * *', timeZone: 'Asia/Tokyo' } as const;
    assert.equal(new Date(nextTime(daily, at) ?? 0).toISOString(), '2026-01-01T17:30:00.000Z');
  });

  it('a job does not begin within its windows', () => {
    const berlin = (...windows: string[]) => ({
      notBetween: { windows, timeZone: 'Europe/Berlin' },
    });
    const every = { kind: 'every', ms: 3_600_000 } as const;
    const cron = (pattern: string) => ({ kind: 'cron', pattern, timeZone: 'UTC' }) as const;
    for (const [rhythm, after, next] of [
      // A Friday; Berlin is an hour ahead of UTC.
      [{ ...every, ...berlin('08:00-20:00') }, '2026-01-02T05:59:00Z', '2026-01-02T06:59:00.000Z'],
      [{ ...every, ...berlin('08:00-20:00') }, '2026-01-02T06:00:01Z', '2026-01-02T19:00:00.000Z'],
      [
        { ...every, ...berlin('mon-fri 22:00-06:00') },
        '2026-01-02T20:30:00Z',
        '2026-01-03T05:00:00.000Z',
      ],
      [
        { ...every, ...berlin('mon-fri 22:00-06:00') },
        '2026-01-03T20:30:00Z',
        '2026-01-03T21:30:00.000Z',
      ],
      [
        { ...every, ...berlin('fri-sun 00:00-24:00') },
        '2026-01-02T12:00:00Z',
        '2026-01-04T23:00:00.000Z',
      ],
      [
        { ...every, ...berlin('08:00-12:00', '12:00-13:30') },
        '2026-01-02T06:00:00Z',
        '2026-01-02T12:30:00.000Z',
      ],
      // The hour that is left out in spring.
      [{ ...every, ...berlin('01:00-03:00') }, '2026-03-28T23:30:00Z', '2026-03-29T01:00:00.000Z'],
      [
        { ...cron('*/30 * * * *'), ...berlin('08:00-20:00') },
        '2026-01-02T06:59:00Z',
        '2026-01-02T19:00:00.000Z',
      ],
      [
        { ...cron('15 12 * * *'), ...berlin('mon-fri 08:00-20:00') },
        '2026-01-02T06:59:00Z',
        '2026-01-03T12:15:00.000Z',
      ],
      [{ ...cron('15 12 * * *'), ...berlin('08:00-20:00') }, '2026-01-02T06:59:00Z', null],
    ] as const) {
      const timeMs = nextTime(rhythm, Date.parse(after));
      const found = timeMs === null ? null : new Date(timeMs).toISOString();
      assert.equal(found, next, `${JSON.stringify(rhythm)} after ${after}`);
    }
  });
});
