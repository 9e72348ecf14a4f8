import { quoteIdentifier, quoteLiteral, quoteQualified } from '../base/quote.js';
import type { DigestColumn, DigestSeed } from '../digest/digest-column.js';
import { digestExpression, textExpression } from '../digest/digest-sql.js';
import { KeySql } from '../merkle/key-sql.js';
import { arrayLiteral } from '../postgres/array-literal.js';
import type { ColumnInfo, TableInfo } from '../table/table-info.js';
import type { KeyText, TableSpec } from '../table/table-spec.js';
import type { LooseConstraint } from './table-constraints.js';

/** A key with its number within the batch. */
export interface NumberedKey {
  readonly number: number;
  readonly key: KeyText;
}

/**
 * What ON CONFLICT can be given for the table: any unique index, the key's, or it cannot be used. A deferrable
 * constraint cannot be an arbiter, nor can a key WITHOUT OVERLAPS; and a table with rules takes none.
 */
export type Arbiters = 'any' | 'key' | 'none';

interface WrittenColumn {
  /** Quoted. */
  readonly name: string;
  /** The column of the staged rows. */
  readonly staged: string;
  /** On the source: what is gathered into an array. */
  readonly read: string;
  /** The array's type. */
  readonly arrayType: string;
  /** The staged value, as the column's type. */
  readonly value: string;
  /** The same as the column would hold it: rounded, cut off. */
  readonly stored: string;
  readonly isFixed: boolean;
  /** It travels as a text, whatever its type. */
  readonly travelsAsText: boolean;
}

/** FirstNormalObjectId: types from here on are the user's, with other numbers on other nodes. */
const FIRST_USER_OID = 16_384;
/** The only type of the server's own, fit for a column, that has no binary form. */
const ACLITEM_OID = 1033;

/**
 * Columns travel in binary arrays, which name their type by its number. There are no arrays of
 * arrays, and unnest() spreads a composite over several columns. What cannot travel so is a text.
 */
function travelsAsText(column: ColumnInfo, onSource: ColumnInfo | undefined): boolean {
  const { typeOid, baseTypeCategory, baseTypeKind } = column;
  const hasBinaryForm = typeOid < FIRST_USER_OID && typeOid !== ACLITEM_OID;
  const isSameType = onSource === undefined || onSource.typeOid === typeOid;
  return !hasBinaryForm || !isSameType || baseTypeCategory === 'A' || baseTypeKind === 'c';
}

/** @param isText the staged value is a text, whatever the type */
function writtenColumn(
  digestColumn: DigestColumn,
  {
    target,
    source,
    staged,
    isText,
  }: RepairedTable & { readonly staged: string; readonly isText: boolean },
): WrittenColumn {
  const byName = ({ name }: ColumnInfo): boolean => name === digestColumn.name;
  const column = target.columns.find(byName);
  if (column === undefined) throw new RangeError(`no column ${digestColumn.name}`);
  const { typeName, declaredType } = column;
  const shared = {
    name: quoteIdentifier(column.name),
    staged,
    isFixed: column.identity === 'always',
    stored: `s.${staged}::${declaredType}`,
  };
  if (!isText && !travelsAsText(column, source.columns.find(byName))) {
    const read = `t.${shared.name}`;
    const binary = { travelsAsText: false, arrayType: `${typeName}[]`, value: `s.${staged}` };
    return { ...shared, read, ...binary };
  }
  const read = textExpression(digestColumn, 't');
  const text = { travelsAsText: true, arrayType: 'text[]', value: `s.${staged}::${typeName}` };
  return { ...shared, read, ...text };
}

/** The table as the catalogs of the nodes have it. */
export interface RepairedTable {
  /** Its identity columns are those that cannot be updated. */
  readonly target: TableInfo;
  /** Its types may be others of the same family. */
  readonly source: TableInfo;
}

/**
 * The statements of a repair. Rows travel as one array a column, as the source's server writes it
 * and the target's reads it: no temporary table, for Spock replicates or refuses DDL.
 */
