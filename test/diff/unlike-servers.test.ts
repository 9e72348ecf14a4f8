import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import { rerunTable } from '../../src/commands/rerun-table.js';
import type { DiffResult } from '../../src/protocol/commands.js';
import { TYPE_SAMPLES, TYPE_SETUP } from '../digest/type-samples.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { Mesh } from '../support/mesh.js';
import { startServer } from '../support/postgres.js';

const DATABASE = 'app';
/** As many as the type with the most samples has, and one in which everything is NULL. */
const ROWS = 40;
/** From here on a row for each type, in which n2 has another value of it. */
const FIRST_CHANGED = 1_000;

/** n2's database is LATIN1, which has no other characters than these. */
const SAMPLES = TYPE_SAMPLES.map(({ type, values, extension }) => ({
  type,
  extension,
  values: values.filter((value) => !/[^\0-\xff]/.test(value)),
}));

/** What a session of the user's has by default; ours must not care. */
const SETTINGS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  n1: {
    ...{ timezone: 'Asia/Tokyo', datestyle: 'SQL, DMY', intervalstyle: 'iso_8601' },
    ...{ extra_float_digits: '-15', bytea_output: 'escape', search_path: 'nowhere, public' },
    ...{ xmloption: 'document', xmlbinary: 'hex', quote_all_identifiers: 'on', array_nulls: 'off' },
  },
  n2: {
    ...{ timezone: 'America/New_York', datestyle: 'Postgres, MDY', intervalstyle: 'sql_standard' },
    ...{ extra_float_digits: '0', bytea_output: 'hex', search_path: 'public' },
    ...{ xmloption: 'content', xmlbinary: 'base64', quote_all_identifiers: 'off' },
  },
};

const literal = (value: string): string => `'${value.replaceAll("'", "''")}'`;
const columnOf = (index: number): string => `c${index}`;

const EXTENSIONS = [...new Set(SAMPLES.flatMap(({ extension }) => extension ?? []))];
const WIDE = `CREATE TABLE wide (id int PRIMARY KEY, ${SAMPLES.map(
  ({ type }, index) => `${columnOf(index)} ${type}`,
).join(', ')})`;

/** The samples by turns, and NULLs. */
function rowSql(id: number): string {
  const values = SAMPLES.map(({ values: samples }) => {
    const value = samples[id % (samples.length + 1)];
    return value === undefined ? 'NULL' : literal(value);
  });
  return `(${[id, ...values].join(', ')})`;
}

/** The first sample of every type, but on n2 another one, or NULL, of the type itself. */
function changedRowSql(changed: number, node: string): string {
  const values = SAMPLES.map(({ values: samples }, index) => {
    const isChanged = node === 'n2' && index === changed;
    const value = isChanged ? (samples.length > 1 ? samples.at(-1) : undefined) : samples[0];
    return value === undefined ? 'NULL' : literal(value);
  });
  return `(${[FIRST_CHANGED + changed, ...values].join(', ')})`;
}

const ODD_TABLES: Readonly<Record<string, string>> = {
  bare: 'CREATE TABLE bare (id int PRIMARY KEY)',
  '"Odd"" Name"': 'CREATE TABLE "Odd"" Name" ("ID "" é" int PRIMARY KEY, "select" text)',
  by_word: 'CREATE TABLE by_word (w text PRIMARY KEY, v text)',
  parts:
    'CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY HASH (id); ' +
    'CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0); ' +
    'CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1)',
  // Its columns stand in another order on n2, and one is gone on n1.
  shuffled:
    "DO $$ BEGIN IF current_setting('server_encoding') = 'LATIN1' " +
    'THEN CREATE TABLE shuffled (v text, n numeric, id int PRIMARY KEY); ' +
    'ELSE CREATE TABLE shuffled (gone int, id int PRIMARY KEY, n numeric, v text); ' +
    'ALTER TABLE shuffled DROP COLUMN gone; END IF; END $$',
  toasted: 'CREATE TABLE toasted (id int PRIMARY KEY, v text, w bytea)',
  all_key:
    'CREATE TABLE all_key (d date, n numeric, t timestamptz, b bytea, f float8, i interval, PRIMARY KEY (d, n, t, b, f, i))',
  made: 'CREATE TABLE made (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, n int GENERATED ALWAYS AS (length(v)) STORED)',
};
const FILL: Readonly<Record<string, string>> = {
  bare: 'INSERT INTO bare SELECT generate_series(1, 300)',
  '"Odd"" Name"': `INSERT INTO "Odd"" Name" SELECT i, 'é' || i FROM generate_series(1, 300) i`,
  by_word: `INSERT INTO by_word SELECT chr(32 + i % 224) || i, chr(255 - i % 90) FROM generate_series(1, 3000) i
           WHERE i % 224 < 95 OR i % 224 > 128`,
  parts: `INSERT INTO parts SELECT i, 'ÿ' || i FROM generate_series(1, 300) i`,
  shuffled: `INSERT INTO shuffled (id, n, v) SELECT i, i / 7.0, 'é' || i FROM generate_series(1, 300) i`,
  toasted: `INSERT INTO toasted SELECT i, string_agg(md5(i || ':' || j) || 'ÿ', ''), decode(string_agg(md5(j || ':' || i), ''), 'hex')
             FROM generate_series(1, 20) i, generate_series(1, 3000) j GROUP BY i`,
  all_key: `INSERT INTO all_key SELECT date '2000-01-01' - i * 37, i / 8.0, timestamptz '2020-01-01 00:00+00' + i * interval '1 s',
             decode(lpad(to_hex(i), 4, '0'), 'hex'), i / 3.0::float8, i * interval '1 day 1 s' FROM generate_series(1, 300) i`,
  made: `INSERT INTO made (v) SELECT repeat('ß', i % 9) FROM generate_series(1, 300) i`,
};
const DRIFT: Readonly<Record<string, string>> = {
  bare: 'DELETE FROM bare WHERE id = 7',
  '"Odd"" Name"': `UPDATE "Odd"" Name" SET "select" = 'e7' WHERE "ID "" é" = 7`,
  by_word: `DELETE FROM by_word WHERE w = (SELECT max(w COLLATE "C") FROM by_word)`,
  parts: `UPDATE parts SET v = 'y7' WHERE id = 7`,
  shuffled: 'UPDATE shuffled SET n = n + 0.001 WHERE id = 7',
  toasted: `UPDATE toasted SET v = overlay(v placing 'y' from 50000 for 1) WHERE id = 7`,
  all_key: 'DELETE FROM all_key WHERE n = 2',
  made: `UPDATE made SET v = 'ss' WHERE id = 7`,
};

