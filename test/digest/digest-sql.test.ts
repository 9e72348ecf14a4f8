import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { quoteIdentifier, quoteLiteral } from '../../src/base/quote.js';
import { nativeUnavailableReason } from '../../src/base/native.js';
import { createRowHasher, digestToBigInt, hashTexts } from '../../src/digest/row-hasher.js';
import {
  hashFormOf,
  type DigestColumn,
  type DigestSeed,
  type TextForm,
  type ValueForm,
} from '../../src/digest/digest-column.js';
import { valueFormOf } from '../../src/digest/value-form.js';
import {
  digestExpression,
  keyTextExpression,
  textExpression,
  textFormOf,
} from '../../src/digest/digest-sql.js';
import { SESSION_SETTINGS } from '../../src/postgres/session-settings.js';
import { startServer, type QueryFunction, type TestServer } from '../support/postgres.js';
import { columnText, readInsertedRows, type InsertedRow } from './pgoutput-rows.js';
import { TYPE_SAMPLES, TYPE_SETUP, type TypeSample } from './type-samples.js';

const SEED: DigestSeed = { seed: -(1n << 63n), nullToken: 'f0e1d2c3b4a5968778695a4b3c2d1e0f' };

const DATABASE = 'digest';
const COLUMN = 'The "value"';

/** Everything that changes how a value is written, set to what nobody of ours expects. */
const SERVER_SETTINGS = {
  timezone: 'Asia/Tokyo',
  datestyle: 'German, DMY',
  intervalstyle: 'iso_8601',
  extra_float_digits: '0',
  bytea_output: 'escape',
  lc_monetary: 'C.UTF-8',
  search_path: 'public',
};

const TEXT_FORM_QUERY = `
  WITH RECURSIVE base AS (
    SELECT a.attrelid, a.attname, a.atttypid AS oid, a.atttypmod AS typmod
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
    UNION ALL
    SELECT attrelid, attname, t.typbasetype, t.typtypmod
      FROM base JOIN pg_type t ON t.oid = base.oid WHERE t.typtype = 'd')
  SELECT c.relname, attname, base.oid, typmod,
         base.oid NOT IN ('text'::regtype, 'varchar'::regtype) AND EXISTS (
           SELECT FROM pg_cast WHERE castsource = base.oid AND casttarget = 'text'::regtype)
    FROM base JOIN pg_type t ON t.oid = base.oid JOIN pg_class c ON c.oid = attrelid
   WHERE t.typtype <> 'd'`;

const VALUE_TYPES: readonly (readonly [ValueForm, string])[] = [
  ['timestamptz', 'timestamptz'],
  ['timestamp', 'timestamp'],
  ['int8', 'int8'],
  ['decimal', 'numeric(9,2)'],
  ['date', 'date'],
  ['bool', 'bool'],
  ['int4', 'int4'],
  ['uuid', 'uuid'],
];

interface SampleTable {
  readonly table: string;
  readonly sample: TypeSample;
  readonly columns: readonly DigestColumn[];
}

async function pinned<T>(
  server: TestServer,
  work: (query: QueryFunction) => Promise<T>,
): Promise<T> {
  return server.session(DATABASE, async (query) => {
    const settings = Object.entries(SESSION_SETTINGS).flat();
    const calls = settings.flatMap((_, i) =>
      i % 2 === 0 ? `set_config($${i + 1}, $${i + 2}, false)` : [],
    );
    await query(`SELECT ${calls.join()}`, settings);
    return work(query);
  });
}