export class RepairSql {
  /** Columns of the target that are not compared: a row that is deleted and inserted loses them. */
  readonly uncompared: readonly string[];
  readonly #spec: TableSpec;
  readonly #key: KeySql;
  readonly #table: string;
  readonly #digest: string;
  readonly #columns: readonly WrittenColumn[];
  /** Not compared: a row that is inserted gets them all the same. */
  readonly #carried: readonly WrittenColumn[];
  readonly #asTexts: () => RepairSql;
  #texts: RepairSql | null = null;

  /**
   * @param form how staged values travel; texts are of rows that no node has
   * @param carried columns of both nodes that are not compared
   */
  constructor(
    spec: TableSpec,
    infos: RepairedTable,
    seed: DigestSeed,
    {
      form = 'binary',
      carried = [],
    }: { readonly form?: 'binary' | 'texts'; readonly carried?: readonly DigestColumn[] } = {},
  ) {
    const info = infos.target;
    this.#asTexts = () => new RepairSql(spec, infos, seed, { form: 'texts' });
    this.#spec = spec;
    this.#key = new KeySql(spec.key);
    this.#table = quoteQualified(spec.schema, spec.name);
    this.#digest = digestExpression(spec.columns, seed, 't');
    this.uncompared = info.columns.flatMap(({ name, isGenerated }) =>
      isGenerated || spec.columns.some((column) => column.name === name) ? [] : [name],
    );
    const columnOf = (column: DigestColumn, i: number): WrittenColumn =>
      writtenColumn(column, { ...infos, staged: `c${i}`, isText: form === 'texts' });
    const written = new Set(writtenColumns(spec, info).map(({ name }) => name));
    this.#columns = spec.columns.filter(({ name }) => written.has(name)).map(columnOf);
    this.#carried = carried.map((column, i) => columnOf(column, this.#columns.length + i));
  }

  /** The same statements for staged rows whose values are texts. */
  get texts(): RepairSql {
    this.#texts ??= this.#asTexts();
    return this.#texts;
  }

  /** Of rows that are nowhere yet. Parameters: `valueParams`. Columns: number, digest. */
  digests(): string {
    const values = this.#columns.map(({ name, stored }) => `${stored} AS ${name}`);
    const arrays = this.#columns.map(({ arrayType }, i) => `, $${i + 2}::${arrayType}`).join('');
    const names = this.#columns.map(({ staged }) => `, ${staged}`).join('');
    return `SELECT s.n, ${this.#digest}::text
      FROM unnest($1::int[]${arrays}) s(n${names}), LATERAL (SELECT ${values.join(', ')}) t`;
  }

  /**
   * Of rows that are there those that another row stands against, by a constraint that the server has not
   * checked. Parameters: as `rows`. Columns: number.
   */
  conflicts({ columns, predicate, nullsAreEqual }: LooseConstraint): string {
    const values = columns.map(({ expression }, i) => `${expression} AS aced_e${i}`).join(', ');
    const matches = columns.map(({ expression, operator }, i) => {
      const matches = `(${expression}) ${operator} v.aced_e${i}`;
      const areNull = `(${expression}) IS NULL AND v.aced_e${i} IS NULL`;
      return nullsAreEqual ? `(${matches} OR ${areNull})` : matches;
    });
    const isMeant = predicate === null ? 'true' : `(${predicate})`;
    return `SELECT r.n FROM ${this.#keys()} JOIN ${this.#table} t ON ${this.#keyEquality()}
      CROSS JOIN LATERAL (SELECT ${values} FROM (SELECT t.*) x WHERE ${isMeant}) v
      WHERE EXISTS (SELECT FROM ${this.#table} x WHERE ${isMeant} AND ${matches.join(' AND ')}
        AND (x.tableoid, x.ctid) IS DISTINCT FROM (t.tableoid, t.ctid))`;
  }

  /** Numbers, then an array of texts per written column. */
  valueParams(
    rows: readonly { readonly number: number; readonly values: readonly (string | null)[] }[],
  ): (string | null)[][] {
    return [
      rows.map(({ number }) => String(number)),
      ...this.#columns.map((_, i) => rows.map(({ values }) => values[i] ?? null)),
    ];
  }

