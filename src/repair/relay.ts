import { once } from 'node:events';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { toAcedError } from '../postgres/connect-error.js';
import type { Session } from '../postgres/session.js';

/** So much of the source's rows waits for the target; then the source waits. */
const READ_AHEAD_BYTES = 4 * 1024 * 1024;

/**
 * Moves the rows of a COPY TO STDOUT into a COPY FROM STDIN on another node, as the bytes that they
 * are. The source begins at once, so that it reads while the target still writes something else.
 */
export class CopyRelay {
  readonly #source: Session;
  readonly #buffer: Transform;
  readonly #reading: Promise<void>;
  #bytes = 0;

  /** The source must be idle, and is busy until `into` or `discard` resolves. */
  constructor(source: Session, sql: string) {
    this.#source = source;
    this.#buffer = new Transform({
      readableHighWaterMark: READ_AHEAD_BYTES,
      transform: (chunk: Buffer, _encoding, done) => {
        this.#bytes += chunk.length;
        done(null, chunk);
      },
    });
    this.#reading = this.#read(sql);
    // Perhaps nobody asks for these rows any more, because something else has failed.
    this.#reading.catch(() => undefined);
    this.#buffer.on('error', () => undefined);
  }

  /**
   * Returns the number of bytes. The target must be in a transaction; after an error both sessions
   * are given up.
   */
  async into(target: Session, sql: string): Promise<number> {
    const input = target.client.query(copyFrom(sql));
    try {
      await pipeline(this.#buffer, input);
      await this.#reading;
      return this.#bytes;
    } catch (error) {
      // Half a COPY cannot be ended politely from here; the server rolls both back.
      this.cancel();
      target.destroy();
      throw toAcedError(error, target.node, 'copying rows from the source of truth');
    }
  }

  /** Lets the source end what nobody wants any more. */
  async discard(): Promise<void> {
    this.#buffer.resume();
    await this.#reading;
  }

  /** Gives the rows up, and the source's session with them. */
  cancel(): void {
    this.#buffer.destroy();
    this.#source.destroy();
  }

  async #read(sql: string): Promise<void> {
    const { client } = this.#source;
    try {
      // By index, whatever the statistics say: a batch is small and the table may be large.
      await this.#source.query(
        'BEGIN READ ONLY; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off',
      );
      const output = client.query(copyTo(sql));
      // The stream ends before the server says that it is ready for the next query.
      const isReady = once(client, 'drain');
      isReady.catch(() => undefined);
      await pipeline(output, this.#buffer);
      await isReady;
      await this.#source.query('COMMIT');
    } catch (error) {
      const known = toAcedError(error, this.#source.node, 'reading rows of the source of truth');
      this.#buffer.destroy(known);
      throw known;
    }
  }
}
