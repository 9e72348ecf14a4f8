import {
  COLUMN_NULL,
  COLUMN_TEXT,
  COLUMN_UNCHANGED,
  type Tuple,
} from '../../src/pgoutput/message.js';

/**
 * A tuple as the decoder hands it out: amid other bytes, its arrays longer than need be.
 * `undefined` stands for unchanged TOAST.
 */
export function tupleOf(values: readonly (string | Buffer | null | undefined)[]): Tuple {
  const pieces: Buffer[] = [Buffer.from('before')];
  let end = 6;
  const tuple: Tuple = {
    buffer: Buffer.alloc(0),
    columnCount: values.length,
    kinds: new Uint8Array(values.length + 3),
    starts: new Int32Array(values.length + 3),
    ends: new Int32Array(values.length + 3),
  };
  values.forEach((value, i) => {
    tuple.starts[i] = end;
    if (value === undefined) tuple.kinds[i] = COLUMN_UNCHANGED;
    else if (value === null) tuple.kinds[i] = COLUMN_NULL;
    else {
      const bytes = typeof value === 'string' ? Buffer.from(value) : value;
      tuple.kinds[i] = COLUMN_TEXT;
      pieces.push(bytes);
      end += bytes.length;
    }
    tuple.ends[i] = end;
  });
  pieces.push(Buffer.from('after'));
  tuple.buffer = Buffer.concat(pieces);
  return tuple;
}
