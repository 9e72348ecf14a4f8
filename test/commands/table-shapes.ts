/** A kind of table, and what is done to it. */
export interface TableShape {
  readonly title: string;
  /** As a person types it. */
  readonly table: string;
  readonly ddl: string;
  /** Where n2's table is not defined like n1's. */
  readonly ddlOnN2?: string;
  /** On n1, before the build; replicates. */
  readonly fill: string;
  /** On n2, after the build; replicates. */
  readonly change: string;
  /** On n2 alone. */
  readonly drift: string;
  readonly differences: number;
}

const WORDS = `unnest(ARRAY['a', 'A', 'ä', 'Ä', 'b', 'Z', 'z', 'ß', 'ss', '-a', ' a', 'a b', 'a|b', 'é', '日本', '😀', '', '1', '10', '2'])`;

const many = (count: number, each: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => each(i)).join(', ');

export const TABLE_SHAPES: readonly TableShape[] = [
  {
    title: 'defect 3: uuid keys',
    table: 'by_uuid',
    ddl: 'CREATE TABLE by_uuid (id uuid PRIMARY KEY, v text)',
    fill: `INSERT INTO by_uuid SELECT md5(i::text)::uuid, 'v' FROM generate_series(1, 900) i`,
    change: `UPDATE by_uuid SET v = 'w' WHERE id < '80000000-0000-0000-0000-000000000000'`,
    drift: `DELETE FROM by_uuid WHERE id IN (md5('5')::uuid, md5('500')::uuid)`,
    differences: 2,
  },
  {
    title: 'defect 3: timestamp keys, infinite and before Christ',
    table: 'by_time',
    ddl: 'CREATE TABLE by_time (at timestamptz, d date, PRIMARY KEY (at, d))',
    fill: `INSERT INTO by_time SELECT timestamptz '1999-12-31 23:59:59.123456+09' + i * interval '7 hours', date '0044-03-15 BC' + i
             FROM generate_series(1, 600) i;
           INSERT INTO by_time VALUES ('-infinity', 'infinity'), ('infinity', '-infinity'), ('0044-03-15 12:00+00 BC', '4713-01-01 BC')`,
    change: `DELETE FROM by_time WHERE d = date '0044-03-15 BC' + 300; INSERT INTO by_time VALUES ('-infinity', '2024-02-29')`,
    drift: `DELETE FROM by_time WHERE at IN ('infinity', '0044-03-15 12:00+00 BC')`,
    differences: 2,
  },
  {
    title: 'defect 3: numeric keys, with NaN, infinities and trailing zeros',
    table: 'by_number',
    ddl: 'CREATE TABLE by_number (n numeric PRIMARY KEY, v numeric)',
    fill: `INSERT INTO by_number SELECT (i - 300) / 7.0, i FROM generate_series(1, 600) i;
           INSERT INTO by_number VALUES ('NaN', 'NaN'), ('Infinity', '-Infinity'), ('-Infinity', 1.0), (1e100, 1), (0.10, 0.100)`,
    change: `UPDATE by_number SET v = v * 2 WHERE n > 1`,
    drift: `UPDATE by_number SET v = 0 WHERE n IN ('NaN', '-Infinity', 0.1)`,
    differences: 3,
  },
  {
    title: 'defect 4: text keys under the ICU collation',
    table: 'by_word',
    ddl: 'CREATE TABLE by_word (word text PRIMARY KEY, v int)',
    fill: `INSERT INTO by_word SELECT w || '_' || i, i FROM ${WORDS} w, generate_series(1, 30) i`,
    change: `UPDATE by_word SET v = v + 1 WHERE v % 7 = 0; DELETE FROM by_word WHERE word = 'ä_3'`,
    drift: `DELETE FROM by_word WHERE word IN ('Ä_7', 'Z_1', '-a_30', '😀_2')`,
    differences: 4,
  },
  {
    title: 'text keys under collation C',
    table: 'by_bytes',
    ddl: 'CREATE TABLE by_bytes (word text COLLATE "C" PRIMARY KEY, v int)',
    fill: `INSERT INTO by_bytes SELECT w || '_' || i, i FROM ${WORDS} w, generate_series(1, 30) i`,
    change: `UPDATE by_bytes SET v = v + 1 WHERE v % 7 = 0; DELETE FROM by_bytes WHERE word = 'ä_3'`,
    drift: `DELETE FROM by_bytes WHERE word IN ('Ä_7', 'Z_1', '-a_30', '😀_2')`,
    differences: 4,
  },
  {
    title: 'text keys under another collation than the database’s',
    table: 'by_swedish',
    ddl: 'CREATE TABLE by_swedish (word text COLLATE "sv-x-icu" PRIMARY KEY, v int)',
    fill: `INSERT INTO by_swedish SELECT w || '_' || i, i FROM ${WORDS} w, generate_series(1, 30) i`,
    change: `UPDATE by_swedish SET v = v + 1 WHERE v % 7 = 0; DELETE FROM by_swedish WHERE word = 'ä_3'`,
    drift: `DELETE FROM by_swedish WHERE word IN ('Ä_7', 'Z_1', '-a_30', '😀_2')`,
    differences: 4,
  },
  {
    title: 'defect 4: text keys that sort differently on the nodes',
    table: 'by_any_word',
    ddl: 'CREATE TABLE by_any_word (word text COLLATE "C", n int, v int, PRIMARY KEY (word, n))',
    ddlOnN2: 'CREATE TABLE by_any_word (word text, n int, v int, PRIMARY KEY (word, n))',
    fill: `INSERT INTO by_any_word SELECT w, i, i FROM ${WORDS} w, generate_series(1, 30) i`,
    change: `UPDATE by_any_word SET v = v + 1 WHERE v % 7 = 0; DELETE FROM by_any_word WHERE word = 'ä'`,
    drift: `DELETE FROM by_any_word WHERE word IN ('Ä', 'Z') AND n = 5`,
    differences: 2,
  },
  {
    title: 'keys of a domain whose check came after the rows that break it',
    table: 'by_domain',
    ddl: 'CREATE DOMAIN positive AS int; CREATE TABLE by_domain (id positive PRIMARY KEY, v int)',
    fill: `INSERT INTO by_domain SELECT i - 100, i FROM generate_series(1, 300) i;
           ALTER DOMAIN positive ADD CHECK (VALUE > 0) NOT VALID`,
    change: `UPDATE by_domain SET v = v + 1 WHERE v % 7 = 0 AND id > 0; DELETE FROM by_domain WHERE v = 250`,
    drift: `DELETE FROM by_domain WHERE v IN (3, 30, 205)`,
    differences: 3,
  },
  {
    title: 'defect 6: quoted and upper-case names, composite keys',
    table: 'public."Odd ""Table"',
    ddl: `CREATE TABLE "Odd ""Table" ("Select" int, "b""c" text, "UPPER" numeric(10,2), "v|w" text, PRIMARY KEY ("b""c", "Select", "UPPER"))`,
    fill: `INSERT INTO "Odd ""Table" SELECT i % 10, 'k|' || i % 77, i, 'v' FROM generate_series(1, 700) i`,
    change: `UPDATE "Odd ""Table" SET "Select" = "Select" + 100 WHERE "UPPER" < 50`,
    drift: `UPDATE "Odd ""Table" SET "v|w" = NULL WHERE "UPPER" IN (1, 333, 700)`,
    differences: 3,
  },
  {
    title: 'defect 6: arrays, NaN, infinities, BC dates, generated and identity columns',
    table: 'varied',
    ddl: `CREATE TABLE varied (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n numeric[], b bytea[], f float8, r real, d date, t timestamptz, i interval,
            m money, j jsonb, g int GENERATED ALWAYS AS (length(j::text)) STORED, c char(5), bo bool, ip inet, ts tsrange)`,
    fill: `INSERT INTO varied (n, b, f, r, d, t, i, m, j, c, bo, ip, ts)
           SELECT ARRAY[i / 3.0, 'NaN', NULL], ARRAY[decode(md5(i::text), 'hex'), NULL, ''], CASE i % 3 WHEN 0 THEN 'NaN' WHEN 1 THEN '-Infinity' ELSE i / 3.0 END,
             0.1 * i, date '0044-03-15 BC' + i * 1000, timestamptz '2024-01-01 00:00:00.000001+00' + i * interval '1 hour', i * interval '25 hours 1 month',
             i::text::money, jsonb_build_object('k', i), 'x', i % 2 = 0, '10.0.0.1/8', tsrange('2024-01-01', NULL)
           FROM generate_series(1, 400) i`,
    change: `UPDATE varied SET r = r + 0.1, i = i * 2, t = t + interval '1 microsecond' WHERE id % 9 = 0`,
    drift: `UPDATE varied SET b = ARRAY[NULL::bytea] WHERE id = 3; UPDATE varied SET f = 'Infinity' WHERE id = 4`,
    differences: 2,
  },
  {
    title: 'defect 3: 120 columns',
    table: 'wide',
    ddl: `CREATE TABLE wide (id int PRIMARY KEY, ${many(119, (i) => `c${i} text`)})`,
    fill: `INSERT INTO wide (id, c7, c118) SELECT i, i::text, 'x' FROM generate_series(1, 300) i`,
    change: `UPDATE wide SET c50 = 'y' WHERE id < 20`,
    drift: `UPDATE wide SET c118 = '' WHERE id = 150; UPDATE wide SET c0 = '' WHERE id = 151`,
    differences: 2,
  },
  {
    title: 'defect 2: separators in values, NULL and empty strings',
    table: 'joined',
    ddl: 'CREATE TABLE joined (id int PRIMARY KEY, a text, b text)',
    fill: `INSERT INTO joined SELECT i, 'a|b', 'c' FROM generate_series(1, 300) i`,
    change: `UPDATE joined SET a = NULL, b = '' WHERE id > 250`,
    drift: `UPDATE joined SET a = 'a', b = 'b|c' WHERE id = 10; UPDATE joined SET a = '', b = NULL WHERE id = 260`,
    differences: 2,
  },
  {
    title: 'defect 4: rows below and above all keys of the other node',
    table: 'outside',
    ddl: 'CREATE TABLE outside (id bigint PRIMARY KEY)',
    fill: `INSERT INTO outside SELECT i FROM generate_series(1000, 2000) i`,
    change: `INSERT INTO outside VALUES (999), (2001)`,
    drift: `INSERT INTO outside VALUES (-9223372036854775808), (-1), (5000), (9223372036854775807)`,
    differences: 4,
  },
  {
    title: 'a table that was empty at the build, with rows on one node only',
    table: 'one_sided',
    ddl: 'CREATE TABLE one_sided (id int PRIMARY KEY, v text)',
    fill: 'SELECT 1',
    change: 'SELECT 1',
    drift: `INSERT INTO one_sided SELECT i, 'v' FROM generate_series(1, 3000) i`,
    differences: 3000,
  },
  {
    title: 'defect 6: REPLICA IDENTITY FULL, with values out of line that do not change',
    table: 'whole',
    ddl: 'CREATE TABLE whole (id int PRIMARY KEY, v int, big text); ALTER TABLE whole ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL',
    fill: `INSERT INTO whole SELECT i, i, repeat(md5(i::text), 200) FROM generate_series(1, 200) i`,
    change: `UPDATE whole SET v = v + 1; UPDATE whole SET id = id + 1000 WHERE id < 10; DELETE FROM whole WHERE id = 50`,
    drift: `UPDATE whole SET v = 0 WHERE id = 60; UPDATE whole SET big = big || 'x' WHERE id = 61`,
    differences: 2,
  },
  {
    title: 'values out of line that do not change, default identity',
    table: 'toasted',
    ddl: 'CREATE TABLE toasted (id int PRIMARY KEY, v int, big text); ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL',
    fill: `INSERT INTO toasted SELECT i, i, repeat(md5(i::text), 200) FROM generate_series(1, 200) i`,
    change: `UPDATE toasted SET v = v + 1; UPDATE toasted SET id = id + 1000 WHERE id < 10; DELETE FROM toasted WHERE id = 50`,
    drift: `UPDATE toasted SET v = 0 WHERE id = 60; UPDATE toasted SET big = big || 'x' WHERE id = 61`,
    differences: 2,
  },
  {
    title: 'REPLICA IDENTITY USING INDEX, with changes of the primary key',
    table: 'by_other',
    ddl: `CREATE TABLE by_other (id int PRIMARY KEY, code text NOT NULL UNIQUE, v int);
          ALTER TABLE by_other REPLICA IDENTITY USING INDEX by_other_code_key`,
    fill: `INSERT INTO by_other SELECT i, 'c' || i, i FROM generate_series(1, 300) i`,
    change: `UPDATE by_other SET id = id + 1000 WHERE id < 20; UPDATE by_other SET v = 0 WHERE id = 100; DELETE FROM by_other WHERE id = 200`,
    drift: `UPDATE by_other SET id = 5000 WHERE code = 'c250'`,
    differences: 2,
  },
  {
    title: 'defect 5: a changed key counts at its old and its new place',
    table: 'moved',
    ddl: 'CREATE TABLE moved (id int PRIMARY KEY, v text)',
    fill: `INSERT INTO moved SELECT i, 'v' FROM generate_series(1, 500) i`,
    change: `UPDATE moved SET id = id + 10000 WHERE id % 11 = 0`,
    drift: `UPDATE moved SET id = 20000 WHERE id = 5`,
    differences: 2,
  },
];
