import type { Duplex } from 'node:stream';
import type pg from 'pg';
import { AcedError, errorMessage } from '../base/errors.js';
import { formatLsn, type Lsn } from '../base/lsn.js';
import { FrameReader } from './frame-reader.js';
import {
  COPY_DONE,
  FRAME,
  KEEPALIVE,
  KEEPALIVE_BYTES,
  readServerMessage,
  statusUpdate,
  TERMINATE,
  XLOG_DATA,
  XLOG_DATA_HEADER_BYTES,
} from './frames.js';
import { judgeInbound, statusIntervalMs } from './liveness.js';
import { PacedSocket } from './paced-socket.js';
import type {
  ReplicationStream,
  StreamEnd,
  StreamHandler,
  StreamOptions,
  StreamStats,
} from './replication-stream.js';
import { toStreamError } from './stream-error.js';

/** Where the server does not watch us, we still watch it. */
const UNWATCHED_TIMEOUT_MS = 60_000;
const DEFAULT_MIN_INBOUND_TIMEOUT_MS = 10_000;
/** The watchdog looks so often within one timeout. */
const LOOKS_PER_TIMEOUT = 8;
/** How long the server may take to end the copy, and the socket to close after that. */
const CLOSE_TIMEOUT_MS = 2_000;

/** After so much work on end the event loop gets a turn: timers must run under a backlog too. */
const MAX_BUSY_MS = 20;

type State = 'starting' | 'streaming' | 'draining' | 'ended';

export interface WalStreamOptions extends StreamOptions {
  readonly walSenderTimeoutMs: number;
}

/**
 * The replication protocol on a connection that `pg` has authenticated and that is idle. pg's reader
 * is taken off the socket: it makes an event and an object of every row, and reuses its buffer.
 */
export class WalStream implements ReplicationStream {
  readonly closed: Promise<StreamEnd>;
  readonly #options: WalStreamOptions;
  readonly #handler: StreamHandler;
  readonly #connection: pg.Connection;
  readonly #socket: Duplex;
  readonly #reader: FrameReader;
  readonly #inboundTimeoutMs: number;
  readonly #timers: NodeJS.Timeout[] = [];
  #resolveClosed: (end: StreamEnd) => void = () => undefined;
  #onStarted: () => void = () => undefined;
  #onDrained: () => void = () => undefined;
  #state: State = 'starting';
  #closing: Promise<void> | null = null;
  #confirmed: Lsn;
  /** Highest position received, as two halves: a bigint per row would cost more than the row. */
  #receivedHigh: number;
  #receivedLow: number;
  #bytes = 0;
  #pauseReason: string | null = null;
  #busyMs = 0;
  #silentMs = 0;
  #unansweredMs: number | null = null;
  #lastLookMs = 0;

