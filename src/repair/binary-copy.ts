import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { throwIfAborted } from '../base/abort.js';
import { toAcedError } from '../postgres/connect-error.js';
import type { Session } from '../postgres/session.js';

// https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": a signature of 11 bytes,
// flags, the length of an extension of the header.
const EXTENSION_LENGTH_AT = 15;
const HEADER_BYTES = 19;
const END_OF_ROWS = -1;
const NULL_LENGTH = -1;
/** In a row: behind the number of fields and the length of the first. */
const NUMBER_AT = 6;

/** An array's header: dimensions, flags, element type, length, lower bound; int32 each. */
const ARRAY_HEADER_BYTES = 20;
const INTEGER_BYTES = 8;

/** Rows of a COPY TO STDOUT (FORMAT binary), each a list of fields. The session must be in a transaction. */
export async function copyRows(
  session: Session,
  sql: string,
  signal: AbortSignal,
): Promise<(Buffer | null)[][]> {
  return rowsOfCopy(await copyBytes(session, sql, signal));
}

/** Rows as COPY FROM STDIN (FORMAT binary) takes them; each has a number that is ours. */
export interface NumberedTuples {
  readonly numbers: readonly number[];
  readonly bytes: Buffer;
}

/** As copyRows; the first field of each row, an int4, is its number. */
export async function copyTuples(
  session: Session,
  sql: string,
  signal: AbortSignal,
): Promise<NumberedTuples> {
  return withoutNumbers(await copyBytes(session, sql, signal));
}

/** Runs a COPY FROM STDIN; returns how many rows it wrote. Errors: toAcedError's. */
export async function copyInto(session: Session, sql: string, bytes: Buffer): Promise<number> {
  const { client, node } = session;
  const input = client.query(copyFrom(sql));
  // It fails before the server says that it is ready for the next query.
  const done = new AbortController();
  const { signal } = done;
  const isReady = Promise.race([
    once(client, 'drain', { signal }),
    once(client, 'end', { signal }),
  ]);
  isReady.catch(() => undefined);
  input.end(bytes);
  try {
    await finished(input);
    return input.rowCount;
  } catch (error) {
    throw toAcedError(error, node, 'writing rows');
  } finally {
    await isReady.catch(() => undefined);
    done.abort();
  }
}

async function copyBytes(session: Session, sql: string, signal: AbortSignal): Promise<Buffer> {
  throwIfAborted(signal);
  const { client, node } = session;
  const chunks: Buffer[] = [];
  try {
    const output = client.query(copyTo(sql));
    // The stream ends before the server says that it is ready for the next query.
    const isReady = once(client, 'drain');
    isReady.catch(() => undefined);
    for await (const chunk of output) chunks.push(chunk as Buffer);
    await isReady;
  } catch (error) {
    throw toAcedError(error, node, 'reading rows of the source of truth');
  }
  return Buffer.concat(chunks);
}

function rowsOfCopy(bytes: Buffer): (Buffer | null)[][] {
  const rows: (Buffer | null)[][] = [];
  let at = HEADER_BYTES + bytes.readInt32BE(EXTENSION_LENGTH_AT);
  for (;;) {
    const count = bytes.readInt16BE(at);
    at += 2;
    if (count === END_OF_ROWS) return rows;
    const fields: (Buffer | null)[] = [];
    for (let i = 0; i < count; i++) {
      const length = bytes.readInt32BE(at);
      at += 4;
      fields.push(length === NULL_LENGTH ? null : bytes.subarray(at, at + length));
      at += Math.max(0, length);
    }
    rows.push(fields);
  }
}

/** Takes the first field, an int4, out of each row. */
function withoutNumbers(bytes: Buffer): NumberedTuples {
  const numbers: number[] = [];
  const tuples = Buffer.allocUnsafe(bytes.length);
  let at = HEADER_BYTES + bytes.readInt32BE(EXTENSION_LENGTH_AT);
  let end = bytes.copy(tuples, 0, 0, at);
  for (;;) {
    const count = bytes.readInt16BE(at);
    if (count === END_OF_ROWS) break;
    numbers.push(bytes.readInt32BE(at + NUMBER_AT));
    const start = at + NUMBER_AT + 4;
    at = start;
    for (let i = 1; i < count; i++) at += 4 + Math.max(0, bytes.readInt32BE(at));
    end = tuples.writeInt16BE(count - 1, end);
    end += bytes.copy(tuples, end, start, at);
  }
  end = tuples.writeInt16BE(END_OF_ROWS, end);
  return { numbers, bytes: tuples.subarray(0, end) };
}

/** Of an int4[] without NULLs, in its binary form. */
export function integersOf(array: Buffer): number[] {
  const integers: number[] = [];
  // Each element has its length, 4, before it.
  for (let at = ARRAY_HEADER_BYTES + 4; at < array.length; at += INTEGER_BYTES) {
    integers.push(array.readInt32BE(at));
  }
  return integers;
}
