import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Session } from '../../src/postgres/session.js';
import { readPublishedTables } from '../../src/replication/published-tables.js';
import { readCatalog } from '../../src/table/fingerprint.js';
import { startServer, type TestServer } from '../support/postgres.js';

const DATABASE = 'catalog';
const PUBLICATION = 'aced_demo';

/** Statements one by one, each in its own transaction, between two readings of all tables. */
interface Step {
  readonly title: string;
  readonly sql: readonly string[];
  /** Tables whose fingerprint, or whose entry in the publication, must be another one then. */
  readonly changes: readonly string[];
}

const TABLES = ['plain', 'parted', 'typed', 'texts', 'citexts'] as const;

const SETUP = `
  CREATE EXTENSION citext WITH VERSION '1.4';
  CREATE EXTENSION hstore WITH VERSION '1.4';
  CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
  CREATE TABLE plain (id int PRIMARY KEY, v text, n int, u int NOT NULL UNIQUE);
  CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
  CREATE TABLE parted_a PARTITION OF parted FOR VALUES FROM (0) TO (100);
  CREATE TABLE parted_b PARTITION OF parted FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
  CREATE TABLE parted_b1 PARTITION OF parted_b FOR VALUES FROM (100) TO (150);
  CREATE TYPE mood AS ENUM ('sad', 'ok');
  CREATE DOMAIN moods AS mood[];
  CREATE DOMAIN amount AS int;
  CREATE TYPE pair AS (a int, m moods);
  CREATE TYPE span AS RANGE (subtype = mood, multirange_type_name = spans);
  CREATE TYPE wrapped AS (s spans);
  CREATE TABLE typed (id int PRIMARY KEY, p pair[], w wrapped, h hstore, d amount);
  CREATE TABLE texts (id text COLLATE folding PRIMARY KEY, v text);
  CREATE TABLE citexts (id citext PRIMARY KEY);
  CREATE PUBLICATION ${PUBLICATION} WITH (publish_via_partition_root);
  ALTER PUBLICATION ${PUBLICATION} ADD TABLE ONLY plain, ONLY parted, ONLY typed, ONLY texts, ONLY citexts;
  CREATE ROLE reader`;