  /** Parameters: numbers, then a text array per key column. Columns: number, digest[, values]. */
  rows(withValues: boolean): string {
    const values = withValues ? this.#columns.map(({ name }) => `, t.${name}`).join('') : '';
    return `SELECT r.n, ${this.#digest}::text${values}
      FROM ${this.#keys()} JOIN ${this.#table} t ON ${this.#keyEquality()}`;
  }

  /**
   * Who wrote the rows last. Needs track_commit_timestamp. Parameters: as `rows`. Columns: number,
   * commit time, name of the origin; '' is this node.
   */
  writers(): string {
    return `SELECT r.n, w.committed_at::text, CASE w.origin WHEN 0 THEN '' ELSE coalesce((SELECT o.roname
        FROM pg_catalog.pg_replication_origin o WHERE o.roident = w.origin), w.origin::text) END
      FROM ${this.#keys()} JOIN ${this.#table} t ON ${this.#keyEquality()}
      LEFT JOIN LATERAL pg_catalog.pg_xact_commit_timestamp_origin(t.xmin) w(committed_at, origin) ON true`;
  }

  keyParams(keys: readonly NumberedKey[]): string[][] {
    return [
      keys.map(({ number }) => String(number)),
      ...this.#spec.key.map((_, i) => keys.map(({ key }) => key[i] ?? '')),
    ];
  }

  /**
   * Runs on the source: a COPY, which takes no parameters. Columns: commit time as text, numbers, an
   * array per written column. One row, or one per commit time; none: no such rows.
   *
   * @param digests what the rows must be
   */
  read(keys: readonly NumberedKey[], digests: readonly string[], byCommitTime: boolean): string {
    const time = byCommitTime ? 'pg_catalog.pg_xact_commit_timestamp(t.xmin)::text' : 'NULL::text';
    const values = this.#staging.map(({ read, staged }) => `, ${read} AS ${staged}`).join('');
    const arrays = this.#staging.map(({ staged }) => `, pg_catalog.array_agg(${staged})`).join('');
    return `COPY (SELECT at, pg_catalog.array_agg(n)${arrays}
      FROM (SELECT ${time} AS at, r.n${values} FROM ${this.#wanted(keys, digests)}) found
      GROUP BY at ${byCommitTime ? 'ORDER BY at' : ''}) TO STDOUT (FORMAT binary)`;
  }

  /** Whether whole rows can go from COPY to COPY: the servers share the binary form of every column. */
  get canCopyRows(): boolean {
    return this.#staging.every((column) => !column.travelsAsText);
  }

  /** As `read`, but a row for each: its number, then what is written. */
  readRows(keys: readonly NumberedKey[], digests: readonly string[]): string {
    const values = this.#staging.map(({ read }) => `, ${read}`).join('');
    return `COPY (SELECT r.n${values} FROM ${this.#wanted(keys, digests)}) TO STDOUT (FORMAT binary)`;
  }

  /** Takes what `readRows` gives, without the numbers. A key that is there already fails all of it. */
  copyIn(): string {
    const names = this.#staging.map(({ name }) => name).join(', ');
    return `COPY ${this.#table} (${names}) FROM STDIN (FORMAT binary)`;
  }

  /**
   * Of a table without a key: how often contents are there. Parameters: digests. Columns: digest, number,
   * a text per written column.
   */
  copies(): string {
    const texts = this.#columns.map(({ read }) => `, ${read}`).join('');
    return `SELECT c.d::text, c.n::text${texts}
      FROM (SELECT b.d, pg_catalog.count(*) AS n, (pg_catalog.array_agg(b.t))[1] AS example
              FROM (SELECT t, ${this.#digest} AS d FROM ${this.#table} t) b
             WHERE b.d = ANY ($1::bigint[]) GROUP BY b.d) c, LATERAL (SELECT (c.example).*) t`;
  }

  /** Where they are. Parameters: as `copies`. Columns: digest, OID of the table or partition, places. */
  copyPlaces(): string {
    return `SELECT b.d::text, b.o::text, pg_catalog.array_agg(b.c)::text
      FROM (SELECT t.tableoid AS o, t.ctid AS c, ${this.#digest} AS d FROM ${this.#table} t) b
      WHERE b.d = ANY ($1::bigint[]) GROUP BY b.d, b.o`;
  }

