import { AcedError } from '../base/errors.js';

/** Type byte and length word. */
const HEADER_BYTES = 5;
/** The length word counts itself. */
const LENGTH_BYTES = 4;
/** PostgreSQL builds no message beyond 1 GB (MaxAllocSize); a larger length is not a length. */
const MAX_FRAME_BYTES = 0x4000_0000;
/** A buffer for split frames that has grown beyond this is given back after the frame. */
const KEEP_BYTES = 1 << 20;
const FIRST_BYTES = 64 << 10;
const NO_BYTES = Buffer.alloc(0);

/** Receives a frame's type and the range of its content; the bytes are valid during the call only. */
export type FrameHandler = (type: number, buffer: Buffer, start: number, end: number) => void;

/**
 * Cuts a byte stream into the frames of PostgreSQL's protocol
 * (https://www.postgresql.org/docs/current/protocol-message-formats.html). Frames that lie whole in
 * a chunk are handed over where they are; only one that is split over chunks is copied, once (and
 * again each time that its buffer doubles).
 */
export class FrameReader {
  readonly #onFrame: FrameHandler;
  /** The beginning of a frame whose end has not arrived. */
  #held: Buffer = NO_BYTES;
  #heldBytes = 0;
  #isStopped = false;
  #frames = 0;

  constructor(onFrame: FrameHandler) {
    this.#onFrame = onFrame;
  }

  /** Frames handed over so far. */
  get frames(): number {
    return this.#frames;
  }

  /** Memory kept for a split frame. */
  get bufferBytes(): number {
    return this.#held.length;
  }

  /** No further frame is handed over, not even from the chunk at hand. */
  stop(): void {
    this.#isStopped = true;
    this.#held = NO_BYTES;
    this.#heldBytes = 0;
  }

  /**
   * Hands over every frame that `chunk` completes, in order. An error of the handler passes through
   * and must end the connection: the rest of the chunk is dropped. A length that cannot be one
   * throws STREAM_PROTOCOL.
   */
  push(chunk: Buffer): void {
    let at = this.#heldBytes > 0 ? this.#finishHeld(chunk) : 0;
    const size = chunk.length;
    while (!this.#isStopped && size - at >= HEADER_BYTES) {
      const end = at + 1 + frameLength(chunk, at);
      if (end > size) break;
      this.#frames += 1;
      this.#onFrame(chunk[at] ?? 0, chunk, at + HEADER_BYTES, end);
      at = end;
    }
    if (at < size && !this.#isStopped) this.#hold(chunk, at, size);
  }

  /** Returns how much of the chunk belongs to the held frame. */
  #finishHeld(chunk: Buffer): number {
    let at = 0;
    if (this.#heldBytes < HEADER_BYTES) {
      at = Math.min(HEADER_BYTES - this.#heldBytes, chunk.length);
      this.#hold(chunk, 0, at);
      if (this.#heldBytes < HEADER_BYTES) return at;
    }
    const total = 1 + frameLength(this.#held, 0);
    const missing = total - this.#heldBytes;
    const end = Math.min(at + missing, chunk.length);
    this.#hold(chunk, at, end);
    if (this.#heldBytes === total) {
      const frame = this.#held;
      this.#heldBytes = 0;
      this.#frames += 1;
      this.#onFrame(frame[0] ?? 0, frame, HEADER_BYTES, total);
      if (this.#held.length > KEEP_BYTES) this.#held = NO_BYTES;
    }
    return end;
  }

  #hold(chunk: Buffer, start: number, end: number): void {
    const needed = this.#heldBytes + end - start;
    if (needed > this.#held.length) this.#grow(needed);
    chunk.copy(this.#held, this.#heldBytes, start, end);
    this.#heldBytes = needed;
  }

  /** By doubling, not to the announced length: a length is only believed once its bytes arrive. */
  #grow(needed: number): void {
    let size = Math.max(FIRST_BYTES, this.#held.length);
    while (size < needed) size *= 2;
    const larger = Buffer.allocUnsafeSlow(size);
    this.#held.copy(larger, 0, 0, this.#heldBytes);
    this.#held = larger;
  }
}

function frameLength(buffer: Buffer, at: number): number {
  const length = buffer.readUInt32BE(at + 1);
  if (length < LENGTH_BYTES || length > MAX_FRAME_BYTES) {
    throw new AcedError(
      'STREAM_PROTOCOL',
      `replication frame with an impossible length: ${length}`,
      {
        hint: 'Something between us and the server does not speak its protocol.',
      },
    );
  }
  return length;
}
