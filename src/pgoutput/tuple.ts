import { COLUMN_NULL, COLUMN_TEXT, COLUMN_UNCHANGED, type Tuple } from './message.js';

const NO_BYTES = Buffer.alloc(0);
const INITIAL_COLUMNS = 32;

export function createTuple(): Tuple {
  return {
    buffer: NO_BYTES,
    columnCount: 0,
    kinds: new Uint8Array(INITIAL_COLUMNS),
    starts: new Int32Array(INITIAL_COLUMNS),
    ends: new Int32Array(INITIAL_COLUMNS),
  };
}

/** Makes room for `columnCount` columns; what the arrays held before is lost. */
export function growTuple(tuple: Tuple, columnCount: number): void {
  if (columnCount <= tuple.kinds.length) return;
  const size = Math.max(columnCount, tuple.kinds.length * 2);
  tuple.kinds = new Uint8Array(size);
  tuple.starts = new Int32Array(size);
  tuple.ends = new Int32Array(size);
}

/**
 * The text of column `index`: a string, null for SQL NULL, undefined for an unchanged TOAST value
 * that the server did not send. Throws a RangeError beyond the tuple's columns.
 */
export function tupleText(tuple: Tuple, index: number): string | null | undefined {
  const kind = index < tuple.columnCount ? tuple.kinds[index] : undefined;
  switch (kind) {
    case COLUMN_TEXT:
      return tuple.buffer.toString('utf8', tuple.starts[index], tuple.ends[index]);
    case COLUMN_NULL:
      return null;
    case COLUMN_UNCHANGED:
      return undefined;
    case undefined:
    default:
      throw new RangeError(`no column ${index} in a tuple of ${tuple.columnCount}`);
  }
}
