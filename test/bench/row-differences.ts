import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiffResult } from '../../src/protocol/commands.js';
import type { BenchRun } from './bench-run.js';
import { customerRows } from '../support/customers.js';
import { median } from './figures.js';
import type { RunAnswer } from './engine-messages.js';

interface Found {
  readonly seconds: number;
  readonly peakMb: number;
  readonly fileMb: number;
  readonly path: string;
}

let drifts = 0;

/** Lets n2 drift, without replication, in the rows that `where` selects, and always to a new value. */
async function drift(run: BenchRun, where: string): Promise<void> {
  const { mesh } = await run.cluster();
  drifts += 1;
  await mesh.driftSql('n2', driftUpdate(where));
}

/** Gives the other nodes what n2 has since the last drift. */
async function follow(run: BenchRun, where: string): Promise<void> {
  const { mesh } = await run.cluster();
  await Promise.all(['n1', 'n3'].map((node) => mesh.driftSql(node, driftUpdate(where))));
}

function driftUpdate(where: string): string {
  return `UPDATE customers SET notes = 'drift ${drifts} of ' || id WHERE ${where}`;
}

type DiffCommand = 'mtree-table-diff' | 'table-diff';

async function find(run: BenchRun, command: DiffCommand, expected: number): Promise<Found> {
  const { engine } = await run.clusterWithTree();
  const answer: RunAnswer<DiffCommand> = await engine.run(command, { table: 'customers' });
  return check(answer, expected, engine.reportDir);
}

async function check(
  { result, ms, peakMb }: { result: DiffResult; ms: number; peakMb: number },
  expected: number,
  directory: string,
): Promise<Found> {
  const counts = result.differences;
  if (counts['n1/n2'] !== expected || counts['n2/n3'] !== expected) {
    throw new Error(`${expected} rows differ, found ${JSON.stringify(counts)}`);
  }
  const path = join(directory, result.files[0] ?? '');
  const fileMb = (await stat(path)).size / 2 ** 20;
  return { seconds: ms / 1000, peakMb, fileMb, path };
}

export async function measureFewDifferences(run: BenchRun): Promise<void> {
  const { engine } = await run.clusterWithTree();
  const { rows, repeat } = run.options;
  const count = 100;
  const step = Math.floor(rows / count);
  const equal: number[] = [];
  const tree: number[] = [];
  const full: number[] = [];
  for (let round = 0; round < repeat; round++) {
    equal.push((await engine.run('table-diff', { table: 'customers' })).ms / 1000);
    const where = `id IN (SELECT ${round + 7} + i * ${step}::bigint FROM generate_series(0, ${count - 1}) i)`;
    await drift(run, where);
    tree.push((await find(run, 'mtree-table-diff', count)).seconds);
    full.push((await find(run, 'table-diff', count)).seconds);
    await follow(run, where);
    await engine.run('mtree-table-diff', { table: 'customers' });
  }
  run.report({
    measure: 'differences-100',
    what: 'mtree table-diff, 100 scattered rows differ',
    value: median(tree),
    unit: 's',
    target: { of: 'value', at: 'most', limit: 1 },
  });
  run.report({
    measure: 'differences-100',
    what: 'table-diff, 100 scattered rows differ',
    value: median(full),
    unit: 's',
    floor: { what: 'table-diff of equal tables', value: median(equal) },
    target: { of: 'ratio', at: 'most', limit: 1.2 },
  });
}

export async function measureManyDifferences(run: BenchRun): Promise<void> {
  const { rows } = run.options;
  const small = rows / 20;
  const perRowUs: number[] = [];
  for (const count of [small, rows / 2]) {
    const where = `id BETWEEN ${rows / 4} AND ${rows / 4 + count - 1}`;
    await drift(run, where);
    let file = '';
    for (const command of ['mtree-table-diff', 'table-diff'] as const) {
      const { seconds, peakMb, fileMb, path } = await find(run, command, count);
      file = path;
      perRowUs.push((seconds / count) * 1e6);
      const measure = 'differences-many';
      const what = `${command}, ${count} adjacent rows differ`;
      run.report({ measure, what, value: seconds, unit: 's' });
      run.report({
        measure,
        what: `${what}: rows shipped`,
        value: count / seconds,
        unit: 'rows/s',
      });
      run.report({ measure, what: `${what}: file`, value: fileMb, unit: 'MB' });
      run.report({
        measure,
        what: `${what}: peak resident`,
        value: peakMb,
        unit: 'MB',
        target: { of: 'value', at: 'most', limit: 400 },
      });
    }
    await showAndRepair(run, file, count);
  }
  run.report({
    measure: 'differences-many',
    what: 'table-diff, time per differing row, ten times as many rows',
    value: perRowUs[3] ?? Number.NaN,
    unit: 'us',
    floor: { what: 'the fewer', value: perRowUs[1] ?? Number.NaN },
    target: { of: 'ratio', at: 'most', limit: 1.2 },
  });
}

