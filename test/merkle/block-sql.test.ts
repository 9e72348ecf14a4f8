import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { BlockSql, type BlockQuery } from '../../src/merkle/block-sql.js';
import { BlockLayout } from '../../src/merkle/layout.js';
import type { KeyColumnSpec, KeyText, TableSpec } from '../../src/table/table-spec.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { BUILT_IN_KEY } from '../support/key-column.js';

const SEED = { seed: 42n, nullToken: '0123456789abcdef0123456789abcdef' };
/** Swedish puts ä after z; the database's own English order puts it beside a. */
const WORDS = ['a', 'ä', 'b', 'B', 'o', 'ö', 'v', 'w', 'z', 'å', 'Z', '1', '', 'zz', 'az', 'äz'];

const COLUMNS: readonly (Omit<KeyColumnSpec, 'name'> & { readonly definition: string })[] = [
  column('text', 'text'),
  column('text COLLATE "sv-x-icu"', 'text'),
  column('text COLLATE "sv-x-icu"', 'text', 'pg_catalog."C"'),
  column('varchar(20) COLLATE "sv-x-icu"', 'varchar'),
  column('mood', 'public.mood'),
  column('swedish', 'public.swedish'),
];

function column(definition: string, typeName: string, collate: string | null = null) {
  const type = { definition, typeName, textForm: 'plain', orderKind: 'server', collate } as const;
  return { ...type, ...BUILT_IN_KEY };
}

function specOf(name: string, key: readonly KeyColumnSpec[]): TableSpec {
  return { schema: 'public', name, key, isKeyOrdered: true, columns: key, excluded: [] };
}

describe('BlockSql', () => {
  let server: TestServer;
  const run = (query: BlockQuery): Promise<(string | null)[][]> =>
    server.query('postgres', query.text, query.params.map(asParameter));

  before(async () => {
    server = await startServer();
    await server.query(
      'postgres',
      `CREATE TYPE mood AS ENUM ('zz', 'a', 'ä', 'b', 'B', 'o', 'ö', 'v', 'w', 'z', 'å', 'Z', '1', '', 'az', 'äz');
       CREATE DOMAIN swedish AS text COLLATE "sv-x-icu"`,
    );
  });
  after(async () => {
    await server.stop();
  });

  COLUMNS.forEach(({ definition, ...rest }, index) => {
    it(`agrees with itself about the order of ${definition}, ranges ${rest.collate ?? 'its own'}`, async () => {
      const name = `t${index}`;
      const key = [
        { ...rest, name: 'k' },
        { ...column('', 'integer'), name: 'n' },
      ];
      await server.query(
        'postgres',
        `CREATE TABLE ${name} (k ${definition}, n integer, PRIMARY KEY (k, n))`,
      );
      await server.query(
        'postgres',
        `INSERT INTO ${name} SELECT w::${rest.typeName}, n FROM unnest($1::text[]) w, generate_series(1, 3) n`,
        [asParameter(WORDS)],
      );
      const sql = new BlockSql({ spec: specOf(name, key), seed: SEED });
      const boundaries = (await run(sql.boundaries({ lower: null, upper: null }, 5, 1000))).map(
        (row) => row.map((value) => value ?? ''),
      );
      assert.equal(boundaries.length, Math.ceil((WORDS.length * 3) / 5) - 1);
      const layout = BlockLayout.single().split(0, boundaries).layout;
      const ranges = layout.ids.map((_, number) => ({ number, ...layout.range(number) }));

      const hashes = await run(sql.hashBlocks(ranges));
      const counts = hashes
        .toSorted(([a], [b]) => Number(a) - Number(b))
        .map(([, count]) => Number(count));
      assert.deepEqual(counts.slice(0, -1), new Array(layout.size - 1).fill(5));
      assert.equal(
        counts.reduce((sum, count) => sum + count, 0),
        WORDS.length * 3,
      );

      const digests = await run(sql.rowDigests(ranges));
      const keys = digests.map(([, , word, n]): KeyText => [word ?? '', n ?? '']);
      const places = new Map(
        (await run(sql.locate(keys, boundaries))).map(([n, at]) => [Number(n), Number(at)]),
      );
      digests.forEach(([number], i) => {
        assert.equal(places.get(i), Number(number), `block of ${JSON.stringify(keys[i])}`);
      });

      const sorted = (await run(sql.sortKeys(keys))).map(([i]) => keys[Number(i)]);
      const collate = rest.collate === null ? '' : `COLLATE ${rest.collate}`;
      const expected = await server.query(
        'postgres',
        `SELECT k::text, n FROM ${name} t ORDER BY t.k ${collate}, t.n`,
      );
      assert.deepEqual(sorted, expected);
    });
  });
});

function asParameter(value: string | readonly string[]): string {
  if (typeof value === 'string') return value;
  return `{${value.map((text) => `"${text.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;
}
