import { once } from 'node:events';
import { to as copyTo } from 'pg-copy-streams';
import { throwIfAborted } from '../base/abort.js';
import { toAcedError } from '../postgres/connect-error.js';
import type { Session } from '../postgres/session.js';

// https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": a signature of 11 bytes,
// flags, the length of an extension of the header.
const EXTENSION_LENGTH_AT = 15;
const HEADER_BYTES = 19;
const END_OF_ROWS = -1;
const NULL_LENGTH = -1;

/** An array's header: dimensions, flags, element type, length, lower bound; int32 each. */
const ARRAY_HEADER_BYTES = 20;
const INTEGER_BYTES = 8;

/** Rows of a COPY TO STDOUT (FORMAT binary), each a list of fields. The session must be in a transaction. */
export async function copyRows(
  session: Session,
  sql: string,
  signal: AbortSignal,
): Promise<(Buffer | null)[][]> {
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
  return rowsOfCopy(Buffer.concat(chunks));
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

/** Of an int4[] without NULLs, in its binary form. */
export function integersOf(array: Buffer): number[] {
  const integers: number[] = [];
  // Each element has its length, 4, before it.
  for (let at = ARRAY_HEADER_BYTES + 4; at < array.length; at += INTEGER_BYTES) {
    integers.push(array.readInt32BE(at));
  }
  return integers;
}
