import { Socket, type OnReadOpts, type SocketConstructorOpts } from 'node:net';

/** What one read can bring. */
const BUFFER_BYTES = 256 << 10;
/** A read that brings so much was worth its system calls; more is likely waiting. */
const BULK_BYTES = 64 << 10;
/** Reads that follow each other faster than this are gathered. */
const CLOSE_TOGETHER_MS = 0.5;
const PAUSE_MS = 1;

/** Gets bytes that are valid during the call only. */
export type BytesReceiver = (bytes: Buffer) => void;

/**
 * A TCP or unix socket that reads into one buffer of its own, and not after every packet.
 *
 * A walsender sends each message by itself. A reader that follows at its heels pays two system
 * calls, a 64 KB buffer and a turn of the event loop for every row or two, which costs ten times as
 * much as decoding them. So when small reads come close together, the next one waits a millisecond
 * for more to gather; the first message after a calm is read at once, and large reads never wait.
 *
 * Until `receive` is called it emits `data` like any socket, for pg to authenticate with.
 */
export class PacedSocket extends Socket {
  #receiver: BytesReceiver | null = null;
  #timer: NodeJS.Timeout | null = null;
  #lastReadMs = 0;
  /** By its owner; the gathering of packets is not told to anybody. */
  #isPausedByOwner = false;

  constructor() {
    // onread is an option of the constructor too; the types know it for connect only.
    const options: SocketConstructorOpts & { onread: OnReadOpts } = {
      onread: {
        buffer: Buffer.allocUnsafeSlow(BUFFER_BYTES),
        callback: (length, buffer) => this.#onRead(length, buffer),
      },
    };
    super(options);
    this.once('close', () => {
      if (this.#timer !== null) clearTimeout(this.#timer);
    });
  }

  /** From now on bytes go to `receiver`, and no longer to listeners of `data`. */
  receive(receiver: BytesReceiver): void {
    this.#receiver = receiver;
  }

  override pause(): this {
    this.#isPausedByOwner = true;
    return super.pause();
  }

  override resume(): this {
    this.#isPausedByOwner = false;
    return super.resume();
  }

  /** Returns whether to go on reading at once. */
  #onRead(length: number, buffer: Uint8Array): boolean {
    const bytes = Buffer.from(buffer.buffer, buffer.byteOffset, length);
    if (this.#receiver === null) {
      // pg's reader keeps parts of what it gets.
      this.emit('data', Buffer.from(bytes));
      return true;
    }
    this.#receiver(bytes);
    const nowMs = performance.now();
    const isClose = nowMs - this.#lastReadMs < CLOSE_TOGETHER_MS + PAUSE_MS;
    this.#lastReadMs = nowMs;
    if (!isClose || length >= BULK_BYTES || this.#isPausedByOwner) return !this.#isPausedByOwner;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      if (!this.#isPausedByOwner && !this.destroyed) super.resume();
    }, PAUSE_MS);
    return false;
  }
}
