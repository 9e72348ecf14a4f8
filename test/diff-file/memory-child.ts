/** Run by memory.test.ts in a process with a small heap: writes, or reads, a large diff file. */
import { join } from 'node:path';
import { readDiffRows } from '../../src/diff-file/diff-reader.js';
import { DiffFileWriter, type DiffRow } from '../../src/diff-file/diff-writer.js';

const [, , directory = '.', count = '100000'] = process.argv;
const columns = Array.from({ length: 14 }, (_, i) => ({
  name: i === 0 ? 'id' : `column_${i}`,
  baseTypeOid: [20, 25, 1700, 1184][i % 4] ?? 25,
}));
const TEXTS = ['', 'some customer text', '1234.50', '2024-01-02 03:04:05.123456+00'];

function image(
  id: number,
  digest: string,
): DiffRow['images'] extends ReadonlyMap<string, infer T> ? T : never {
  return {
    digest,
    values: columns.map((_, i) => (i % 4 === 0 ? String(id + i) : (TEXTS[i % 4] ?? null))),
    commitTs: '2024-01-02 03:04:05.123456+00',
    origin: 'local',
  };
}

const writer = await DiffFileWriter.create({
  directory,
  schema: 'public',
  table: 'large',
  suffix: 'diffs',
  startedAt: new Date(),
  nodes: ['n1', 'n2', 'n3'],
  columns,
  primaryKey: ['id'],
  maxDiffRows: 10_000_000,
  seedId: 'seed',
  servers: {},
});
const started = process.hrtime.bigint();
for (let id = 0; id < Number(count); id += 1_000) {
  const rows = Array.from({ length: 1_000 }, (_, i) => {
    const good = image(id + i, '00000000000000aa');
    return {
      images: new Map([
        ['n1', good],
        ['n2', image(id + i, '00000000000000bb')],
        ['n3', good],
      ]),
    };
  });
  await writer.add(rows);
}
const file = await writer.finish({
  blockSize: 1,
  compareUnitSize: 1,
  concurrencyFactor: 1,
  totalRowsChecked: 1,
  initialRangesCount: 1,
  mismatchedRangesCount: 1,
  timeTakenMs: 1,
  positions: {},
  verdict: 'drift',
  excludedColumns: [],
  warnings: [],
});
const ms = Number(process.hrtime.bigint() - started) / 1e6;
let rows = 0;
for await (const batch of readDiffRows(join(directory, file ?? ''))) rows += batch.rows.length;
console.log(JSON.stringify({ rows, file, ms, maxRssKb: process.resourceUsage().maxRSS }));
