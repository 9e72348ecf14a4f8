import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { BlockSql, type BlockQuery } from '../../src/merkle/block-sql.js';
import { BlockLayout } from '../../src/merkle/layout.js';
import {
  readingOrder,
  type Assignment,
  type ReadingFacts,
} from '../../src/merkle/reading-order.js';
import type { KeyColumnSpec, TableSpec } from '../../src/table/table-spec.js';
import { BUILT_IN_KEY } from '../support/key-column.js';
import { startServer, type TestServer } from '../support/postgres.js';

const SEED = { seed: 42n, nullToken: '0'.repeat(32) };
const SMALL: ReadingFacts = {
  ...{ tableBytes: 1e9, correlation: 0, cacheBytes: 4e9, hashBytes: 8e6 },
};
const WHOLE = { blocks: 1000, allBlocks: 1000, isIndexed: true, assignment: 'one' as Assignment };

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

  it('promises more where the block of a row is harder to find', () => {
    assert.equal(by({ assignment: 'ties' }), 'table');
    assert.equal(by({ assignment: 'ties', blocks: 600 }), 'key');
    assert.equal(by({ assignment: 'chunks' }), 'key');
    assert.equal(by({ assignment: 'chunks' }, { tableBytes: 10e9 }), 'table');
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

interface PairColumn {
  readonly sql: string;
  readonly typeName: string;
  readonly orderKind: KeyColumnSpec['orderKind'];
  readonly collate?: string;
  /** Several boundaries have one value of it. */
  readonly hasTies?: boolean;
}

const PAIRS: readonly (readonly [first: PairColumn, second: PairColumn, values: string])[] = [
  [
    { sql: 'int', typeName: 'int4', orderKind: 'integer', hasTies: true },
    { sql: 'uuid', typeName: 'uuid', orderKind: 'uuid' },
    'i % 5 - 2, md5(i::text)::uuid',
  ],
  [
    // A column that is narrower than the type that the nodes agree on.
    { sql: 'smallint', typeName: 'int8', orderKind: 'integer', hasTies: true },
    { sql: 'text COLLATE "sv-x-icu"', typeName: 'text', orderKind: 'server' },
    "i % 3, substr('aäbBoövwzåZ', i % 11 + 1, 1) || i",
  ],
  [
    { sql: 'uuid', typeName: 'uuid', orderKind: 'uuid' },
    { sql: 'int', typeName: 'int4', orderKind: 'integer' },
    'md5((i / 3)::text)::uuid, i % 3',
  ],
  [
    { sql: 'date', typeName: 'date', orderKind: 'date', hasTies: true },
    {
      sql: 'text COLLATE "sv-x-icu"',
      typeName: 'text',
      orderKind: 'bytes',
      collate: 'pg_catalog."C"',
    },
    "CASE WHEN i % 9 = 0 THEN 'infinity' ELSE date '2024-01-01' + i % 9 END, substr('aäbBoövwzåZ', i % 11 + 1, 1) || i",
  ],
  [
    { sql: 'timestamptz', typeName: 'timestamptz', orderKind: 'timestamp', hasTies: true },
    { sql: 'numeric', typeName: 'numeric', orderKind: 'numeric' },
    "timestamptz '2024-01-01 00:00Z' + i % 4 * interval '1 hour', CASE WHEN i < 5 THEN 'NaN' ELSE (i * 1.370)::text END::numeric",
  ],
  [
    { sql: 'boolean', typeName: 'bool', orderKind: 'boolean', hasTies: true },
    { sql: 'char(8)', typeName: 'bpchar', orderKind: 'server' },
    "i % 2 = 0, 'c' || i",
  ],
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
      assert.ok(sql.assignment);
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

  PAIRS.forEach(([first, second, values], index) => {
    for (const filter of [undefined, 'base % 3 <> 0 AND n >= 0']) {
      it(`puts each row of a key (${first.sql}, ${second.sql}) where its range does, ${filter ?? 'all rows'}`, async () => {
        const name = `pair${index}${filter === undefined ? '' : '_filtered'}`;
        await server.query(
          'postgres',
          `CREATE TABLE ${name} (k ${first.sql}, first ${second.sql}, base int, n int);
           INSERT INTO ${name} SELECT DISTINCT ON (1, 2) * FROM (SELECT ${values}, i, i * 2 FROM generate_series(1, 600) i) r;
           ALTER TABLE ${name} ADD PRIMARY KEY (k, first)`,
        );
        const columnOf = (column: PairColumn, named: string): KeyColumnSpec => ({
          ...{ name: named, typeName: `pg_catalog.${column.typeName}`, textForm: 'plain' },
          ...{ orderKind: column.orderKind, collate: column.collate ?? null },
          ...BUILT_IN_KEY,
        });
        const key = [columnOf(first, 'k'), columnOf(second, 'first')];
        const columns = [...key, { name: 'base', textForm: 'plain', valueForm: 'int4' } as const];
        const spec: TableSpec = {
          ...{ schema: 'public', name, key, isKeyOrdered: true, columns, excluded: [] },
        };
        const sql = new BlockSql({
          ...{ spec, seed: SEED },
          ...(filter === undefined ? {} : { filter }),
        });
        assert.equal(sql.assignment, 'ties');
        const boundaries = (await run(sql.boundaries({ lower: null, upper: null }, 7, 1000))).map(
          (row) => row.map((value) => value ?? ''),
        );
        const firsts = new Set(boundaries.map(([value]) => value));
        assert.ok(boundaries.length > 20);
        assert.equal(firsts.size < boundaries.length, first.hasTies === true);
        const { layout } = BlockLayout.single().split(0, boundaries);
        // What lies between, below and beyond boundaries, and blocks without rows.
        await server.query('postgres', `DELETE FROM ${name} WHERE base % 41 < 9`);
        const ranges = layout.ids.map((_, number) => ({ number, ...layout.range(number) }));
        const linesOf = async (query: BlockQuery): Promise<string[]> =>
          (await run(query))
            .map(([n, count, sum]) => `${n ?? ''} ${count ?? ''} ${sum ?? ''}`)
            .filter((line) => !line.endsWith(' 0 0'))
            .sort();
        const byRange = await linesOf(sql.hashBlocks(ranges));
        assert.ok(byRange.length > 20);
        assert.deepEqual(await linesOf(sql.hashTable(layout.boundaries)), byRange);
      });
    }
  });

  it('is asked of one or two columns in their built-in order only', () => {
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
    const fixed = { ...built, typeName: 'uuid', orderKind: 'uuid' } as const;
    assert.equal(sqlOf([built]).assignment, 'chunks');
    assert.equal(sqlOf([fixed]).assignment, 'one');
    assert.equal(sqlOf([fixed, { ...built, name: 'l' }]).assignment, 'ties');
    assert.equal(sqlOf([built, { ...fixed, name: 'l' }]).assignment, null);
    assert.equal(sqlOf([fixed, { ...built, name: 'l' }, { ...built, name: 'm' }]).assignment, null);
    const pattern = {
      ...built,
      operators: { ...built.operators, less: 'OPERATOR(pg_catalog.~<~)' },
    };
    assert.equal(sqlOf([pattern]).assignment, null);
    assert.equal(sqlOf([fixed, { ...pattern, name: 'l' }]).assignment, null);
  });
});

function asParameter(value: string | readonly string[]): string {
  if (typeof value === 'string') return value;
  return `{${value.map((text) => `"${text.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;
}
