import type { Author } from './generator.js';
import type { Step } from './steps.js';
import {
  baseRows,
  deleteRows,
  insertRows,
  moveRows,
  respellRows,
  someOf,
  updateRows,
  upsertRows,
} from './statements.js';
import { kit, RANGES } from './tables.js';

/** A kind of thing that happens; several steps where one makes no sense without the other. */
export interface Phrase {
  readonly label: string;
  readonly weight: number;
  /** Left out of histories until that fault of the page of hard cases is mended. */
  readonly waitsFor?: string;
  readonly write: (author: Author) => Draft[];
}

/** Steps take their phrase's label unless they have their own. */
type Draft = {
  [S in Step as S['kind']]: Omit<S, 'label'> & { readonly label?: string };
}[Step['kind']];

const write = (node: string, sql: string): Draft => ({ kind: 'write', node, sql });
const drift = (node: string, sql: string): Draft => ({ kind: 'drift', node, sql });
const everywhere = (sql: string): Draft => ({ kind: 'define', nodes: [], sql });
const only = (node: string, sql: string): Draft => ({ kind: 'define', nodes: [node], sql });
const check = (table: string): Draft => ({
  kind: 'check',
  label: 'mtree-table-diff',
  tables: [table],
  method: 'mtree-table-diff',
});

/** A statement that replicates without conflicts. */
function anyWrite(author: Author, node: string, table: string): string {
  const { random } = author;
  const rows = { table, ...baseRows(random), ...author.ownedBy(node) };
  switch (random.below(10)) {
    case 0:
    case 1:
      return insertRows(rows, random);
    case 2:
      return upsertRows(rows, random);
    case 3:
      return deleteRows(rows);
    case 4:
      return moveRows(rows, random);
    case 5:
      return respellRows(rows, random) ?? updateRows(rows, random);
    default:
      return updateRows(rows, random);
  }
}

/** A change of one node only. Rows go only where another owns them, and appear only in a range of their own. */
function anyDrift(author: Author, node: string, table: string): string {
  const { random } = author;
  const mine = { table, ...baseRows(random) };
  switch (random.below(4)) {
    case 0:
      return insertRows({ table, ...someOf(RANGES.drift, random), modulus: 1, rest: 0 }, random);
    case 1:
      return deleteRows({ ...mine, ...author.ownedByOther(node) });
    case 2:
      return (
        respellRows({ ...mine, modulus: 1, rest: 0 }, random) ??
        updateRows({ ...mine, modulus: 1, rest: 0 }, random)
      );
    default:
      return updateRows({ ...mine, modulus: 1, rest: 0 }, random);
  }
}

function writes(author: Author): Draft[] {
  const node = author.writer();
  const table = author.table();
  const count = author.random.pick([1, 2, 3, 6]);
  return Array.from({ length: count }, () => write(node, anyWrite(author, node, table)));
}

function transaction(author: Author): Draft[] {
  const node = author.writer();
  const { random } = author;
  const parts = Array.from({ length: random.between(1, 4) }, () =>
    anyWrite(author, node, author.table()),
  );
  if (random.oneIn(2)) {
    parts.splice(
      random.below(parts.length),
      0,
      `SAVEPOINT s1; ${anyWrite(author, node, author.table())}`,
    );
    if (random.oneIn(2))
      parts.push(`SAVEPOINT s2; ${anyWrite(author, node, author.table())}; RELEASE s2`);
    parts.push(random.pick(['ROLLBACK TO s1', 'ROLLBACK TO s1', 'RELEASE s1']));
    parts.push(anyWrite(author, node, author.table()));
  }
  return [write(node, `BEGIN; ${parts.join('; ')}; ${random.oneIn(6) ? 'ROLLBACK' : 'COMMIT'}`)];
}

/** The stream has the rows, and not what was undone between them. */
function undone(author: Author): Draft[] {
  const { random } = author;
  const node = author.writer();
  const table = author.table();
  const some = (): string => anyWrite(author, node, table);
  const what = random.pick([
    `TRUNCATE ${table}`,
    `TRUNCATE ${table}; ${some()}; TRUNCATE ${table}`,
    `ALTER TABLE ${table} REPLICA IDENTITY FULL; ${some()}`,
    `ALTER TABLE ${table} ADD COLUMN undone int DEFAULT 1; ${some()}`,
    `ALTER TABLE ${table} ALTER v TYPE text USING v || '-'; ${some()}`,
  ]);
  return [
    everywhere('SELECT 1'),
    write(node, `BEGIN; ${some()}; SAVEPOINT s1; ${what}; ROLLBACK TO s1; ${some()}; COMMIT`),
    ...(random.oneIn(2) ? [check(table)] : []),
    ...(random.oneIn(2) ? writes(author) : []),
  ];
}

