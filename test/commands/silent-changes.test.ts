import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { build } from '../../src/commands/build.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { catchUp } from '../support/leaves.js';
import { startMesh, type Mesh } from '../support/mesh.js';

interface SilentChange {
  readonly title: string;
  /** Makes the table `t<number>`, whose name stands for every `$t`. */
  readonly ddl: string;
  readonly fill: string;
  /** Runs on n1 and stays there. Statements one by one, each in its own transaction. */
  readonly change: readonly string[];
  /** Partitions that n2 alone has, and what is written there. */
  readonly onN2?: { readonly ddl: string; readonly change: string };
  /** Rows that differ then, as plain SQL sees them too. */
  readonly differences: number;
}

const PARTITIONED = `
  CREATE TABLE $t (id int PRIMARY KEY, k int, v text) PARTITION BY RANGE (id);
  CREATE TABLE $t_low PARTITION OF $t FOR VALUES FROM (MINVALUE) TO (1000);
  CREATE TABLE $t_high PARTITION OF $t FOR VALUES FROM (1000) TO (MAXVALUE)`;
const FILL = `INSERT INTO $t SELECT i, i, 'v' || i FROM generate_series(1, 400) i`;
const PLAIN = 'CREATE TABLE $t (id int PRIMARY KEY, k int NOT NULL, v text)';

