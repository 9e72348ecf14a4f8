import { open, rm, type FileHandle } from 'node:fs/promises';
import { AcedError, errorMessage } from '../base/errors.js';

/** Bytes collected before one write. */
const CHUNK_BYTES = 256 * 1024;
/** Room for the text that fills a chunk; a longer one gets a buffer of its size. */
const BUFFER_BYTES = CHUNK_BYTES + 64 * 1024;
/** UTF-8 takes so many bytes at most for a UTF-16 unit. */
const MAX_BYTES_PER_UNIT = 3;
const COPY_BYTES = 1024 * 1024;

/** A file that is written from start to end in large pieces. Errors: REPORT_WRITE. */
export class OutputFile {
  readonly path: string;
  readonly #handle: FileHandle;
  // Bytes rather than text: V8 would keep every piece of a text that is still being put together.
  #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #length = 0;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  /** Fails when the file exists. */
  static async create(path: string): Promise<OutputFile> {
    return new OutputFile(path, await writing(path, () => open(path, 'wx', 0o644)));
  }

  /** The text is in the file after the next flush; flush when `isFull`. */
  append(text: string): void {
    const free = this.#buffer.length - this.#length;
    if (free < text.length * MAX_BYTES_PER_UNIT) {
      const needed = Buffer.byteLength(text);
      if (free < needed) this.#enlarge(this.#length + needed);
    }
    this.#length += this.#buffer.write(text, this.#length);
  }

  get isFull(): boolean {
    return this.#length >= CHUNK_BYTES;
  }

  /** Waits until the disk has taken everything appended so far. Nothing may be appended meanwhile. */
  async flush(): Promise<void> {
    if (this.#length === 0) return;
    await this.writeBytes(this.#buffer.subarray(0, this.#length));
    this.#length = 0;
    if (this.#buffer.length > BUFFER_BYTES) this.#buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  }

  /** What was appended before must have been flushed. */
  async writeBytes(bytes: Uint8Array): Promise<void> {
    let offset = 0;
    while (offset < bytes.length) {
      const start = offset;
      const { bytesWritten } = await writing(this.path, () =>
        this.#handle.write(bytes, start, bytes.length - start),
      );
      offset += bytesWritten;
    }
  }

  /** Moves the content of another file here: that file is removed. */
  async appendFile(other: OutputFile): Promise<void> {
    await this.flush();
    await other.flush();
    await other.close();
    const input = await writing(other.path, () => open(other.path, 'r'));
    try {
      const buffer = Buffer.allocUnsafe(COPY_BYTES);
      for (;;) {
        const { bytesRead } = await writing(other.path, () =>
          input.read(buffer, 0, buffer.length, null),
        );
        if (bytesRead === 0) break;
        await this.writeBytes(buffer.subarray(0, bytesRead));
      }
    } finally {
      await input.close();
    }
    await writing(other.path, () => rm(other.path));
  }

  /** Flushes, waits for the disk itself and closes. */
  async finish(): Promise<void> {
    await this.flush();
    await writing(this.path, () => this.#handle.sync());
    await writing(this.path, () => this.#handle.close());
  }

  async close(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
  }

  #enlarge(bytes: number): void {
    const larger = Buffer.allocUnsafe(Math.max(bytes, 2 * this.#buffer.length));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}

const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'Free space on that file system, or run the command in a directory that has more.',
  EDQUOT: 'Free space within your quota, or run the command in another directory.',
  EACCES: 'Run the command in a directory that you may write to.',
  EROFS: 'Run the command in a directory that can be written to.',
  ENOENT: 'Create the directory first, or run the command in another one.',
};

/** Runs an operation on a file of ours; its failure becomes REPORT_WRITE, naming the path. */
export async function writing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AcedError) throw error;
    const code = error instanceof Error && 'code' in error ? String(error.code) : '';
    throw new AcedError('REPORT_WRITE', `cannot write ${path}: ${errorMessage(error)}`, {
      hint: HINTS[code] ?? 'Check the directory and its file system, then run the command again.',
      cause: error,
    });
  }
}
