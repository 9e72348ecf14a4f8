import { COLUMN_NULL, COLUMN_TEXT, type Tuple } from '../pgoutput/message.js';
import { hashBytesExtended } from './hash.js';
import {
  nativeAddon,
  SHARED_FIRST_RANGE,
  SHARED_NULL_START,
  SHARED_RESULT_HIGH,
  SHARED_RESULT_LOW,
  SHARED_STATUS,
  type NativeAddon,
  type NativeHasher,
} from '../base/native.js';
import { numericTextEnd } from './numeric-text.js';
import type { DigestSeed, HashForm } from './digest-column.js';
import { isValueForm, MARKS_PER_WORD, nativeForm, nextRun, runWord } from './value-form.js';
import { hashValue, hashWord, UNREADABLE, type TextRange } from './value-hash.js';

export interface HashColumn {
  /** Place of the column in the tuples of the stream. */
  readonly tupleIndex: number;
  readonly form: HashForm;
}

export interface RowHasher {
  readonly implementation: 'native' | 'javascript';
  /**
   * Digest of the tuple's columns into out[0] (low 32 bits) and out[1] (high 32 bits), as int32.
   * False: a column is unchanged TOAST or no text of its type, or the tuple has too few columns;
   * `out` is unspecified.
   */
  hash(tuple: Tuple, out: Int32Array): boolean;
}

/**
 * Makes the stream's form of the row digest: h = seed, then h = hash(value or text, h) over the
 * columns, with the seed's token in the place of a text that is NULL, and last the marks of the values.
 * digestExpression is the SQL form.
 *
 * @param columns in digest order
 * @param implementation forces one; by default the addon where there is one. Asking for `native`
 *   where the addon is not available is an Error.
 */
export function createRowHasher(
  seed: DigestSeed,
  columns: readonly HashColumn[],
  implementation?: 'native' | 'javascript',
): RowHasher {
  const addon = implementation === 'javascript' ? null : nativeAddon();
  if (addon !== null) return new NativeRowHasher(addon, seed, columns);
  if (implementation === 'native') throw new Error('the native row hasher is not available');
  return new JavaScriptRowHasher(seed, columns);
}

/**
 * The digest of values given as text, for what is not hot; unsigned 64 bits (SQL shows the same
 * bits as a signed bigint: BigInt.asIntN(64, digest)). RangeError: a text is none of its type.
 *
 * @param forms of the columns in digest order; `values` likewise, null is SQL NULL
 */
export function hashTexts(
  seed: DigestSeed,
  forms: readonly HashForm[],
  values: readonly (string | null)[],
): bigint {
  if (forms.length !== values.length) {
    throw new RangeError(`${values.length} values for ${forms.length} columns`);
  }
  const chain = new HashChain(Buffer.from(seed.nullToken, 'utf8'));
  const state = seedWords(seed);
  chain.begin();
  values.forEach((value, i) => {
    const bytes = Buffer.from(value ?? '', 'utf8');
    const end = value === null ? -1 : bytes.length;
    const form = forms[i] ?? 'plain';
    if (!chain.add(form, { bytes, start: value === null ? -1 : 0, end }, state)) {
      throw new RangeError(`value ${i} is not a text of form ${form}`);
    }
  });
  chain.end(state);
  return digestToBigInt(state[0] ?? 0, state[1] ?? 0);
}

