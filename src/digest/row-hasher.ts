import { COLUMN_NULL, COLUMN_TEXT, type Tuple } from '../pgoutput/message.js';
import { hashBytesExtended } from './hash.js';
import {
  nativeAddon,
  SHARED_FIRST_RANGE,
  SHARED_NULL_START,
  SHARED_RESULT_HIGH,
  SHARED_RESULT_LOW,
  type NativeAddon,
  type NativeHasher,
} from '../base/native.js';
import { numericTextEnd, trimNumericText } from './numeric-text.js';
import type { DigestSeed, TextForm } from './digest-column.js';

export interface HashColumn {
  /** Place of the column in the tuples of the stream. */
  readonly tupleIndex: number;
  readonly textForm: TextForm;
}

export interface RowHasher {
  readonly implementation: 'native' | 'javascript';
  /**
   * Digest of the tuple's columns into out[0] (low 32 bits) and out[1] (high 32 bits), as int32.
   * False: a column is unchanged TOAST, or the tuple has too few columns; `out` is unspecified.
   */
  hash(tuple: Tuple, out: Int32Array): boolean;
}

/**
 * Makes the stream's form of the row digest: h = seed, then h = hashtextextended(text, h) over the
 * columns, with the seed's token in the place of NULL. digestExpression is the SQL form.
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
 * bits as a signed bigint: BigInt.asIntN(64, digest)).
 *
 * @param textForms of the columns in digest order; `values` likewise, null is SQL NULL
 */
export function hashTexts(
  seed: DigestSeed,
  textForms: readonly TextForm[],
  values: readonly (string | null)[],
): bigint {
  if (textForms.length !== values.length) {
    throw new RangeError(`${values.length} values for ${textForms.length} columns`);
  }
  const state = seedWords(seed);
  values.forEach((value, i) => {
    const text =
      value === null ? seed.nullToken : textForms[i] === 'numeric' ? trimNumericText(value) : value;
    const bytes = Buffer.from(text, 'utf8');
    hashBytesExtended(bytes, 0, bytes.length, state[0] ?? 0, state[1] ?? 0, state);
  });
  return digestToBigInt(state[0] ?? 0, state[1] ?? 0);
}

/** The two halves of a digest as one unsigned 64-bit number. */
export function digestToBigInt(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** What both forms need of the columns, as typed arrays for the hot loop. */
interface ColumnTable {
  readonly indexes: Int32Array;
  readonly isNumeric: Uint8Array;
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
    isNumeric: Uint8Array.from(columns, (column) => (column.textForm === 'numeric' ? 1 : 0)),
    requiredColumns: columns.reduce((max, column) => Math.max(max, column.tupleIndex + 1), 0),
  };
}

function seedWords(seed: DigestSeed): Int32Array {
  return Int32Array.of(
    Number(BigInt.asIntN(32, seed.seed)),
    Number(BigInt.asIntN(32, seed.seed >> 32n)),
  );
}

class JavaScriptRowHasher implements RowHasher {
  readonly implementation = 'javascript';
  readonly #table: ColumnTable;
  readonly #seedLow: number;
  readonly #seedHigh: number;
  readonly #nullToken: Buffer;

  constructor(seed: DigestSeed, columns: readonly HashColumn[]) {
    const words = seedWords(seed);
    this.#table = columnTable(columns);
    this.#seedLow = words[0] ?? 0;
    this.#seedHigh = words[1] ?? 0;
    this.#nullToken = Buffer.from(seed.nullToken, 'utf8');
  }

  hash(tuple: Tuple, out: Int32Array): boolean {
    const { indexes, isNumeric, requiredColumns } = this.#table;
    if (tuple.columnCount < requiredColumns) return false;
    const { buffer, kinds, starts, ends } = tuple;
    const token = this.#nullToken;
    out[0] = this.#seedLow;
    out[1] = this.#seedHigh;
    for (let i = 0; i < indexes.length; i++) {
      const index = indexes[i] ?? 0;
      const kind = kinds[index];
      const low = out[0];
      const high = out[1];
      if (kind === COLUMN_TEXT) {
        const start = starts[index] ?? 0;
        let end = ends[index] ?? 0;
        if (start < 0 || end < start || end > buffer.length) {
          throw new RangeError('row hasher: a column lies outside the buffer');
        }
        if (isNumeric[i] === 1) end = numericTextEnd(buffer, start, end);
        hashBytesExtended(buffer, start, end, low, high, out);
      } else if (kind === COLUMN_NULL) {
        hashBytesExtended(token, 0, token.length, low, high, out);
      } else {
        return false;
      }
    }
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
    const hasher = addon.createHasher(words[0] ?? 0, words[1] ?? 0, token, columns.length);
    this.#shared = hasher.shared;
    this.#hash = hasher.hash;
  }

  hash(tuple: Tuple, out: Int32Array): boolean {
    const { indexes, isNumeric, requiredColumns } = this.#table;
    if (tuple.columnCount < requiredColumns) return false;
    const { buffer, kinds, starts, ends } = tuple;
    const shared = this.#shared;
    let at = SHARED_FIRST_RANGE;
    for (let i = 0; i < indexes.length; i++) {
      const index = indexes[i] ?? 0;
      const kind = kinds[index];
      if (kind === COLUMN_TEXT) {
        const start = starts[index] ?? 0;
        const end = ends[index] ?? 0;
        // A start of -1 would be read as NULL; the addon refuses every other one below 0.
        shared[at] = start === SHARED_NULL_START ? start - 1 : start;
        shared[at + 1] = isNumeric[i] === 1 ? numericTextEnd(buffer, start, end) : end;
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
    return true;
  }
}
