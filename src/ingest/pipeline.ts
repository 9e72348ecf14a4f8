import { steadyNowMs } from '../base/clock.js';
import { aborted, throwIfAborted } from '../base/abort.js';
import { AcedError, errorMessage, logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { Loop } from '../base/loop.js';
import { formatLsn, type Lsn } from '../base/lsn.js';
import { RepeatedFailure } from '../base/repeated-failure.js';
import type { Config, NodeConfig } from '../config/config.js';
import type { Reign } from '../lease/lease.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { dropSlot, SLOT_RELEASE_TIMEOUT_MS } from '../replication/slot.js';
import type { LastTransaction } from '../replication/start-decision.js';
import type { Store } from '../store/store.js';
import { openReplicationStream, type ReplicationStream } from '../stream/replication-stream.js';
import type { HiddenCommits } from './hidden-commits.js';
import { HistoryCheck, OtherHistory } from './history-check.js';
import { NodeChanges } from './node-changes.js';
import { NodeFences, type FencedStream } from './node-fences.js';
import { NodeFlush } from './node-flush.js';
import { nodeServer, type NodeServer } from './node-server.js';
import type { PipelineState } from './pipeline-state.js';
import type { SnapshotFilters } from './snapshot-filters.js';
import { prepareStart } from './start-up.js';
import type { TrackedTable } from './tracked-table.js';

export interface PipelineOptions {
  readonly config: Config;
  readonly node: NodeConfig;
  readonly pool: SessionPool;
  readonly store: Store;
  /** Of the active one of several aced; null: there is one. */
  readonly reign: Reign | null;
  readonly log: Logger;
  /** Tracked when it begins. */
  readonly tables: readonly TrackedTable[];
  /** The catalog of a table must be looked at again. */
  readonly onSchemaChange: (table: TrackedTable, reason: string) => void;
  /** The node's stream has a gap: every leaf of the node is unknown now. */
  readonly onGap: (node: string, reason: string) => void;
}

const BACKOFF = { firstMs: 200, maxMs: 15_000 };
/** So many connections that fail in a row make an error, which must be told. */
const TOLD_ATTEMPT = 3;
const SYNCHRONOUS_REPEAT_MS = 3_600_000;
export const SYNCHRONOUS_WARNING =
  'synchronous_standby_names lets aced be the standby that commits wait for: they are confirmed at once, ' +
  'but no data is safe here; name your standbys instead of *';

/** One node: stream -> leaves -> store -> confirm, with reconnects. */
export class NodePipeline implements FencedStream {
  readonly name: string;
  /** What the node is asked beside the stream. */
  readonly server: NodeServer;
  readonly #options: PipelineOptions;
  readonly #log: Logger;
  readonly #loop: Loop;
  readonly #changes: NodeChanges;
  readonly #flush: NodeFlush;
  readonly #fences: NodeFences;
  readonly #failure = new RepeatedFailure();
  #stream: ReplicationStream | null = null;
  #state: PipelineState = { kind: 'stopped' };
  #synchronousNames: string | null = null;
  #synchronousToldMs = -Infinity;
  #hasStarted = false;
  #mustAbandonSlot = false;
  /** Of the connection that is being made or streams. */
  #attempt: AbortController | null = null;
  #fatal: AcedError | null = null;
  /** Why the server's history is not the one that the leaves are of. */
  #distrust: string | null = null;
  /** Of a failover slot: standbys that its stream waits for. */
  #standbySlots: string | null = null;
  #connection = 0;

  constructor(options: PipelineOptions) {
    const { config, node, pool, store } = options;
    this.#options = options;
    this.name = node.name;
    this.#log = options.log.child({ node: node.name });
    this.server = nodeServer(pool);
    this.#loop = new Loop({
      backoff: BACKOFF,
      round: (signal) => this.#connect(signal),
      onFailure: (error, before) => this.#onLost(asAcedError(error), before),
    });
    this.#fences = new NodeFences(this.server, this);
    this.#changes = new NodeChanges({
      node: node.name,
      server: this.server,
      store,
      tables: options.tables,
      log: this.#log,
      signal: this.#loop.signal,
      flow: {
        pause: (reason) => this.#stream?.pause(reason),
        resume: () => this.#stream?.resume(),
        fail: (error) => {
          this.#log.warn({ event: 'locate_failed' }, logMessage(error));
          void this.#stream?.close();
        },
      },
      onPosition: (reached) => {
        this.#fences.pass(reached);
        this.#flush.passed(reached);
      },
      onSchemaChange: options.onSchemaChange,
    });
    this.#flush = new NodeFlush({
      changes: this.#changes,
      store,
      intervalMs: config.stream.flushIntervalMs,
      isAwaited: () => this.#synchronousNames !== null,
      onDurable: (position) => {
        // This was a good connection. That one streams says nothing: on a full disk every one does.
        this.#loop.succeeded();
        const wasQuiet = this.#failure.isQuiet;
        this.#failure.end();
        if (wasQuiet) this.#log.info({ event: 'pipeline_recovered' }, 'changes are stored again');
        this.#stream?.confirm(position);
      },
      onFailure: (error) => this.#fail(asAcedError(error)),
    });
  }

  get state(): PipelineState {
    return this.#state;
  }

  /** Changes whenever the stream starts over: what was read under another one proves nothing. */
  get epoch(): number {
    return this.#changes.epoch;
  }

  /** Numbers the connections, from 1: another one may be to a server that has crashed in between. */
  get connection(): number {
    return this.#connection;
  }

  /** Everything that committed on the node before this position is in the leaves. */
  get position(): Lsn {
    return this.#changes.position;
  }

  get durablePosition(): Lsn | null {
    return this.#flush.durable;
  }

  /** Row changes seen so far. */
  get changes(): number {
    return this.#changes.applier.changes;
  }

  get lastTransaction(): LastTransaction {
    return this.#changes.applier.last;
  }

  get filters(): SnapshotFilters {
    return this.#changes.filters;
  }

  get hiddenCommits(): HiddenCommits {
    return this.#changes.hiddenCommits;
  }

  start(): void {
    this.#loop.start();
  }

  /** Finishes the batch, makes it durable, confirms it and ends the connection. */
  async stop(): Promise<void> {
    await this.#loop.stop();
    this.#setState({ kind: 'stopped' }, 'asked to stop');
  }

  /** From abandonSlot's call until the slot is gone. */
  get isGivingUpSlot(): boolean {
    return this.#mustAbandonSlot;
  }

  /**
   * Gives up the slot, one that is still being made too, so that its node can recycle the write-ahead
   * log; the stream starts over. `reason` is what the pipeline waits for meanwhile.
   */
  abandonSlot(reason: AcedError): void {
    this.#mustAbandonSlot = true;
    this.#attempt?.abort(reason);
  }

  addTable(table: TrackedTable): void {
    this.#changes.addTable(table);
  }

  removeTable(table: TrackedTable): void {
    this.#changes.removeTable(table);
  }

  /** See NodeFences. */
  async takeFence(signal?: AbortSignal): Promise<Lsn> {
    return this.#fences.take(signal);
  }

  /** See NodeFences. */
  async waitForPosition(fence: Lsn, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    await this.#fences.waitForPosition(fence, timeoutMs, signal);
  }

  requestKeepalive(): void {
    this.#stream?.requestKeepalive();
  }

  logEndsEarly(fence: Lsn): void {
    this.#setState({ kind: 'connecting' }, `the node's log ends at ${formatLsn(fence)}`);
    void this.#stream?.close();
  }

  get end(): AcedError | null {
    if (this.#loop.signal.aborted) return new AcedError('CANCELLED', 'the stream is ending');
    return this.#fatal;
  }

  get holdUp(): string | null {
    return this.#standbySlots === null
      ? null
      : `the slot sends nothing that the standbys of synchronized_standby_slots (${this.#standbySlots}) have not received: see whether they are up`;
  }

  /** Makes everything applied so far durable, and confirms it to the slot. */
  flush(): void {
    this.#flush.flush();
  }

  /** A leaf was changed by something else than the stream (a rehash): flush it soon. */
  touch(): void {
    this.#flush.touch();
  }

  /** Of the replication connection. */
  get applicationName(): string {
    return `aced ${this.#options.config.cluster}`;
  }

  /** See Start.synchronousNames. */
  get synchronousNames(): string | null {
    return this.#synchronousNames;
  }

  /** While commits wait for us, each is made durable and confirmed at once. */
  noteSynchronous(names: string | null): void {
    this.#synchronousNames = names;
    const nowMs = steadyNowMs();
    if (names === null || nowMs - this.#synchronousToldMs < SYNCHRONOUS_REPEAT_MS) return;
    this.#synchronousToldMs = nowMs;
    this.#log.warn({ event: 'synchronous_standby', setting: names }, SYNCHRONOUS_WARNING);
  }

  /** One connection, from the search for where to start to its end, which is always an error. */
  async #connect(signal: AbortSignal): Promise<number> {
    const attempt = new AbortController();
    this.#attempt = attempt;
    try {
      await this.#connectAndStream(AbortSignal.any([signal, attempt.signal]));
      return 0;
    } catch (error) {
      throw attempt.signal.aborted ? attempt.signal.reason : error;
    } finally {
      this.#attempt = null;
    }
  }

  /** `attempt`: how many connections in a row have failed before this one. */
  #onLost(cause: AcedError, attempt: number): void {
    if (cause instanceof OtherHistory) this.#distrust = cause.message;
    // The slot would come to the same place again.
    if (cause.code === 'PUBLICATION_LOST') this.#mustAbandonSlot = true;
    if (cause.code === 'STORE' || cause.code === 'INTERNAL') this.#fatal = cause;
    this.#failure.note(cause.code, { isNews: attempt === TOLD_ATTEMPT });
    this.#setState({ kind: 'waiting', error: cause, attempt }, cause.logMessage);
  }

  async #connectAndStream(signal: AbortSignal): Promise<void> {
    const { config, node, pool, store, reign } = this.#options;
    this.#setState({ kind: 'connecting' }, 'start');
    this.#flush.suspend();
    if (this.#mustAbandonSlot) {
      store.forgetNode(this.name);
      await pool.use((session) =>
        dropSlot(session, config.slotName, { signal, waitMs: SLOT_RELEASE_TIMEOUT_MS }),
      );
      this.#mustAbandonSlot = false;
    }
    const stored = store.node(this.name)?.position;
    const start = await prepareStart({
      config,
      node: this.name,
      pool,
      store,
      reign,
      signal,
      log: this.#log,
      isQuiet: this.#failure.isQuiet,
      isFirst: !this.#hasStarted,
      applicationName: this.applicationName,
      tables: this.#changes.tables.map(({ spec }) => spec),
      distrust: this.#distrust,
    });
    this.#hasStarted = true;
    this.#distrust = null;
    this.noteSynchronous(start.synchronousNames);
    this.#standbySlots = start.failover.standbySlots;
    // After a batch that could not be stored, memory is ahead of what is sent again.
    const gap = start.gap ?? (this.position === stored ? null : 'changes were not stored');
    if (gap !== null) {
      this.#changes.startOver(start.position);
      this.#options.onGap(this.name, gap);
    } else if (start.isOtherRun) {
      this.#changes.distrustSnapshots(start.position);
    }
    this.#flush.goOn(start.position);
    this.#fatal = null;
    // Captured: after a gap the pipeline has a new one.
    const { applier } = this.#changes;
    const check =
      gap === null && start.proof !== null ? new HistoryCheck(this.name, start.proof) : null;
    const stream = await openReplicationStream({
      node,
      slot: config.slotName,
      publication: config.publicationName,
      startLsn: start.from,
      failover: start.failover.change,
      applicationName: this.applicationName,
      log: this.#failure.isQuiet ? this.#log.child({}, { level: 'warn' }) : this.#log,
      signal,
      handler: {
        onData: (buffer, from, to) => {
          if (check === null || check.isPassed) applier.data(buffer, from, to);
          else check.message(applier.skim(buffer, from, to));
        },
        onKeepalive: (walEnd, isReplyWanted) => {
          if (check?.isPassed === false) {
            check.keepalive(walEnd);
            return;
          }
          applier.keepalive(walEnd);
          // A server that shuts down waits until everything it has sent is confirmed.
          if (isReplyWanted) this.flush();
        },
      },
    });
    try {
      if (check !== null) await Promise.race([check.passed, stream.closed, aborted(signal)]);
      this.#stream = stream;
      if (check?.isPassed !== false) {
        this.#connection++;
        this.#setState({ kind: 'streaming' }, `from ${formatLsn(start.position)}`);
      }
      const end = await Promise.race([stream.closed, aborted(signal)]);
      if (end?.error != null) throw end.error;
      if (end !== null) throw new AcedError('STREAM_LOST', 'the server ended the stream');
      this.flush();
      await stream.close();
      throwIfAborted(signal);
    } finally {
      this.#stream = null;
      applier.disconnected();
      // The next connection starts at the durable position: nothing applied may lie beyond it.
      this.flush();
    }
  }

  #fail(error: AcedError): void {
    this.#fatal = error;
    this.#log[this.#failure.isQuiet ? 'debug' : 'error'](
      { event: 'pipeline_failed', code: error.code },
      error.logMessage,
    );
    void this.#stream?.close();
  }

  #setState(state: PipelineState, reason: string): void {
    const from = this.#state.kind;
    this.#state = state;
    const level = state.kind === 'waiting' ? (state.attempt > 2 ? 'error' : 'warn') : 'info';
    this.#log[this.#failure.isQuiet ? 'debug' : level](
      { event: 'pipeline_state', from, to: state.kind, lsn: formatLsn(this.position) },
      reason,
    );
  }
}

function asAcedError(error: unknown): AcedError {
  if (error instanceof AcedError) return error;
  return new AcedError('INTERNAL', errorMessage(error), { cause: error });
}
