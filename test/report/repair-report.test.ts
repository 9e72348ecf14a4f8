import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { RepairReportWriter, type RepairReportOptions } from '../../src/report/repair-report.js';
import { fixtureText } from '../diff-file/fixtures.js';

let directory = '';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'aced-repair-report-'));
});

after(async () => {
  await rm(directory, { recursive: true });
});

const COLUMNS = ['id', 'email', 'amount', 'created', 'tags', 'doc', 'note'].map((name) => ({
  name,
  baseTypeOid: name === 'id' ? 20 : name === 'created' ? 1184 : 25,
}));

function options(isDryRun: boolean, startedAt: string): RepairReportOptions {
  const credentials = {
    database: 'fx',
    user: 'postgres',
    password: 'secret-word',
    sslMode: 'prefer' as const,
  };
  return {
    directory,
    startedAt: new Date(startedAt),
    columns: COLUMNS,
    credentials,
    arguments: {
      cluster: 'mesh',
      table: 'public.orders',
      diffFile: 'public_orders_diffs-20261124025325.json',
      sourceOfTruth: 'n1',
      isDryRun,
      isInsertOnly: false,
      isUpsertOnly: false,
      isBidirectional: false,
      fixesNulls: false,
      firesTriggers: false,
      isRecovery: false,
    },
  };
}

type Changes = Record<string, Record<string, Record<string, string | number | null>[]>>;

describe('repair report', () => {
  for (const [isDryRun, fixture] of [
    [false, 'orders_repair_report.json'],
    [true, 'orders_dry_run_report.json'],
  ] as const) {
    it(`is ACE's byte for byte: ${fixture}`, async () => {
      const expected = fixtureText(fixture);
      const report = JSON.parse(expected) as {
        time_stamp: string;
        run_time: number;
        changes: Changes;
      };
      const writer = await RepairReportWriter.create(
        options(isDryRun, `${report.time_stamp.replace(' ', 'T')}Z`),
      );
      for (const [node, changes] of Object.entries(report.changes)) {
        for (const [kind, rows] of Object.entries(changes)) {
          const change = kind.includes('delete') ? 'deleted' : 'upserted';
          for (const row of rows) {
            const values = COLUMNS.map(({ name }) => {
              const value = row[name] ?? null;
              if (value === null) return null;
              return name === 'created'
                ? String(value).replace('T', ' ').replace('Z', '+00')
                : String(value);
            });
            await writer.add(node, change, [values]);
          }
        }
      }
      const file = await writer.finish(report.run_time * 1_000);
      assert.match(
        file,
        isDryRun
          ? /^reports\/2026-11-24\/dry_run_report_025326\.582\.json$/
          : /\/repair_report_025326\.698\.json$/,
      );
      const text = await readFile(join(directory, file), 'utf8');
      assert.equal(text, expected);
      assert.ok(!text.includes('secret-word'));
      const names = await readdir(dirname(join(directory, file)));
      assert.ok(names.every((name) => !name.startsWith('.')));
    });
  }

  it('says so when nothing was changed, and replaces no report', async () => {
    const files = [];
    for (let i = 0; i < 2; i += 1) {
      const writer = await RepairReportWriter.create(options(false, '2026-01-01T00:00:00.000Z'));
      files.push(await writer.finish(1));
    }
    assert.deepEqual(files, [
      'reports/2026-01-01/repair_report_000000.000.json',
      'reports/2026-01-01/repair_report_000000.001.json',
    ]);
    const text = await readFile(join(directory, files[0] ?? ''), 'utf8');
    assert.deepEqual((JSON.parse(text) as { changes: unknown }).changes, {});
  });
});
