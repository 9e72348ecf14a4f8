import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Cleanup } from './cleanup.js';
import { checkDiffFile, DRIFTED_KEYS } from './drift.js';
import { DemoFailure } from './failure.js';

const NODES = 3;

describe('the demo’s drift', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'aced-drift-'));
  });
  after(() => rm(directory, { recursive: true }));

  async function check(keys: readonly number[], others: readonly number[] = []): Promise<void> {
    const rows = keys.map((id) => ({ id }));
    const [first, ...rest] = rows;
    const path = join(directory, 'diffs.json');
    const diffs = {
      'n1/n2': { rows: { n1: rest, n2: rows } },
      'n2/n3': { rows: { n2: first === undefined ? [] : [first], n3: rest } },
      'n1/n3': { rows: { n1: others.map((id) => ({ id })), n3: [] } },
    };
    await writeFile(path, JSON.stringify({ diffs }));
    await checkDiffFile(path);
  }

  it('is in rows that the load never touches', () => {
    assert.equal(new Set(DRIFTED_KEYS).size, 99);
    for (const key of DRIFTED_KEYS) assert.equal(key % (NODES + 1), NODES);
  });

  it('is what the diff file must have, no less and no more', async () => {
    await check([...DRIFTED_KEYS].reverse());
    await assert.rejects(check(DRIFTED_KEYS.slice(1)), DemoFailure);
    await assert.rejects(check([...DRIFTED_KEYS, 1]), DemoFailure);
    await assert.rejects(check(DRIFTED_KEYS, [1]), DemoFailure);
  });
});

describe('cleanup', () => {
  it('runs every task once, last first, and one that fails does not stop it', async () => {
    const cleanup = new Cleanup();
    const done: string[] = [];
    for (const name of ['first', 'second', 'third']) {
      cleanup.add(name, () => {
        done.push(name);
        return name === 'second' ? Promise.reject(new Error('on purpose')) : Promise.resolve();
      });
    }
    await Promise.all([cleanup.run(), cleanup.run()]);
    assert.deepEqual(done, ['third', 'second', 'first']);
  });
});