/** Old rows of one transaction come in two forms. */
function identityWithin(author: Author): Draft[] {
  const { random } = author;
  const node = author.writer();
  const table = author.table();
  const some = (): string => anyWrite(author, node, table);
  const to = (set: string): string => `ALTER TABLE ${table} REPLICA IDENTITY ${set}`;
  const [first = '', second = ''] = random.oneIn(2) ? ['FULL', 'DEFAULT'] : ['DEFAULT', 'FULL'];
  return [
    everywhere('SELECT 1'),
    write(node, `BEGIN; ${some()}; ${to(first)}; ${some()}; ${to(second)}; ${some()}; COMMIT`),
    ...(random.oneIn(2) ? [check(table)] : []),
    ...writesOf(author, table),
  ];
}

function twoPhase(author: Author): Draft[] {
  const { random } = author;
  const node = author.writer();
  const table = author.table();
  const name = `p${author.nextNumber()}`;
  const rows = { table, ...someOf(RANGES.prepared, random), ...author.ownedBy(node) };
  const end = random.pick(['COMMIT', 'COMMIT', 'ROLLBACK']);
  return [
    write(node, insertRows(rows, random)),
    write(
      node,
      `BEGIN; ${random.oneIn(2) ? deleteRows(rows) : updateRows(rows, random)}; PREPARE TRANSACTION '${name}'`,
    ),
    ...(random.oneIn(2) ? writes(author) : [check(table)]),
    write(node, `${end} PREPARED '${name}'`),
  ];
}

function longTransaction(author: Author): Draft[] {
  const { random } = author;
  const node = author.writer();
  const table = author.table();
  const rows = { table, ...someOf(RANGES.open, random), ...author.ownedBy(node) };
  return [
    { kind: 'open', node, sql: `${insertRows(rows, random)}; ${updateRows(rows, random)}` },
    ...writes(author),
    ...(random.oneIn(2) ? [check(table)] : []),
    { kind: 'close', node, how: random.oneIn(3) ? 'ROLLBACK' : 'COMMIT' },
  ];
}

function largeTransaction(author: Author): Draft[] {
  const { random } = author;
  const node = author.writer();
  const rows = { table: author.table(), ...RANGES.large, ...author.ownedBy(node) };
  const few = { ...rows, to: rows.from + random.pick([100, 400, 2000]) };
  return [
    write(node, insertRows(few, random)),
    ...(random.oneIn(2) ? [write(node, updateRows(few, random))] : []),
    ...(random.oneIn(3) ? [check(rows.table)] : []),
    write(node, deleteRows(rows)),
  ];
}

function addColumn(author: Author): Draft[] {
  const { random } = author;
  const table = author.table();
  const name = `x${author.nextNumber()}`;
  const definition = random.pick([
    'text',
    'int DEFAULT 7',
    "text NOT NULL DEFAULT 'd'",
    'numeric(8,3) DEFAULT 1.5',
    'boolean DEFAULT true',
    'char(5) DEFAULT $$ab$$',
  ]);
  return [
    everywhere(`ALTER TABLE ${table} ADD COLUMN ${name} ${definition}`),
    ...(random.oneIn(2) ? [check(table)] : []),
    write(author.writer(), `UPDATE ${table} SET ${name} = NULL WHERE i % 7 = 3`),
    ...(random.oneIn(2) ? [everywhere(`ALTER TABLE ${table} ALTER ${name} DROP DEFAULT`)] : []),
    ...(random.oneIn(2)
      ? [everywhere(`ALTER TABLE ${table} ALTER ${name} TYPE text USING ${name}::text || '!'`)]
      : []),
    ...(random.oneIn(2) ? [check(table)] : []),
    everywhere(`ALTER TABLE ${table} DROP COLUMN ${name}`),
  ];
}

/** The nodes compute it each for itself: every row differs. */
function volatileDefault(author: Author): Draft[] {
  const table = author.table();
  const name = `x${author.nextNumber()}`;
  return [
    everywhere(`ALTER TABLE ${table} ADD COLUMN ${name} float8 DEFAULT random()`),
    check(table),
    everywhere(`ALTER TABLE ${table} DROP COLUMN ${name}`),
    ...(author.random.oneIn(2) ? [check(table)] : []),
  ];
}