  constructor(connection: pg.Connection, options: WalStreamOptions) {
    this.#connection = connection;
    this.#socket = connection.stream;
    this.#options = options;
    this.#handler = options.handler;
    this.#confirmed = options.startLsn;
    this.#receivedHigh = Number(options.startLsn >> 32n);
    this.#receivedLow = Number(options.startLsn & 0xffff_ffffn);
    const minimum = options.minInboundTimeoutMs ?? DEFAULT_MIN_INBOUND_TIMEOUT_MS;
    this.#inboundTimeoutMs = Math.max(options.walSenderTimeoutMs || UNWATCHED_TIMEOUT_MS, minimum);
    this.#reader = new FrameReader((type, buffer, start, end) => {
      this.#onFrame(type, buffer, start, end);
    });
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  get stats(): StreamStats {
    return { bytes: this.#bytes, frames: this.#reader.frames };
  }

  /** Highest position received so far. */
  get received(): Lsn {
    return ((BigInt(this.#receivedHigh) << 32n) | BigInt(this.#receivedLow)) as Lsn;
  }

  /** Sends START_REPLICATION; rejects with why the server refuses. */
  async start(sql: string): Promise<void> {
    this.#takeOverSocket();
    const started = new Promise<null>((resolve) => {
      this.#onStarted = () => resolve(null);
    });
    this.#connection.query(sql);
    const end = await Promise.race([started, this.closed]);
    if (end?.error != null) throw end.error;
    // What came with the server's answer may have ended the stream already.
    if (this.#state === 'streaming') this.#startTimers();
  }

  confirm(durable: Lsn): void {
    if (durable <= this.#confirmed || this.#state !== 'streaming') return;
    if (durable > this.received) {
      throw new AcedError(
        'INTERNAL',
        `confirming ${formatLsn(durable)} but only ${formatLsn(this.received)} was received`,
      );
    }
    this.#confirmed = durable;
    this.#sendStatus(false);
  }

  requestKeepalive(): void {
    if (this.#state !== 'streaming') return;
    this.#unansweredMs ??= 0;
    this.#sendStatus(true);
  }

  pause(reason: string): void {
    if (this.#state !== 'streaming' || this.#pauseReason !== null) return;
    this.#pauseReason = reason;
    this.#socket.pause();
    this.#log('debug', 'stream_paused', reason);
  }

  resume(): void {
    if (this.#pauseReason === null) return;
    this.#log('debug', 'stream_resumed', this.#pauseReason);
    this.#pauseReason = null;
    this.#socket.resume();
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#state === 'streaming') await this.#drain();
    this.#end(null);
  }

  #takeOverSocket(): void {
    const socket = this.#socket;
    socket.removeAllListeners('data');
    // Under TLS there is only `data`.
    if (socket instanceof PacedSocket) socket.receive((bytes) => this.#onChunk(bytes));
    socket.on('data', (chunk: Buffer) => this.#onChunk(chunk));
    socket.on('error', (error: Error) => this.#fail(error));
    socket.on('close', () => this.#fail(this.#lost('the connection was closed')));
    socket.resume();
  }

  #startTimers(): void {
    const { walSenderTimeoutMs } = this.#options;
    const intervalMs = statusIntervalMs(walSenderTimeoutMs);
    if (intervalMs !== null) {
      this.#timers.push(setInterval(() => this.#sendStatus(false), intervalMs));
    }
    const lookMs = this.#inboundTimeoutMs / LOOKS_PER_TIMEOUT;
    this.#lastLookMs = performance.now();
    this.#timers.push(setInterval(() => this.#look(lookMs), lookMs));
  }

  /** Counts silence and judges it. */
  #look(lookMs: number): void {
    const nowMs = performance.now();
    // Timers run before sockets: after we were blocked, what has arrived is not read yet, and the
    // time that we did not listen must not count as the peer's silence.
    const elapsedMs = Math.min(nowMs - this.#lastLookMs, lookMs * 1.5);
    this.#lastLookMs = nowMs;
    const isPaused = this.#pauseReason !== null;
    if (isPaused) {
      this.#silentMs = 0;
      this.#unansweredMs = null;
    } else {
      this.#silentMs += elapsedMs;
      if (this.#unansweredMs !== null) this.#unansweredMs += elapsedMs;
    }
    const verdict = judgeInbound({
      silentMs: this.#silentMs,
      unansweredMs: this.#unansweredMs,
      timeoutMs: this.#inboundTimeoutMs,
      isPaused,
    });
    if (verdict === 'probe') this.requestKeepalive();
    else if (verdict === 'lost') {
      this.#fail(this.#lost(`nothing has arrived for ${Math.round(this.#silentMs)} ms`));
    }
  }

  #onChunk(chunk: Buffer): void {
    this.#silentMs = 0;
    this.#unansweredMs = null;
    this.#bytes += chunk.length;
    const startedMs = performance.now();
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#fail(error instanceof AcedError ? error : handlerFailed(error));
    }
    this.#busyMs += performance.now() - startedMs;
    if (this.#busyMs >= MAX_BUSY_MS) this.#yield();
  }

  /** libuv reads a socket up to 32 times before anything else gets its turn. */
  #yield(): void {
    this.#busyMs = 0;
    this.#socket.pause();
    setImmediate(() => {
      if (this.#pauseReason === null) this.#socket.resume();
    });
  }

  #onFrame(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === FRAME.copyData && this.#state === 'streaming') {
      this.#onCopyData(buffer, start, end);
    } else if (this.#state === 'draining') {
      if (type === FRAME.readyForQuery || type === FRAME.error) this.#onDrained();
    } else {
      this.#onOtherFrame(type, buffer, start, end);
    }
  }

  #onCopyData(buffer: Buffer, start: number, end: number): void {
    const type = buffer[start];
    if (type === XLOG_DATA && end - start >= XLOG_DATA_HEADER_BYTES) {
      const high = buffer.readUInt32BE(start + 1);
      const low = buffer.readUInt32BE(start + 5);
      this.#noteReceived(high, low);
      this.#handler.onData(buffer, start + XLOG_DATA_HEADER_BYTES, end);
    } else if (type === KEEPALIVE && end - start >= KEEPALIVE_BYTES) {
      const walEnd = buffer.readBigUInt64BE(start + 1) as Lsn;
      const isReplyWanted = buffer[start + 17] === 1;
      this.#noteReceived(buffer.readUInt32BE(start + 1), buffer.readUInt32BE(start + 5));
      this.#handler.onKeepalive(walEnd, isReplyWanted);
      if (isReplyWanted) this.#sendStatus(false);
    } else {
      throw unexpected(`copy data of type ${type ?? 'none'} and ${end - start} bytes`);
    }
  }

  #onOtherFrame(type: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case FRAME.copyBoth:
        if (this.#state !== 'starting') throw unexpected('a second copy');
        this.#state = 'streaming';
        this.#onStarted();
        return;
      case FRAME.error:
        this.#fail(readServerMessage(type, buffer, start, end));
        return;
      case FRAME.notice: {
        const { severity, code, message } = readServerMessage(type, buffer, start, end);
        this.#log('info', 'server_notice', `${severity} ${code}: ${message}`);
        return;
      }
      case FRAME.copyDone:
      case FRAME.commandComplete:
      case FRAME.readyForQuery:
        this.#fail(this.#lost('the server ended the stream'));
        return;
      case FRAME.parameterStatus:
      case FRAME.notification:
        return;
      default:
        throw unexpected(`a frame of type ${type}`);
    }
  }

  #noteReceived(high: number, low: number): void {
    if (high > this.#receivedHigh) {
      this.#receivedHigh = high;
      this.#receivedLow = low;
    } else if (high === this.#receivedHigh && low > this.#receivedLow) {
      this.#receivedLow = low;
    }
  }

  #sendStatus(isReplyWanted: boolean): void {
    if (this.#state !== 'streaming') return;
    this.#write(statusUpdate(this.#confirmed, Date.now(), isReplyWanted));
  }

  #write(frame: Buffer): void {
    if (this.#socket.writable) this.#socket.write(frame);
  }

  /** CopyDone, then whatever is on its way unread, until the server is done. */
  async #drain(): Promise<void> {
    const drained = new Promise<void>((resolve) => {
      this.#onDrained = resolve;
    });
    this.#state = 'draining';
    this.#clearTimers();
    this.#socket.resume();
    this.#write(COPY_DONE);
    await within(CLOSE_TIMEOUT_MS, [drained, this.closed]);
    if (this.#socket.destroyed) return;
    const finished = new Promise<void>((resolve) => {
      this.#socket.once('close', () => resolve());
    });
    this.#socket.end(TERMINATE);
    await within(CLOSE_TIMEOUT_MS, [finished]);
  }

  #fail(error: unknown): void {
    if (this.#state === 'draining') this.#onDrained();
    if (this.#state === 'draining' || this.#state === 'ended') return;
    const { node, slot, publication } = this.#options;
    const isStreaming = this.#state === 'streaming';
    this.#end(toStreamError(error, { node, slot, publication, isStreaming }));
  }

  #end(error: AcedError | null): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#clearTimers();
    this.#reader.stop();
    this.#socket.destroy();
    this.#resolveClosed({ error });
  }

  #clearTimers(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
  }

  #lost(what: string): AcedError {
    const { node, slot } = this.#options;
    return new AcedError('STREAM_LOST', `node ${node.name}, slot ${slot}: ${what}`, {
      hint: 'Check the server and the network between; the stream goes on from the confirmed position.',
    });
  }

  #log(level: 'debug' | 'info', event: string, text: string): void {
    this.#options.log[level]({ event }, text);
  }
}

function handlerFailed(error: unknown): AcedError {
  return new AcedError('INTERNAL', `handling the stream failed: ${errorMessage(error)}`, {
    cause: error,
  });
}

function unexpected(what: string): AcedError {
  return new AcedError('STREAM_PROTOCOL', `the server sent ${what}`, {
    hint: 'Something between us and the server does not speak the replication protocol.',
  });
}

async function within(limitMs: number, promises: readonly Promise<unknown>[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, limitMs);
  });
  await Promise.race([...promises, timeout]);
  clearTimeout(timer);
}
