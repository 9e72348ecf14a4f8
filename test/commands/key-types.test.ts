import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { quoteIdentifier } from '../../src/base/quote.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { build } from '../../src/commands/build.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { repair } from '../../src/commands/repair.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { assertLeavesMatchServer, catchUp } from '../support/leaves.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { BASE_TYPES, COMPOSITE_KEYS, MADE_TYPES, type KeyType } from './key-types.js';

const EXTENSIONS = ['citext', 'cube', 'hstore', 'isn', 'ltree', 'seg'];
const ROWS = 90;
const LATE_ROWS = 20;

/** Every type that can be a key, from the catalog: those of the extensions stand in `public`. */
const TYPES_QUERY = `
  SELECT t.typname, pg_catalog.format('%I.%I', n.nspname, t.typname)
    FROM pg_opclass o
    JOIN pg_am m ON m.oid = o.opcmethod AND m.amname = 'btree'
    JOIN pg_type t ON t.oid = o.opcintype AND t.typtype = 'b'
    JOIN pg_namespace n ON n.oid = t.typnamespace
   WHERE o.opcdefault ORDER BY 1`;

/** A table `t (k0, k1, ..., v, note)` with the key (k0, k1, ...). */
interface KeyTable {
  readonly table: string;
  readonly key: readonly KeyType[];
}

