import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { RepairFile } from '../../src/repair/repair-file.js';

let directory: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'aced-repair-file-'));
});

after(() => rm(directory, { recursive: true }));

const row = (id: number, digest: string): string =>
  `{"id":${id},"_spock_metadata_":{"digest":"${digest.padStart(16, '0')}"}}`;

async function read(diffs: string): Promise<RepairFile> {
  const path = join(directory, 'diffs.json');
  await writeFile(path, `{"diffs":{${diffs}},"summary":{"schema":"public","table":"t"}}`);
  return RepairFile.read({ path, source: 'n1', keyColumns: ['id'] });
}

describe('RepairFile', () => {
  it('joins both sides of each pair with the source', async () => {
    const file = await read(
      `"n1/n2":{"rows":{"n1":[${row(1, 'a')},${row(2, 'b')}],"n2":[${row(2, 'c')},${row(3, 'd')}]}},` +
        `"n2/n3":{"rows":{"n2":[${row(8, '1')}]}},` +
        `"n1/n3":{"rows":{"n3":[${row(1, 'ffffffffffffffff')}]}}`,
    );
    const n2 = await file.expectations({ name: 'n1/n2', source: 'n1', target: 'n2' }, null);
    assert.deepEqual(
      [...n2.entries()],
      [
        { place: 0, key: ['1'], target: null, source: '10' },
        { place: 1, key: ['2'], target: '12', source: '11' },
        { place: 2, key: ['3'], target: '13', source: null },
      ],
    );
    const n3 = await file.expectations({ name: 'n1/n3', source: 'n1', target: 'n3' }, null);
    assert.deepEqual([...n3.entries()], [{ place: 0, key: ['1'], target: '-1', source: null }]);
  });
});
