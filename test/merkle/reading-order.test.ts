import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { BlockSql, type BlockQuery } from '../../src/merkle/block-sql.js';
import { BlockLayout } from '../../src/merkle/layout.js';
import { readingOrder, type ReadingFacts } from '../../src/merkle/reading-order.js';
import type { KeyColumnSpec, TableSpec } from '../../src/table/table-spec.js';
import { BUILT_IN_KEY } from '../support/key-column.js';
import { startServer, type TestServer } from '../support/postgres.js';

const SEED = { seed: 42n, nullToken: '0'.repeat(32) };
const SMALL: ReadingFacts = {
  ...{ tableBytes: 1e9, correlation: 0, cacheBytes: 4e9, hashBytes: 8e6 },
};
const WHOLE = { blocks: 1000, allBlocks: 1000, isIndexed: true };

describe('readingOrder', () => {
  const by = (question: Partial<typeof WHOLE>, facts: Partial<ReadingFacts> = {}): string =>
    readingOrder({ ...WHOLE, ...question }, { ...SMALL, ...facts }).by;

  it('takes the whole table at once where rows lie in another order than their keys', () => {
    assert.equal(by({}), 'table');
    assert.equal(by({}, { correlation: 1 }), 'key');
    assert.equal(by({}, { correlation: -0.99 }), 'key');
    assert.equal(by({}, { correlation: null }), 'key');
  });

  it('weighs how many blocks are wanted, and whether the table is in memory', () => {
    assert.equal(by({ blocks: 300 }), 'key');
    assert.equal(by({ blocks: 400 }), 'table');
    assert.equal(by({ blocks: 50 }, { tableBytes: 10e9 }), 'table');
    assert.equal(by({ blocks: 30 }, { tableBytes: 10e9 }), 'key');
    assert.equal(by({ blocks: 15, allBlocks: 15 }), 'key');
  });

  it('holds no snapshot for long and writes no temporary files', () => {
    assert.equal(by({}, { tableBytes: 20 * 2 ** 30 }), 'key');
    assert.equal(by({ blocks: 100_000, allBlocks: 100_000 }), 'key');
  });

  it('takes the whole table where each block is a scan of it', () => {
    assert.equal(by({ isIndexed: false, blocks: 20 }, { correlation: 1 }), 'table');
  });
});

const TYPES: readonly (readonly [
  type: string,
  typeName: string,
  collate: string | null,
  values: string,
])[] = [
  ['int', 'int4', null, 'i * 7 - 500'],
  ['bigint', 'int8', null, 'i * 1000003 * (i % 2 * 2 - 1)'],
  [
    'numeric',
    'numeric',
    null,
    "(CASE WHEN i = 7 THEN 'NaN' WHEN i = 8 THEN '-Infinity' ELSE (i * 1.37)::text END)::numeric",
  ],
  ['uuid', 'uuid', null, 'md5(i::text)::uuid'],
  [
    'timestamptz',
    'timestamptz',
    null,
    "timestamptz '2024-01-01 00:00Z' + i * i * interval '1 second'",
  ],
  ['date', 'date', null, "date '1999-01-01' + i"],
  ['text', 'text', null, 'chr(65 + i % 60) || i'],
  ['text COLLATE "sv-x-icu"', 'text', null, "substr('aäbBoövwzåZ', i % 11 + 1, 1) || i"],
  [
    'text COLLATE "sv-x-icu"',
    'text',
    'pg_catalog."C"',
    "substr('aäbBoövwzåZ', i % 11 + 1, 1) || i",
  ],
  ['varchar(20)', 'varchar', null, "'v' || i"],
  ['char(8)', 'bpchar', null, "'c' || i"],
  ['bytea', 'bytea', null, "decode(md5(i::text), 'hex')"],
  ['inet', 'inet', null, "inet '10.0.0.0' + i"],
  ['int4range', 'int4range', null, 'int4range(i, i + i % 5)'],
];

describe('BlockSql.hashTable', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.stop());

  const run = (query: BlockQuery): Promise<(string | null)[][]> =>
    server.query('postgres', query.text, query.params.map(asParameter));

  TYPES.forEach(([definition, typeName, collate, values], index) => {
    it(`puts each row of a key ${definition} (${collate ?? 'its own order'}) where its range does`, async () => {
      const name = `p${index}`;
      await server.query(
        'postgres',
        `CREATE TABLE ${name} (k ${definition}, v int);
         INSERT INTO ${name} SELECT DISTINCT ON (k) * FROM (SELECT ${values} AS k, i FROM generate_series(1, 500) i) r;
         ALTER TABLE ${name} ADD PRIMARY KEY (k)`,
      );
      const key: KeyColumnSpec = {
        ...{
          name: 'k',
          typeName: `pg_catalog.${typeName}`,
          textForm: 'plain',
          orderKind: 'server',
          collate,
        },
        ...BUILT_IN_KEY,
      };
      const columns = [key, { name: 'v', textForm: 'plain', valueForm: 'int4' } as const];
      const spec: TableSpec = {
        ...{ schema: 'public', name, key: [key], isKeyOrdered: true, columns, excluded: [] },
      };
      const sql = new BlockSql({ spec, seed: SEED });
      assert.ok(sql.canAssign);
      const boundaries = (await run(sql.boundaries({ lower: null, upper: null }, 17, 1000))).map(
        (row) => row.map((value) => value ?? ''),
      );
      assert.ok(boundaries.length > 3);
      const { layout } = BlockLayout.single().split(0, boundaries);
      // Rows go from some blocks, so that they are not in the answer.
      const [first] = boundaries;
      await server.query(
        'postgres',
        `DELETE FROM ${name} t WHERE ${collate === null ? 'k' : `k COLLATE ${collate}`} < $1::text::pg_catalog.${typeName}`,
        [first?.[0] ?? ''],
      );
      const ranges = layout.ids.map((_, number) => ({ number, ...layout.range(number) }));
      const byRange = (await run(sql.hashBlocks(ranges))).map(
        ([n, count, sum]) => `${n ?? ''} ${count ?? ''} ${sum ?? ''}`,
      );
      const byPass = (await run(sql.hashTable(layout.boundaries))).map(
        ([n, count, sum]) => `${n ?? ''} ${count ?? ''} ${sum ?? ''}`,
      );
      assert.ok(byPass.includes('-1 0 0'));
      const filled = byPass.filter((line) => line !== '-1 0 0');
      assert.deepEqual(filled.sort(), byRange.filter((line) => !line.endsWith(' 0 0')).sort());
    });
  });

  it('is asked of one column in its built-in order only', () => {
    const key = {
      name: 'k',
      typeName: 'text',
      textForm: 'plain',
      orderKind: 'server',
      collate: null,
    } as const;
    const sqlOf = (keys: readonly KeyColumnSpec[]): BlockSql =>
      new BlockSql({
        spec: {
          schema: 's',
          name: 't',
          key: keys,
          isKeyOrdered: true,
          columns: keys,
          excluded: [],
        },
        seed: SEED,
      });
    const built = { ...key, ...BUILT_IN_KEY };
    assert.equal(sqlOf([built]).canAssign, true);
    assert.equal(sqlOf([built, { ...built, name: 'l' }]).canAssign, false);
    const pattern = {
      ...built,
      operators: { ...built.operators, less: 'OPERATOR(pg_catalog.~<~)' },
    };
    assert.equal(sqlOf([pattern]).canAssign, false);
  });
});

function asParameter(value: string | readonly string[]): string {
  if (typeof value === 'string') return value;
  return `{${value.map((text) => `"${text.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;
}
