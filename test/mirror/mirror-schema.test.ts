import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { parseLsn, type Lsn } from '../../src/base/lsn.js';
import { dropNodeSchema, ensureNodeSchema } from '../../src/mirror/mirror-schema.js';
import { removeTree, writeTree, type NodeLeaf } from '../../src/mirror/mirror-tables.js';
import { Session } from '../../src/postgres/session.js';
import { startServer, type TestServer } from '../support/postgres.js';

const DATABASE = 'node_schema';
const SCHEMA = 'Aced "1"';
const TABLE = 'public.customers';

let server: TestServer;
let session: Session;

const connect = (user = 'postgres'): Promise<Session> =>
  Session.connect({ ...server.nodeConfig(DATABASE, 'n1'), user }, { applicationName: 'test' });

before(async () => {
  server = await startServer();
  await server.createDatabase(DATABASE);
  await server.query(DATABASE, 'CREATE ROLE reader LOGIN');
  session = await connect();
});

after(async () => {
  await session.close();
  await server.stop();
});

const leaf = (id: number, rank: number, key: string[] | null, sum = 0n): NodeLeaf => ({
  id,
  rank,
  lower: key,
  rows: rank * 10,
  sum,
  isDirty: rank % 2 === 1,
});

/** The leaves as they are on the node, in the order of their keys. */
async function readTree(): Promise<NodeLeaf[]> {
  const rows = await session.query(
    `SELECT block_id, rank, to_json(lower_key), row_count, digest_sum, is_dirty
       FROM "Aced ""1""".tree WHERE table_name = $1 ORDER BY rank`,
    [TABLE],
  );
  return rows.map(([id, rank, lower, rowCount, sum, isDirty]) => ({
    id: Number(id),
    rank: Number(rank),
    lower: typeof lower === 'string' ? (JSON.parse(lower) as string[]) : null,
    rows: Number(rowCount),
    sum: BigInt(sum ?? ''),
    isDirty: isDirty === 't',
  }));
}

async function readNodePosition(): Promise<Lsn | null> {
  const rows = await session.query(`SELECT lsn FROM "Aced ""1""".position WHERE node = 'n1'`);
  return typeof rows[0]?.[0] === 'string' ? parseLsn(rows[0][0]) : null;
}

describe('node schema', () => {
  it('is created once, by two at once too', async () => {
    const other = await connect();
    const outcomes = await Promise.all([
      ensureNodeSchema(session, SCHEMA),
      ensureNodeSchema(other, SCHEMA),
    ]);
    await other.close();
    assert.deepEqual(outcomes.toSorted(), ['already_current', 'created']);
    const tables = await session.query(
      "SELECT relname, relpersistence FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' ORDER BY 1",
      [`"Aced ""1"""`],
    );
    assert.deepEqual(tables, [
      ['leader', 'u'],
      ['migration', 'u'],
      ['position', 'u'],
      ['root', 'u'],
      ['tree', 'u'],
    ]);
  });

  it('keeps trees and the position they belong to', async () => {
    const leaves = [
      leaf(7, 0, null, 18_446_744_073_709_551_615n),
      leaf(8, 1, ['a"b\\', '{x,y}', '']),
      leaf(9, 2, ['null', 'NULL', "it's"], 5n),
    ];
    const roots = [{ tableName: TABLE, root: 'abc', rows: 30, blocks: 3, dirtyBlocks: 1 }];
    const position = parseLsn('A/10');
    await writeTree(session, SCHEMA, {
      node: 'n1',
      position,
      tables: [{ tableName: TABLE, removedIds: 'all', leaves }],
      roots,
    });
    assert.deepEqual(await readTree(), leaves);
    assert.equal(await readNodePosition(), position);

    const changed = { ...leaf(8, 1, ['a"b\\', '{x,y}', '']), sum: 77n };
    await writeTree(session, SCHEMA, {
      node: 'n1',
      position: parseLsn('A/20'),
      tables: [{ tableName: TABLE, removedIds: [9], leaves: [changed] }],
      roots: [],
    });
    assert.deepEqual(await readTree(), [leaves[0], changed]);
    assert.equal(await readNodePosition(), parseLsn('A/20'));

    const merged = [leaf(10, 0, null, 3n)];
    await writeTree(session, SCHEMA, {
      node: 'n1',
      position,
      tables: [{ tableName: TABLE, removedIds: 'all', leaves: merged }],
      roots: [],
    });
    assert.deepEqual(await readTree(), merged);
    await removeTree(session, SCHEMA, TABLE);
    assert.deepEqual(await readTree(), []);
    assert.deepEqual(await session.query(`SELECT count(*) FROM "Aced ""1""".root`), [['0']]);
  });

  it('writes more leaves than fit one statement', async () => {
    const leaves = Array.from({ length: 12_000 }, (_, i) =>
      leaf(i, i, i === 0 ? null : [String(i)], BigInt(i)),
    );
    await writeTree(session, SCHEMA, {
      node: 'n1',
      position: parseLsn('A/30'),
      tables: [{ tableName: TABLE, removedIds: 'all', leaves }],
      roots: [],
    });
    assert.deepEqual(await readTree(), leaves);
  });

  it('is made anew after a crash of the server has emptied it', async () => {
    await session.close();
    await server.kill();
    await server.start();
    session = await connect();
    assert.equal(await ensureNodeSchema(session, SCHEMA), 'created');
    assert.equal(await readNodePosition(), null);
    assert.equal(await ensureNodeSchema(session, SCHEMA), 'already_current');
  });

  it('refuses what a newer aced has made', async () => {
    await server.query(DATABASE, `INSERT INTO "Aced ""1""".migration VALUES (999, now())`);
    await assert.rejects(
      ensureNodeSchema(session, SCHEMA),
      (error) =>
        error instanceof AcedError && error.code === 'UNSUPPORTED' && /999/.test(error.message),
    );
    await server.query(DATABASE, `DELETE FROM "Aced ""1""".migration WHERE id = 999`);
  });

  it('tells a role what it lacks', async () => {
    const reader = await connect('reader');
    await assert.rejects(
      ensureNodeSchema(reader, 'other'),
      (error) => error instanceof AcedError && error.code === 'MISSING_PRIVILEGE',
    );
    await reader.close();
  });

  it('goes, unless somebody else lives in it', async () => {
    await server.query(DATABASE, 'CREATE TABLE "Aced ""1""".guest (id int)');
    assert.equal(await dropNodeSchema(session, SCHEMA), 'dropped');
    assert.deepEqual(await session.query(`SELECT to_regclass('"Aced ""1""".guest') IS NOT NULL`), [
      ['t'],
    ]);
    await server.query(DATABASE, 'DROP TABLE "Aced ""1""".guest');
    assert.equal(await dropNodeSchema(session, SCHEMA), 'dropped');
    assert.equal(await dropNodeSchema(session, SCHEMA), 'absent');
  });
});