async function createTables(server: TestServer): Promise<SampleTable[]> {
  const extensions = new Set(
    (await server.query(DATABASE, 'SELECT name FROM pg_available_extensions')).map(
      ([name]) => name,
    ),
  );
  const samples = TYPE_SAMPLES.filter(
    ({ extension }) => extension === undefined || extensions.has(extension),
  );
  const used = new Set(samples.flatMap(({ extension }) => extension ?? []));
  const statements = [TYPE_SETUP, ...[...used].map((name) => `CREATE EXTENSION ${name};`)];
  samples.forEach((sample, i) => {
    const column = quoteIdentifier(COLUMN);
    statements.push(`CREATE TABLE sample_${i} (id int PRIMARY KEY, ${column} ${sample.type});`);
  });
  await server.query(DATABASE, statements.join('\n'));
  const facts = new Map(
    (await server.query(DATABASE, TEXT_FORM_QUERY)).map(([table, column, oid, typmod, hasCast]) => [
      `${table ?? ''}.${column ?? ''}`,
      { baseTypeOid: Number(oid), typeModifier: Number(typmod), hasTextCast: hasCast === 't' },
    ]),
  );
  return samples.map((sample, i) => {
    const table = `sample_${i}`;
    const columns = [COLUMN, 'id'].map((name): DigestColumn => {
      const type = facts.get(`${table}.${name}`);
      assert.ok(type, `type of ${table}.${name}`);
      const valueForm = valueFormOf(type);
      return { name, textForm: textFormOf(type), ...(valueForm === null ? {} : { valueForm }) };
    });
    return { table, sample, columns };
  });
}

/** What the replication stream says of the rows, with the output functions' text of each value. */
async function streamRows(
  server: TestServer,
  tables: readonly SampleTable[],
): Promise<InsertedRow[]> {
  await server.query(DATABASE, 'CREATE PUBLICATION everything FOR ALL TABLES');
  await server.query(DATABASE, `SELECT pg_create_logical_replication_slot('digest', 'pgoutput')`);
  const inserts = tables.flatMap(({ table, sample }) =>
    [...sample.values.map(quoteLiteral), 'NULL'].map(
      (value, id) => `INSERT INTO public.${table} VALUES (${id}, ${value});`,
    ),
  );
  // Times without a zone in the samples are read under the pinned zone as well.
  await pinned(server, (query) => query(`BEGIN READ WRITE; ${inserts.join('\n')} COMMIT`));
  const messages = await pinned(server, (query) =>
    query(`SELECT data FROM pg_logical_slot_get_binary_changes('digest', NULL, NULL,
             'proto_version', '1', 'publication_names', 'everything')`),
  );
  return readInsertedRows(messages.map(([hex]) => Buffer.from((hex ?? '').slice(2), 'hex')));
}

async function sqlDigests(
  query: QueryFunction,
  table: string,
  columns: readonly DigestColumn[],
): Promise<(string | null)[]> {
  const digest = digestExpression(columns, SEED, 't');
  const rows = await query(`SELECT (${digest})::text FROM public.${table} t ORDER BY id`);
  return rows.map(([value]) => value ?? null);
}

const label = ({ table, sample }: SampleTable): string => `${sample.type} (${table})`;