function columnOfOneNode(author: Author): Draft[] {
  const table = author.table();
  const name = `x${author.nextNumber()}`;
  const node = author.random.pick(author.nodes);
  return [
    only(node, `ALTER TABLE ${table} ADD COLUMN ${name} int DEFAULT 1`),
    check(table),
    only(node, `ALTER TABLE ${table} DROP COLUMN ${name}`),
    check(table),
  ];
}

function rewrittenByOneNode(author: Author): Draft[] {
  const table = author.table();
  const node = author.random.pick(author.nodes);
  return [
    only(node, `ALTER TABLE ${table} ALTER v TYPE text USING v || '+'`),
    check(table),
    {
      kind: 'heal',
      label: 'heal',
      table,
      source: author.isOneWay ? 'n1' : author.random.pick(author.nodes),
    },
    ...(author.random.oneIn(2) ? [check(table)] : []),
  ];
}

function columnType(author: Author): Draft[] {
  const table = author.table();
  return [
    everywhere(`ALTER TABLE ${table} ALTER w TYPE bigint`),
    ...writes(author),
    ...(author.random.oneIn(2) ? [check(table)] : []),
    everywhere(`ALTER TABLE ${table} ALTER w TYPE int`),
  ];
}

function renamedColumns(author: Author): Draft[] {
  const table = author.table();
  const swap = `ALTER TABLE ${table} RENAME w TO w_old; ALTER TABLE ${table} ADD w int DEFAULT 0`;
  const back = `ALTER TABLE ${table} DROP w; ALTER TABLE ${table} RENAME w_old TO w`;
  return [
    everywhere(swap),
    write(author.writer(), `UPDATE ${table} SET w = i WHERE i % 5 = 1`),
    ...(author.random.oneIn(2) ? [check(table)] : []),
    everywhere(back),
  ];
}

/** Away and back, written meanwhile, between two diffs. */
function renamed(author: Author): Draft[] {
  const { random } = author;
  const table = author.table();
  const [away, back, other] = random.pick([
    [`ALTER TABLE ${table} RENAME TO away`, `ALTER TABLE away RENAME TO ${table}`, 'away'],
    [
      `CREATE SCHEMA IF NOT EXISTS aside; ALTER TABLE ${table} SET SCHEMA aside`,
      `ALTER TABLE aside.${table} SET SCHEMA public`,
      `aside.${table}`,
    ],
  ] as const);
  const change = updateRows({ table, ...baseRows(random), modulus: 1, rest: 0 }, random).replace(
    table,
    other,
  );
  const isEverywhere = random.oneIn(2);
  const node = author.loner();
  const define = (sql: string): Draft => (isEverywhere ? everywhere(sql) : only(node, sql));
  return [
    check(table),
    define(away),
    isEverywhere ? write(author.writer(), change) : drift(node, change),
    ...(random.oneIn(4) ? [check(table)] : []),
    define(back),
    check(table),
  ];
}

function detached(author: Author): Draft[] {
  const { random } = author;
  const table = author.oneOf(['parts', 'parts_full']);
  if (table === null) return [];
  const detach = `ALTER TABLE ${table} DETACH PARTITION ${table}_2`;
  const attach = `ALTER TABLE ${table} ATTACH PARTITION ${table}_2 FOR VALUES FROM (40) TO (80)`;
  const change = random.pick([
    `UPDATE ${table}_2 SET w = w + 1 WHERE i % 3 = 0`,
    `UPDATE ${table}_2 SET v = 'detached' WHERE i = ${random.between(40, 79)}`,
  ]);
  const node = author.loner();
  const isEverywhere = random.oneIn(3);
  const define = (sql: string): Draft => (isEverywhere ? everywhere(sql) : only(node, sql));
  return [
    check(table),
    define(detach),
    // A write into a detached partition that others have attached would stop their apply workers.
    drift(node, change),
    ...(random.oneIn(4) ? [check(table)] : []),
    define(attach),
    check(table),
  ];
}

