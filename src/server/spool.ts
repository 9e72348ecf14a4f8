import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import type { ReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { AcedError, errorMessage } from '../base/errors.js';

const ID_PREFIX = 'command-';
const INPUT_FILE = 'input';

export interface SpoolOptions {
  readonly directory: string;
  /** How long the files of a finished command wait to be fetched. */
  readonly expiryMs: number;
  readonly maxInputBytes: number;
}

export interface SpooledFile {
  readonly sizeBytes: number;
  readonly stream: ReadStream;
}

interface Offer {
  readonly names: Set<string>;
  readonly timer: NodeJS.Timeout;
}

/** A directory per command for its input and its reports, until they are fetched or expire. */
export class Spool {
  readonly #options: SpoolOptions;
  readonly #offers = new Map<string, Offer>();

  constructor(options: SpoolOptions) {
    this.#options = options;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    // What an earlier process left behind: nobody knows its ids any more.
    for (const name of readdirSync(options.directory)) {
      if (name.startsWith(ID_PREFIX)) this.#removeSync(name);
    }
  }

  /**
   * A new command's id and its own directory, readable by the daemon only. Errors: REPORT_WRITE.
   */
  create(): { id: string; directory: string } {
    const id = `${ID_PREFIX}${randomUUID()}`;
    const directory = this.#pathOf(id);
    try {
      mkdirSync(directory, { mode: 0o700 });
    } catch (error) {
      throw cannotStore(this.#options.directory, error);
    }
    return { id, directory };
  }

  /**
   * Stores the body of a request. Leaves it open on an error, so that its sender can be told.
   * Errors: BAD_DIFF_FILE when it is too large, REPORT_WRITE when it cannot be stored, CANCELLED.
   */
  async receive(id: string, body: Readable, signal: AbortSignal): Promise<string> {
    const path = join(this.#pathOf(id), INPUT_FILE);
    const { maxInputBytes, directory } = this.#options;
    const giveUp = (): void => void body.destroy();
    signal.addEventListener('abort', giveUp);
    let receivedBytes = 0;
    try {
      const file = await open(path, 'wx', 0o600);
      try {
        for await (const chunk of chunksOf(body)) {
          receivedBytes += chunk.length;
          if (receivedBytes > maxInputBytes) throw tooLarge(maxInputBytes);
          await file.appendFile(chunk);
        }
      } finally {
        await file.close();
      }
    } catch (error) {
      if (error instanceof AcedError) throw error;
      if (signal.aborted || body.destroyed) {
        throw new AcedError('CANCELLED', 'the client went away', { cause: error });
      }
      throw cannotStore(directory, error);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
    return path;
  }

  /** Errors: BAD_DIFF_FILE. */
  checkInputSize(sizeBytes: number): void {
    if (sizeBytes > this.#options.maxInputBytes) throw tooLarge(this.#options.maxInputBytes);
  }

  /** From now on the files may be fetched, once each, until the expiry. */
  offer(id: string, names: readonly string[]): void {
    if (names.length === 0) {
      this.discard(id);
      return;
    }
    const timer = setTimeout(() => this.discard(id), this.#options.expiryMs);
    timer.unref();
    this.#offers.set(id, { names: new Set(names), timer });
  }

  /** Undefined: no such file, already fetched, or expired. Only offered names are ever opened. */
  async open(id: string, name: string): Promise<SpooledFile | undefined> {
    const offer = this.#offers.get(id);
    if (offer?.names.has(name) !== true) return undefined;
    // Opened before anything is answered: the file may go while it is being sent.
    const file = await open(join(this.#pathOf(id), name)).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (file === undefined) return undefined;
    const stream = file.createReadStream();
    const { size } = await file.stat();
    return { sizeBytes: size, stream };
  }

  /** The file has arrived. */
  async fetched(id: string, name: string): Promise<void> {
    const offer = this.#offers.get(id);
    if (offer?.names.delete(name) !== true) return;
    if (offer.names.size === 0) this.discard(id);
    else await rm(join(this.#pathOf(id), name), { force: true });
  }

  discard(id: string): void {
    const offer = this.#offers.get(id);
    if (offer !== undefined) clearTimeout(offer.timer);
    this.#offers.delete(id);
    // Left-overs are removed at the next start.
    rm(this.#pathOf(id), { recursive: true, force: true }).catch(() => undefined);
  }

  close(): void {
    for (const { timer } of this.#offers.values()) clearTimeout(timer);
    this.#offers.clear();
    for (const name of readdirSync(this.#options.directory)) {
      if (name.startsWith(ID_PREFIX)) this.#removeSync(name);
    }
  }

  #pathOf(id: string): string {
    return join(this.#options.directory, id);
  }

  #removeSync(name: string): void {
    rmSync(join(this.#options.directory, name), { recursive: true, force: true });
  }
}

function tooLarge(maxBytes: number): AcedError {
  return new AcedError('BAD_DIFF_FILE', `the diff file is larger than ${maxBytes} bytes`, {
    hint: 'Repair in parts: lower max_diff_rows and diff again after each repair.',
  });
}

function cannotStore(directory: string, error: unknown): AcedError {
  return new AcedError(
    'REPORT_WRITE',
    `cannot store files in ${directory}: ${errorMessage(error)}`,
    {
      hint: 'Make room in the state directory of aced, and check its permissions.',
      cause: error,
    },
  );
}

/** Leaving the loop early must not close the connection that the answer goes out on. */
function chunksOf(body: Readable): AsyncIterable<Buffer> {
  return body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
}
