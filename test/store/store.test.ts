import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import Sqlite from 'better-sqlite3';
import { AcedError, type ErrorCode } from '../../src/base/errors.js';
import type { Lsn } from '../../src/base/lsn.js';
import type { CatalogReading } from '../../src/table/fingerprint.js';
import { BlockLayout } from '../../src/merkle/layout.js';
import { highHalf, lowHalf } from '../../src/merkle/leaves.js';
import { Store, type StoredLeaf } from '../../src/store/store.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { batchOf, CLUSTER, leavesOf, specOf } from './fixtures.js';

const NODE = {
  systemId: '7291838172948172938',
  timeline: 3,
  serverStart: '2026-01-02 03:04:05.678+00',
  position: 0xffffffff_fffffffen as Lsn,
  last: { endLsn: 0xffffffff_fffffff0n as Lsn, commit: { xid: 0xffff_fff0, timeUs: 2n ** 60n } },
};
const CHILD = fileURLToPath(new URL('./child.js', import.meta.url));

function byBlock(leaves: readonly StoredLeaf[]): StoredLeaf[] {
  return leaves.toSorted((a, b) => a.blockId - b.blockId);
}

const readingOf = (oid: number): CatalogReading => ({
  oid,
  leaves: [oid + 1],
  fingerprint: `f${oid}`,
});