for (const major of [15, 18] as const) {
  describe(`keys of every type, PostgreSQL ${major}`, () => {
    let mesh: Mesh;
    let cluster: Cluster;
    let stateDir: string;
    const tables: KeyTable[] = [];

    before(async () => {
      mesh = await startMesh({ nodes: 2, major });
      stateDir = await scratchDirectory();
      const made = Object.values(MADE_TYPES).flatMap(({ ddl }) => ddl ?? []);
      await mesh.queryAll(
        [...EXTENSIONS.map((name) => `CREATE EXTENSION ${name}`), ...made].join(';'),
      );
      for (const [name = '', type] of (await mesh.query('n1', TYPES_QUERY)) as [string, string][]) {
        const base = BASE_TYPES[name];
        assert.ok(base, `no values of type ${name} to try`);
        const declared = name === 'bit' ? 'bit(12)' : name === 'bpchar' ? 'char(9)' : type;
        tables.push({ table: nameOf(name), key: [{ ...base, type: declared }] });
      }
      for (const [name, type] of Object.entries(MADE_TYPES)) {
        tables.push({ table: nameOf(`made ${name}`), key: [type] });
      }
      COMPOSITE_KEYS.forEach((key, i) => tables.push({ table: nameOf(`composite ${i}`), key }));
      const ddl = tables.map(({ table, key }) => {
        const columns = key.map(({ type }, i) => `k${i} ${type}, `).join('');
        const list = key.map((_, i) => `k${i}`).join(', ');
        return `CREATE TABLE ${table} (${columns}v int, note text, PRIMARY KEY (${list}))`;
      });
      await mesh.addTables(ddl.join(';'));
      cluster = new Cluster(mesh.config(stateDir, { tree: { blockRows: 7 } }), silentLogger());
      await initialise(cluster, testContext(stateDir));
    });

    after(async () => {
      await cluster.close();
      await mesh.stop();
      await removeDirectory(stateDir);
    });

    async function insert({ table, key }: KeyTable, rows: readonly (readonly string[])[]) {
      const values = key.map(({ type }, i) => `t${i}::${type}`).join(', ');
      const names = key.map((_, i) => `t${i}, `).join('');
      await mesh.query(
        'n1',
        `INSERT INTO ${table} SELECT ${values}, n, 'row' || n
           FROM unnest(${key.map((_, i) => `$${i + 1}::text[]`).join(', ')})
             WITH ORDINALITY u(${names} n) ON CONFLICT DO NOTHING`,
        key.map((_, i) => arrayOf(rows.map((row) => row[i] ?? ''))),
      );
    }

    /** Some rows gone from n2, some changed there, some spelled anew. */
    async function drift({ table, key }: KeyTable): Promise<void> {
      const respelled = key.flatMap(({ type, spellings = [] }, i) =>
        spellings.map(
          ([one, other]) =>
            `UPDATE ${table} SET k${i} = '${other}'::text::${type} WHERE k${i} = '${one}'::text::${type};`,
        ),
      );
      await mesh.driftSql(
        'n2',
        `DELETE FROM ${table} WHERE v % 11 = 4; UPDATE ${table} SET v = -v WHERE v % 13 = 2;` +
          respelled.join(''),
      );
    }

    /** By the types' own operators, in a session as psql has it: n2's rows are brought to n1. */
    async function oracle({ table, key }: KeyTable): Promise<number> {
      // Not a cast: char(n) loses its blanks by one.
      const texts = key.map((_, i) => `concat(k${i}), `).join('');
      const rows = await mesh.query('n2', `SELECT ${texts} v::text FROM ${table}`);
      const values = key.map(({ type }, i) => `t${i}::${type} AS k${i}, `).join('');
      const names = key.map((_, i) => `t${i}, `).join('');
      const arrays = [...key, null].map((_, i) => `$${i + 1}::text[]`).join(', ');
      const same = key.map(({ compared = '' }, i) => `b.k${i}${compared} = a.k${i}${compared}`);
      const spelling = key.map(({ type }, i) =>
        type === 'pg_catalog."numeric"' ? 'true' : `concat(a.k${i}) = concat(b.k${i}) COLLATE "C"`,
      );
      const [[count] = []] = await mesh.query(
        'n1',
        `WITH b AS MATERIALIZED (SELECT ${values} v::int FROM unnest(${arrays}) u(${names} v))
         SELECT (SELECT count(*) FROM ${table} a WHERE NOT EXISTS (SELECT FROM b WHERE ${same.join(' AND ')}))
              + (SELECT count(*) FROM b WHERE NOT EXISTS (SELECT FROM ${table} a WHERE ${same.join(' AND ')}))
              + (SELECT count(*) FROM b JOIN ${table} a ON ${same.join(' AND ')}
                  WHERE a.v <> b.v OR NOT (${spelling.join(' AND ')}))`,
        [...key, null].map((_, i) => arrayOf(rows.map((row) => row[i] ?? ''))),
      );
      return Number(count);
    }

    async function check(keyTable: KeyTable): Promise<void> {
      const expected = await oracle(keyTable);
      assert.ok(expected > 0, `${expected} differences expected`);
      const table = `public.${keyTable.table}`;
      for (const result of [
        await diffTree(cluster, { table }, testContext(stateDir)),
        await diffTable(cluster, { table }, testContext(stateDir)),
      ]) {
        assert.deepEqual([result.verdict, result.differences], ['drift', { 'n1/n2': expected }]);
      }
      await assertLeavesMatchServer(cluster, cluster.requireTable(table));
      if (keyTable.key.some(({ spellings = [] }) => spellings.length > 0)) await mend(table);
    }

    /** A row whose key is spelled anew is updated, not inserted beside itself. */
    async function mend(table: string): Promise<void> {
      const { files } = await diffTable(cluster, { table }, testContext(stateDir));
      const inputPath = join(stateDir, files[0] ?? '');
      for (const mode of [{ insertOnly: true }, { upsertOnly: true }, {}]) {
        const params = { table, sourceOfTruth: 'n1', ...mode };
        const { nodes } = await repair(cluster, params, testContext(stateDir, { inputPath }));
        assert.deepEqual([nodes['n2']?.skipped, nodes['n2']?.failed], [0, 0], JSON.stringify(mode));
      }
      const { verdict } = await diffTable(cluster, { table }, testContext(stateDir));
      assert.equal(verdict, 'match', 'after the repair');
    }

    it('finds what plain SQL finds, by tree and by table', async () => {
      for (const keyTable of tables) {
        const { key } = keyTable;
        const spellings = Math.max(...key.map((type) => type.spellings?.length ?? 0));
        const respelled = Array.from({ length: spellings }, (_, n) =>
          key.map(({ spellings: pairs, text }) => pairs?.[n]?.[0] ?? text(n)),
        );
        await insert(keyTable, [...respelled, ...rowsOf(key, 0, ROWS)]);
      }
      await mesh.waitForReplication();
      for (const { table } of tables) {
        await build(cluster, { table: `public.${table}`, blockRows: 7 }, testContext(stateDir));
      }
      for (const keyTable of tables) {
        await drift(keyTable);
        await insert(keyTable, rowsOf(keyTable.key, ROWS, LATE_ROWS));
      }
      await mesh.waitForReplication();
      await catchUp(cluster);
      const failures: string[] = [];
      for (const keyTable of tables) {
        await check(keyTable).catch((error: unknown) => {
          const types = keyTable.key.map(({ type }) => type).join(', ');
          failures.push(`(${types}): ${error instanceof Error ? error.message : String(error)}`);
        });
      }
      assert.deepEqual(failures, []);
    });
  });
}

function nameOf(name: string): string {
  return quoteIdentifier(`key ${name}`);
}

/** Of composite keys the first columns have few values: the blocks' ends lie within one of them. */
function rowsOf(key: readonly KeyType[], first: number, count: number): string[][] {
  return Array.from({ length: count }, (_, n) =>
    key.map(({ text }, i) => text(i === key.length - 1 ? first + n : (first + n) % 3)),
  );
}

function arrayOf(texts: readonly string[]): string {
  return `{${texts.map((text) => JSON.stringify(text)).join(',')}}`;
}
