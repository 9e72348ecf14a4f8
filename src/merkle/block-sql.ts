import { quoteIdentifier, quoteQualified } from '../base/quote.js';
import type { DigestSeed } from '../digest/digest-column.js';
import { digestExpression, keyTextExpression } from '../digest/digest-sql.js';
import { COPIES_COLUMN, MULTISET_COLUMNS, ROW_COLUMN } from '../table/multiset.js';
import { bracketed } from '../table/row-filter.js';
import {
  isOrderIndexed,
  type KeyOrderKind,
  type KeyText,
  type TableSpec,
} from '../table/table-spec.js';
import { KeySql, keyTextColumns, type RangeExpressions } from './key-sql.js';
import type { BlockRange } from './layout.js';
import type { Assignment } from './reading-order.js';

/** SQL and its parameters, as texts or arrays of texts. */
export interface BlockQuery {
  readonly text: string;
  readonly params: readonly (string | readonly string[])[];
}

export interface NumberedRange extends BlockRange {
  /** Comes back in the result's first column. */
  readonly number: number;
}

export interface BlockSqlOptions {
  readonly spec: TableSpec;
  readonly seed: DigestSeed;
  /** A condition of the user's that checkRowFilter took: only rows that meet it are compared. */
  readonly filter?: string;
}

/** Kinds of types whose values all take the same space. */
const FIXED_WIDTH: ReadonlySet<KeyOrderKind> = new Set([
  'integer',
  'uuid',
  'date',
  'timestamp',
  'boolean',
]);

/** Rows that one statement reads at most, as far as blocks have their planned size. */
const ROWS_PER_STATEMENT = 100_000;
/** Bounds what a statement's answer takes in memory, however small the blocks are. */
const BLOCKS_PER_STATEMENT = 1_000;

/** How many blocks of so many rows are hashed by one statement. */
export function blocksPerStatement(blockRows: number): number {
  return Math.min(BLOCKS_PER_STATEMENT, Math.max(1, Math.floor(ROWS_PER_STATEMENT / blockRows)));
}

/**
 * Builds the statements that read blocks: hashes, row digests, boundaries, rows. Keys travel as
 * text and are cast to the column's type in the server, whose order alone counts.
 */
export class BlockSql {
  readonly #spec: TableSpec;
  readonly #table: string;
  readonly #filter: string;
  readonly #digest: string;
  readonly #keyDigest: string;
  readonly #key: KeySql;
  /** What rows are sorted by: the bare columns, as the index has them. */
  readonly #order: readonly string[];
  readonly #keyTexts: readonly string[];