for (const major of [15, 18] as const) {
  describe(`SQL digest on PostgreSQL ${major}`, () => {
    let server: TestServer;
    let tables: SampleTable[] = [];
    let rows: ReadonlyMap<string, InsertedRow[]> = new Map();

    before(async () => {
      server = await startServer({ major, settings: SERVER_SETTINGS });
      await server.createDatabase(DATABASE);
      tables = await createTables(server);
      rows = new Map(tables.map(({ table }) => [table, []]));
      for (const row of await streamRows(server, tables)) rows.get(row.table)?.push(row);
    });
    after(() => server.stop());

    const inSession = (work: (query: QueryFunction) => Promise<void>): Promise<void> =>
      pinned(server, work);

    it('equals the digest of the streamed row for every type', () =>
      inSession(async (query) => {
        const failures: string[] = [];
        for (const one of tables) {
          const streamed = rows.get(one.table) ?? [];
          assert.equal(streamed.length, one.sample.values.length + 1, label(one));
          const fromSql = await sqlDigests(query, one.table, one.columns);
          const fromStream = streamed.map((row) => streamDigests(row, one.columns));
          fromStream.forEach((digests, i) => {
            if (digests.some((digest) => digest !== fromSql[i])) {
              failures.push(`${label(one)}, value ${one.sample.values[i] ?? 'NULL'}`);
            }
          });
        }
        assert.deepEqual(failures, []);
      }));

    it('tells NULL from every other value', () =>
      inSession(async (query) => {
        for (const one of tables) {
          const columns = one.columns.filter(({ name }) => name === COLUMN);
          const digests = await sqlDigests(query, one.table, columns);
          assert.equal(digests.indexOf(digests.at(-1) ?? null), digests.length - 1, label(one));
        }
      }));

    it('gives equal digests to equal numerics only', () =>
      inSession(async (query) => {
        for (const one of tables.filter(({ columns }) => columns[0]?.textForm === 'numeric')) {
          const columns = one.columns.filter(({ name }) => name === COLUMN);
          const groups = await query(`SELECT count(DISTINCT (${digestExpression(columns, SEED)})),
                        count(DISTINCT ${quoteIdentifier(COLUMN)}) + 1
                   FROM public.${one.table}`);
          assert.equal(groups[0]?.[0], groups[0]?.[1], label(one));
        }
      }));

    it('needs the text forms: a plain cast says something else', () =>
      inSession(async (query) => {
        const differing = [];
        for (const one of tables.filter(({ columns }) => columns[0]?.textForm !== 'plain')) {
          const plain = one.columns.map(({ name }) => ({ name, textForm: 'plain' as const }));
          const [asPlain, asForm] = [
            await sqlDigests(query, one.table, plain),
            await sqlDigests(query, one.table, byText(one.columns)),
          ];
          if (asPlain.join() !== asForm.join()) differing.push(one.sample.type);
        }
        for (const type of [
          'boolean',
          'char(8)',
          'inet',
          'xml',
          'numeric',
          'public.casted',
          'public.flag',
          'public.code',
          'public.deep_loose',
          'public.converted',
        ]) {
          assert.ok(differing.includes(type), type);
        }
      }));

    it('accepts the output form for every type that has a cheaper one', () =>
      inSession(async (query) => {
        for (const one of tables.filter(({ columns }) => columns[0]?.textForm !== 'numeric')) {
          const output = one.columns.map(({ name }) => ({ name, textForm: 'output' as const }));
          assert.deepEqual(
            await sqlDigests(query, one.table, output),
            await sqlDigests(query, one.table, byText(one.columns)),
            label(one),
          );
        }
      }));

    it('gives the text that the stream has', () =>
      inSession(async (query) => {
        for (const one of tables) {
          const column = one.columns[0];
          assert.ok(column);
          const streamed = (rows.get(one.table) ?? []).map(({ tuple }) => columnText(tuple, 1));
          const [texts, keyTexts] = [
            await query(
              `SELECT ${textExpression(column, 't')} FROM public.${one.table} t ORDER BY id`,
            ),
            await query(`SELECT ${keyTextExpression(column)} FROM public.${one.table} ORDER BY id`),
          ];
          const expected = streamed.map((text) => normal(text, column.textForm));
          assert.deepEqual(
            texts.map(([text]) => text),
            expected,
            label(one),
          );
          assert.deepEqual(
            keyTexts.map(([text]) => text).slice(0, -1),
            expected.slice(0, -1),
            label(one),
          );
        }
      }));

    it('can run in parallel workers', () =>
      inSession(async (query) => {
        const types = {
          boolean: 'boolean',
          bpchar: 'char(8)',
          output: 'inet',
          numeric: 'numeric',
          plain: 'text',
        };
        const forms = ['boolean', 'bpchar', 'output', 'numeric', 'plain'] as const;
        const columns: DigestColumn[] = [
          ...forms.map((textForm) => ({ name: `c_${textForm}`, textForm })),
          ...VALUE_TYPES.map(([valueForm]) => ({
            ...{ name: `v_${valueForm}`, textForm: 'plain' as const },
            valueForm,
          })),
        ];
        const list = [
          ...forms.map((form) => `c_${form} ${types[form]}`),
          ...VALUE_TYPES.map(([form, type]) => `v_${form} ${type}`),
        ].join();
        await query('SET default_transaction_read_only = off');
        await query(`CREATE TABLE public.parallel (${list})`);
        await query('INSERT INTO public.parallel SELECT FROM generate_series(1, 100000)');
        await query('SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0');
        const plan = await query(
          `EXPLAIN SELECT sum(${digestExpression(columns, SEED)}) FROM public.parallel`,
        );
        const text = plan.map(([line]) => line).join('\n');
        assert.match(text, /Partial Aggregate[\s\S]*Parallel Seq Scan/);
      }));

    it("depends on the pinned settings, which therefore hold against the server's", async () => {
      const types = ['date', 'timestamptz', 'interval', 'bytea', 'double precision'];
      for (const one of tables.filter(({ sample }) => types.includes(sample.type))) {
        const columns = byText(one.columns);
        const expected = await pinned(server, (query) => sqlDigests(query, one.table, columns));
        const asServer = await server.session(DATABASE, (query) =>
          sqlDigests(query, one.table, columns),
        );
        assert.notDeepEqual(asServer, expected, label(one));
      }
    });

    it('takes a table of 1600 columns that are hashed by value', () =>
      inSession(async (query) => {
        const columns = Array.from({ length: 1600 }, (_, i): DigestColumn => {
          const valueForm = VALUE_TYPES[i % VALUE_TYPES.length]?.[0] ?? 'int4';
          return { name: `c${i}`, textForm: 'plain', valueForm };
        });
        const list = columns
          .map(({ name }, i) => `${name} ${VALUE_TYPES[i % VALUE_TYPES.length]?.[1] ?? ''}`)
          .join();
        await server.query(
          DATABASE,
          `CREATE TABLE by_value (${list}); INSERT INTO by_value DEFAULT VALUES`,
        );
        const [[digest] = []] = await query(
          `SELECT (sum(${digestExpression(columns, SEED, 't')}))::text FROM public.by_value t`,
        );
        const forms = columns.map(hashFormOf);
        const nulls = forms.map(() => null);
        assert.equal(digest, signed(hashTexts(SEED, forms, nulls)));
      }));

    it('takes a table of 1600 columns', () =>
      inSession(async (query) => {
        const columns = Array.from({ length: 1600 }, (_, i) => ({
          name: `c${i}`,
          textForm: (['boolean', 'output', 'plain'] as const)[i % 3] ?? 'plain',
        }));
        const types = { boolean: 'boolean', output: 'inet', plain: 'int' };
        const list = columns.map(({ name, textForm }) => `${name} ${types[textForm]}`).join();
        await server.query(
          DATABASE,
          `CREATE TABLE wide (${list}); INSERT INTO wide DEFAULT VALUES`,
        );
        const [[digest] = []] = await query(
          `SELECT (sum(${digestExpression(columns, SEED, 't')}))::text FROM public.wide t`,
        );
        const forms = columns.map(({ textForm }) => textForm);
        const nulls = forms.map(() => null);
        assert.equal(digest, signed(hashTexts(SEED, forms, nulls)));
      }));
  });
}