function partitionsComeAndGo(author: Author): Draft[] {
  const { random } = author;
  const table = author.oneOf(['parts', 'parts_full']);
  if (table === null) return [];
  const node = author.writer();
  const owned = author.ownedBy(node);
  return [
    everywhere(`ALTER TABLE ${table} DETACH PARTITION ${table}_1; DROP TABLE ${table}_1`),
    ...(random.oneIn(2) ? [check(table)] : []),
    everywhere(`CREATE TABLE ${table}_1 PARTITION OF ${table} FOR VALUES FROM (MINVALUE) TO (40)`),
    { kind: 'refresh' },
    write(node, insertRows({ table, from: 1, to: 39, ...owned }, random)),
    ...(random.oneIn(2) ? [check(table)] : []),
    ...(random.oneIn(2) ? [everywhere(`TRUNCATE ${table}_${random.pick([1, 2, 3])}`)] : []),
    check(table),
  ];
}

function partitionTruncated(author: Author): Draft[] {
  const table = author.oneOf(['parts', 'parts_full']);
  if (table === null) return [];
  return [
    everywhere('SELECT 1'),
    write(author.writer(), `TRUNCATE ${table}_${author.random.pick([1, 2, 3])}`),
    everywhere('SELECT 1'),
    check(table),
  ];
}

function identity(author: Author): Draft[] {
  const { random } = author;
  const table = author.table();
  const isPartitioned = kit(table).isPartitioned === true;
  const member = isPartitioned ? random.pick([table, `${table}_2`, `${table}_3`]) : table;
  const index = `${isPartitioned ? `${table}_2` : table}_i`;
  const set = random.pick(['DEFAULT', 'FULL', 'FULL', `USING INDEX ${index}`]);
  return [
    everywhere(`ALTER TABLE ${member} REPLICA IDENTITY ${set}`),
    ...writesOf(author, table),
    ...(random.oneIn(2) ? [check(table)] : []),
    ...writesOf(author, table),
  ];
}

function identityNothing(author: Author): Draft[] {
  const table = author.table();
  if (kit(table).isPartitioned === true) return [];
  return [
    everywhere(`ALTER TABLE ${table} REPLICA IDENTITY NOTHING`),
    ...writesOf(author, table),
    check(table),
    everywhere(`ALTER TABLE ${table} REPLICA IDENTITY DEFAULT`),
    ...writesOf(author, table),
    check(table),
  ];
}

function writesOf(author: Author, table: string): Draft[] {
  const node = author.writer();
  return Array.from({ length: author.random.between(1, 3) }, () =>
    write(node, anyWrite(author, node, table)),
  );
}

function ourPublication(author: Author): Draft[] {
  const { random } = author;
  const table = author.table();
  const node = random.pick(author.nodes);
  const loner = author.loner();
  const [out, back] = random.pick([
    [
      `ALTER PUBLICATION aced_demo DROP TABLE ${table}`,
      `ALTER PUBLICATION aced_demo ADD TABLE ${table}`,
    ],
    [
      `ALTER PUBLICATION aced_demo DROP TABLE ${table}; ALTER PUBLICATION aced_demo ADD TABLE ${table} (id)`,
      `ALTER PUBLICATION aced_demo DROP TABLE ${table}; ALTER PUBLICATION aced_demo ADD TABLE ${table}`,
    ],
    [
      "ALTER PUBLICATION aced_demo SET (publish = 'insert')",
      "ALTER PUBLICATION aced_demo SET (publish = 'insert, update, delete, truncate')",
    ],
  ] as const);
  return [
    check(table),
    only(node, out),
    ...writesOf(author, table),
    drift(loner, anyDrift(author, loner, table)),
    ...(random.oneIn(2) ? [check(table)] : []),
    only(node, back),
    check(table),
  ];
}

/** What is written meanwhile never reaches the others. */
function userPublication(author: Author): Draft[] {
  const { random } = author;
  const table = author.table();
  const node = author.writer();
  return [
    only(node, `ALTER PUBLICATION mesh DROP TABLE ${table}`),
    write(node, updateRows({ table, ...baseRows(random), modulus: 1, rest: 0 }, random)),
    only(node, `ALTER PUBLICATION mesh ADD TABLE ${table}`),
    check(table),
  ];
}

function labels(author: Author): Draft[] {
  const table = author.oneOf(['typed']);
  if (table === null) return [];
  const { random } = author;
  const label = random.pick(['ok', 'sad', 'happy']);
  const away = `ALTER TYPE mood RENAME VALUE '${label}' TO 'was'`;
  const back = `ALTER TYPE mood RENAME VALUE 'was' TO '${label}'`;
  const node = random.pick(author.nodes);
  const isEverywhere = random.oneIn(3);
  const define = (sql: string): Draft => (isEverywhere ? everywhere(sql) : only(node, sql));
  return [
    ...writesOf(author, table),
    check(table),
    define(away),
    check(table),
    define(back),
    ...(random.oneIn(2) ? [check(table)] : []),
  ];
}

