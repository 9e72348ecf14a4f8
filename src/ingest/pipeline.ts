import { randomUUID } from 'node:crypto';
import { aborted, backoffMs, sleep, throwIfAborted } from '../base/abort.js';
import { AcedError, errorMessage, logMessage } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import type { Logger } from '../base/log.js';
import { formatLsn, NO_LSN, type Lsn } from '../base/lsn.js';
import type { Config, NodeConfig } from '../config/config.js';
import { PgoutputDecoder } from '../pgoutput/decoder.js';
import { findHalfCommitted } from '../replication/half-committed.js';
import { emitBarrier } from '../replication/positions.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { dropSlot, SLOT_RELEASE_TIMEOUT_MS } from '../replication/slot.js';
import { parseSnapshot } from '../postgres/snapshot.js';
import type { LastTransaction } from '../replication/start-decision.js';
import type { Store } from '../store/store.js';
import { openReplicationStream, type ReplicationStream } from '../stream/replication-stream.js';
import { ChangeApplier } from './change-applier.js';
import { collectBatch, returnBatch } from './node-batch.js';
import { FenceWaiters } from './fence-waiters.js';
import { HistoryCheck, OtherHistory } from './history-check.js';
import { KeyLocation } from './key-location.js';
import { RepeatedFailure } from './repeated-failure.js';
import { SnapshotFilters } from './snapshot-filters.js';
import { prepareStart } from './start-up.js';
import type { TableApplier } from './table-applier.js';
import type { TrackedTable } from './tracked-table.js';

/** Where a node's pipeline is. Each change of it is logged with its reason. */
export type PipelineState =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'connecting' }
  | { readonly kind: 'streaming' }
  | { readonly kind: 'waiting'; readonly error: AcedError; readonly attempt: number };

export interface PipelineOptions {
  readonly config: Config;
  readonly node: NodeConfig;
  readonly pool: SessionPool;
  readonly store: Store;
  readonly log: Logger;
  /** Tables by `schema.table` with a NUL between, see tableKey(). */
  readonly tables: ReadonlyMap<string, TrackedTable>;
  /** The catalog of a table must be looked at again. */
  readonly onSchemaChange: (table: TrackedTable, reason: string) => void;
  /** The node's stream has a gap: every leaf of the node is unknown now. */
  readonly onGap: (node: string, reason: string) => void;
}

export function tableKey(schema: string, name: string): string {
  return `${schema}\0${name}`;
}

/** Above this number the server is asked which of them every session can see. */
const MAX_RECENT_XIDS = 50_000;
const FENCE_POLL_FIRST_MS = 1;
const FENCE_POLL_MAX_MS = 50;
/** Idle positions are made durable less often than changes. */
const IDLE_FLUSH_MS = 5_000;
const BACKOFF = { firstMs: 200, maxMs: 15_000 };
const SYNCHRONOUS_REPEAT_MS = 3_600_000;
export const SYNCHRONOUS_WARNING =
  'synchronous_standby_names lets aced be the standby that commits wait for: they are confirmed at once, ' +
  'but no data is safe here; name your standbys instead of *';

