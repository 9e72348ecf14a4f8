import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { build } from '../../src/commands/build.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { repair } from '../../src/commands/repair.js';
import type { DiffResult } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { Mesh } from '../support/mesh.js';
import { startServer } from '../support/postgres.js';
import { editState } from '../support/state-file.js';
import { catchUp } from '../support/leaves.js';

const TABLES = `
  CREATE TABLE facts (id int PRIMARY KEY, big bigint, at timestamp, seen timestamptz, day date,
    amount numeric(20,4), loose numeric, ok boolean, ref uuid, small smallint, word text);
  INSERT INTO facts SELECT i, i, timestamp '2000-01-01' + i * interval '1 us',
    timestamptz '2024-01-01Z' + i * interval '1 hour', date '1990-01-01' + i, i, i, i % 2 = 0,
    md5(i::text)::uuid, i, 'w' || i FROM generate_series(1, 300) i;
  INSERT INTO facts (id) VALUES (301)`;

/** What the server's own hash of a value takes for the same, and NULL against what stands in its place. */
const CHANGES: readonly string[] = [
  'big = 4294967296 WHERE id = 1',
  "at = at + interval '4294.967295 s' WHERE id = 1",
  "at = at - interval '4294.967296 s' WHERE id = 5",
  "seen = 'infinity' WHERE id = 2",
  "day = '-infinity' WHERE id = 301",
  'amount = -amount WHERE id = 3',
  "amount = 'NaN', loose = 0 WHERE id = 4",
  'amount = 40000 WHERE id = 4',
  'loose = -loose WHERE id = 6',
  'ok = false WHERE id = 301',
  "ref = '00000000-0000-0000-0000-000000000000' WHERE id = 301",
  'small = 0 WHERE id = 301',
  'big = 0 WHERE id = 301',
  "at = '-infinity' WHERE id = 301",
  'amount = 0 WHERE id = 301',
];

/** Two servers without replication between them, of the oldest and the newest release. */
describe('tables that are hashed by value', () => {
  let mesh: Mesh;
  let stateDir: string;
  let cluster: Cluster;

  const open = (): Cluster => {
    const opened = new Cluster(mesh.config(stateDir), silentLogger());
    return opened;
  };
  const differences = ({ differences: counts }: DiffResult): number => counts['n1/n2'] ?? 0;
  const whole = (): Promise<DiffResult> =>
    diffTable(cluster, { table: 'facts' }, testContext(stateDir));
  const tree = async (context = testContext(stateDir)): Promise<DiffResult> => {
    await catchUp(cluster);
    return diffTree(cluster, { table: 'facts' }, context);
  };

  before(async () => {
    const servers = await Promise.all([startServer({ major: 15 }), startServer({ major: 18 })]);
    mesh = new Mesh(new Map(servers.map((server, i) => [`n${i + 1}`, server])), 'app', 'demo');
    for (const server of servers) await server.createDatabase('app');
    await mesh.queryAll(TABLES);
    stateDir = await scratchDirectory();
    cluster = open();
    const context = testContext(stateDir);
    await initialise(cluster, context);
    await build(cluster, { table: 'facts', blockRows: 20 }, context);
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  it('are equal on the oldest and the newest release', async () => {
    assert.equal((await whole()).verdict, 'match');
    assert.equal((await tree()).verdict, 'match');
  });

  for (const change of CHANGES) {
    it(`differ after: ${change}`, async () => {
      await mesh.query('n2', `UPDATE facts SET ${change}`);
      assert.deepEqual([differences(await whole()), differences(await tree())], [1, 1]);
      await mesh.queryAll('TRUNCATE facts');
      await mesh.queryAll(TABLES.slice(TABLES.indexOf('INSERT')));
      assert.equal((await tree()).verdict, 'match');
    });
  }

  it('have their tree built again when it is of an earlier version, and it is said', async () => {
    await mesh.query('n2', 'UPDATE facts SET small = small + 1 WHERE id = 7');
    await catchUp(cluster);
    await cluster.close();
    editState(
      stateDir,
      `UPDATE tracked_table SET spec = json_set(json_remove(spec, '$.digestVersion'), '$.columns', (
         SELECT json_group_array(json_remove(value, '$.valueForm')) FROM json_each(spec, '$.columns')))`,
    );
    cluster = open();
    cluster.startStreaming();
    const [table] = cluster.tables;
    assert.equal(table?.state, 'stale');
    assert.match(table.reason ?? '', /earlier version of aced/);
    const context = testContext(stateDir);
    assert.equal(differences(await tree(context)), 1);
    const isAgain = (text: string): boolean => /built again: its digests are those of/.test(text);
    assert.ok(context.messages().some(isAgain));
    assert.deepEqual(
      cluster.tables.map(({ state }) => state),
      ['live'],
    );
    const next = testContext(stateDir);
    assert.equal(differences(await tree(next)), 1);
    assert.ok(!next.messages().some(isAgain));
  });

  it('are repaired by values from a file of the earlier version', async () => {
    const [name = ''] = (await whole()).files;
    const path = join(stateDir, name);
    const text = await readFile(path, 'utf8');
    assert.match(text, /"seed_id": ?"[0-9a-f]{16}-[0-9a-f]{8}"/);
    const older = text
      .replace(/("seed_id": ?"[0-9a-f]{16})-[0-9a-f]{8}/, '$1')
      .replace(/("_?digest[^"]*": ?")[0-9a-f]{16}/g, '$10123456789abcdef');
    await writeFile(path, older);
    const context = { ...testContext(stateDir), inputPath: path };
    const result = await repair(cluster, { table: 'facts', sourceOfTruth: 'n1' }, context);
    assert.equal(result.nodes['n2']?.upserted, 1);
    assert.equal((await whole()).verdict, 'match');
  });
});