const CHANGES: readonly SilentChange[] = [
  {
    title: 'A3: root FULL over partitions with DEFAULT, where a row comes back with less in it',
    ddl: `${PARTITIONED}; ALTER TABLE $t REPLICA IDENTITY FULL`,
    fill: FILL,
    change: ['DELETE FROM $t WHERE id = 40; INSERT INTO $t (id) VALUES (40)'],
    differences: 1,
  },
  {
    title: 'A3: root FULL over DEFAULT, a key that moves',
    ddl: `${PARTITIONED}; ALTER TABLE $t REPLICA IDENTITY FULL`,
    fill: FILL,
    change: ['UPDATE $t SET id = 401 WHERE id = 40', "UPDATE $t SET v = 'w' WHERE id = 300"],
    differences: 3,
  },
  {
    title: 'A3: a partition FULL under a root with DEFAULT',
    ddl: `${PARTITIONED}; ALTER TABLE $t_low REPLICA IDENTITY FULL`,
    fill: FILL,
    change: ['UPDATE $t SET id = 401 WHERE id = 40', 'DELETE FROM $t WHERE id = 7'],
    differences: 3,
  },
  {
    title: 'A3: FULL everywhere but one partition, which changes while it is followed',
    ddl: `${PARTITIONED}; ALTER TABLE $t REPLICA IDENTITY FULL; ALTER TABLE $t_low REPLICA IDENTITY FULL;
      ALTER TABLE $t_high REPLICA IDENTITY FULL`,
    fill: FILL,
    change: [
      'UPDATE $t SET v = NULL WHERE id = 105',
      'ALTER TABLE $t_low REPLICA IDENTITY DEFAULT',
      'DELETE FROM $t WHERE id = 40',
      'INSERT INTO $t (id) VALUES (40)',
      'ALTER TABLE $t_low REPLICA IDENTITY FULL',
      "UPDATE $t SET v = 'w' WHERE id = 206",
    ],
    differences: 3,
  },
  {
    title:
      'A4: a partition USING INDEX on another column, where the key changes without a word of it',
    ddl: `${PARTITIONED}; CREATE UNIQUE INDEX $t_k ON $t_low (k);
      ALTER TABLE $t_low ALTER k SET NOT NULL; ALTER TABLE $t_low REPLICA IDENTITY USING INDEX $t_k`,
    fill: FILL,
    change: ['UPDATE $t SET id = 500 WHERE id = 20'],
    differences: 2,
  },
  {
    title: 'A4: a partition USING INDEX for a moment only',
    ddl: `${PARTITIONED}; CREATE UNIQUE INDEX $t_k ON $t_low (k); ALTER TABLE $t_low ALTER k SET NOT NULL`,
    fill: FILL,
    change: [
      "UPDATE $t SET v = 'w' WHERE id = 201",
      'ALTER TABLE $t_low REPLICA IDENTITY USING INDEX $t_k',
      'UPDATE $t SET id = 500 WHERE id = 20',
      'ALTER TABLE $t_low REPLICA IDENTITY DEFAULT',
      "UPDATE $t SET v = 'w' WHERE id = 202",
    ],
    differences: 4,
  },
  {
    title: 'a replica identity with a NOT NULL NOT VALID column (18)',
    ddl: `CREATE TABLE $t (id int PRIMARY KEY, k int, v text);
      INSERT INTO $t SELECT i, nullif(i, 30), 'v' || i FROM generate_series(1, 400) i;
      ALTER TABLE $t ADD CONSTRAINT $t_nn NOT NULL k NOT VALID; CREATE UNIQUE INDEX $t_k ON $t (k);
      ALTER TABLE $t REPLICA IDENTITY USING INDEX $t_k`,
    fill: 'SELECT 1',
    change: ['DELETE FROM $t WHERE id = 30', 'UPDATE $t SET id = 500 WHERE id = 20'],
    differences: 3,
  },
  {
    title: 'A5: a table that is renamed, written and named back',
    ddl: PLAIN,
    fill: FILL,
    change: [
      'ALTER TABLE $t RENAME TO $t_away',
      "UPDATE $t_away SET v = 'w' WHERE id = 9",
      'ALTER TABLE $t_away RENAME TO $t',
    ],
    differences: 1,
  },
  {
    title: 'A5: a table that is in another schema for a while',
    ddl: PLAIN,
    fill: FILL,
    change: [
      'CREATE SCHEMA $t_s; ALTER TABLE $t SET SCHEMA $t_s',
      'INSERT INTO $t_s.$t VALUES (1000, 1000)',
      'DELETE FROM $t_s.$t WHERE id = 1',
      'ALTER TABLE $t_s.$t SET SCHEMA public',
    ],
    differences: 2,
  },
  {
    title: 'A5: another table that takes the name for a while',
    ddl: `${PLAIN}; CREATE TABLE $t_b (LIKE $t INCLUDING ALL)`,
    fill: FILL,
    change: [
      'ALTER TABLE $t RENAME TO $t_a; ALTER TABLE $t_b RENAME TO $t; ALTER PUBLICATION aced_demo ADD TABLE $t',
      'INSERT INTO $t VALUES (5000, 1)',
      'DELETE FROM $t_a WHERE id = 3',
      'ALTER PUBLICATION aced_demo DROP TABLE $t; ALTER TABLE $t RENAME TO $t_b; ALTER TABLE $t_a RENAME TO $t',
    ],
    differences: 1,
  },
  {
    title: 'A6: a partition that is written while it is detached',
    ddl: PARTITIONED,
    fill: FILL,
    change: [
      'ALTER TABLE $t DETACH PARTITION $t_low',
      "UPDATE $t_low SET v = 'w' WHERE id < 4",
      'ALTER TABLE $t ATTACH PARTITION $t_low FOR VALUES FROM (MINVALUE) TO (1000)',
    ],
    differences: 3,
  },
  {
    title: 'A6: a partition of a partition, detached concurrently',
    ddl: `CREATE TABLE $t (id int PRIMARY KEY, k int NOT NULL, v text) PARTITION BY RANGE (id);
      CREATE TABLE $t_low PARTITION OF $t FOR VALUES FROM (MINVALUE) TO (1000) PARTITION BY RANGE (id);
      CREATE TABLE $t_leaf PARTITION OF $t_low FOR VALUES FROM (MINVALUE) TO (900)`,
    fill: FILL,
    change: [
      'ALTER TABLE $t_low DETACH PARTITION $t_leaf CONCURRENTLY',
      "UPDATE $t_leaf SET v = 'w' WHERE id = 4",
      'ALTER TABLE $t_low ATTACH PARTITION $t_leaf FOR VALUES FROM (MINVALUE) TO (900)',
    ],
    differences: 1,
  },
  {
    title: 'A6: a partition that comes, is written through the root, and goes',
    ddl: PARTITIONED.replace('(1000) TO (MAXVALUE)', '(1000) TO (2000)'),
    fill: FILL,
    onN2: {
      ddl: 'CREATE TABLE $t_x PARTITION OF $t FOR VALUES FROM (2000) TO (3000)',
      change: 'INSERT INTO $t SELECT i, i FROM generate_series(2001, 2005) i',
    },
    change: [
      'CREATE TABLE $t_x PARTITION OF $t FOR VALUES FROM (2000) TO (3000)',
      'INSERT INTO $t SELECT i, i FROM generate_series(2001, 2005) i',
      'ALTER TABLE $t DETACH PARTITION $t_x',
    ],
    differences: 5,
  },
  {
    title: 'a partition that is truncated by itself, then filled again',
    ddl: PARTITIONED,
    fill: FILL,
    change: [
      'TRUNCATE $t_low',
      "INSERT INTO $t SELECT i, i, 'v' || i FROM generate_series(2, 400) i",
    ],
    differences: 1,
  },
  {
    title: 'a partition that is unlogged for a while',
    ddl: PARTITIONED,
    fill: FILL,
    change: [
      'ALTER TABLE $t_low SET UNLOGGED',
      "UPDATE $t_low SET v = 'w' WHERE id = 4",
      'ALTER TABLE $t_low SET LOGGED',
    ],
    differences: 1,
  },
  ...labelChanges(),
  {
    title: 'A7: a composite type that loses a field and gets it back',
    ddl: `CREATE TYPE $t_c AS (a int, b text); CREATE TABLE $t (id int PRIMARY KEY, k int NOT NULL, v $t_c)`,
    fill: `INSERT INTO $t SELECT i, i, ROW(i, 'x')::$t_c FROM generate_series(1, 300) i`,
    change: ['ALTER TYPE $t_c DROP ATTRIBUTE b', 'ALTER TYPE $t_c ADD ATTRIBUTE b text'],
    differences: 300,
  },
  {
    title: 'a cast to text, which our SQL would take for the text of every value',
    ddl: `CREATE TYPE $t_m AS ENUM ('sad', 'ok'); CREATE TABLE $t (id int PRIMARY KEY, k int NOT NULL, v $t_m)`,
    fill: `INSERT INTO $t SELECT i, i, 'sad' FROM generate_series(1, 300) i`,
    change: [
      `CREATE FUNCTION $t_f($t_m) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''sad'''`,
      'CREATE CAST ($t_m AS text) WITH FUNCTION $t_f($t_m)',
      "UPDATE $t SET v = 'ok' WHERE id = 7",
    ],
    differences: 1,
  },
  {
    title: 'the publication leaves rows out for a while',
    ddl: PLAIN,
    fill: FILL,
    change: [
      'ALTER PUBLICATION aced_demo DROP TABLE $t',
      'ALTER PUBLICATION aced_demo ADD TABLE $t WHERE (id > 100)',
      "UPDATE $t SET v = 'w' WHERE id = 7",
      'ALTER PUBLICATION aced_demo DROP TABLE $t',
      'ALTER PUBLICATION aced_demo ADD TABLE $t',
    ],
    differences: 1,
  },
  {
    title: 'the publication sends no updates for a while',
    ddl: PLAIN,
    fill: FILL,
    change: [
      `ALTER PUBLICATION aced_demo SET (publish = 'insert')`,
      "UPDATE $t SET v = 'w' WHERE id = 7",
      `ALTER PUBLICATION aced_demo SET (publish = 'insert, update, delete, truncate')`,
    ],
    differences: 1,
  },
];

