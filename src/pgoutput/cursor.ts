import { AcedError } from '../base/errors.js';
import type { Lsn } from '../base/lsn.js';

/** From 2000-01-01, PostgreSQL's epoch, to 1970-01-01. */
const POSTGRES_EPOCH_US = 946_684_800_000_000n;

/** The error of every malformed message: its type, and the offset in it at which reading stopped. */
export function malformed(message: { type: number; offset: number; what: string }): AcedError {
  const isPrintable = message.type > 0x20 && message.type < 0x7f;
  const type = isPrintable
    ? `'${String.fromCharCode(message.type)}'`
    : `0x${message.type.toString(16).padStart(2, '0')}`;
  return new AcedError(
    'STREAM_PROTOCOL',
    `replication message ${type} is malformed at byte ${message.offset}: ${message.what}`,
    { hint: 'Report this with the server version; rebuilding the tree does not help.' },
  );
}

/** Reads one message from left to right and never past its end. For the messages that are rare. */
export class Cursor {
  readonly #buffer: Buffer;
  readonly #start: number;
  readonly #end: number;
  #at: number;

  /** The message's type byte is at `start`; reading begins after it. */
  constructor(buffer: Buffer, start: number, end: number) {
    this.#buffer = buffer;
    this.#start = start;
    this.#end = end;
    this.#at = start + 1;
  }

  byte(): number {
    const at = this.#take(1);
    return this.#buffer.readUInt8(at);
  }

  int16(): number {
    return this.#buffer.readUInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#buffer.readInt32BE(this.#take(4));
  }

  uint32(): number {
    return this.#buffer.readUInt32BE(this.#take(4));
  }

  lsn(): Lsn {
    return this.#buffer.readBigUInt64BE(this.#take(8)) as Lsn;
  }

  timeUs(): bigint {
    return this.#buffer.readBigInt64BE(this.#take(8)) + POSTGRES_EPOCH_US;
  }

  /** A string with a zero byte at its end. */
  string(): string {
    const from = this.#at;
    for (let at = from; at < this.#end; at++) {
      if (this.#buffer[at] === 0) {
        this.#at = at + 1;
        return this.#buffer.toString('utf8', from, at);
      }
    }
    throw this.fail('a string without an end');
  }

  /** A copy, because what the buffer holds is overwritten soon. */
  bytes(length: number): Buffer {
    if (length < 0) throw this.fail('a negative length');
    const from = this.#take(length);
    return Buffer.from(this.#buffer.subarray(from, from + length));
  }

  /** Before making room for a list: whether its elements, of so many bytes at least, can be there. */
  expectItems(count: number, leastBytes: number): void {
    if (count < 0 || count * leastBytes > this.#end - this.#at) throw this.fail('truncated');
  }

  expectEnd(): void {
    if (this.#at !== this.#end) throw this.fail('bytes after the end of the message');
  }

  fail(what: string): AcedError {
    const type = this.#buffer[this.#start] ?? 0;
    return malformed({ type, offset: this.#at - this.#start, what });
  }

  #take(length: number): number {
    const at = this.#at;
    if (length > this.#end - at) throw this.fail('truncated');
    this.#at = at + length;
    return at;
  }
}
