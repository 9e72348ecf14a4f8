import { quoteIdentifier, quoteLiteral, quoteQualified } from '../base/quote.js';
import type { DigestSeed } from '../digest/digest-column.js';
import { digestExpression } from '../digest/digest-sql.js';
import { arrayLiteral } from '../postgres/array-literal.js';
import type { TableInfo } from '../table/table-info.js';
import type { KeyText, TableSpec } from '../table/table-spec.js';

/** A key with its number within the batch. */
export interface NumberedKey {
  readonly number: number;
  readonly key: KeyText;
}

/** A row to be written: the digest that its place must have, null: it must be empty. */
export interface StagedKey extends NumberedKey {
  readonly expected: string | null;
}

const STAGE = 'pg_temp.aced_repair_stage';

/** The statements of a repair. Values are moved by COPY as text and compared by digest. */
export class RepairSql {
  readonly #spec: TableSpec;
  readonly #table: string;
  readonly #digest: string;
  /** Every column that is written; `name` is quoted, `staged` is the stage's. */
  readonly #columns: readonly { name: string; staged: string; isFixed: boolean }[];

  /** @param info of the target: its identity columns are those that cannot be updated */
  constructor(spec: TableSpec, info: TableInfo, seed: DigestSeed) {
    this.#spec = spec;
    this.#table = quoteQualified(spec.schema, spec.name);
    this.#digest = digestExpression(spec.columns, seed, 't');
    this.#columns = writtenColumns(spec, info).map(({ name, identity }, i) => ({
      name: quoteIdentifier(name),
      staged: `c${i}`,
      isFixed: identity === 'always',
    }));
  }

  /** Parameters: numbers, then a text array per key column. Columns: number, digest[, values]. */
  rows(withValues: boolean): string {
    const values = withValues ? this.#columns.map(({ name }) => `, t.${name}`).join('') : '';
    const arrays = this.#spec.key.map((_, i) => `$${i + 2}::text[]`).join(', ');
    return `SELECT r.n, ${this.#digest}::text${values}
      FROM unnest($1::int[], ${arrays}) r(n, ${this.#keyNames()})
      JOIN ${this.#table} t ON ${this.#keyEquality()}`;
  }

  keyParams(keys: readonly NumberedKey[]): string[][] {
    return [
      keys.map(({ number }) => String(number)),
      ...this.#spec.key.map((_, i) => keys.map(({ key }) => key[i] ?? '')),
    ];
  }

  /** Columns without constraints or defaults, of the target's types, for one session. */
  createStage(): string {
    const names = this.#columns.map(({ staged }) => staged).join(', ');
    const values = this.#columns.map(({ name }) => name).join(', ');
    return `CREATE TEMP TABLE aced_repair_stage (n, expected, ${names}) ON COMMIT DELETE ROWS AS
      SELECT 0, 0::bigint, ${values} FROM ${this.#table} WITH NO DATA`;
  }

  dropStage(): string {
    return `DROP TABLE IF EXISTS ${STAGE}`;
  }

  /** Runs on the source. COPY takes no parameters, so the keys are part of the text. */
  copyOut(keys: readonly StagedKey[]): string {
    const literal = (values: readonly (string | null)[], type: string): string =>
      `${quoteLiteral(arrayLiteral(values))}::${type}[]`;
    const arrays = this.#spec.key.map((_, i) =>
      literal(
        keys.map(({ key }) => key[i] ?? ''),
        'text',
      ),
    );
    const numbers = literal(
      keys.map(({ number }) => String(number)),
      'int',
    );
    const expected = literal(
      keys.map((key) => key.expected),
      'bigint',
    );
    const values = this.#columns.map(({ name }) => `t.${name}`).join(', ');
    return `COPY (SELECT r.n, r.expected, ${values}
      FROM unnest(${numbers}, ${expected}, ${arrays.join(', ')})
        r(n, expected, ${this.#keyNames()})
      JOIN ${this.#table} t ON ${this.#keyEquality()}) TO STDOUT`;
  }

  copyIn(): string {
    return `COPY ${STAGE} FROM STDIN`;
  }

  /** Parameters: numbers, key arrays, expected digests, first and last number. Returns an array. */
  delete(): string {
    const count = this.#spec.key.length;
    const arrays = this.#spec.key.map((_, i) => `$${i + 2}::text[]`).join(', ');
    return inOneRow(`DELETE FROM ${this.#table} t
      USING unnest($1::int[], ${arrays}, $${count + 2}::text[])
        r(n, ${this.#keyNames()}, expected)
      WHERE ${this.#keyEquality()} AND ${this.#digest} = r.expected::bigint
        AND r.n BETWEEN $${count + 3}::int AND $${count + 4}::int
      RETURNING r.n`);
  }

  /** Parameters: first and last number. Returns an array. */
  update(): string {
    const writable = this.#columns.filter(({ isFixed }) => !isFixed);
    const sets = writable.map(({ name, staged }) => `${name} = s.${staged}`).join(', ');
    return inOneRow(`UPDATE ${this.#table} t SET ${sets} FROM ${STAGE} s
      WHERE ${this.#stagedRow()} AND ${this.#fixedColumns('IS NOT DISTINCT FROM', ' AND ', 'true')}
      RETURNING s.n`);
  }

  /** Whether some rows must be deleted and inserted again, because a column cannot be updated. */
  get hasFixedColumns(): boolean {
    return this.#columns.some(({ isFixed }) => isFixed);
  }

  /** Deletes rows whose fixed columns differ. Parameters: first and last number. Returns an array. */
  makeRoom(): string {
    return inOneRow(`DELETE FROM ${this.#table} t USING ${STAGE} s
      WHERE ${this.#stagedRow()} AND (${this.#fixedColumns('IS DISTINCT FROM', ' OR ', 'false')})
      RETURNING s.n`);
  }

  /** Parameters: first and last number, numbers for which room was made. Returns an array. */
  insert(): string {
    const names = this.#columns.map(({ name }) => name).join(', ');
    const values = this.#columns.map(({ staged }) => `s.${staged}`).join(', ');
    const key = this.#spec.key.map(({ name }) => quoteIdentifier(name));
    const outputs = key.map((name, i) => `${name} AS k${i}`).join(', ');
    const join = key.map((name, i) => `s.${this.#stagedName(name)} = w.k${i}`).join(' AND ');
    return `WITH w AS (
        INSERT INTO ${this.#table} (${names}) OVERRIDING SYSTEM VALUE
        SELECT ${values} FROM ${STAGE} s
        WHERE s.n BETWEEN $1::int AND $2::int AND (s.expected IS NULL OR s.n = ANY ($3::int[]))
        ON CONFLICT (${key.join(', ')}) DO NOTHING RETURNING ${outputs})
      SELECT pg_catalog.array_agg(s.n) FROM w JOIN ${STAGE} s ON ${join}`;
  }

  /** Parameter: numbers. Columns: number, values. */
  stagedRows(): string {
    const values = this.#columns.map(({ staged }) => `, s.${staged}`).join('');
    return `SELECT s.n${values} FROM ${STAGE} s WHERE s.n = ANY ($1::int[])`;
  }

  /** Parameter: numbers. Columns: number, the source's digest. */
  stagedDigests(): string {
    const values = this.#columns.map(({ staged }) => `s.${staged}`).join(', ');
    const names = this.#columns.map(({ name }) => name).join(', ');
    return `SELECT s.n, ${this.#digest} FROM ${STAGE} s CROSS JOIN LATERAL (SELECT ${values}) t(${names})
      WHERE s.n = ANY ($1::int[])`;
  }

  /**
   * The row is what the diff saw, and is not what the source has now. Equal images are equal texts,
   * and cost a fifth of a digest to compare.
   */
  #stagedRow(): string {
    const key = this.#spec.key
      .map(({ name }) => quoteIdentifier(name))
      .map((name) => `t.${name} = s.${this.#stagedName(name)}`)
      .join(' AND ');
    const there = this.#columns.map(({ name }) => `t.${name}`).join(', ');
    const staged = this.#columns.map((column) => `s.${column.staged}`).join(', ');
    return `${key} AND ${this.#digest} = s.expected AND ROW(${there})::record *<> ROW(${staged})::record
      AND s.n BETWEEN $1::int AND $2::int`;
  }

  #fixedColumns(operator: string, separator: string, otherwise: string): string {
    const parts = this.#columns
      .filter(({ isFixed }) => isFixed)
      .map(({ name, staged }) => `t.${name} ${operator} s.${staged}`);
    return parts.length === 0 ? otherwise : parts.join(separator);
  }

  #stagedName(quotedName: string): string {
    return this.#columns.find(({ name }) => name === quotedName)?.staged ?? 'n';
  }

  #keyNames(): string {
    return this.#spec.key.map((_, i) => `k${i}`).join(', ');
  }

  #keyEquality(): string {
    return this.#spec.key
      .map((column, i) => `t.${quoteIdentifier(column.name)} = r.k${i}::${column.typeName}`)
      .join(' AND ');
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