/** A label that is renamed, with the enum in every place that a type can have it. */
function labelChanges(): SilentChange[] {
  const places: readonly (readonly [string, string, string])[] = [
    ['a composite type', 'CREATE TYPE $t_c AS (a int, m $t_m)', "ROW(i, 'sad')::$t_c"],
    [
      'an array of a domain',
      'CREATE DOMAIN $t_c0 AS $t_m; CREATE DOMAIN $t_c AS $t_c0[]',
      "ARRAY['sad']::$t_c0[]",
    ],
    ['a range', 'CREATE TYPE $t_c AS RANGE (subtype = $t_m)', "'[sad,ok)'::$t_c"],
    [
      'a multirange within a composite type',
      'CREATE TYPE $t_r AS RANGE (subtype = $t_m, multirange_type_name = $t_mr); CREATE TYPE $t_c AS (x $t_mr)',
      "ROW('{[sad,ok)}')::$t_c",
    ],
    [
      'the row type of another table',
      'CREATE TABLE $t_c (a int, ms $t_m[])',
      "ROW(1, ARRAY['sad']::$t_m[])::$t_c",
    ],
  ];
  return places.map(([place, types, value]) => ({
    title: `A7: a label renamed where the enum is in ${place}`,
    ddl: `CREATE TYPE $t_m AS ENUM ('sad', 'ok'); ${types};
      CREATE TABLE $t (id int PRIMARY KEY, k int NOT NULL, v $t_c)`,
    fill: `INSERT INTO $t SELECT i, i, ${value} FROM generate_series(1, 300) i`,
    change: ["ALTER TYPE $t_m RENAME VALUE 'sad' TO 'blue'"],
    differences: 300,
  }));
}

