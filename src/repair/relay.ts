import { once } from 'node:events';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { toAcedError } from '../postgres/connect-error.js';
import type { Session } from '../postgres/session.js';

/**
 * Moves the rows of a COPY TO STDOUT into a COPY FROM STDIN on another node, as the bytes that they
 * are. Returns their number of bytes. Both sessions must be idle or in a transaction, and are so
 * afterwards; after an error their transactions must be rolled back.
 */
export async function relayCopy(
  source: { readonly session: Session; readonly sql: string },
  target: { readonly session: Session; readonly sql: string },
): Promise<number> {
  let bytes = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  const output = source.session.client.query(copyTo(source.sql));
  // The stream ends before the server says that it is ready for the next query.
  const isSourceReady = once(source.session.client, 'drain');
  isSourceReady.catch(() => undefined);
  const input = target.session.client.query(copyFrom(target.sql));
  try {
    await pipeline(output, counter, input);
    await isSourceReady;
    return bytes;
  } catch (error) {
    // Half a COPY cannot be ended politely from here; the server rolls both back.
    source.session.destroy();
    target.session.destroy();
    throw toAcedError(error, target.session.node, 'copying rows from the source of truth');
  }
}