function byText(columns: readonly DigestColumn[]): DigestColumn[] {
  return columns.map(({ name, textForm }) => ({ name, textForm }));
}

/** By each implementation: from the tuple, and from its texts. */
function streamDigests(row: InsertedRow, columns: readonly DigestColumn[]): string[] {
  const out = new Int32Array(2);
  const indexes = columns.map(({ name }) => row.columns.indexOf(name));
  const forms = columns.map(hashFormOf);
  const hashColumns = forms.map((form, i) => ({ tupleIndex: indexes[i] ?? -1, form }));
  const implementations = ['javascript', 'native'] as const;
  const digests = implementations
    .filter((one) => one === 'javascript' || nativeUnavailableReason() === null)
    .map((implementation) => {
      assert.ok(createRowHasher(SEED, hashColumns, implementation).hash(row.tuple, out));
      return digestToBigInt(out[0] ?? 0, out[1] ?? 0);
    });
  const texts = indexes.map((index) => columnText(row.tuple, index));
  return [...digests, hashTexts(SEED, forms, texts)].map(signed);
}

function signed(digest: bigint): string {
  return String(BigInt.asIntN(64, digest));
}

/** Independent of the product's own trimming. */
function normal(text: string | null, form: TextForm): string | null {
  if (text === null || form !== 'numeric') return text;
  return text.replace(/^(-?\d+)(\.\d*?)0*$/, (_, whole: string, fraction: string) =>
    fraction === '.' ? whole : whole + fraction,
  );
}