describe('what changes without a message, or with one that says something else', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let stateDir: string;

  before(async () => {
    mesh = await startMesh({ nodes: 2 });
    stateDir = await scratchDirectory();
    cluster = new Cluster(mesh.config(stateDir, { tree: { blockRows: 30 } }), silentLogger());
    await initialise(cluster, testContext(stateDir));
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  /** Rows that are not the same on both nodes, by plain SQL. */
  async function differing(table: string): Promise<number> {
    const read = async (node: string): Promise<Map<string, string>> => {
      const rows = await mesh.query(node, `SELECT id, ${table}::text FROM ${table}`);
      return new Map(rows.map(([id, text]) => [id ?? '', text ?? '']));
    };
    const [one, two] = await Promise.all([read('n1'), read('n2')]);
    return [...new Set([...one.keys(), ...two.keys()])].filter((id) => one.get(id) !== two.get(id))
      .length;
  }

  async function check(change: SilentChange, table: string): Promise<void> {
    const named = (sql: string): string => sql.replaceAll('$t', table);
    await mesh.queryAll(named(change.ddl));
    if (change.onN2 !== undefined) await mesh.query('n2', named(change.onN2.ddl));
    for (const node of mesh.names) await mesh.driftSql(node, named(change.fill));
    await build(cluster, { table, blockRows: 30 }, testContext(stateDir));
    const before = await diffTree(cluster, { table }, testContext(stateDir));
    assert.equal(before.verdict, 'match');
    if (change.onN2 !== undefined) await mesh.driftSql('n2', named(change.onN2.change));
    for (const sql of change.change) {
      if (sql.endsWith('CONCURRENTLY')) await mesh.query('n1', named(sql));
      else await mesh.driftSql('n1', named(sql));
    }
    await catchUp(cluster);
    assert.equal(await differing(table), change.differences, 'rows that differ');
    const { verdict, differences } = await diffTree(cluster, { table }, testContext(stateDir));
    assert.deepEqual([verdict, differences], ['drift', { 'n1/n2': change.differences }]);
  }

  CHANGES.forEach((change, number) => {
    it(change.title, () => check(change, `t${number}`));
  });
});