describe('Store', () => {
  let stateDir: string;
  let store: Store | null;
  const children: ChildProcess[] = [];

  const close = (): void => {
    store?.close();
    store = null;
  };
  const open = (cluster = CLUSTER): Store => {
    close();
    return (store = Store.open(stateDir, cluster));
  };
  /** Starts a child; resolves with the lines that it writes. */
  const startChild = (mode: string): { child: ChildProcess; lines: AsyncIterator<string> } => {
    const child = spawn(process.execPath, [CHILD, mode, stateDir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return { child, lines };
  };
  const kill = async (child: ChildProcess): Promise<void> => {
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  };

  beforeEach(async () => {
    stateDir = path.join(await scratchDirectory(), 'state');
    store = null;
  });
  afterEach(async () => {
    store?.close();
    for (const child of children.splice(0)) {
      if (child.exitCode === null && child.signalCode === null) await kill(child);
    }
    await removeDirectory(path.dirname(stateDir));
  });

  it('shows after a reopen all that was written, for its owner only', async () => {
    let now = open();
    const { seed, seedId } = now;
    assert.match(seedId, /^[0-9a-f]{16}$/);
    assert.match(seed.nullToken, /^[0-9a-f]{32}$/);
    assert.equal(BigInt.asIntN(64, seed.seed), seed.seed);
    now.saveNode('n1', NODE);
    now.setInitialised(true);
    const table = now.addTable(specOf('t'), { n1: readingOf(1), n2: readingOf(2) }, 1000);
    const change = BlockLayout.single().split(0, [['1'], ['a"b\\']]);
    const { layout } = change;
    now.saveLayout(table.id, change);
    now.setTableState(table.id, 'stale', 'columns changed');
    now.saveBatch(batchOf(7, table.id, layout.ids));

    now = open();
    assert.deepEqual(now.seed, seed);
    assert.equal(now.seedId, seedId);
    assert.deepEqual(now.node('n1'), { ...NODE, position: 7n });
    assert.equal(now.node('n2'), null);
    assert.equal(now.isInitialised(), true);
    assert.deepEqual(now.tables(), [{ ...table, state: 'stale', reason: 'columns changed' }]);
    assert.deepEqual(now.layout(table.id), layout);
    assert.deepEqual(byBlock(now.leaves(table.id, 'n1')), byBlock(leavesOf(7, layout.ids)));
    assert.deepEqual(now.leaves(table.id, 'n2'), []);
    assert.deepEqual(now.filters('n1'), [{ id: 7, snapshot: '7:9:7', fence: 5n }]);
    assert.equal((await stat(stateDir)).mode & 0o777, 0o700);
    for (const file of await readdir(stateDir)) {
      assert.equal((await stat(path.join(stateDir, file))).mode & 0o777, 0o600, file);
    }
  });

  it('says at once that a directory cannot be made, and makes what is missing of one that can', async () => {
    const root = path.dirname(stateDir);
    await symlink(path.join(root, 'nowhere', 'at', 'all'), path.join(root, 'link'));
    await writeFile(path.join(root, 'file'), '');
    for (const parent of ['link', 'file', '/proc/aced']) {
      const directory = path.resolve(root, parent, 'deep', 'state');
      assert.throws(
        () => Store.open(directory, CLUSTER),
        (error) => {
          assert.ok(error instanceof AcedError && error.code === 'STORE');
          assert.ok(error.message.includes(directory), error.message);
          return true;
        },
      );
    }
    const made = path.join(root, 'a', 'b', 'c');
    Store.open(made, CLUSTER).close();
    assert.equal((await stat(path.join(root, 'a'))).mode & 0o777, 0o700);
  });

  it('keeps negative counts and every sum', () => {
    const now = open();
    now.saveNode('n1', NODE);
    const { id } = now.addTable(specOf('t'), {}, 10);
    const sums = [0n, 1n, 0x7fffffffn, 0x80000000n, 0xffffffffn, 1n << 32n, (1n << 64n) - 1n];
    const leaves = sums.map((sum, i) => ({
      blockId: i,
      rows: [-3, 0, 2 ** 40][i % 3] ?? 0,
      sumLow: lowHalf(sum),
      sumHigh: highHalf(sum),
      isDirty: i % 2 === 0,
      filter: i,
      provedAtMs: i * 2 ** 40,
    }));
    const batch = batchOf(1, id, []);
    now.saveBatch({ ...batch, leaves: leaves.map((leaf) => ({ tableId: id, leaf })) });
    assert.deepEqual(byBlock(now.leaves(id, 'n1')), leaves);
  });

  it('saves a batch wholly or not at all', () => {
    const now = open();
    now.saveNode('n1', NODE);
    const { id } = now.addTable(specOf('t'), {}, 10);
    now.saveBatch(batchOf(1, id, [1]));
    const unknownTable = { ...batchOf(2, id, [1]) };
    const leaf = { tableId: id + 1, leaf: leavesOf(2, [1])[0] ?? assert.fail() };
    assert.throws(
      () => now.saveBatch({ ...unknownTable, leaves: [...unknownTable.leaves, leaf] }),
      isError('STORE'),
    );
    assert.equal(now.node('n1')?.position, 1n);
    assert.deepEqual(now.leaves(id, 'n1'), leavesOf(1, [1]));
    assert.throws(() => now.saveBatch({ ...batchOf(2, id, [1]), node: 'n9' }), AcedError);
    assert.equal(now.node('n9'), null);
  });

  it('drops the leaves of blocks that a new layout does not have', () => {
    const now = open();
    now.saveNode('n1', NODE);
    const { id } = now.addTable(specOf('t'), {}, 10);
    const other = now.addTable(specOf('other'), {}, 10);
    const change = BlockLayout.single().split(0, [['1'], ['2'], ['3']]);
    const { layout } = change;
    now.saveLayout(id, change);
    now.saveBatch(batchOf(1, id, layout.ids));
    now.saveBatch(batchOf(2, other.id, [1]));
    const splitChange = layout.split(1, [['15']]);
    const split = splitChange.layout;
    now.saveLayout(id, splitChange);
    const kept = layout.ids.filter((blockId) => split.ids.includes(blockId));
    assert.equal(kept.length, 3);
    assert.deepEqual(byBlock(now.leaves(id, 'n1')), leavesOf(1, kept));
    assert.deepEqual(now.leaves(other.id, 'n1'), leavesOf(2, [1]));
    assert.deepEqual(open().layout(id), split);
  });

  it('stores any history of splits and merges as it stands in memory', () => {
    let now = open();
    const { id } = now.addTable(specOf('t'), {}, 10);
    let { layout } = { layout: BlockLayout.single() };
    const wasRenumbered = new Set<boolean>();
    for (let round = 0; round < 120; round++) {
      // Always between the same two neighbours, so that the ranks there run out.
      const change =
        round % 10 === 9 ? layout.merge([[0, 1]]) : layout.split(1 % layout.size, [[`k${round}`]]);
      wasRenumbered.add(change.isRenumbered);
      layout = change.layout;
      now.saveLayout(id, change);
      if (round % 20 === 0) now = open();
      assert.deepEqual(now.layout(id), layout);
    }
    assert.equal(wasRenumbered.size, 2, 'ranks were given anew, and not each time');
  });

  it('forgets a node: no position, no snapshots, all its leaves dirty', () => {
    const now = open();
    now.saveNode('n1', NODE);
    now.saveNode('n2', NODE);
    const { id } = now.addTable(specOf('t'), {}, 10);
    now.saveBatch(batchOf(1, id, [1, 2]));
    now.saveBatch({ ...batchOf(1, id, [1, 2]), node: 'n2' });
    now.forgetNode('n1');
    assert.equal(now.node('n1'), null);
    assert.deepEqual(now.filters('n1'), []);
    const states = now.leaves(id, 'n1').map(({ isDirty, filter }) => ({ isDirty, filter }));
    assert.deepEqual(states, new Array(2).fill({ isDirty: true, filter: 0 }));
    assert.equal(now.node('n2')?.position, 1n);
    assert.deepEqual(byBlock(now.leaves(id, 'n2')), leavesOf(1, [1, 2]));
    assert.equal(now.filters('n2').length, 1);
  });

  it('starts a table over without anything of its predecessor, under another id', () => {
    const now = open();
    now.saveNode('n1', NODE);
    const first = now.addTable(specOf('t'), {}, 10);
    now.saveLayout(first.id, BlockLayout.single().split(0, [['1']]));
    now.saveBatch(batchOf(1, first.id, [2, 3]));
    const given = now.addTable(specOf('t'), {}, 15);
    const second = now.addTable(specOf('t'), {}, 20);
    assert.deepEqual(now.tables(), [first, second], 'the first stays, another next one does not');
    assert.deepEqual([first.role, given.role, second.role], ['current', 'next', 'next']);
    now.saveLastDiffs([
      {
        ...{ schema: 'public', name: 't', verdict: 'match', at: 'now', isBeyondTree: true },
        differences: { 'n1/n2': 0 },
      },
    ]);
    now.promoteTable(second);
    const live = { ...second, role: 'current', state: 'live' };
    assert.deepEqual(now.tables(), [live]);
    const { verdict, isBeyondTree } = now.lastDiff('public', 't') ?? {};
    assert.deepEqual([verdict, isBeyondTree], ['match', true]);
    assert.equal(now.layout(second.id).size, 1);
    assert.deepEqual(now.leaves(second.id, 'n1'), []);
    now.removeTable('public', 't');
    assert.equal(now.lastDiff('public', 't'), null);
    const third = now.addTable(specOf('t'), {}, 20);
    assert.ok(third.id > second.id, 'ids are never used again');
    // Late work on a table that is gone must not reach its successor.
    assert.throws(() => now.saveBatch(batchOf(2, second.id, [1])), isError('STORE'));
    assert.deepEqual(now.leaves(third.id, 'n1'), []);
  });

  it('keeps the seed when everything else is cleared', () => {
    const now = open();
    const { seed } = now;
    now.saveNode('n1', NODE);
    now.setInitialised(true);
    const { id } = now.addTable(specOf('t'), {}, 10);
    now.saveBatch(batchOf(1, id, [1]));
    now.clear();
    assert.deepEqual([now.tables(), now.node('n1'), now.filters('n1')], [[], null, []]);
    assert.deepEqual(now.leaves(id, 'n1'), []);
    assert.equal(now.isInitialised(), false);
    assert.deepEqual(open().seed, seed);
  });

  it('refuses the state of another cluster and lets go of it', () => {
    open();
    assert.throws(() => open('other'), isError('STORE', /"test"/));
    open();
  });

  it('gives the keys of an older file the built-in operators, until their tree is built again', () => {
    const now = open();
    const { id } = now.addTable(specOf('t'), { n1: readingOf(1) }, 10);
    now.setTableState(id, 'live', null);
    close();
    const file = new Sqlite(path.join(stateDir, 'aced.sqlite'));
    file.exec(`UPDATE tracked_table SET spec =
      json_remove(spec, '$.isKeyOrdered', '$.key[0].operators', '$.key[0].isTextUnique')`);
    // What later migrations make.
    file.exec(
      'DROP TABLE incident; DROP TABLE last_diff; DROP TABLE condition; DROP TABLE auto_table; DROP TABLE task',
    );
    for (const column of ['server_start', 'last_end', 'last_xid', 'last_time']) {
      file.exec(`ALTER TABLE node DROP COLUMN ${column}`);
    }
    file.pragma('user_version = 3');
    file.close();
    const [table] = open().tables();
    const { key, ...rest } = specOf('t');
    assert.deepEqual(table?.spec, {
      ...rest,
      key: key.map((one) => ({ ...one, isTextUnique: false })),
    });
    assert.deepEqual([table.state, table.readings], ['stale', {}], 'it will be built again');
  });

  it('refuses a file of a newer version and leaves it as it is', () => {
    open();
    close();
    const file = new Sqlite(path.join(stateDir, 'aced.sqlite'));
    file.pragma('user_version = 1000');
    file.close();
    assert.throws(() => open(), isError('STORE', /1000/));
    const after = new Sqlite(path.join(stateDir, 'aced.sqlite'));
    assert.equal(after.pragma('user_version', { simple: true }), 1000);
    after.close();
  });

  it('says what to do about files that are damaged', async () => {
    const now = open();
    const { id } = now.addTable(specOf('t'), {}, 10);
    const bounds = Array.from({ length: 5000 }, (_, i) => [String(i)]);
    now.saveLayout(id, BlockLayout.single().split(0, bounds));
    close();
    const file = path.join(stateDir, 'aced.sqlite');
    const whole = await readFile(file);

    await writeFile(file, Buffer.concat([Buffer.alloc(4096, 0xa5), whole.subarray(4096)]));
    assert.throws(() => open(), isError('STORE'));

    await writeFile(file, whole.fill(0xa5, 8192));
    assert.throws(() => open().layout(id), isError('STORE'));
    close();

    await writeFile(path.join(stateDir, 'lock.sqlite'), Buffer.alloc(4096, 0xa5));
    assert.throws(() => open(), isError('STORE'));
  });

  it('says what to do about files that it cannot open', async () => {
    for (const name of ['lock.sqlite', 'aced.sqlite']) {
      await removeDirectory(stateDir);
      await mkdir(path.join(stateDir, name), { recursive: true });
      assert.throws(() => open(), isError('STORE'), name);
    }
  });

  it('says what to do about a state directory that is a file', async () => {
    stateDir = path.join(path.dirname(stateDir), 'file');
    await writeFile(stateDir, '');
    assert.throws(() => open(), isError('STORE'));
  });

  it('is for one process at a time, and free when that one is killed', async () => {
    open();
    assert.throws(() => Store.open(stateDir, CLUSTER), isError('STATE_LOCKED'));
    close();
    const { child, lines } = startChild('hold');
    assert.equal((await lines.next()).value, 'open');
    assert.throws(() => open(), isError('STATE_LOCKED'));
    await kill(child);
    open();
  });

  it('shows a whole batch after its writer was killed, and none that was not reported lost', async () => {
    const now = open();
    now.saveNode('n1', { ...NODE, position: 0n as Lsn });
    const { id } = now.addTable(specOf('t'), {}, 10);
    const bounds = Array.from({ length: 300 }, (_, i) => [String(i)]);
    const change = BlockLayout.single().split(0, bounds);
    const { layout } = change;
    now.saveLayout(id, change);
    close();
    let last = 0;
    for (let round = 0; round < 8; round++) {
      const { child, lines } = startChild('write');
      const target = last + 1 + Math.floor(Math.random() * 20);
      let reported = 0;
      while (reported < target) {
        const { value } = (await lines.next()) as { value: string };
        reported = Number(value.replace('batch ', ''));
      }
      await kill(child);
      for (;;) {
        const line = await lines.next();
        if (line.done === true) break;
        reported = Number(line.value.replace('batch ', ''));
      }
      const reopened = open();
      const position = Number(reopened.node('n1')?.position);
      // One more may have been committed but not yet reported.
      assert.ok(position === reported || position === reported + 1, `${position}, ${reported}`);
      assert.deepEqual(byBlock(reopened.leaves(id, 'n1')), byBlock(leavesOf(position, layout.ids)));
      assert.deepEqual(
        reopened.filters('n1').map((filter) => filter.id),
        [position],
      );
      close();
      last = position;
    }
  });
});

function isError(code: ErrorCode, message = /./): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof AcedError, String(error));
    assert.equal(error.code, code, error.message);
    assert.ok(error.hint !== undefined, error.message);
    assert.match(error.message, message);
    return true;
  };
}