/** One node: stream -> leaves -> store -> confirm, with reconnects. */
export class NodePipeline {
  readonly name: string;
  readonly #options: PipelineOptions;
  readonly #log: Logger;
  readonly #abort = new AbortController();
  readonly #waiters = new FenceWaiters();
  readonly #appliers = new Map<TrackedTable, TableApplier>();
  readonly #location: KeyLocation;
  #filters: SnapshotFilters;
  #applier: ChangeApplier;
  #stream: ReplicationStream | null = null;
  #state: PipelineState = { kind: 'stopped' };
  #durable: Lsn | null;
  #flushTimer: NodeJS.Timeout | null = null;
  #flushDelayMs = 0;
  #lastFlushMs = 0;
  /** Batches that have become durable. */
  #flushes = 0;
  readonly #failure = new RepeatedFailure();
  #synchronousNames: string | null = null;
  #synchronousToldMs = -Infinity;
  #hasStarted = false;
  #isSettling = false;
  #mustAbandonSlot = false;
  /** Of the connection that is being made or streams. */
  #attempt: AbortController | null = null;
  #running: Promise<void> | null = null;
  #fatal: AcedError | null = null;
  /** Why the server's history is not the one that the leaves are of. */
  #distrust: string | null = null;
  /** Of a failover slot: standbys that its stream waits for. */
  #standbySlots: string | null = null;
  #epoch = 0;
  #connection = 0;
  /** The search for commits of before the stream that are still hidden; null: not begun. */
  #search: Promise<void> | null = null;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.name = options.node.name;
    this.#log = options.log.child({ node: options.node.name });
    this.#filters = SnapshotFilters.restore(
      options.store.filters(this.name),
      highestFilter(options.tables.values(), this.name),
    );
    this.#location = new KeyLocation({
      pool: options.pool,
      log: this.#log,
      appliers: this.#appliers,
      applier: () => this.#applier,
      stream: () => this.#stream,
    });
    const stored = options.store.node(this.name);
    this.#durable = stored?.position ?? null;
    this.#applier = this.#createApplier(this.#durable ?? NO_LSN, stored?.last ?? begunAt(NO_LSN));
    for (const table of options.tables.values()) this.addTable(table);
  }

  get state(): PipelineState {
    return this.#state;
  }

  /** Changes whenever the stream starts over: what was read under another one proves nothing. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Numbers the connections, from 1: another one may be to a server that has crashed in between. */
  get connection(): number {
    return this.#connection;
  }

  /** Everything that committed on the node before this position is in the leaves. */
  get position(): Lsn {
    return this.#applier.position;
  }

  get durablePosition(): Lsn | null {
    return this.#durable;
  }

  get changes(): number {
    return this.#applier.changes;
  }

  get lastTransaction(): LastTransaction {
    return this.#applier.last;
  }

  get filters(): SnapshotFilters {
    return this.#filters;
  }

  get recentXids(): ChangeApplier['recentXids'] {
    return this.#applier.recentXids;
  }

  /**
   * Must have resolved before blocks are read. What committed before the stream's start is not sent
   * (again), and yet snapshots may not show it for long: `recentXids` has it after this. Asks the
   * server once per epoch. Errors: those of a query.
   */
  async rememberHiddenCommits(): Promise<void> {
    this.#search ??= this.#searchHiddenCommits();
    const search = this.#search;
    try {
      await search;
    } catch (error) {
      if (this.#search === search) this.#search = null;
      throw error;
    }
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Finishes the batch, makes it durable, confirms it and ends the connection. */
  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
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
    const applier = table.createApplier(this.name, this.#filters, (reason) =>
      this.#options.onSchemaChange(table, reason),
    );
    this.#appliers.set(table, applier);
    this.#applier.refreshTables();
  }

  removeTable(table: TrackedTable): void {
    this.#appliers.delete(table);
    this.#applier.refreshTables();
  }

  /**
   * Takes a fence on the node. Everything that committed before the call is in the leaves once
   * waitForPosition has resolved for it.
   */
  async takeFence(signal?: AbortSignal): Promise<Lsn> {
    const { position, epoch } = this;
    const fence = await this.#options.pool.use(
      (session) => emitBarrier(session, randomUUID()),
      signal,
    );
    if (fence < position && epoch === this.epoch && this.#state.kind === 'streaming') {
      // The log ends before what was streamed of it: this is another server than the stream's.
      this.#setState({ kind: 'connecting' }, `the node's log ends at ${formatLsn(fence)}`);
      void this.#stream?.close();
    }
    return fence;
  }

  /**
   * Resolves when all that committed before `fence` is in the leaves and the stream is up: without
   * one a position may be of a server that is no longer there. Rejects with STARVED when the stream
   * has not got there in time, and says why.
   */
  async waitForPosition(fence: Lsn, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    let pauseMs = FENCE_POLL_FIRST_MS;
    while (this.#state.kind !== 'streaming' || this.position < fence) {
      const state = this.#state;
      if (this.#abort.signal.aborted) throw new AcedError('CANCELLED', 'the stream is ending');
      if (this.#fatal !== null) throw this.#fatal;
      if (state.kind === 'waiting' && !state.error.isRetryable) throw state.error;
      if (Date.now() > deadline) throw this.#starved(fence, timeoutMs);
      this.#stream?.requestKeepalive();
      await this.#waiters.reached(fence, pauseMs, signal);
      pauseMs = Math.min(pauseMs * 2, FENCE_POLL_MAX_MS);
    }
  }

  /** Makes everything applied so far durable, and confirms it to the slot. */
  flush(): void {
    const { store } = this.#options;
    if (this.#flushTimer !== null) clearTimeout(this.#flushTimer);
    this.#flushTimer = null;
    if (this.#durable === null) return;
    this.#filters.pass(this.position);
    const { last } = this.#applier;
    const batch = {
      ...collectBatch(this.name, this.position, this.#appliers.keys(), this.#filters),
      last,
    };
    if (batch.leaves.length === 0 && batch.position === this.#durable) return;
    failpoint('store-committing');
    try {
      store.saveBatch(batch);
    } catch (error) {
      returnBatch(batch, this.#appliers.keys());
      throw error;
    }
    failpoint('store-committed');
    this.#durable = batch.position;
    this.#lastFlushMs = Date.now();
    this.#flushes++;
    if (this.#failure.end())
      this.#log.info({ event: 'pipeline_recovered' }, 'changes are stored again');
    this.#stream?.confirm(batch.position);
  }

  /** A leaf was changed by something else than the stream (a rehash): flush it soon. */
  touch(): void {
    this.#scheduleFlush(this.#flushIntervalMs);
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
    const nowMs = Date.now();
    if (names === null || nowMs - this.#synchronousToldMs < SYNCHRONOUS_REPEAT_MS) return;
    this.#synchronousToldMs = nowMs;
    this.#log.warn({ event: 'synchronous_standby', setting: names }, SYNCHRONOUS_WARNING);
  }

  get #flushIntervalMs(): number {
    return this.#synchronousNames === null ? this.#options.config.stream.flushIntervalMs : 0;
  }

  #createApplier(position: Lsn, last: LastTransaction): ChangeApplier {
    return new ChangeApplier({
      decoder: new PgoutputDecoder(),
      position,
      last,
      filters: this.#filters,
      now: Date.now,
      lookup: (oid) =>
        Array.from(this.#appliers).flatMap(([table, applier]) =>
          table.readings[this.name]?.oid === oid ? [applier] : [],
        ),
      onPending: () => {
        void this.#location.locate();
      },
      onPosition: (reached) => this.#onPosition(reached),
    });
  }

  async #run(): Promise<void> {
    const isStopping = (): boolean => this.#abort.signal.aborted;
    for (let failures = 0; !isStopping(); failures++) {
      const flushes = this.#flushes;
      const attempt = new AbortController();
      this.#attempt = attempt;
      try {
        await this.#connectAndStream(AbortSignal.any([this.#abort.signal, attempt.signal]));
      } catch (error) {
        if (isStopping()) break;
        const cause = asAcedError(attempt.signal.aborted ? attempt.signal.reason : error);
        if (cause instanceof OtherHistory) this.#distrust = cause.message;
        // The slot would come to the same place again.
        if (cause.code === 'PUBLICATION_LOST') this.#mustAbandonSlot = true;
        if (cause.code === 'STORE' || cause.code === 'INTERNAL') this.#fatal = cause;
        // A connection that made something durable was a good one: start the backoff over. That it
        // streamed says nothing: on a full disk every one does.
        if (this.#flushes !== flushes) failures = 0;
        this.#failure.note(cause.code, failures);
        this.#setState({ kind: 'waiting', error: cause, attempt: failures }, cause.logMessage);
        await sleep(backoffMs(failures, BACKOFF), this.#abort.signal).catch(() => undefined);
      } finally {
        this.#attempt = null;
      }
    }
  }

  async #connectAndStream(signal: AbortSignal): Promise<void> {
    const { config, node, pool, store } = this.#options;
    this.#setState({ kind: 'connecting' }, 'start');
    // Nothing is written meanwhile: it would mix leaves of before with a position of after.
    this.#durable = null;
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
      signal,
      log: this.#log,
      isQuiet: this.#failure.isQuiet,
      isFirst: !this.#hasStarted,
      applicationName: this.applicationName,
      tables: Array.from(this.#appliers.keys(), ({ spec }) => spec),
      distrust: this.#distrust,
    });
    this.#hasStarted = true;
    this.#distrust = null;
    this.noteSynchronous(start.synchronousNames);
    this.#standbySlots = start.failover.standbySlots;
    // After a batch that could not be stored, memory is ahead of what is sent again.
    const gap = start.gap ?? (this.position === stored ? null : 'changes were not stored');
    if (gap !== null) {
      this.#startOver(start.position);
      this.#options.onGap(this.name, gap);
    } else if (start.isOtherRun) {
      this.#distrustSnapshots(start.position);
    }
    this.#durable = start.position;
    this.#fatal = null;
    // Captured: after a gap the pipeline has a new one.
    const applier = this.#applier;
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

  async #searchHiddenCommits(): Promise<void> {
    const { recentXids } = this;
    const signal = this.#abort.signal;
    const xids = await this.#options.pool.use(
      (session) => findHalfCommitted(session, signal),
      signal,
    );
    // As the stream has them: 32 bits.
    for (const xid of xids) recentXids.add(Number(BigInt.asUintN(32, xid)));
  }

  /** What blocks were read as may have been on a server that is no longer there. */
  #distrustSnapshots(position: Lsn): void {
    this.#epoch++;
    this.#search = null;
    const ids = this.#filters.clear();
    for (const table of this.#appliers.keys()) {
      const leaves = table.leaves(this.name);
      leaves.filters.forEach((id, at) => {
        if (!ids.has(id)) return;
        leaves.markDirty(at);
        table.rowDigests(this.name).delete(at);
      });
    }
    this.#applier.rewind(position);
  }

  /** After a gap: nothing that was known of the node's leaves holds any more. */
  #startOver(position: Lsn): void {
    this.#epoch++;
    this.#search = null;
    this.#filters = SnapshotFilters.restore([], 0);
    this.#applier = this.#createApplier(position, begunAt(position));
    for (const table of this.#appliers.keys()) {
      table.leaves(this.name).markAllDirty();
      table.leaves(this.name).filters.fill(0);
      table.rowDigests(this.name).clear();
      this.addTable(table);
    }
  }

  #onPosition(position: Lsn): void {
    this.#waiters.pass(position);
    if (position === this.#durable) return;
    if (this.recentXids.size > MAX_RECENT_XIDS) void this.#settleXids();
    const flushIntervalMs = this.#flushIntervalMs;
    if (this.#flushTimer !== null && this.#flushDelayMs <= flushIntervalMs) return;
    const isUrgent = this.#synchronousNames !== null || this.#hasChanges();
    this.#scheduleFlush(isUrgent ? flushIntervalMs : IDLE_FLUSH_MS);
  }

  #hasChanges(): boolean {
    for (const table of this.#appliers.keys()) {
      if (table.leaves(this.name).hasChanged) return true;
    }
    return false;
  }

  async #settleXids(): Promise<void> {
    if (this.#isSettling) return;
    this.#isSettling = true;
    const reading = this.recentXids.startReading();
    try {
      const rows = await this.#options.pool.use((session) =>
        session.query('SELECT pg_catalog.pg_current_snapshot()'),
      );
      reading.isMissing(parseSnapshot(rows[0]?.[0] ?? ''));
    } catch (error) {
      this.#log.warn({ event: 'settle_failed' }, logMessage(error));
    } finally {
      reading.end();
      this.#isSettling = false;
    }
  }

  #scheduleFlush(delayMs: number): void {
    if (this.#flushTimer !== null) {
      // An idle position may wait longer than a change that comes after it.
      if (delayMs >= this.#flushDelayMs) return;
      clearTimeout(this.#flushTimer);
    }
    this.#flushDelayMs = delayMs;
    const wait = Math.max(0, this.#lastFlushMs + delayMs - Date.now());
    this.#flushTimer = setTimeout(() => {
      this.#flushTimer = null;
      try {
        this.flush();
      } catch (error) {
        this.#fail(asAcedError(error));
      }
    }, wait);
    this.#flushTimer.unref();
  }

  #fail(error: AcedError): void {
    this.#fatal = error;
    this.#log[this.#failure.isQuiet ? 'debug' : 'error'](
      { event: 'pipeline_failed', code: error.code },
      error.logMessage,
    );
    void this.#stream?.close();
  }

  #starved(fence: Lsn, timeoutMs: number): AcedError {
    const state = this.#state;
    const why =
      state.kind === 'waiting'
        ? `the stream is down: ${state.error.message}`
        : `the stream is at ${formatLsn(this.position)} (${state.kind})`;
    return new AcedError(
      'STARVED',
      `node ${this.name} did not reach ${formatLsn(fence)} in ${timeoutMs} ms; ${why}`,
      {
        hint:
          this.#standbySlots === null
            ? 'a long transaction or a busy node delays the stream; try again, or raise the timeout'
            : `the slot sends nothing that the standbys of synchronized_standby_slots (${this.#standbySlots}) have not received: see whether they are up`,
      },
    );
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

function begunAt(endLsn: Lsn): LastTransaction {
  return { endLsn, commit: null };
}

function highestFilter(tables: Iterable<TrackedTable>, node: string): number {
  let highest = 0;
  for (const table of tables) {
    for (const id of table.leaves(node).filters) highest = Math.max(highest, id);
  }
  return highest;
}

function asAcedError(error: unknown): AcedError {
  if (error instanceof AcedError) return error;
  return new AcedError('INTERNAL', errorMessage(error), { cause: error });
}
