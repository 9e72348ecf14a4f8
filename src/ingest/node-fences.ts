import { steadyNowMs } from '../base/clock.js';
import { sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { formatLsn, type Lsn } from '../base/lsn.js';
import type { NodeServer } from './node-server.js';
import type { PipelineState } from './pipeline-state.js';

/** What a fence waits for. */
export interface FencedStream {
  readonly name: string;
  readonly state: PipelineState;
  /** Changes whenever the stream starts over. */
  readonly epoch: number;
  /** Everything that committed before it is in the leaves. */
  readonly position: Lsn;
  /** Makes the server tell how far it has read. */
  requestKeepalive(): void;
  /** Why nobody needs to wait any more; null: it may yet get there. */
  readonly end: AcedError | null;
  /** What the stream itself waits for beside the log, as a hint; null: nothing that is known. */
  readonly holdUp: string | null;
  /** The log ends at `fence`, before what was streamed of it. */
  logEndsEarly(fence: Lsn): void;
}

interface Waiter {
  readonly lsn: Lsn;
  readonly resolve: () => void;
}

const POLL_FIRST_MS = 1;
const POLL_MAX_MS = 50;

/** Fences on one node, and those who wait for its stream to pass them. */
export class NodeFences {
  readonly #server: NodeServer;
  readonly #stream: FencedStream;
  readonly #waiters = new Set<Waiter>();

  constructor(server: NodeServer, stream: FencedStream) {
    this.#server = server;
    this.#stream = stream;
  }

  /**
   * Takes a fence on the node. Everything that committed before the call is in the leaves once
   * waitForPosition has resolved for it.
   */
  async take(signal?: AbortSignal): Promise<Lsn> {
    const { position, epoch } = this.#stream;
    const fence = await this.#server.fence(signal);
    const isSameStream = epoch === this.#stream.epoch && this.#stream.state.kind === 'streaming';
    // This is another server than the stream's.
    if (fence < position && isSameStream) this.#stream.logEndsEarly(fence);
    return fence;
  }

  /**
   * Resolves when all that committed before `fence` is in the leaves and the stream is up: without
   * one a position may be of a server that is no longer there. Rejects with STARVED when the stream
   * has not got there in time, and says why.
   */
  async waitForPosition(fence: Lsn, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const stream = this.#stream;
    const deadline = steadyNowMs() + timeoutMs;
    let pauseMs = POLL_FIRST_MS;
    while (stream.state.kind !== 'streaming' || stream.position < fence) {
      const { state, end } = stream;
      if (end !== null) throw end;
      if (state.kind === 'waiting' && state.error.prospect !== 'retry') throw state.error;
      if (steadyNowMs() > deadline) throw starved(stream, fence, timeoutMs);
      stream.requestKeepalive();
      await this.#reached(fence, pauseMs, signal);
      pauseMs = Math.min(pauseMs * 2, POLL_MAX_MS);
    }
  }

  /** Everybody whose fence has been reached goes on. */
  pass(position: Lsn): void {
    for (const waiter of this.#waiters) {
      if (position < waiter.lsn) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  /** Resolves when `lsn` is reached, or after `maxMs`. Errors: CANCELLED. */
  async #reached(lsn: Lsn, maxMs: number, signal: AbortSignal | undefined): Promise<void> {
    const stop = new AbortController();
    const waiter: Waiter = { lsn, resolve: () => stop.abort() };
    this.#waiters.add(waiter);
    const both = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    try {
      await sleep(maxMs, both);
    } catch (error) {
      if (!stop.signal.aborted) throw error;
    } finally {
      this.#waiters.delete(waiter);
    }
  }
}

function starved(stream: FencedStream, fence: Lsn, timeoutMs: number): AcedError {
  const { name, state, position, holdUp } = stream;
  const why =
    state.kind === 'waiting'
      ? `the stream is down: ${state.error.message}`
      : `the stream is at ${formatLsn(position)} (${state.kind})`;
  return new AcedError(
    'STARVED',
    `node ${name} did not reach ${formatLsn(fence)} in ${timeoutMs} ms; ${why}`,
    {
      hint:
        holdUp ??
        'A long transaction or a busy node delays the stream; try again, or raise the timeout.',
    },
  );
}
