import { createHash } from 'node:crypto';
import { AcedError } from '../base/errors.js';
import type { KeyText } from '../postgres/table-spec.js';
import { readDiffRows, type DiffFileRow } from '../report/diff-reader.js';
import { jsonFormatter, type JsonFormatter } from '../report/json-value.js';
import type { ReportColumn } from '../report/row-text.js';

/** What the diff saw of one key. */
export interface Expectation {
  readonly key: KeyText;
  /** Proof of the target's row: its digest (signed decimal) or a hash of its values. null: no row. */
  readonly target: string | null;
  readonly hasSource: boolean;
}

interface Seen {
  /** As the file has it: 16 hex digits; or a hash of the row's values. */
  target: string | null;
  hasSource: boolean;
}

export interface ExpectationOptions {
  readonly path: string;
  readonly pair: string;
  readonly source: string;
  readonly target: string;
  /** The key's columns, in the order of the table's key. */
  readonly keyColumns: readonly string[];
  /** Null: the file's digests can be compared with ours. Else a hash stands for the row's values. */
  readonly values: ValueHasher | null;
}

/**
 * The keys of one pair, each with what the diff saw on both sides. A table of short strings: a file
 * may hold a million rows, whose values stay on disk. Errors: BAD_DIFF_FILE.
 */
export class Expectations {
  readonly #byKey: ReadonlyMap<string, Seen>;
  readonly #isSingleKey: boolean;
  readonly #hasDigests: boolean;

  private constructor(byKey: ReadonlyMap<string, Seen>, options: ExpectationOptions) {
    this.#byKey = byKey;
    this.#isSingleKey = options.keyColumns.length === 1;
    this.#hasDigests = options.values === null;
  }

  static async read(options: ExpectationOptions): Promise<Expectations> {
    const { path, pair, source, target, keyColumns, values } = options;
    const byKey = new Map<string, Seen>();
    const columns = values === null ? { columns: keyColumns } : {};
    for await (const batch of readDiffRows(path, { pairs: [pair], ...columns })) {
      if (batch.node !== source && batch.node !== target) continue;
      const isSource = batch.node === source;
      for (const row of batch.rows) {
        const id = keyOf(row, keyColumns, path);
        const known = byKey.get(id);
        const proof = isSource ? null : proofOf(row, values, path);
        if (known === undefined) byKey.set(id, { target: proof, hasSource: isSource });
        else if (isSource) known.hasSource = true;
        else known.target = proof;
      }
    }
    return new Expectations(byKey, options);
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** In the order of the file. */
  *entries(): Generator<Expectation> {
    for (const [id, { target, hasSource }] of this.#byKey) {
      const key = this.#isSingleKey ? [id] : (JSON.parse(id) as string[]);
      const isHex = target !== null && this.#hasDigests;
      yield { key, target: isHex ? signedDecimal(target) : target, hasSource };
    }
  }
}

function keyOf(row: DiffFileRow, keyColumns: readonly string[], path: string): string {
  const texts = keyColumns.map((name) => {
    const raw = row.values[row.columns.indexOf(name)];
    if (raw === undefined || raw === 'null') {
      throw new AcedError('BAD_DIFF_FILE', `${path} has a row without key column ${name}`, {
        hint: 'Run the diff again; a file that was edited may have lost it.',
      });
    }
    return textOfJson(raw);
  });
  return texts.length === 1 ? (texts[0] ?? '') : JSON.stringify(texts);
}

function proofOf(row: DiffFileRow, values: ValueHasher | null, path: string): string {
  if (values !== null) return values.ofFile(row);
  if (row.digest === null) {
    throw new AcedError('BAD_DIFF_FILE', `${path} has a row without a digest`, {
      hint: 'Run the diff again; a file that was edited cannot be trusted.',
    });
  }
  return row.digest;
}

function signedDecimal(hex: string): string {
  return BigInt.asIntN(64, BigInt(`0x${hex}`)).toString();
}

/** The text that PostgreSQL reads as the value that stands in the file; null is not a text. */
function textOfJson(raw: string): string {
  if (raw.startsWith('"')) return JSON.parse(raw) as string;
  return raw;
}

/**
 * Compares rows of a file without digests (ACE's) with rows of a node: both are brought to the
 * file's form, where a number may stand with or without quotes.
 */
export class ValueHasher {
  readonly #columns: readonly (ReportColumn & { readonly format: JsonFormatter })[];
  readonly #ignored: ReadonlySet<string>;
  readonly #path: string;

  /**
   * @param columns compared ones, in the order in which rows of a node are given
   * @param ignored columns that the file may have although they are not compared
   */
  constructor(path: string, columns: readonly ReportColumn[], ignored: readonly string[]) {
    this.#path = path;
    this.#ignored = new Set(ignored);
    this.#columns = columns.map((column) => ({
      ...column,
      format: jsonFormatter(column.baseTypeOid),
    }));
  }

  ofFile(row: DiffFileRow): string {
    const hash = createHash('sha1');
    let used = 0;
    for (const { name } of this.#columns) {
      const raw = row.values[row.columns.indexOf(name)];
      if (raw === undefined) throw this.#changed(`lacks column ${name}`);
      used += 1;
      add(hash, raw);
    }
    const isComplete =
      row.columns.length === used ||
      row.columns.every((name) => this.#ignored.has(name) || this.#has(name));
    if (!isComplete) throw this.#changed('has columns that the table has not');
    return hash.digest('base64');
  }

  /** Raw PostgreSQL texts in the order of the columns. */
  ofNode(values: readonly (string | null)[]): string {
    const hash = createHash('sha1');
    this.#columns.forEach(({ format }, i) => {
      const value = values[i] ?? null;
      add(hash, value === null ? 'null' : format(value));
    });
    return hash.digest('base64');
  }

  #has(name: string): boolean {
    return this.#columns.some((column) => column.name === name);
  }

  #changed(what: string): AcedError {
    return new AcedError('BAD_DIFF_FILE', `a row in ${this.#path} ${what}`, {
      hint: 'The table has changed since the diff was made: run the diff again.',
    });
  }
}

function add(hash: ReturnType<typeof createHash>, raw: string): void {
  // Lengths keep neighbours apart; NULL is not the text `null`.
  const text = raw === 'null' ? null : textOfJson(raw);
  hash.update(text === null ? 'n' : `${text.length}:${text}`);
}
