import { open, type FileHandle } from 'node:fs/promises';
import { AcedError, errorMessage } from '../base/errors.js';
import { INCOMPLETE, JsonSyntaxError, skipBlanks, skipString, skipValue } from './json-scan.js';

const CHUNK_BYTES = 1024 * 1024;

export const BAD_FILE_HINT =
  'Give a file that table-diff or mtree table-diff wrote; if it was copied, copy it again, else run the diff again.';

/**
 * A JSON file of which only a window is in memory: the current value must fit, nothing else.
 * Errors: BAD_DIFF_FILE, naming the file and what is wrong.
 */
export class JsonStream {
  readonly path: string;
  readonly #handle: FileHandle;
  #bytes = Buffer.allocUnsafe(2 * CHUNK_BYTES);
  /** The first bytes of a character whose rest has not been read. */
  #splitCharacter: Buffer = Buffer.alloc(0);
  #text = '';
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

  async close(): Promise<void> {
    await this.#handle.close();
  }

  /** The next character that is no blank; '' at the end of the file. */
  async peek(): Promise<string> {
    for (;;) {
      this.#position = skipBlanks(this.#text, this.#position);
      if (this.#position < this.#text.length) return this.#text.charAt(this.#position);
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
    const raw = await this.take((text, start) => skipString(text, start));
    try {
      return JSON.parse(raw) as string;
    } catch {
      throw this.failure('a name is not a JSON string');
    }
  }

  /** Reads a value and returns it as it stands in the file. */
  async value(): Promise<string> {
    await this.peek();
    return this.take(skipValue);
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
   * Consumes as many elements of an array as are in memory. `scan` gets text and position of an
   * element and returns its end or INCOMPLETE. False: the array has ended and its bracket is taken.
   * The stream must be behind the opening bracket or where the previous call left it.
   */
  async scanElements(
    isFirst: boolean,
    scan: (text: string, start: number) => number,
  ): Promise<boolean> {
    if (isFirst && (await this.accept(']'))) return false;
    let needsComma = !isFirst;
    for (let taken = 0; ; taken += 1) {
      if (needsComma) {
        if (taken > 0 && skipBlanks(this.#text, this.#position) >= this.#text.length) return true;
        if (await this.accept(']')) return false;
        await this.expect(',');
      }
      needsComma = true;
      await this.peek();
      const start = this.#position;
      const end = this.#scan(scan);
      if (end !== INCOMPLETE) {
        this.#position = end;
        continue;
      }
      this.#position = start;
      await this.take(scan);
      return true;
    }
  }

  /** A value by a scan function, reading on until it is complete. */
  async take(scan: (text: string, start: number) => number): Promise<string> {
    for (;;) {
      const end = this.#position < this.#text.length ? this.#scan(scan) : INCOMPLETE;
      if (end !== INCOMPLETE) {
        const raw = this.#text.slice(this.#position, end);
        this.#position = end;
        return raw;
      }
      if (!(await this.#readMore())) throw this.failure('', true);
    }
  }

  failure(what: string, isTruncated = false): AcedError {
    const where = `near character ${this.#discarded + this.#position}`;
    const message = isTruncated
      ? `${this.path} is cut off: it ends in the middle of the JSON`
      : `${this.path} is not a diff file: ${what} ${where}`;
    return new AcedError('BAD_DIFF_FILE', message, { hint: BAD_FILE_HINT });
  }

  #scan(scan: (text: string, start: number) => number): number {
    try {
      return scan(this.#text, this.#position);
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
    // What is left goes through bytes again: joined strings would be slow to scan.
    const rest = Buffer.from(this.#text.slice(this.#position), 'utf8');
    const kept = rest.length + this.#splitCharacter.length;
    // A value larger than the window is scanned again from its start: growing keeps that linear.
    if (kept > this.#bytes.length / 2) {
      this.#bytes = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, kept * 2));
    }
    rest.copy(this.#bytes);
    this.#splitCharacter.copy(this.#bytes, rest.length);
    const bytesRead = await this.#read(kept);
    this.#hasEnded = bytesRead === 0;
    const bytes = this.#bytes.subarray(0, kept + bytesRead);
    const whole = this.#hasEnded ? bytes.length : wholeCharacters(bytes);
    this.#splitCharacter = Buffer.from(bytes.subarray(whole));
    const isStart = this.#discarded === 0 && this.#text === '';
    this.#discarded += this.#position;
    this.#text = bytes.toString('utf8', 0, whole);
    this.#position = isStart && this.#text.startsWith('\ufeff') ? 1 : 0;
    return !this.#hasEnded;
  }

  async #read(offset: number): Promise<number> {
    try {
      const length = this.#bytes.length - offset;
      return (await this.#handle.read(this.#bytes, offset, length, null)).bytesRead;
    } catch (error) {
      throw new AcedError('BAD_DIFF_FILE', `cannot read ${this.path}: ${errorMessage(error)}`, {
        hint: 'Check that it is a file that you may read.',
        cause: error,
      });
    }
  }
}

/** How many of these bytes are complete UTF-8 characters. */
function wholeCharacters(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}