const STEPS: readonly Step[] = [
  // What changes rows, their text, their order or their messages.
  { title: 'ADD COLUMN', sql: ['ALTER TABLE plain ADD c int'], changes: ['plain'] },
  {
    title: 'ADD COLUMN with a volatile default',
    sql: ['ALTER TABLE plain ADD r float8 DEFAULT random()'],
    changes: ['plain'],
  },
  { title: 'DROP COLUMN', sql: ['ALTER TABLE plain DROP c'], changes: ['plain'] },
  {
    title: 'a column renamed and back',
    sql: ['ALTER TABLE plain RENAME v TO w', 'ALTER TABLE plain RENAME w TO v'],
    changes: ['plain'],
  },
  {
    title: 'ALTER TYPE USING to the same type',
    sql: ['ALTER TABLE plain ALTER n TYPE int USING n + 1'],
    changes: ['plain'],
  },
  {
    title: 'a column that is generated no longer',
    sql: [
      'ALTER TABLE plain ADD g int GENERATED ALWAYS AS (n) STORED',
      'ALTER TABLE plain ALTER g DROP EXPRESSION',
    ],
    changes: ['plain'],
  },
  {
    title: 'another table under the name',
    sql: [
      'ALTER TABLE plain RENAME TO plain_old',
      'CREATE TABLE plain (LIKE plain_old INCLUDING ALL)',
    ],
    changes: ['plain'],
  },
  {
    title: 'and the first one again: as it was',
    sql: ['DROP TABLE plain', 'ALTER TABLE plain_old RENAME TO plain'],
    changes: ['plain'],
  },
  {
    title: 'a table that inherits, and no longer',
    sql: ['CREATE TABLE heir () INHERITS (plain)'],
    changes: ['plain'],
  },
  { title: 'an heir that is dropped', sql: ['DROP TABLE heir'], changes: ['plain'] },
  {
    title: 'another primary key',
    sql: ['ALTER TABLE plain DROP CONSTRAINT plain_pkey, ADD PRIMARY KEY (id, u)'],
    changes: ['plain'],
  },
  {
    title: 'a partition detached and attached',
    sql: [
      'ALTER TABLE parted DETACH PARTITION parted_a',
      'ALTER TABLE parted ATTACH PARTITION parted_a FOR VALUES FROM (0) TO (100)',
    ],
    changes: ['parted'],
  },
  {
    title: 'a partition of a partition detached concurrently and attached',
    sql: [
      'ALTER TABLE parted_b DETACH PARTITION parted_b1 CONCURRENTLY',
      'ALTER TABLE parted_b ATTACH PARTITION parted_b1 FOR VALUES FROM (100) TO (150)',
    ],
    changes: ['parted'],
  },
  { title: 'a partition truncated', sql: ['TRUNCATE parted_b1'], changes: ['parted'] },
  {
    title: 'a partition unlogged and logged',
    sql: ['ALTER TABLE parted_a SET UNLOGGED', 'ALTER TABLE parted_a SET LOGGED'],
    changes: ['parted'],
  },
  {
    title: "a partition's replica identity",
    sql: ['ALTER TABLE parted_a REPLICA IDENTITY FULL'],
    changes: ['parted'],
  },
  {
    title: 'a label renamed and back',
    sql: [
      "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
      "ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'",
    ],
    changes: ['typed'],
  },
  {
    title: 'a label added',
    sql: ["ALTER TYPE mood ADD VALUE 'so' BEFORE 'ok'"],
    changes: ['typed'],
  },
  { title: 'a field added', sql: ['ALTER TYPE pair ADD ATTRIBUTE b text'], changes: ['typed'] },
  {
    title: 'a field renamed',
    sql: ['ALTER TYPE pair RENAME ATTRIBUTE b TO c'],
    changes: ['typed'],
  },
  { title: 'a type renamed', sql: ['ALTER TYPE spans RENAME TO spanned'], changes: ['typed'] },
  {
    title: 'an extension updated',
    sql: ["ALTER EXTENSION hstore UPDATE TO '1.5'"],
    changes: ['typed'],
  },
  {
    title: 'the extension of the key updated',
    sql: ["ALTER EXTENSION citext UPDATE TO '1.5'"],
    changes: ['citexts'],
  },
  {
    title: 'an operator class function replaced',
    sql: ['ALTER FUNCTION citext_cmp(citext, citext) COST 2'],
    changes: ['citexts'],
  },
  {
    title: 'a table taken out of the publication and put back',
    sql: [
      `ALTER PUBLICATION ${PUBLICATION} DROP TABLE texts`,
      `ALTER PUBLICATION ${PUBLICATION} ADD TABLE ONLY texts`,
    ],
    changes: ['texts'],
  },
  {
    title: 'a row filter',
    sql: [
      `ALTER PUBLICATION ${PUBLICATION} DROP TABLE texts`,
      `ALTER PUBLICATION ${PUBLICATION} ADD TABLE ONLY texts WHERE (v IS NOT NULL)`,
    ],
    changes: ['texts'],
  },
  {
    title: 'options of the publication changed and back',
    sql: [
      `ALTER PUBLICATION ${PUBLICATION} SET (publish = 'insert')`,
      `ALTER PUBLICATION ${PUBLICATION} SET (publish = 'insert, update, delete, truncate')`,
    ],
    changes: [...TABLES],
  },
  {
    title: 'a table whose parent is published too',
    sql: [
      'CREATE TABLE above (id text COLLATE folding PRIMARY KEY, v text) PARTITION BY RANGE (id)',
      'ALTER TABLE above ATTACH PARTITION texts DEFAULT',
      `ALTER PUBLICATION ${PUBLICATION} ADD TABLE ONLY above`,
    ],
    changes: ['texts'],
  },
  // What changes none of these: a tree that is built again for it would be built for nothing.
  { title: 'ANALYZE', sql: ['ANALYZE'], changes: [] },
  { title: 'VACUUM', sql: ['VACUUM', 'VACUUM FREEZE', 'VACUUM FULL plain'], changes: [] },
  {
    title: 'VACUUM of the catalogs',
    sql: [
      'VACUUM FULL pg_class',
      'VACUUM FULL pg_attribute',
      'VACUUM FULL pg_inherits',
      'VACUUM FULL pg_enum',
      'VACUUM FREEZE pg_publication_rel',
    ],
    changes: [],
  },
  { title: 'CLUSTER', sql: ['CLUSTER plain USING plain_pkey'], changes: [] },
  {
    title: 'privileges, owners, comments',
    sql: [
      'GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader',
      'ALTER TABLE plain OWNER TO reader',
      'ALTER TABLE plain OWNER TO postgres',
      "COMMENT ON TABLE plain IS 'x'",
      'GRANT USAGE ON TYPE mood TO reader',
    ],
    changes: [],
  },
  {
    title: 'indexes',
    sql: [
      'CREATE INDEX plain_v ON plain (v)',
      'CREATE INDEX CONCURRENTLY plain_n ON plain (n)',
      'REINDEX TABLE CONCURRENTLY plain',
      'REINDEX TABLE parted_a',
      'DROP INDEX plain_v',
      'CREATE INDEX ON parted (v)',
    ],
    changes: [],
  },
  {
    title: 'constraints, triggers, rules, storage parameters, row security',
    sql: [
      'ALTER TABLE plain ADD CONSTRAINT c CHECK (n > 0) NOT VALID',
      'ALTER TABLE plain SET (fillfactor = 70)',
      'CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NEW; END$$',
      'CREATE TRIGGER t BEFORE UPDATE ON plain FOR EACH ROW EXECUTE FUNCTION nothing()',
      'ALTER TABLE plain DISABLE TRIGGER t',
      'ALTER TABLE plain ENABLE ROW LEVEL SECURITY',
    ],
    changes: [],
  },
  {
    title: 'renames that the stream tells',
    sql: [
      'ALTER TABLE plain RENAME TO away',
      'ALTER TABLE away RENAME TO plain',
      'CREATE SCHEMA elsewhere',
      'ALTER TABLE plain SET SCHEMA elsewhere',
      'ALTER TABLE elsewhere.plain SET SCHEMA public',
      'ALTER SCHEMA public RENAME TO private',
      'ALTER SCHEMA private RENAME TO public',
    ],
    changes: [],
  },
  {
    title: "a plain table's replica identity, which the stream tells",
    sql: ['ALTER TABLE plain REPLICA IDENTITY FULL', 'ALTER TABLE plain REPLICA IDENTITY DEFAULT'],
    changes: [],
  },
  {
    title: 'recorded versions of collations',
    sql: [
      'ALTER COLLATION folding REFRESH VERSION',
      `ALTER DATABASE ${DATABASE} REFRESH COLLATION VERSION`,
    ],
    changes: [],
  },
  {
    title: 'constraints of a domain',
    sql: ['ALTER DOMAIN amount ADD CHECK (VALUE > 0)'],
    changes: [],
  },
  { title: 'TRUNCATE of a plain table', sql: ['TRUNCATE plain'], changes: [] },
  {
    title: 'other tables of the publication',
    sql: [
      'CREATE TABLE another (id int PRIMARY KEY)',
      `ALTER PUBLICATION ${PUBLICATION} ADD TABLE another`,
      `ALTER PUBLICATION ${PUBLICATION} DROP TABLE another`,
      'DROP TABLE another',
    ],
    changes: [],
  },
];