/** The two halves of a digest as one unsigned 64-bit number. */
export function digestToBigInt(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** What both forms need of the columns, as typed arrays for the hot loop. */
interface ColumnTable {
  readonly indexes: Int32Array;
  readonly forms: readonly HashForm[];
  /** The smallest column count that a tuple can have. */
  readonly requiredColumns: number;
}

function columnTable(columns: readonly HashColumn[]): ColumnTable {
  for (const { tupleIndex } of columns) {
    if (!Number.isInteger(tupleIndex) || tupleIndex < 0) {
      throw new RangeError(`no place in a tuple: ${tupleIndex}`);
    }
  }
  return {
    indexes: Int32Array.from(columns, (column) => column.tupleIndex),
    forms: columns.map((column) => column.form),
    requiredColumns: columns.reduce((max, column) => Math.max(max, column.tupleIndex + 1), 0),
  };
}

function seedWords(seed: DigestSeed): Int32Array {
  return Int32Array.of(
    Number(BigInt.asIntN(32, seed.seed)),
    Number(BigInt.asIntN(32, seed.seed >> 32n)),
  );
}

/** The columns of one row after the other, and the marks of those that are hashed by value. */
class HashChain {
  readonly #token: Buffer;
  readonly #words: number[] = [];
  #marks = 0;
  #run = 0;

  constructor(token: Buffer) {
    this.#token = token;
  }

  begin(): void {
    this.#marks = 0;
    this.#run = 0;
  }

  /** False: no text of the form; `state` is unspecified then. */
  add(form: HashForm, range: TextRange, state: Int32Array): boolean {
    const { bytes, start, end } = range;
    if (form === 'decimal' && this.#run > 0) this.#change(state);
    this.#run = nextRun(form, this.#run);
    if (isValueForm(form)) return this.#mark(hashValue(form, range, state));
    const low = state[0] ?? 0;
    const high = state[1] ?? 0;
    const token = this.#token;
    if (start < 0) hashBytesExtended(token, 0, token.length, low, high, state);
    else {
      const stop = form === 'numeric' ? numericTextEnd(bytes, start, end) : end;
      hashBytesExtended(bytes, start, stop, low, high, state);
    }
    return true;
  }

  end(state: Int32Array): void {
    for (let first = 0; first < this.#marks; first += MARKS_PER_WORD) {
      hashWord(this.#words[first / MARKS_PER_WORD] ?? 0, state);
    }
  }

  #change(state: Int32Array): void {
    const word = runWord(this.#run);
    state[0] = (state[0] ?? 0) ^ Number(BigInt.asIntN(32, word));
    state[1] = (state[1] ?? 0) ^ Number(BigInt.asIntN(32, word >> 32n));
  }

  #mark(mark: number): boolean {
    if (mark === UNREADABLE) return false;
    const word = Math.floor(this.#marks / MARKS_PER_WORD);
    const place = this.#marks % MARKS_PER_WORD;
    this.#words[word] = (place === 0 ? 0 : (this.#words[word] ?? 0)) + mark * 4 ** place;
    this.#marks++;
    return true;
  }
}

class JavaScriptRowHasher implements RowHasher {
  readonly implementation = 'javascript';
  readonly #table: ColumnTable;
  readonly #seedLow: number;
  readonly #seedHigh: number;
  readonly #chain: HashChain;
  readonly #range: { bytes: Uint8Array; start: number; end: number } = {
    ...{ bytes: new Uint8Array(), start: 0, end: 0 },
  };

  constructor(seed: DigestSeed, columns: readonly HashColumn[]) {
    const words = seedWords(seed);
    this.#table = columnTable(columns);
    this.#seedLow = words[0] ?? 0;
    this.#seedHigh = words[1] ?? 0;
    this.#chain = new HashChain(Buffer.from(seed.nullToken, 'utf8'));
  }

  hash(tuple: Tuple, out: Int32Array): boolean {
    const { indexes, forms, requiredColumns } = this.#table;
    if (tuple.columnCount < requiredColumns) return false;
    const { buffer, kinds, starts, ends } = tuple;
    const chain = this.#chain;
    const range = this.#range;
    range.bytes = buffer;
    out[0] = this.#seedLow;
    out[1] = this.#seedHigh;
    chain.begin();
    for (let i = 0; i < indexes.length; i++) {
      const index = indexes[i] ?? 0;
      const kind = kinds[index];
      if (kind === COLUMN_TEXT) {
        range.start = starts[index] ?? 0;
        range.end = ends[index] ?? 0;
        if (range.start < 0 || range.end < range.start || range.end > buffer.length) {
          throw new RangeError('row hasher: a column lies outside the buffer');
        }
      } else if (kind === COLUMN_NULL) range.start = -1;
      else return false;
      if (!chain.add(forms[i] ?? 'plain', range, out)) return false;
    }
    chain.end(out);
    return true;
  }
}

class NativeRowHasher implements RowHasher {
  readonly implementation = 'native';
  readonly #table: ColumnTable;
  readonly #shared: Int32Array;
  readonly #hash: NativeHasher['hash'];

  constructor(addon: NativeAddon, seed: DigestSeed, columns: readonly HashColumn[]) {
    const words = seedWords(seed);
    this.#table = columnTable(columns);
    const token = Buffer.from(seed.nullToken, 'utf8');
    const forms = Buffer.from(columns.map(({ form }) => nativeForm(form)));
    const hasher = addon.createRowHasher(words[0] ?? 0, words[1] ?? 0, token, forms);
    this.#shared = hasher.shared;
    this.#hash = hasher.hash;
  }

  hash(tuple: Tuple, out: Int32Array): boolean {
    const { indexes, requiredColumns } = this.#table;
    if (tuple.columnCount < requiredColumns) return false;
    const { buffer, kinds, starts, ends } = tuple;
    const shared = this.#shared;
    let at = SHARED_FIRST_RANGE;
    for (let i = 0; i < indexes.length; i++) {
      const index = indexes[i] ?? 0;
      const kind = kinds[index];
      if (kind === COLUMN_TEXT) {
        const start = starts[index] ?? 0;
        // A start of -1 would be read as NULL; the addon refuses every other one below 0.
        shared[at] = start === SHARED_NULL_START ? start - 1 : start;
        shared[at + 1] = ends[index] ?? 0;
      } else if (kind === COLUMN_NULL) {
        shared[at] = SHARED_NULL_START;
      } else {
        return false;
      }
      at += 2;
    }
    this.#hash(buffer);
    out[0] = shared[SHARED_RESULT_LOW] ?? 0;
    out[1] = shared[SHARED_RESULT_HIGH] ?? 0;
    return shared[SHARED_STATUS] === 0;
  }
}