/** The page of so many rows, and their repair: nothing may be held of each of them but its key and digests. */
async function showAndRepair(run: BenchRun, file: string, count: number): Promise<void> {
  const { engine } = await run.clusterWithTree();
  const table = 'customers';
  const page = await engine.run('table-diff', { table, output: 'html' });
  const repaired = await engine.run('table-repair', { table, sourceOfTruth: 'n1' }, file);
  if (repaired.result.nodes['n2']?.upserted !== count) {
    throw new Error(`${count} rows to repair: ${JSON.stringify(repaired.result.nodes)}`);
  }
  for (const [what, { ms, peakMb }] of [
    ['table-diff with a page', page],
    ['table-repair', repaired],
  ] as const) {
    const measure = 'differences-many';
    run.report({ measure, what: `${what}, ${count} rows`, value: ms / 1000, unit: 's' });
    run.report({
      measure,
      what: `${what}, ${count} rows: peak resident`,
      value: peakMb,
      unit: 'MB',
      target: { of: 'value', at: 'most', limit: 400 },
    });
  }
  await engine.run('mtree-table-diff', { table });
}

/** What may be wrong with rows of n2, and what the server alone needs to put it right on n3. */
interface RepairCase {
  readonly what: string;
  readonly spoil: (run: BenchRun, where: string) => Promise<void>;
  readonly floor: { readonly what: string; readonly ms: (run: BenchRun) => Promise<number> };
}

function repairCases(where: string, rows: number, count: number): RepairCase[] {
  const onNode = async (run: BenchRun, node: string, sql: string): Promise<void> => {
    const { mesh } = await run.cluster();
    await mesh.driftSql(node, sql);
  };
  const beyond = `id > ${2 * rows}`;
  const extra = `INSERT INTO customers ${customerRows(2 * rows + 1, 2 * rows + count)}`;
  return [
    {
      what: 'rows that differ',
      spoil: drift,
      floor: {
        what: 'COPY and upsert',
        ms: async (run) => (await run.cluster()).floors.copyAndUpsert('n1', 'n3', where),
      },
    },
    {
      what: 'missing rows',
      spoil: (run) => onNode(run, 'n2', `DELETE FROM customers WHERE ${where}`),
      floor: {
        what: 'COPY and upsert',
        ms: async (run) => {
          await onNode(run, 'n3', `DELETE FROM customers WHERE ${where}`);
          return (await run.cluster()).floors.copyAndUpsert('n1', 'n3', where);
        },
      },
    },
    {
      what: 'extra rows',
      spoil: (run) => onNode(run, 'n2', extra),
      floor: {
        what: 'COPY of the keys, DELETE ... USING',
        ms: async (run) => {
          await onNode(run, 'n3', extra);
          return (await run.cluster()).floors.copyAndDelete('n3', beyond);
        },
      },
    },
  ];
}

export async function measureRepair(run: BenchRun): Promise<void> {
  const { engine } = await run.clusterWithTree();
  const { rows, repeat } = run.options;
  const count = rows / 20;
  const where = `id BETWEEN ${rows / 2} AND ${rows / 2 + count - 1}`;
  const peaks: number[] = [];
  for (const { what, spoil, floor } of repairCases(where, rows, count)) {
    const floorMs: number[] = [];
    const repairMs: number[] = [];
    for (let i = 0; i < repeat; i++) {
      await spoil(run, where);
      const answer = await engine.run('mtree-table-diff', { table: 'customers' });
      const { path } = await check(answer, count, engine.reportDir);
      const params = { table: 'customers', sourceOfTruth: 'n1' };
      const { ms, peakMb, result } = await engine.run('table-repair', params, path);
      const counts = result.nodes['n2'];
      if ((counts?.upserted ?? 0) + (counts?.deleted ?? 0) !== count) {
        throw new Error(`${count} rows to repair: ${JSON.stringify(result.nodes)}`);
      }
      repairMs.push(ms);
      peaks.push(peakMb);
      floorMs.push(await floor.ms(run));
      await engine.run('mtree-table-diff', { table: 'customers' });
    }
    run.report({
      measure: 'repair',
      what: `table-repair, ${count} ${what}`,
      value: count / (median(repairMs) / 1000),
      unit: 'rows/s',
      floor: { what: floor.what, value: count / (median(floorMs) / 1000) },
      target: { of: 'ratio', at: 'least', limit: 0.7 },
    });
  }
  run.report({
    measure: 'repair',
    what: 'table-repair: peak resident',
    value: Math.max(...peaks),
    unit: 'MB',
    target: { of: 'value', at: 'most', limit: 300 },
  });
}
