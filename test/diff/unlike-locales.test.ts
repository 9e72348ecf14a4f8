import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { DifferenceSearch } from '../../src/diff/difference-search.js';
import { BlockSql } from '../../src/merkle/block-sql.js';
import { SessionPool } from '../../src/postgres/session-pool.js';
import { buildTableSpec } from '../../src/table/build-spec.js';
import { readTable } from '../../src/table/catalog.js';
import type { TableInfo } from '../../src/table/table-info.js';
import { startServer, type TestServer } from '../support/postgres.js';

const SIGNAL = new AbortController().signal;
const LOCALES = { icu: "LOCALE_PROVIDER icu ICU_LOCALE 'en-US'", plain: 'LOCALE_PROVIDER libc' };
/** A key type, and a value of it made of the word `w`. */
const KEYS: Readonly<Record<string, readonly [type: string, value: string]>> = {
  by_citext: ['citext', 'w'],
  by_json: ['jsonb', 'to_jsonb(w)'],
  by_pair: ['pair', 'ROW(w, 1)::pair'],
  by_text: ['text', 'w'],
  by_array: ['text[]', 'ARRAY[w]'],
  by_hstore: ['hstore', "hstore('k', w)"],
};

/** Two databases stand for two nodes: letters are equal in lower case, and sorted, by their locales. */
describe('databases of unlike locales', () => {
  let server: TestServer;
  const pools = new Map<string, SessionPool>();

  before(async () => {
    server = await startServer();
    for (const [name, locale] of Object.entries(LOCALES)) {
      await server.query(
        'postgres',
        `CREATE DATABASE ${name} TEMPLATE template0 LOCALE 'C' ${locale}`,
      );
      const tables = Object.entries(KEYS).map(
        ([table, [type, value]]) => `CREATE TABLE ${table} (k ${type} PRIMARY KEY, v int);
          INSERT INTO ${table} SELECT ${value}, 1 FROM unnest(ARRAY['a', 'B', 'ä', 'Ä', 'z']) w ON CONFLICT DO NOTHING`,
      );
      await server.query(
        name,
        `CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE pair AS (a text, b int); ${tables.join(';')}`,
      );
      const node = server.nodeConfig(name, name);
      pools.set(name, new SessionPool(node, { max: 2, applicationName: 'test' }));
    }
  });

  after(async () => {
    await Promise.all(Array.from(pools.values(), (pool) => pool.close()));
    await server.stop();
  });

  async function infosOf(table: string): Promise<Map<string, TableInfo>> {
    const infos = new Map<string, TableInfo>();
    for (const [name, pool] of pools) {
      infos.set(name, await pool.use((session) => readTable(session, 'public', table, SIGNAL)));
    }
    return infos;
  }

  it('cannot have keys that compare by the locale, whatever collation is asked for', async () => {
    for (const table of ['by_citext', 'by_json', 'by_pair']) {
      const infos = await infosOf(table);
      assert.throws(() => buildTableSpec(infos), {
        code: 'SCHEMA_MISMATCH',
        message:
          /^key column k is of type .* database's locale: that is ICU en-US on icu but libc C C on plain$/,
      });
    }
    for (const table of ['by_text', 'by_array', 'by_hstore']) buildTableSpec(await infosOf(table));
  });

  it('a block whose rows differ, though each is equal to one of the other node by key, is not proved', async () => {
    const infos = await infosOf('by_citext');
    // As one node has it: their locales are taken to agree.
    const spec = buildTableSpec(new Map([...infos].slice(0, 1)));
    const warnings: string[] = [];
    const search = new DifferenceSearch({
      table: {
        ...{ spec, infos, pools, commitTimeNodes: new Set(), seedId: 'seed' },
        sql: new BlockSql({ spec, seed: { seed: 7n, nullToken: 'null' } }),
        replication: () => {
          const topology = {
            edges: [],
            rounds: 1,
            hidden: [],
            spockNodes: new Map(),
            fromOutside: [],
          };
          return Promise.resolve({ pools, topology, unreachable: [] });
        },
      },
      settleTimeoutMs: 5_000,
      blockRows: 100,
      context: { signal: SIGNAL, emit: () => undefined },
      onWarning: (message) => void warnings.push(message),
      sinks: [],
      onContradiction: () => undefined,
    });
    await search.inBlocks([{ lower: null, upper: null }]);
    assert.deepEqual(
      search.faults.map(({ reason }) => reason),
      ['rows in it differ that are equal by key: the nodes do not call the same keys equal'],
    );
    assert.equal(search.inFlightRows, 0);
  });
});
