import { open, type FileHandle } from 'node:fs/promises';
import { AcedError, errorMessage } from '../base/errors.js';
import { INCOMPLETE, JsonSyntaxError, skipBlanks, skipString, skipValue } from './json-scan.js';

const WINDOW_BYTES = 2 * 1024 * 1024;
const BYTE_ORDER_MARK = Buffer.from('\ufeff');
const COMMA = 0x2c;

export const BAD_FILE_HINT =
  'Give a file that table-diff or mtree table-diff wrote; if it was copied, copy it again, else run the diff again.';

/** Takes the position of a value in the bytes; returns its end, or INCOMPLETE. */
type Scan = (bytes: Buffer, start: number) => number;

/**
 * A JSON file of which only a window is in memory: the current value must fit, nothing else.
 * Errors: BAD_DIFF_FILE, naming the file and what is wrong.
 */
export class JsonStream {
  readonly path: string;
  readonly #handle: FileHandle;
  #window = Buffer.allocUnsafe(WINDOW_BYTES);
  /** The part of the window that has been read. */
  #bytes = this.#window.subarray(0, 0);
  #position = 0;
  #discarded = 0;
  #hasEnded = false;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  static async open(path: string): Promise<JsonStream> {
    try {
      return new JsonStream(path, await open(path, 'r'));
    } catch (error) {
      throw new AcedError('BAD_DIFF_FILE', `cannot read ${path}: ${errorMessage(error)}`, {
        hint: 'Check the name of the file; diff files are written to the directory of the command.',
        cause: error,
      });
    }
  }

  /** From the start of the file. */
  get bytesRead(): number {
    return this.#discarded + this.#bytes.length;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  /** The next character that is no blank, one byte of it beyond ASCII; '' at the end of the file. */
  async peek(): Promise<string> {
    for (;;) {
      this.#position = skipBlanks(this.#bytes, this.#position);
      const code = this.#bytes[this.#position];
      if (code !== undefined) return String.fromCharCode(code);
      if (!(await this.#readMore())) return '';
    }
  }

  async expect(character: string): Promise<void> {
    const found = await this.peek();
    if (found !== character) throw this.failure(`${character} is expected`, found === '');
    this.#position += 1;
  }

  /** Takes the character if it is next. */
  async accept(character: string): Promise<boolean> {
    if ((await this.peek()) !== character) return false;
    this.#position += 1;
    return true;
  }

  async string(): Promise<string> {
    if ((await this.peek()) !== '"') throw this.failure('a name is expected');
    const raw = await this.#take(skipString);
    try {
      return JSON.parse(raw) as string;
    } catch {
      throw this.failure('a name is not a JSON string');
    }
  }

  /** Reads a value and returns it as it stands in the file. */
  async value(): Promise<string> {
    await this.peek();
    return this.#take(skipValue);
  }

  /** Walks over a value; unlike `value` it may be larger than memory when it is an object or array. */
  async skip(): Promise<void> {
    const first = await this.peek();
    if (first !== '{' && first !== '[') {
      await this.value();
      return;
    }
    await this.eachElement(async () => {
      if (first === '{') {
        await this.string();
        await this.expect(':');
      }
      await this.skip();
    });
  }

  /** Calls `work` at the start of each member's name, or each element, of the object or array. */
  async eachElement(work: () => Promise<void>): Promise<void> {
    const isObject = await this.accept('{');
    if (!isObject) await this.expect('[');
    const end = isObject ? '}' : ']';
    if (await this.accept(end)) return;
    do {
      await work();
    } while (await this.accept(','));
    await this.expect(end);
  }

  /**
   * Consumes as many elements of an array as are in memory, one at least. `scan` gets the bytes and
   * the position of an element and returns its end or INCOMPLETE. False: the array has ended and its
   * bracket is taken. The stream must be behind the opening bracket or where the previous call left it.
   */
  async scanElements(isFirst: boolean, scan: Scan): Promise<boolean> {
    if (await this.accept(']')) return false;
    if (!isFirst) await this.expect(',');
    await this.peek();
    this.#position = await this.#endOf(scan);
    for (;;) {
      const comma = skipBlanks(this.#bytes, this.#position);
      // What is no comma is for the next call to judge.
      if (this.#bytes[comma] !== COMMA) return true;
      const start = skipBlanks(this.#bytes, comma + 1);
      const end = start < this.#bytes.length ? this.#scan(scan, start) : INCOMPLETE;
      if (end === INCOMPLETE) return true;
      this.#position = end;
    }
  }

  failure(what: string, isTruncated = false): AcedError {
    const where = `near byte ${this.#discarded + this.#position}`;
    const message = isTruncated
      ? `${this.path} is cut off: it ends in the middle of the JSON`
      : `${this.path} is not a diff file: ${what} ${where}`;
    return new AcedError('BAD_DIFF_FILE', message, { hint: BAD_FILE_HINT });
  }

  async #take(scan: Scan): Promise<string> {
    const end = await this.#endOf(scan);
    const raw = this.#bytes.toString('utf8', this.#position, end);
    this.#position = end;
    return raw;
  }

  /** Where the value ends by a scan function, reading on until it is complete. */
  async #endOf(scan: Scan): Promise<number> {
    for (;;) {
      const isAny = this.#position < this.#bytes.length;
      const end = isAny ? this.#scan(scan, this.#position) : INCOMPLETE;
      if (end !== INCOMPLETE) return end;
      if (!(await this.#readMore())) throw this.failure('', true);
    }
  }

  #scan(scan: Scan, start: number): number {
    try {
      return scan(this.#bytes, start);
    } catch (error) {
      // JSON.parse's own, about an escape that is none.
      if (error instanceof SyntaxError) throw this.failure('a string is not JSON');
      if (!(error instanceof JsonSyntaxError)) throw error;
      this.#position = error.position;
      throw this.failure(error.message);
    }
  }

  async #readMore(): Promise<boolean> {
    if (this.#hasEnded) return false;
    const isStart = this.#discarded === 0 && this.#bytes.length === 0;
    const rest = this.#bytes.subarray(this.#position);
    // A value larger than the window is scanned again from its start: growing keeps that linear.
    if (rest.length > this.#window.length / 2) this.#window = Buffer.allocUnsafe(2 * rest.length);
    this.#window.set(rest);
    const bytesRead = await this.#read(rest.length);
    this.#hasEnded = bytesRead === 0;
    this.#discarded += this.#position;
    this.#bytes = this.#window.subarray(0, rest.length + bytesRead);
    const hasMark = isStart && BYTE_ORDER_MARK.equals(this.#bytes.subarray(0, 3));
    this.#position = hasMark ? BYTE_ORDER_MARK.length : 0;
    return !this.#hasEnded;
  }

  async #read(offset: number): Promise<number> {
    try {
      const length = this.#window.length - offset;
      return (await this.#handle.read(this.#window, offset, length, null)).bytesRead;
    } catch (error) {
      throw new AcedError('BAD_DIFF_FILE', `cannot read ${this.path}: ${errorMessage(error)}`, {
        hint: 'Check that it is a file that you may read.',
        cause: error,
      });
    }
  }
}
