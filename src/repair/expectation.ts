import { createHash } from 'node:crypto';
import { AcedError } from '../base/errors.js';
import type { KeyText } from '../table/table-spec.js';
import { keyTextsOf, textOfJson, type DiffFileRow } from '../diff-file/file-row.js';
import { readDiffRows } from '../diff-file/diff-reader.js';
import { jsonFormatter, type JsonFormatter } from '../diff-file/json-value.js';
import { DigestList, TextList, type ProofList } from './proof-list.js';
import type { ReportColumn } from '../diff-file/row-text.js';

/** What the diff saw of one key. */
export interface Expectation {
  /** Its number in the pair. */
  readonly place: number;
  readonly key: KeyText;
  /** Proof of the target's row: its digest (signed decimal) or a hash of its values. null: no row. */
  readonly target: string | null;
  /** The same of the source's row. */
  readonly source: string | null;
}

/** The keys of one pair, seen from one of its nodes. */
export interface ExpectedRows {
  readonly size: number;
  entries(): Iterable<Expectation>;
}

/** The same keys with the nodes' parts exchanged. */
export function swapped(rows: ExpectedRows): ExpectedRows {
  return {
    size: rows.size,
    *entries() {
      for (const { place, key, source, target } of rows.entries()) {
        yield { place, key, source: target, target: source };
      }
    },
  };
}

/** Only those that something is said of. */
export function chosen(rows: ExpectedRows, places: ReadonlyMap<number, unknown>): ExpectedRows {
  return {
    size: places.size,
    *entries() {
      for (const row of rows.entries()) if (places.has(row.place)) yield row;
    },
  };
}

/** In parts of so many rows, the last one smaller. */
export function* inParts(
  rows: Iterable<Expectation>,
  size: number,
): Generator<readonly Expectation[]> {
  let part: Expectation[] = [];
  for (const row of rows) {
    part.push(row);
    if (part.length < size) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}

export interface ExpectationOptions {
  readonly path: string;
  /** The key's columns, in the order of the table's key. */
  readonly keyColumns: readonly string[];
  /** Null: the file's digests can be compared with ours. Else a hash stands for the row's values. */
  readonly values: ValueHasher | null;
}

/**
 * The keys of one pair, each with what the diff saw on both sides. Lists of short strings: a file
 * may hold a million rows, whose values stay on disk.
 */
export class Expectations {
  readonly #options: ExpectationOptions;
  readonly #keys: string[] = [];
  /** The digests of the file, or hashes of the rows' values. */
  readonly #targets: ProofList;
  readonly #sources: ProofList;
  #isSourceSide: boolean | null = null;
  /** How often rows of the other side have begun, the first of all included. */
  #turns = 0;
  /** Where the next key is if both sides have the same keys in the same order. */
  #nextPlace = 0;
  /** Key -> its index, from where the sides turn out to differ until there are no more rows. */
  #places: Map<string, number> | null = null;
  /** Places of targets' keys that are told at the source's spelling. */
  readonly #joined = new Set<number>();
  #isSealed = false;

  constructor(options: ExpectationOptions) {
    this.#options = options;
    const isByDigest = options.values === null;
    this.#targets = isByDigest ? new DigestList() : new TextList();
    this.#sources = isByDigest ? new DigestList() : new TextList();
  }

  /** Reads them from the file. Errors: BAD_DIFF_FILE. */
  static async read(
    options: ExpectationOptions & {
      readonly pair: string;
      readonly source: string;
      readonly target: string;
    },
  ): Promise<Expectations> {
    const { path, pair, source, target, keyColumns, values } = options;
    const expectations = new Expectations(options);
    const columns = values === null ? { columns: keyColumns } : {};
    for await (const { node, rows } of readDiffRows(path, { pairs: [pair], ...columns })) {
      if (node === source || node === target) expectations.add(rows, node === source);
    }
    expectations.seal();
    return expectations;
  }

  /** Errors: BAD_DIFF_FILE for rows that lack what a repair needs; RangeError once sealed. */
  add(rows: readonly DiffFileRow[], areSource: boolean): void {
    if (this.#isSealed) throw new RangeError('rows after the pair has ended');
    const { keyColumns, path, values } = this.#options;
    if (areSource !== this.#isSourceSide) {
      this.#isSourceSide = areSource;
      this.#turns += 1;
      this.#nextPlace = 0;
    }
    for (const row of rows) {
      const place = this.#placeOf(idOf(keyTextsOf(row, keyColumns, path)));
      const proofs = areSource ? this.#sources : this.#targets;
      proofs.set(place, proofOf(row, values, path));
    }
  }

  /** There are no more rows: frees what only matching them needed. */
  seal(): void {
    this.#isSealed = true;
    this.#places = null;
  }

  /** The place of the other side's row of this key, or a new one. */
  #placeOf(key: string): number {
    const known = this.#turns < 2 ? undefined : this.#find(key);
    const place = known ?? this.#keys.length;
    if (known === undefined) {
      this.#places?.set(key, place);
      this.#keys.push(key);
    }
    this.#nextPlace = place + 1;
    return place;
  }

  #find(key: string): number | undefined {
    if (this.#keys[this.#nextPlace] === key) return this.#nextPlace;
    this.#places ??= new Map(this.#keys.map((known, place) => [known, place]));
    return this.#places.get(key);
  }

  get size(): number {
    return this.#keys.length - this.#joined.size;
  }

  /** Keys that only one side of the file has, each with its place. */
  oneSided(): Record<'sources' | 'targets', { place: number; key: KeyText }[]> {
    const sources: { place: number; key: KeyText }[] = [];
    const targets: { place: number; key: KeyText }[] = [];
    for (const [place, id] of this.#keys.entries()) {
      const isSource = this.#sources.has(place);
      if (isSource === this.#targets.has(place)) continue;
      (isSource ? sources : targets).push({ place, key: this.#keyText(id) });
    }
    return { sources, targets };
  }

  /** The source's key at `source` and the target's at `target` are one key. */
  join(source: number, target: number): void {
    this.#targets.copy(target, source);
    this.#joined.add(target);
  }

  #keyText(id: string): KeyText {
    return this.#options.keyColumns.length === 1 ? [id] : (JSON.parse(id) as string[]);
  }

  /** In the order of the file. */
  *entries(): Generator<Expectation> {
    for (const [place, id] of this.#keys.entries()) {
      if (this.#joined.has(place)) continue;
      yield {
        place,
        key: this.#keyText(id),
        target: this.#targets.get(place),
        source: this.#sources.get(place),
      };
    }
  }
}

/** Keys are held as this: of one column by far most often. */
function idOf(key: KeyText): string {
  return key.length === 1 ? (key[0] ?? '') : JSON.stringify(key);
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
    if (!isComplete) throw this.#changed('has columns that the table does not have');
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
