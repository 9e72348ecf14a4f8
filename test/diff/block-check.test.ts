import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { checkBlocks, type BlockCheck } from '../../src/diff/block-check.js';
import { BlockSql } from '../../src/merkle/block-sql.js';
import type { BlockRange } from '../../src/merkle/layout.js';
import { SessionPool } from '../../src/postgres/session-pool.js';
import { buildTableSpec } from '../../src/table/build-spec.js';
import { readTable } from '../../src/table/catalog.js';
import type { TableSpec } from '../../src/table/table-spec.js';
import { startServer, type TestServer } from '../support/postgres.js';

const SIGNAL = new AbortController().signal;
/** Keys that start with q come last in one database, and where they belong in the other. */
const RULES = { one: '', other: '&z < q' };

/** Two databases stand for two nodes. */
describe('blocks in which no row was found to differ', () => {
  let server: TestServer;
  let pools: Map<string, SessionPool>;

  before(async () => {
    server = await startServer();
    pools = new Map();
    for (const [name, rules] of Object.entries(RULES)) {
      await server.createDatabase(name);
      await server.query(
        name,
        `CREATE COLLATION odd (provider = icu, locale = 'en-US', rules = '${rules}');
         CREATE TABLE plain (id int PRIMARY KEY, v text);
         CREATE TABLE worded (k text COLLATE odd PRIMARY KEY, v int);
         INSERT INTO plain SELECT i, 'v' || i FROM generate_series(1, 40) i;
         INSERT INTO worded SELECT chr(96 + i), i FROM generate_series(1, 26) i`,
      );
      const node = server.nodeConfig(name, name);
      pools.set(name, new SessionPool(node, { max: 2, applicationName: 'test' }));
    }
  });

  after(async () => {
    await Promise.all(Array.from(pools.values(), (pool) => pool.close()));
    await server.stop();
  });

  async function check(table: string, ranges: readonly BlockRange[]): Promise<BlockCheck> {
    const spec = await specOf(table);
    const sql = new BlockSql({ spec, seed: { seed: 7n, nullToken: 'null' } });
    return checkBlocks(ranges, { pools, sql, keyColumns: spec.key.length, signal: SIGNAL });
  }

  /** As one node alone has it: the nodes' orders are taken to agree. */
  async function specOf(table: string): Promise<TableSpec> {
    const pool = pools.get('one') ?? assert.fail();
    const info = await pool.use((session) => readTable(session, 'public', table, SIGNAL));
    return buildTableSpec(new Map([['one', info]]));
  }

  it('equal ones are in order, and those whose rows differ are told apart', async () => {
    const [low, high] = [
      { lower: null, upper: ['20'] },
      { lower: ['20'], upper: null },
    ];
    const none = { contradictions: [], differing: new Map() };
    assert.deepEqual(await check('plain', [low, high]), none);
    await server.query(
      'other',
      "UPDATE plain SET v = 'x' WHERE id = 33; DELETE FROM plain WHERE id = 3",
    );
    const { contradictions, differing } = await check('plain', [low, high]);
    assert.deepEqual(contradictions, []);
    assert.deepEqual([...differing.keys()], [low, high]);
    assert.deepEqual((await check('plain', [low, high])).differing, differing);
    assert.equal((await check('plain', [{ lower: ['4'], upper: ['30'] }])).differing.size, 0);
    await server.query('one', 'UPDATE plain SET v = v WHERE id = 33');
    const written = (await check('plain', [low, high])).differing;
    assert.deepEqual(written.get(low), differing.get(low));
    assert.notDeepEqual(written.get(high), differing.get(high));
  });

  it('equal rows that the nodes have in other blocks are a contradiction, not a match', async () => {
    const ranges = [
      { lower: null, upper: ['p'] },
      { lower: ['p'], upper: ['s'] },
      { lower: ['s'], upper: null },
    ];
    const { contradictions, differing } = await check('worded', ranges);
    assert.equal(differing.size, 0);
    assert.deepEqual(
      contradictions.map(({ range }) => range),
      [ranges[1], ranges[2]],
    );
    assert.match(contradictions[0]?.reason ?? '', /one and other .* they order keys differently/);
  });
});