  /** Parameters: OID, places. Columns: how many were there. */
  deleteCopies(): string {
    return `WITH w AS (DELETE FROM ${this.#table} t
        WHERE t.tableoid = $1::oid AND t.ctid = ANY ($2::tid[]) RETURNING 1)
      SELECT pg_catalog.count(*) FROM w`;
  }

  /** Parameters: how often, then a text per written column: `valueParams`. */
  insertCopies(): string {
    const names = this.#columns.map(({ name }) => name).join(', ');
    const staged = this.#columns.map((column) => `, ${column.staged}`).join('');
    const arrays = this.#columns.map(({ arrayType }, i) => `, $${i + 2}::${arrayType}`).join('');
    const values = this.#columns.map(({ value }) => value).join(', ');
    return `INSERT INTO ${this.#table} (${names}) OVERRIDING SYSTEM VALUE
      SELECT ${values} FROM unnest($1::int[]${arrays}) s(n${staged}), pg_catalog.generate_series(1, s.n)`;
  }

  /** The table, qualified and quoted. */
  get table(): string {
    return this.#table;
  }

  /** Parameters: as `rows`. Returns an array: rows that are there and that nobody else holds. */
  lock(): string {
    return inOneRow(`SELECT r.n FROM ${this.#keys()} JOIN ${this.#table} t ON ${this.#keyEquality()}
      FOR NO KEY UPDATE OF t SKIP LOCKED`);
  }

  /** Parameters: as `rows`, expected digests. Returns an array. */
  delete(): string {
    const digests = `$${this.#spec.key.length + 2}::text[]`;
    return inOneRow(`DELETE FROM ${this.#table} t USING ${this.#keys(digests)}
      WHERE ${this.#keyEquality()} AND ${this.#digest} = r.expected::bigint RETURNING r.n`);
  }

  /** Parameters: expected digests, numbers to be written, staged rows. Returns an array. */
  update(): string {
    const writable = this.#columns.filter(({ isFixed }) => !isFixed);
    const sets = writable.map(({ name, value }) => `${name} = ${value}`).join(', ');
    const isFixedEqual = this.#fixedColumns('IS NOT DISTINCT FROM', ' AND ', 'true');
    return inOneRow(`UPDATE ${this.#table} t SET ${sets} FROM ${this.#staged()}
      WHERE ${this.#isExpected()} AND ${isFixedEqual} RETURNING s.n`);
  }

  /** Whether some rows must be deleted and inserted again, because a column cannot be updated. */
  get hasFixedColumns(): boolean {
    return this.#columns.some(({ isFixed }) => isFixed);
  }

  /** Deletes rows whose fixed columns differ, or all. Parameters and result: as `update`. */
  makeRoom(which: 'fixed' | 'all'): string {
    const isFixed =
      which === 'all' ? 'true' : `(${this.#fixedColumns('IS DISTINCT FROM', ' OR ', 'false')})`;
    return inOneRow(`DELETE FROM ${this.#table} t USING ${this.#staged()}
      WHERE ${this.#isExpected()} AND ${isFixed} RETURNING s.n`);
  }

  /**
   * Parameters: as `update`. Rows whose key, or whatever value of a unique index, is there already
   * are left out; without an arbiter, another unique index than the key's refuses them. Returns how
   * many were inserted: which ones costs half as much again as the insert, and is worth asking only
   * where it is not all of them, see `written`.
   */
  insert(arbiters: Arbiters): string {
    const names = this.#staging.map(({ name }) => name).join(', ');
    const values = this.#staging.map(({ value }) => value).join(', ');
    const key = this.#spec.key.map(({ name }) => quoteIdentifier(name));
    const isThere = `EXISTS (SELECT FROM ${this.#table} t
      WHERE ${this.#key.equality((i) => this.#stagedValue(i))})`;
    const onConflict = {
      any: 'ON CONFLICT DO NOTHING',
      key: `ON CONFLICT (${key.join(', ')}) DO NOTHING`,
      none: `AND NOT ${isThere}`,
    };
    return `WITH w AS (
        INSERT INTO ${this.#table} (${names}) OVERRIDING SYSTEM VALUE
        SELECT ${values} FROM ${this.#staged()} WHERE ${this.#isChosen()}
        ${onConflict[arbiters]} RETURNING 1)
      SELECT pg_catalog.count(*) FROM w`;
  }