for (const major of [15, 18] as const) {
  describe(`what the fingerprint tells, PostgreSQL ${major}`, () => {
    let server: TestServer;
    let session: Session;

    before(async () => {
      server = await startServer({ major });
      await server.createDatabase(DATABASE);
      await server.query(DATABASE, SETUP);
      const node = server.nodeConfig(DATABASE, 'n1');
      session = await Session.connect(node, { applicationName: 'test' });
    });

    after(async () => {
      await session.close();
      await server.stop();
    });

    async function read(): Promise<Map<string, string>> {
      const names = TABLES.map((name) => ({ schema: 'public', name }));
      const readings = await readCatalog(session, names);
      const published = await readPublishedTables(session, PUBLICATION);
      return new Map(
        TABLES.map((name, index) => {
          const entry = published.find((one) => one.name === name && one.schema === 'public');
          return [name, `${readings[index]?.fingerprint ?? 'none'} ${entry?.identity ?? 'none'}`];
        }),
      );
    }

    for (const step of STEPS) {
      it(step.title, async () => {
        const earlier = await read();
        for (const sql of step.sql) await server.query(DATABASE, sql);
        const later = await read();
        const changed = TABLES.filter((name) => earlier.get(name) !== later.get(name));
        assert.deepEqual(changed, step.changes);
      });
    }
  });
}