  constructor(options: BlockSqlOptions) {
    const { spec, seed } = options;
    this.#spec = spec;
    const filter = options.filter === undefined ? '' : bracketed(options.filter);
    const isMultiset = spec.isMultiset === true;
    this.#table = isMultiset
      ? multiset(spec, seed, filter)
      : `${quoteQualified(spec.schema, spec.name)} t`;
    this.#filter = isMultiset ? '' : filter;
    this.#digest = digestExpression(isMultiset ? MULTISET_COLUMNS : spec.columns, seed, 't');
    this.#keyDigest = digestExpression(spec.key, seed, 't');
    this.#key = new KeySql(spec.key);
    this.#order = spec.key.map(({ name, collate }) => {
      const column = `t.${quoteIdentifier(name)}`;
      return collate === null ? column : `${column} COLLATE ${collate}`;
    });
    this.#keyTexts = spec.key.map((column) => keyTextExpression(column, 't'));
  }

  /**
   * Hashes blocks in one statement, hence one snapshot.
   * Columns: number, row count, sum of digests, snapshot, WAL insert position after the snapshot
   * was taken (at or past the commit of all that it shows).
   */
  hashBlocks(ranges: readonly NumberedRange[]): BlockQuery {
    return this.#perRange(
      ranges,
      `SELECT count(*) AS c, coalesce(sum(${this.#digest}), 0) AS s`,
      'q.c::text, q.s::text, pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text',
    );
  }

  /**
   * The same for all blocks of the table, which these boundaries cut, in one pass over it in its own
   * order. Blocks without rows are left out; the last row has the number -1, and counts nothing.
   */
  hashTable(bounds: readonly KeyText[]): BlockQuery {
    const { block, join, params } = this.#assign(bounds);
    const after = 'pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text';
    // A filter's names must not meet those of the join.
    const rows =
      this.#filter === '' ? this.#table : `(SELECT t.* FROM ${this.#table}${this.#where('')}) t`;
    return {
      text: `SELECT b, count(*)::text, sum(d)::text, ${after}
        FROM (SELECT ${block} AS b, ${this.#digest} AS d FROM ${rows}${join} OFFSET 0) r GROUP BY b
        UNION ALL SELECT -1, '0', '0', ${after}`,
      params,
    };
  }

  /** How hashTable() puts rows into blocks; null: it cannot, keys are compared by the default order of built-in types. */
  get assignment(): Assignment | null {
    const { key } = this.#spec;
    const [first] = key;
    const isBuiltIn = key.every(({ operators }) => operators.less === 'OPERATOR(pg_catalog.<)');
    if (first === undefined || !isBuiltIn || key.length > 2) return null;
    const isFixed = FIXED_WIDTH.has(first.orderKind);
    if (key.length === 2) return isFixed ? 'ties' : null;
    return isFixed ? 'one' : 'chunks';
  }

  /** The number of a row's block as an expression, and what it needs beside the table. */
  #assign(bounds: readonly KeyText[]): {
    readonly block: string;
    readonly join: string;
    readonly params: readonly (readonly string[])[];
  } {
    const columns = this.#columnsOf(bounds);
    const [key = '', second = ''] = this.#key.columns;
    const [list = '', seconds = ''] = this.#key.arrays(['$1::text[]', '$2::text[]']);
    // As a subquery the array is made once, not once a row: casts of some types are not immutable.
    const among = `pg_catalog.width_bucket(${key}, (SELECT ${list}))`;
    switch (this.assignment) {
      case null:
        throw new RangeError('keys that cannot be assigned to blocks');
      case 'one':
        return { block: among, join: '', params: columns };
      case 'ties':
        return {
          block: `COALESCE(g.base + pg_catalog.width_bucket(${second}, g.seconds), ${among})`,
          join: ` LEFT JOIN (
            SELECT u.first, (min(u.n) - 1)::int AS base, array_agg(u.second ORDER BY u.n) AS seconds
              FROM unnest(${list}, ${seconds}) WITH ORDINALITY u(first, second, n) GROUP BY u.first OFFSET 0) g
            ON ${this.#key.equalityOfFirst('g.first')}`,
          params: columns,
        };
      case 'chunks': {
        const [all = []] = columns;
        const size = Math.max(1, Math.ceil(Math.sqrt(all.length)));
        const [chunk = ''] = this.#key.arrays(['$2::text[]']);
        return {
          block: `COALESCE(g.base + pg_catalog.width_bucket(${key}, g.keys), 0)`,
          join: ` LEFT JOIN (
            SELECT ((u.n - 1) / ${size} + 1)::int AS chunk, (min(u.n) - 1)::int AS base, array_agg(u.key ORDER BY u.n) AS keys
              FROM unnest(${chunk}) WITH ORDINALITY u(key, n) GROUP BY 1 OFFSET 0) g
            ON g.chunk = ${among}`,
          params: [all.filter((_, i) => i % size === 0), all],
        };
      }
    }
  }

  /**
   * As hashBlocks, but with the rows themselves in the sum's place: for each the digest of its key
   * and its own, as BlockRows.unpack takes them; NULL for a block without rows.
   */
  packBlocks(ranges: readonly NumberedRange[]): BlockQuery {
    return this.#perRange(
      ranges,
      `SELECT count(*) AS c,
         string_agg(pg_catalog.int8send(${this.#keyDigest}) || pg_catalog.int8send(${this.#digest}), '') AS s`,
      'q.c::text, q.s::text, pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text',
    );
  }

  /** Columns: number, digest, key texts, version (changes with every write of the row). No order. */
  rowDigests(ranges: readonly NumberedRange[]): BlockQuery {
    const keys = this.#keyTexts.map((text, i) => `${text} AS k${i}`).join(', ');
    const outs = this.#keyTexts.map((_, i) => `q.k${i}`).join(', ');
    return this.#perRange(
      ranges,
      `SELECT ${this.#digest} AS d, ${keys}, t.xmin AS x`,
      `q.d::text, ${outs}, q.x::text`,
    );
  }

  /**
   * The rows with the given keys. Columns: index of the key, digest, then `columns` as the output
   * functions print them, then commit time and origin name ('' = local) of the row's last writer,
   * then the row's version as rowDigests gives it.
   */
  rowsByKey(
    keys: readonly KeyText[],
    columns: readonly string[],
    hasCommitTimes: boolean,
  ): BlockQuery {
    const list = columns.map((name) => `t.${quoteIdentifier(name)}`).join(', ');
    const writer = hasCommitTimes
      ? `w.committed_at::text, CASE w.origin WHEN 0 THEN '' ELSE COALESCE((SELECT o.roname
           FROM pg_catalog.pg_replication_origin o WHERE o.roident = w.origin), w.origin::text) END`
      : 'NULL, NULL';
    const writerJoin = hasCommitTimes
      ? ' LEFT JOIN LATERAL pg_catalog.pg_xact_commit_timestamp_origin(t.xmin) w(committed_at, origin) ON true'
      : '';
    return {
      text: `SELECT r.n, ${this.#digest}::text, ${list}, ${writer}, t.xmin::text
        FROM unnest($1::int[], ${this.#textArrays(2)}) r(n, ${this.#names('k')})
        JOIN ${this.#table} ON ${this.#key.equality((i) => `r.k${i}`)}${this.#and(this.#filter)}${this.#and(this.#amongKeys)}${writerJoin}`,
      params: [keys.map((_, i) => String(i)), ...this.#columnsOf(keys)],
    };
  }

  /**
   * The rows that have the given keys in the key's own opinion, whatever their spelling. Columns:
   * index of the key, digest, key texts, version as rowDigests gives it.
   */
  statesByKey(keys: readonly KeyText[]): BlockQuery {
    return {
      text: `SELECT r.n, ${this.#digest}::text, ${this.#keyTexts.join(', ')}, t.xmin::text
        FROM unnest($1::int[], ${this.#textArrays(2)}) r(n, ${this.#names('k')})
        JOIN ${this.#table} ON ${this.#key.equality((i) => `r.k${i}`)}${this.#and(this.#filter)}${this.#and(this.#amongKeys)}`,
      params: [keys.map((_, i) => String(i)), ...this.#columnsOf(keys)],
    };
  }

  /** Of a multiset: a condition that its rows are chosen by before they are counted. */
  get #amongKeys(): string {
    return this.#spec.isMultiset === true ? `t.${ROW_COLUMN} = ANY ($2::text[]::bigint[])` : '';
  }

  /** The digest of the key of a row that the table has, as a row's change in the stream has it. */
  keyDigest(key: KeyText): BlockQuery {
    return {
      text: `SELECT ${this.#keyDigest}::text FROM unnest(${this.#textArrays(1)}) r(${this.#names('k')})
        JOIN ${this.#table} ON ${this.#key.equality((i) => `r.k${i}`)}`,
      params: this.#columnsOf([key]),
    };
  }

  /**
   * Of a range, the rows whose last writer came by one of these replication origins. Columns: `f`, NULL,
   * key texts; and one row `t`, how many rows there are whose origin the server does not know any more.
   */
  keysByOrigin(range: BlockRange, originIds: readonly string[]): BlockQuery {
    const params: (string | readonly string[])[] = [];
    const bind = (text: string): string => `$${params.push(text)}`;
    const rows = this.#rows(this.#key.pieces(this.#range(range, bind)));
    const ids = `$${params.push(originIds)}::text[]`;
    const origin = `LEFT JOIN LATERAL pg_catalog.pg_xact_commit_timestamp_origin(t.xmin) w(committed_at, origin) ON true`;
    const names = this.#keyTexts.map((_, i) => `k${i}`).join(', ');
    return {
      text: `WITH found AS MATERIALIZED (
          SELECT ${this.#keyTexts.map((text, i) => `${text} AS k${i}`).join(', ')}, w.committed_at, w.origin::text AS id
            FROM (SELECT t.*, t.xmin FROM ${rows}) t ${origin})
        SELECT false, NULL, ${names} FROM found WHERE committed_at IS NOT NULL AND id = ANY (${ids})
        UNION ALL
        SELECT true, count(*)::text, ${this.#keyTexts.map(() => 'NULL').join(', ')} FROM found WHERE committed_at IS NULL`,
      params,
    };
  }

  /**
   * Keys that cut a range into pieces of `step` rows, ascending, `limit` of them at most: each is
   * the lower end of the next piece. Walks the key's index, a hop a piece.
   */
  boundaries(range: BlockRange, step: number, limit: number): BlockQuery {
    const params: (string | readonly string[])[] = [];
    const bind = (text: string): string => `$${params.push(text)}`;
    const order = this.#order.join(', ');
    const columns = this.#spec.key.map((column) => `t.${quoteIdentifier(column.name)}`);
    const named = columns.map((column, i) => `${column} AS k${i}`).join(', ');
    const texts = this.#spec.key
      .map((column, i) => keyTextExpression({ ...column, name: `k${i}` }, 'hop'))
      .join(', ');
    if (!this.walksIndex) {
      // No index has this order, or none can be entered at a key: one sort rather than one per hop.
      return {
        text: `SELECT ${texts} FROM (
            SELECT ${named}, row_number() OVER (ORDER BY ${order}) AS rn
            FROM ${this.#rows(this.#key.pieces(this.#range(range, bind)))}) hop
          WHERE rn > 1 AND (rn - 1) % ${step}::bigint = 0::bigint ORDER BY rn LIMIT ${limit}`,
        params,
      };
    }
    const ends = this.#range(range, bind);
    const [inRange = ''] = this.#key.pieces(ends);
    const [next = ''] = this.#key.pieces({
      lower: this.#key.values((i) => `hop.k${i}`),
      upper: ends.upper,
    });
    const piece = (condition: string): string =>
      `SELECT ${named} FROM ${this.#table}${this.#where(condition)} ORDER BY ${order} OFFSET ${step} LIMIT 1`;
    return {
      text: `WITH RECURSIVE hop AS (
          SELECT 1 AS n, first.* FROM (${piece(inRange)}) first
          UNION ALL
          SELECT hop.n + 1, next.* FROM hop, LATERAL (${piece(next)}) next WHERE hop.n < ${limit})
        SELECT ${texts} FROM hop ORDER BY n`,
      params,
    };
  }

  /** For each key the number of `bounds` that are at or below it: its block position. */
  locate(keys: readonly KeyText[], bounds: readonly KeyText[]): BlockQuery {
    const order = this.#spec.key.map((_, i) => `k${i}`).join(', ');
    return {
      text: `SELECT n, b FROM (
          SELECT n, count(*) FILTER (WHERE n < 0) OVER (ORDER BY ${order}, n < 0 DESC
            ROWS UNBOUNDED PRECEDING) AS b
          FROM ${this.#typedKeys()} v) o
        WHERE n >= 0`,
      params: [
        [...bounds.map(() => '-1'), ...keys.map((_, i) => String(i))],
        ...this.#columnsOf([...bounds, ...keys]),
      ],
    };
  }

  /** The keys' indexes in the order of the key. */
  sortKeys(keys: readonly KeyText[]): BlockQuery {
    const order = this.#spec.key.map((_, i) => `k${i}`).join(', ');
    return {
      text: `SELECT n FROM ${this.#typedKeys()} v ORDER BY ${order}`,
      params: [keys.map((_, i) => String(i)), ...this.#columnsOf(keys)],
    };
  }

  /** Ranges with both ends run as one nested loop over the key's index, open ones beside it. */
  #perRange(ranges: readonly NumberedRange[], select: string, outputs: string): BlockQuery {
    const params: (string | readonly string[])[] = [];
    const bind = (value: string | readonly string[]): string => `$${params.push(value)}`;
    const parts: string[] = [];
    const closed: { number: number; lower: KeyText; upper: KeyText }[] = [];
    for (const { number, lower, upper } of ranges) {
      if (lower !== null && upper !== null) closed.push({ number, lower, upper });
      else {
        const rows = this.#rows(this.#key.pieces(this.#range({ lower, upper }, bind)));
        parts.push(`SELECT ${number}, ${outputs} FROM (${select} FROM ${rows}) q`);
      }
    }
    if (closed.length > 0) {
      const numbers = bind(closed.map((range) => String(range.number)));
      const arrays = [
        ...this.#columnsOf(closed.map((range) => range.lower)),
        ...this.#columnsOf(closed.map((range) => range.upper)),
      ].map((column) => `${bind(column)}::text[]`);
      const end = (prefix: string): string[] => this.#key.values((i) => `r.${prefix}${i}`);
      const rows = this.#rows(this.#key.pieces({ lower: end('l'), upper: end('u') }));
      parts.push(
        `SELECT r.n, ${outputs}
         FROM unnest(${numbers}::int[], ${arrays.join(', ')})
           r(n, ${this.#names('l')}, ${this.#names('u')}),
         LATERAL (${select} FROM ${rows} OFFSET 0) q`,
      );
    }
    return { text: parts.join('\nUNION ALL\n'), params };
  }

  /**
   * Subquery (n, k0, ...) of the numbers in $1 and the key texts in $2 and on, as values that sort
   * like the table's own: a bare cast would have the database's collation, not the column's, which
   * an empty branch with the columns themselves lends it.
   */
  #typedKeys(): string {
    const values = this.#key
      .values((i) => `k${i}`)
      .map((value, i) => `${value} AS k${i}`)
      .join(', ');
    return `(SELECT n, ${values}
        FROM unnest($1::int[], ${this.#textArrays(2)}) r(n, ${this.#names('k')})
      UNION ALL SELECT NULL::int, ${this.#key.columns.join(', ')} FROM ${this.#table} WHERE false)`;
  }

  /** Whether boundaries() goes along the key's index, a hop a piece; else it sorts all rows. */
  get walksIndex(): boolean {
    return isOrderIndexed(this.#spec) && this.#key.isRowComparable;
  }

  #range({ lower, upper }: BlockRange, bind: (text: string) => string): RangeExpressions {
    const values = (key: KeyText): string[] =>
      this.#key.values((i) => `${bind(key[i] ?? '')}::text`);
    return {
      lower: lower === null ? null : values(lower),
      upper: upper === null ? null : values(upper),
    };
  }

  /** The rows that meet any of the conditions, which exclude each other, as table `t`. */
  #rows(pieces: readonly string[]): string {
    const [first = '', ...others] = pieces;
    if (others.length === 0) return `${this.#table}${this.#where(first)}`;
    const parts = pieces.map(
      (piece) => `SELECT t.*, t.xmin FROM ${this.#table}${this.#where(piece)}`,
    );
    return `(${parts.join(' UNION ALL ')}) t`;
  }

  #where(condition: string): string {
    const all = [condition, this.#filter].filter((part) => part !== '').join(' AND ');
    return all === '' ? '' : ` WHERE ${all}`;
  }

  #and(condition: string): string {
    return condition === '' ? '' : ` AND ${condition}`;
  }

  #names(prefix: string): string {
    return this.#spec.key.map((_, i) => `${prefix}${i}`).join(', ');
  }

  #textArrays(first: number): string {
    return this.#spec.key.map((_, i) => `$${first + i}::text[]`).join(', ');
  }

  #columnsOf(keys: readonly KeyText[]): string[][] {
    return keyTextColumns(this.#spec.key.length, keys);
  }
}

/**
 * The table as one row per content, with how often it is there, as `t`. Its version, which changes whenever a copy comes or
 * goes: the sum of their transactions and their number. What is not asked for the planner leaves out.
 */
function multiset(spec: TableSpec, seed: DigestSeed, filter: string): string {
  const names = spec.columns.map(({ name }) => quoteIdentifier(name));
  const columns = names.map((name) => `, (c.example).${name} AS ${name}`).join('');
  const where = filter === '' ? '' : ` WHERE ${filter}`;
  return `(SELECT c.${ROW_COLUMN}, c.${COPIES_COLUMN}, c.version AS xmin${columns}
      FROM (SELECT b.d AS ${ROW_COLUMN}, count(*) AS ${COPIES_COLUMN},
                   sum(b.x::text::bigint)::text || '/' || count(*)::text AS version, (array_agg(b.t))[1] AS example
              FROM (SELECT t, t.xmin AS x, ${digestExpression(spec.columns, seed, 't')} AS d
                      FROM ${quoteQualified(spec.schema, spec.name)} t${where}) b
             GROUP BY b.d) c) t`;
}