function truncated(author: Author): Draft[] {
  const table = author.table();
  const node = author.writer();
  // At rest on both sides: a row in flight would survive on one node.
  return [
    everywhere('SELECT 1'),
    write(node, `TRUNCATE ${table}`),
    everywhere('SELECT 1'),
    ...author.nodes
      .filter((one) => !author.isOneWay || one === 'n1')
      .map((one) =>
        write(
          one,
          insertRows({ table, ...RANGES.base, to: 60, ...author.ownedBy(one) }, author.random),
        ),
      ),
    ...(author.random.oneIn(2) ? [check(table)] : []),
  ];
}

function truncatedByOneNode(author: Author): Draft[] {
  const table = author.table();
  const node = author.loner();
  const sources = author.isOneWay ? ['n1'] : author.nodes;
  return [
    everywhere('SELECT 1'),
    drift(node, `TRUNCATE ${table}`),
    check(table),
    { kind: 'heal', label: 'heal', table, source: author.random.pick(sources) },
    check(table),
  ];
}

function drifts(author: Author): Draft[] {
  const node = author.loner();
  const table = author.table();
  const count = author.random.between(1, 3);
  return [
    ...Array.from({ length: count }, () => drift(node, anyDrift(author, node, table))),
    ...(author.random.oneIn(3) ? [check(table)] : []),
  ];
}

function driftAndRepair(author: Author): Draft[] {
  const node = author.loner();
  const table = author.table();
  const sources = author.isOneWay ? ['n1'] : author.nodes;
  return [
    drift(node, anyDrift(author, node, table)),
    check(table),
    { kind: 'repair', label: 'table-repair', table, source: author.random.pick(sources) },
    check(table),
  ];
}

function paused(author: Author): Draft[] {
  const from = author.writer();
  const to = author.random.pick(author.nodes.filter((node) => node !== from));
  const table = author.table();
  const node = author.writer();
  return [
    { kind: 'pause', from, to },
    ...Array.from({ length: 3 }, () => write(node, anyWrite(author, node, table))),
    ...(author.random.oneIn(2) ? [check(table)] : []),
    ...writes(author),
    { kind: 'resume', label: 'resume' },
  ];
}

function serverRestart(author: Author): Draft[] {
  const node = author.random.pick(author.nodes);
  return [
    { kind: 'restart server', node, mode: author.random.pick(['fast', 'immediate', 'kill']) },
    ...writes(author),
  ];
}

/** The one table of everything that may happen. */
export const OPERATIONS: readonly Phrase[] = [
  { label: 'write', weight: 1400, write: writes },
  { label: 'transaction', weight: 400, write: transaction },
  { label: 'drift', weight: 40, write: drifts },
  { label: 'drift and repair', weight: 12, write: driftAndRepair },
  { label: 'two-phase', weight: 12, write: twoPhase },
  { label: 'undone in a transaction', weight: 6, write: undone },
  { label: 'identity within a transaction', weight: 4, write: identityWithin },
  { label: 'long transaction', weight: 12, write: longTransaction },
  { label: 'large transaction', weight: 3, write: largeTransaction },
  { label: 'add column', weight: 3, write: addColumn },
  { label: 'volatile default', weight: 2, write: volatileDefault },
  { label: 'column of one node', weight: 2, write: columnOfOneNode },
  { label: 'rewrite on one node', weight: 2, write: rewrittenByOneNode },
  { label: 'column type', weight: 2, write: columnType },
  { label: 'columns renamed', weight: 2, write: renamedColumns },
  { label: 'table renamed and back', weight: 3, write: renamed },
  { label: 'partition detached', weight: 3, write: detached },
  { label: 'partition made and dropped', weight: 2, write: partitionsComeAndGo },
  { label: 'partition truncated', weight: 2, write: partitionTruncated },
  { label: 'identity', weight: 5, write: identity },
  { label: 'identity nothing', weight: 2, write: identityNothing },
  { label: 'our publication', weight: 4, write: ourPublication },
  { label: "users' publication", weight: 3, write: userPublication },
  { label: 'enum label', weight: 4, write: labels },
  { label: 'truncate', weight: 4, write: truncated },
  { label: 'truncate on one node', weight: 2, write: truncatedByOneNode },
  { label: 'subscription paused', weight: 4, write: paused },
  { label: 'server restart', weight: 12, write: serverRestart },
];