  /** Of staged rows those that this transaction wrote. Parameters and result: as `update`. */
  written(): string {
    const key = this.#key.equality((i) => this.#stagedValue(i));
    return `SELECT pg_catalog.array_agg(s.n) FROM ${this.#staged()} JOIN ${this.#table} t ON ${key}
      WHERE ${this.#isChosen()} AND t.xmin = pg_catalog.pg_current_xact_id()::pg_catalog.xid`;
  }

  /** Rows with these keys and digests, which are literals: COPY takes no parameters. */
  #wanted(keys: readonly NumberedKey[], digests: readonly string[]): string {
    const [numbers, ...texts] = [...this.keyParams(keys), digests].map((items) =>
      quoteLiteral(arrayLiteral(items)),
    );
    const lists = texts.map((list) => `${list}::text[]`).join(', ');
    return `unnest(${numbers ?? ''}::int[], ${lists}) r(n, ${this.#keyNames()}, expected)
        JOIN ${this.#table} t ON ${this.#keyEquality()}
        WHERE ${this.#digest} = r.expected::bigint`;
  }

  /** What travels of each row. */
  get #staging(): readonly WrittenColumn[] {
    return [...this.#columns, ...this.#carried];
  }

  /** Numbers and texts of keys, and one more text of each. */
  #keys(texts?: string): string {
    const arrays = this.#spec.key.map((_, i) => `$${i + 2}::text[]`);
    if (texts === undefined) {
      return `unnest($1::int[], ${arrays.join(', ')}) r(n, ${this.#keyNames()})`;
    }
    return `unnest($1::int[], ${arrays.join(', ')}, ${texts}) r(n, ${this.#keyNames()}, expected)`;
  }

  #keyNames(): string {
    return this.#spec.key.map((_, i) => `k${i}`).join(', ');
  }

  #keyEquality(): string {
    return this.#key.equality((i) => `r.k${i}`);
  }

  #staged(): string {
    const arrays = this.#staging.map(({ arrayType }, i) => `$${i + 4}::${arrayType}`).join(', ');
    const names = this.#staging.map(({ staged }) => staged).join(', ');
    return `unnest($3::int[], $1::bigint[], ${arrays}) s(n, expected, ${names})`;
  }

  /** Null: all of them. */
  #isChosen(): string {
    return '($2::int[] IS NULL OR s.n = ANY ($2::int[]))';
  }

  /** The row is what the diff saw, which is not what the source has. */
  #isExpected(): string {
    const key = this.#key.equality((i) => this.#stagedValue(i));
    return `${key} AND ${this.#isChosen()} AND ${this.#digest} = s.expected`;
  }

  #fixedColumns(operator: string, separator: string, otherwise: string): string {
    const parts = this.#columns
      .filter(({ isFixed }) => isFixed)
      .map(({ name, value }) => `t.${name} ${operator} ${value}`);
    return parts.length === 0 ? otherwise : parts.join(separator);
  }

  /** The staged value of the i-th column of the key. */
  #stagedValue(i: number): string {
    const name = quoteIdentifier(this.#spec.key[i]?.name ?? '');
    return `(${this.#columns.find((column) => column.name === name)?.value ?? 's.n'})`;
  }
}

/** The numbers of the rows that a statement wrote, in one row: thousands of rows cost more. */
function inOneRow(statement: string): string {
  return `WITH w AS (${statement}) SELECT pg_catalog.array_agg(n) FROM w`;
}

/**
 * Compared columns in the digest's order, which is the same on all nodes whatever the order of
 * attributes there: what is not compared is not written either.
 */
export function writtenColumns(spec: TableSpec, info: TableInfo): TableInfo['columns'] {
  const byName = new Map(info.columns.map((column) => [column.name, column]));
  return spec.columns.flatMap(({ name }) => byName.get(name) ?? []);
}
