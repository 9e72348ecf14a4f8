import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';

interface Metadata {
  readonly commit_ts: string | null;
  readonly node_origin: string | null;
}

interface DiffFile {
  readonly diffs: Readonly<
    Record<
      string,
      { readonly rows: Record<string, { readonly id: number; _spock_metadata_: Metadata }[]> }
    >
  >;
}

describe('the origin of a differing row', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let directory: string;

  before(async () => {
    mesh = await startMesh({
      nodes: 3,
      tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)',
      settings: { track_commit_timestamp: 'on' },
    });
    directory = await scratchDirectory();
    cluster = new Cluster(mesh.config(directory), silentLogger());
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(directory);
  });

  /** Pair -> `node id origin` of each row in the file. */
  async function origins(): Promise<Record<string, string[]>> {
    const result = await diffTable(cluster, { table: 't' }, testContext(directory));
    assert.equal(result.verdict, 'drift');
    const text = await readFile(join(directory, result.files[0] ?? ''), 'utf8');
    const { diffs } = JSON.parse(text) as DiffFile;
    return Object.fromEntries(
      Object.entries(diffs).map(([pair, { rows }]) => [
        pair,
        Object.entries(rows).flatMap(([node, list]) =>
          list.map(({ id, _spock_metadata_: { commit_ts: time, node_origin: origin } }) => {
            assert.match(time ?? '', /^\d{4}-\d\d-\d\dT.*Z$/);
            return `${node} ${id} ${origin}`;
          }),
        ),
      ]),
    );
  }

  it('is the publishing node, local, or an origin that is no subscription', async () => {
    await mesh.query('n1', "INSERT INTO t VALUES (1, 'from n1')");
    await mesh.query('n3', "INSERT INTO t VALUES (3, 'from n3')");
    await mesh.waitForReplication();
    await mesh.driftSql('n2', "UPDATE t SET v = 'drifted' WHERE id = 1");
    await mesh.driftSql('n1', 'DELETE FROM t WHERE id = 3');
    assert.deepEqual(await origins(), {
      'n1/n2': ['n1 1 local', 'n2 1 mesh_drift', 'n2 3 n3'],
      'n1/n3': ['n3 3 local'],
      'n2/n3': ['n2 1 mesh_drift', 'n3 1 n1'],
    });
  });
});