/** Built-in types of which no value can be written: their input functions refuse every text. */
const WITHOUT_INPUT = [
  ...['gtsvector', 'pg_brin_bloom_summary', 'pg_brin_minmax_multi_summary', 'pg_dependencies'],
  ...['pg_mcv_list', 'pg_ndistinct', 'pg_node_tree'],
];

describe('two servers of unlike encoding and settings', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let directory: string;

  before(async () => {
    const [one, two] = await Promise.all([startServer({}), startServer({})]);
    mesh = new Mesh(
      new Map([
        ['n1', one],
        ['n2', two],
      ]),
      DATABASE,
      'unlike',
    );
    await one.createDatabase(DATABASE);
    await two.query(
      'postgres',
      `CREATE DATABASE ${DATABASE} TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'`,
    );
    for (const extension of EXTENSIONS) await mesh.queryAll(`CREATE EXTENSION ${extension}`);
    await mesh.queryAll(TYPE_SETUP);
    await mesh.queryAll(WIDE);
    const same = Array.from({ length: ROWS }, (_, i) => rowSql(i + 1)).join(',\n');
    for (const node of mesh.names) {
      const changed = SAMPLES.map((_, index) => changedRowSql(index, node)).join(',\n');
      await mesh.query(node, `INSERT INTO wide VALUES ${same}`);
      await mesh.query(node, `INSERT INTO wide VALUES ${changed}`);
    }
    for (const [name, ddl] of Object.entries(ODD_TABLES)) {
      await mesh.queryAll(ddl);
      await mesh.queryAll(FILL[name] ?? '');
    }
    for (const [node, settings] of Object.entries(SETTINGS)) {
      for (const [name, value] of Object.entries(settings)) {
        const values = name === 'search_path' ? value : literal(value);
        await mesh.query(node, `ALTER DATABASE ${DATABASE} SET ${name} = ${values}`);
      }
    }
    directory = await scratchDirectory();
    cluster = new Cluster(mesh.config(directory), silentLogger());
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(directory);
  });

  async function rowsOf({ files }: DiffResult, node: string): Promise<Record<string, unknown>[]> {
    const file = JSON.parse(await readFile(join(directory, files[0] ?? ''), 'utf8')) as {
      diffs: Record<string, { rows: Record<string, Record<string, unknown>[]> }>;
    };
    return file.diffs['n1/n2']?.rows[node] ?? [];
  }

  it('hold equal values of every type, and each that is changed is found', async () => {
    const equal = await diffTable(
      cluster,
      { table: 'public.wide', tableFilter: `id < ${FIRST_CHANGED}` },
      testContext(directory),
    );
    assert.deepEqual([equal.verdict, equal.excludedColumns], ['match', []]);
    const all = await diffTable(cluster, { table: 'public.wide' }, testContext(directory));
    const [onN1, onN2] = await Promise.all([rowsOf(all, 'n1'), rowsOf(all, 'n2')]);
    const found = onN1.map((row, place) =>
      Object.keys(row).filter(
        (name) =>
          name !== '_spock_metadata_' &&
          JSON.stringify(row[name]) !== JSON.stringify(onN2[place]?.[name]),
      ),
    );
    assert.deepEqual(
      found.map(([name = '', ...others]) => [SAMPLES[Number(name.slice(1))]?.type, others]),
      SAMPLES.map(({ type }) => [type, []]),
    );
    const again = await rerunTable(
      cluster,
      {},
      testContext(directory, { inputPath: join(directory, all.files[0] ?? '') }),
    );
    assert.equal(again.differences['n1/n2'], SAMPLES.length);
  });

  it('the types compared are all that the server has, but those of which no value can be written', async () => {
    const uncompared = await mesh.query(
      'n1',
      `SELECT t.typname FROM pg_type t
        WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm') AND t.typname !~ '^_'
          AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = 'public.wide'::regclass AND a.atttypid = t.oid)
        ORDER BY t.typname`,
    );
    assert.deepEqual(uncompared.flat(), WITHOUT_INPUT);
    for (const type of WITHOUT_INPUT) {
      await assert.rejects(mesh.query('n1', `SELECT ''::${type}`), { code: '0A000' }, type);
    }
  });

  for (const table of Object.keys(ODD_TABLES)) {
    it(`odd tables: ${table}`, async () => {
      const name = `public.${table}`;
      const equal = await diffTable(cluster, { table: name }, testContext(directory));
      assert.equal(equal.verdict, 'match');
      await mesh.query('n2', DRIFT[table] ?? '');
      const found = await diffTable(cluster, { table: name }, testContext(directory));
      assert.deepEqual([found.verdict, found.differences], ['drift', { 'n1/n2': 1 }]);
    });
  }
});
