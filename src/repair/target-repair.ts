import { sleep, throwIfAborted } from '../base/abort.js';
import type { KeyText } from '../table/table-spec.js';
import { LookFirst, plannedRows, TrustFile, type Decided, type Deciding } from './decided-rows.js';
import { decideUnseen, type Decision, type Ruling } from './decision.js';
import type { ExpectedRows, Expectation, ValueHasher } from './expectation.js';
import type { OwnWrites } from './own-writes.js';
import type { ReadSession } from './read-session.js';
import type { RepairSql } from './repair-sql.js';
import type { RowFailure } from './row-failure.js';
import type { TakeChanges } from './row-changes.js';
import { RowSums } from './row-sums.js';
import { changedBy, RowWriter, whyNotReplaced, type WriteOutcome } from './row-writer.js';
import { bytesOf, stage, type PlannedRow, type StagedTransaction } from './staged-rows.js';
import type { TargetSession } from './target-session.js';
import { firingTriggers } from './target-triggers.js';

export interface RepairCounts {
  upserted: number;
  deleted: number;
  skipped: number;
  failed: number;
  alreadyEqual: number;
  /** The chosen mode has nothing to do with them. */
  left: number;
}

export function noCounts(): RepairCounts {
  return { upserted: 0, deleted: 0, skipped: 0, failed: 0, alreadyEqual: 0, left: 0 };
}

export function sumCounts(one: RepairCounts, other: RepairCounts): RepairCounts {
  return {
    upserted: one.upserted + other.upserted,
    deleted: one.deleted + other.deleted,
    skipped: one.skipped + other.skipped,
    failed: one.failed + other.failed,
    alreadyEqual: one.alreadyEqual + other.alreadyEqual,
    left: one.left + other.left,
  };
}

export interface TargetRepairOptions {
  readonly node: string;
  /** The node whose rows it is compared with. */
  readonly peer: string;
  readonly expectations: ExpectedRows;
  readonly ownWrites: OwnWrites | null;
  /** About what a row takes, until some have been moved. */
  readonly rowBytes: number;
  readonly rulingOf: (expectation: Expectation) => Ruling;
  readonly source: ReadSession;
  /** The target's session outside of the transactions that write. */
  readonly targetReader: ReadSession;
  /** Null: only counts what would be done. */
  readonly target: TargetSession | null;
  readonly tableOid: number;
  readonly sql: RepairSql;
  readonly mayConvert: boolean;
  readonly keepsCommitTime: boolean;
  readonly values: ValueHasher | null;
  /** Rulings need the rows as they are now. */
  readonly looksFirst: boolean;
  /** And their values too. */
  readonly looksAtValues: boolean;
  readonly changes: TakeChanges | null;
  /** Another way to know what is to be done; null: the nodes' rows and the file tell. */
  readonly deciding: Deciding | null;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/** Why rows were skipped, with their number. */
export interface SkippedRows {
  targetChanged: number;
  sourceChanged: number;
  locked: number;
}

export interface TargetRepairResult {
  readonly counts: RepairCounts;
  readonly skipped: SkippedRows;
  readonly failures: readonly RowFailure[];
  /** KEPT_FAILURES of them at most. */
  readonly failedRows: readonly { readonly key: KeyText; readonly reason: string }[];
  /** KEPT_KEYS of them at most. */
  readonly deletedKeys: readonly KeyText[];
  readonly writtenKeys: readonly KeyText[];
  readonly sums: RowSums;
}

/** What a person is told of row by row. */
const KEPT_FAILURES = 1_000;
/** What foreign keys are looked at for afterwards. */
const KEPT_KEYS = 10_000;

/** One batch is one transaction, and so long as it takes users may wait for its rows. */
const BATCH_MS = 300;
const FIRST_BATCH_ROWS = 2_000;
const MAX_BATCH_ROWS = 10_000;
/** Two batches are held in memory: large rows make them smaller. */
const BATCH_BYTES = 8 * 1024 * 1024;

/** Rows wait so long for the target after they were read from the source. */
const MAX_AHEAD_MS = 2_000;

/** Rows that others hold are tried again for so long, after everything else. */
const LOCK_PATIENCE_MS = 2_000;
const LOCK_RETRY_MS = 200;

/** Keys of a batch, with what is to be written. */
interface Batch {
  readonly keys: readonly Expectation[];
  /** Counts those not wanted too. */
  readonly taken: number;
  readonly decided: readonly Decided[];
  readonly planned: readonly PlannedRow[];
  readonly transactions: readonly StagedTransaction[];
  readonly readAtMs: number;
}

const UNFIT: RowFailure = { reason: 'the columns do not take the values', kind: 'other' };

type Failures = Map<Expectation, RowFailure>;

/** Brings one node to the source's rows, batch by batch. */
export class TargetRepair {
  readonly #options: TargetRepairOptions;
  readonly #writer: RowWriter | null;
  readonly #deciding: Deciding;
  readonly #skipped: SkippedRows = { targetChanged: 0, sourceChanged: 0, locked: 0 };
  readonly #counts = noCounts();
  readonly #deletedKeys: KeyText[] = [];
  readonly #writtenKeys: KeyText[] = [];
  readonly #sums = new RowSums();
  #batchRows: number;
  #rowBytes: number;
  #isPatient = false;

  constructor(options: TargetRepairOptions) {
    this.#options = options;
    const { target } = options;
    this.#writer = target === null ? null : new RowWriter({ ...options, target });
    const { values } = options;
    const withValues = options.changes !== null || options.looksAtValues;
    const isTrusting = target !== null && values === null && !withValues && !options.looksFirst;
    const deciding = { ...options, withValues };
    this.#deciding =
      options.deciding ?? (isTrusting ? new TrustFile(deciding) : new LookFirst(deciding));
    this.#rowBytes = options.rowBytes;
    this.#batchRows = Math.min(FIRST_BATCH_ROWS, fittingRows(this.#rowBytes));
  }

  async run(): Promise<TargetRepairResult> {
    const { expectations, onProgress } = this.#options;
    const total = expectations.size;
    let done = 0;
    onProgress(0, total);
    const unwritten = await this.#pass(expectations.entries(), (count) => {
      done += count;
      onProgress(done, total);
    });
    const tried = await this.#retryLocked(await this.#retry(unwritten));
    const remaining = await this.#exchange(tried);
    const locked = [...remaining].filter(([, { kind }]) => kind === 'locked');
    await this.#countLocked(locked.map(([expectation]) => expectation));
    const failed = [...remaining].filter(([, { kind }]) => kind !== 'locked');
    const failures = failed.map(([, failure]) => failure);
    const failedRows = failed
      .slice(0, KEPT_FAILURES)
      .map(([{ key }, { reason }]) => ({ key, reason }));
    this.#counts.failed = failures.length;
    const { targetChanged, sourceChanged } = this.#skipped;
    this.#counts.skipped = targetChanged + sourceChanged + this.#skipped.locked;
    return {
      ...{ counts: this.#counts, skipped: this.#skipped, failures, failedRows },
      ...{ deletedKeys: this.#deletedKeys, writtenKeys: this.#writtenKeys, sums: this.#sums },
    };
  }

  /** A row may have had to wait for another one: for its unique value, or to refer to it. */
  async #retry(failed: Failures): Promise<Failures> {
    let remaining = await this.#exchange(await this.#together(failed));
    let isBackwards = true;
    this.#isPatient = true;
    while (remaining.size > 0) {
      const rows = [...remaining.keys()];
      // Of a chain, where each row takes the value of the next, one order mends a row a pass and the other all.
      const again = await this.#pass(isBackwards ? rows.reverse() : rows, () => undefined);
      const isProgress = again.size < remaining.size;
      remaining = again;
      if (!isProgress && !isBackwards) break;
      isBackwards = !isBackwards;
    }
    return remaining;
  }

  /** Rows that refer to each other, in whatever order and in circles. */
  async #together(failed: Failures): Promise<Failures> {
    const remaining = new Map(failed);
    const referring = [...failed].filter(([, { kind }]) => kind === 'reference');
    if (this.#writer === null || referring.length === 0) return remaining;
    const decided = await this.#deciding.look(
      referring.slice(0, MAX_BATCH_ROWS).map(([expectation]) => expectation),
    );
    for (const action of ['insert', 'update', 'delete'] as const) {
      const rows = plannedRows(decided).filter((row) => row.action === action);
      const outcome = await this.#writer.together(rows);
      for (const { number, expectation } of decided) {
        if (isDone(outcome, number)) remaining.delete(expectation);
      }
      await this.#count(decided, outcome);
    }
    return remaining;
  }

  async #retryLocked(failed: Failures): Promise<Failures> {
    const remaining = new Map(failed);
    const deadlineMs = performance.now() + LOCK_PATIENCE_MS;
    for (;;) {
      const locked = [...remaining].filter(([, { kind }]) => kind === 'locked');
      if (locked.length === 0 || performance.now() > deadlineMs) return remaining;
      await sleep(LOCK_RETRY_MS, this.#options.signal);
      for (const [expectation] of locked) remaining.delete(expectation);
      const again = await this.#pass(
        locked.map(([expectation]) => expectation),
        () => undefined,
      );
      for (const [expectation, failure] of again) remaining.set(expectation, failure);
    }
  }

  /** What is left may stand in each other's way: unique values that were swapped. */
  async #exchange(failed: Failures): Promise<Failures> {
    const remaining = new Map(failed);
    const entries = [...failed].flatMap(([expectation, { kind }]) =>
      kind === 'not unique' ? [expectation] : [],
    );
    const { target } = this.#options;
    if (this.#writer === null || target === null) return remaining;
    const obstacle = whyNotReplaced({ ...this.#options, target });
    if (obstacle !== null) {
      for (const expectation of entries) explain(remaining, expectation, obstacle);
      return remaining;
    }
    for (let from = 0; from < entries.length; from += MAX_BATCH_ROWS) {
      const decided = await this.#deciding.look(entries.slice(from, from + MAX_BATCH_ROWS));
      const outcome = await this.#writer.exchange(plannedRows(decided));
      for (const { number, expectation } of decided) {
        if (outcome.upserted.has(number)) remaining.delete(expectation);
      }
      await this.#count(decided, outcome);
    }
    return remaining;
  }

  /** Goes through the keys once; returns those that could not be written. */
  async #pass(entries: Iterable<Expectation>, onDone: (count: number) => void): Promise<Failures> {
    const failed: Failures = new Map();
    const iterator = entries[Symbol.iterator]();
    let next = this.#read(iterator);
    for (;;) {
      const batch = await this.#fresh(await next);
      if (batch.taken === 0) return failed;
      throwIfAborted(this.#options.signal);
      // The source reads the next rows while the target writes these; where the target is looked at
      // first, it must be free.
      const ahead = this.#deciding.readsAhead ? this.#read(iterator) : null;
      // Another failure may come first; who awaits this one still gets it.
      ahead?.catch(() => undefined);
      try {
        for (const [expectation, failure] of await this.#act(batch)) {
          failed.set(expectation, failure);
        }
      } catch (error) {
        await ahead?.catch(() => undefined);
        throw error;
      }
      onDone(batch.taken);
      next = ahead ?? this.#read(iterator);
    }
  }

  /** The batch as it was read ahead, unless the one before took so long that it is read again. */
  async #fresh(batch: Batch): Promise<Batch> {
    if (performance.now() - batch.readAtMs < MAX_AHEAD_MS) return batch;
    return { ...batch, ...(await this.#stage(batch.planned)) };
  }

  async #stage(planned: readonly PlannedRow[]): Promise<Pick<Batch, 'transactions' | 'readAtMs'>> {
    const readAtMs = performance.now();
    const { target, sql, keepsCommitTime, mayConvert } = this.#options;
    if (target === null) return { transactions: [], readAtMs };
    const copies = sql.canCopyRows && !keepsCommitTime && !mayConvert;
    return { transactions: await stage(planned, { ...this.#options, copies }), readAtMs };
  }

  async #read(iterator: Iterator<Expectation>): Promise<Batch> {
    const keys: Expectation[] = [];
    let taken = 0;
    while (keys.length < this.#batchRows) {
      const entry = iterator.next();
      if (entry.done === true) break;
      taken += 1;
      const decision = decideUnseen(entry.value, this.#options.rulingOf(entry.value));
      if (decision === null) keys.push(entry.value);
      else this.#countDecided(decision);
    }
    const decided = await this.#deciding.decide(keys);
    const planned = plannedRows(decided);
    return { keys, taken, decided, planned, ...(await this.#stage(planned)) };
  }

  async #act(batch: Batch): Promise<Failures> {
    const { decided, planned } = batch;
    const failed: Failures = new Map();
    const isPlanned = new Set(planned.map(({ number }) => number));
    const others = decided.filter(({ number }) => !isPlanned.has(number));
    const outcome = await this.#write(batch);
    const left = decided.filter(({ number }) => isPlanned.has(number) && !isDone(outcome, number));
    await this.#countUnwritten([...others, ...left], failed);
    for (const [number, failure] of outcome.failed) {
      const expectation = batch.keys[number];
      if (expectation !== undefined) failed.set(expectation, failure);
    }
    await this.#count(decided, outcome);
    return failed;
  }

  async #count(decided: readonly Decided[], outcome: WriteOutcome): Promise<void> {
    this.#counts.deleted += outcome.deleted.size;
    this.#counts.upserted += outcome.upserted.size;
    for (const row of decided) {
      const before = row.target === undefined ? {} : { before: row.target.digest };
      if (outcome.deleted.has(row.number)) {
        this.#keep(this.#deletedKeys, row, null);
        this.#sums.add(before);
      }
      if (outcome.upserted.has(row.number)) {
        this.#keep(this.#writtenKeys, row, row.meant?.digest ?? null);
        this.#sums.add({
          ...before,
          ...(row.meant === undefined ? {} : { after: row.meant.digest }),
        });
        if (row.meant?.isPartial === true) this.#counts.left += 1;
      }
    }
    await this.#report(decided, outcome);
  }

  #keep(keys: KeyText[], { expectation: { key } }: Decided, digest: string | null): void {
    const { ownWrites, node, target } = this.#options;
    if (target !== null) ownWrites?.record(node, key, digest);
    if (keys.length < KEPT_KEYS) keys.push(key);
  }

  async #write({ planned, transactions }: Batch): Promise<WriteOutcome> {
    if (this.#writer === null) return asPlanned(planned);
    const startedAt = performance.now();
    const outcome = await this.#writer.write(transactions, this.#isPatient);
    this.#adapt(planned.length, transactions, performance.now() - startedAt);
    return outcome;
  }

  /** Towards batches that take BATCH_MS. */
  #adapt(rows: number, transactions: readonly StagedTransaction[], tookMs: number): void {
    const bytes = transactions.reduce((sum, transaction) => sum + bytesOf(transaction), 0);
    if (bytes > 0) this.#rowBytes = bytes / rows;
    const factor = tookMs > BATCH_MS ? 0.5 : tookMs < BATCH_MS / 2 ? 2 : 1;
    const wanted = Math.ceil(this.#batchRows * factor);
    this.#batchRows = Math.min(MAX_BATCH_ROWS, fittingRows(this.#rowBytes), Math.max(100, wanted));
  }

  /** Rows that were left alone are already equal, or not what the diff saw, or something kept them. */
  async #countUnwritten(rows: readonly Decided[], failed: Failures): Promise<void> {
    if (rows.length === 0) return;
    for (const row of await this.#deciding.decideAgain(rows)) {
      if (this.#countDecided(row.decision)) continue;
      failed.set(row.expectation, row.decision === 'unfit' ? UNFIT : await this.#dropped());
    }
  }

  /** False: there is still something to do. */
  #countDecided(decision: Decision): boolean {
    if (decision === 'equal') this.#counts.alreadyEqual += 1;
    else if (decision === 'target changed') this.#skipped.targetChanged += 1;
    else if (decision === 'source changed') this.#skipped.sourceChanged += 1;
    else if (decision === 'left') this.#counts.left += 1;
    else return decision === 'other way';
    return true;
  }

  async #countLocked(expectations: readonly Expectation[]): Promise<void> {
    for (let from = 0; from < expectations.length; from += this.#batchRows) {
      const part = expectations.slice(from, from + this.#batchRows);
      for (const { decision } of await this.#deciding.look(part)) {
        if (!this.#countDecided(decision)) this.#skipped.locked += 1;
      }
    }
  }

  /** Both rows are as the diff saw them, and yet nothing was written. */
  async #dropped(): Promise<RowFailure> {
    const { target, tableOid } = this.#options;
    if (target === null) return { reason: changedBy([]), kind: 'other' };
    const obstacle = whyNotReplaced({ ...this.#options, target });
    if (obstacle !== null && this.#options.sql.hasFixedColumns) {
      const reason = `an identity column differs, so the row would have to be deleted and inserted, and ${obstacle}`;
      return { reason, kind: 'other' };
    }
    await target.begin(null);
    const triggers = await firingTriggers(target.session, tableOid);
    await target.rollback();
    return { reason: changedBy(triggers), kind: 'other' };
  }

  async #report(decided: readonly Decided[], { deleted, upserted }: WriteOutcome): Promise<void> {
    const done = decided.filter(({ number }) => deleted.has(number) || upserted.has(number));
    await this.#options.changes?.(
      done.map(({ number, target, source, meant }) => ({
        before: target,
        after:
          deleted.has(number) || meant === undefined
            ? undefined
            : { digest: meant.digest, values: meant.merged ?? source?.values ?? [] },
      })),
    );
  }
}

function explain(failures: Failures, expectation: Expectation, obstacle: string): void {
  const failure = failures.get(expectation);
  if (failure === undefined) return;
  const reason = `${failure.reason}; values that were swapped need the rows deleted and inserted, and ${obstacle}`;
  failures.set(expectation, { ...failure, reason });
}

function asPlanned(planned: readonly PlannedRow[]): WriteOutcome {
  const [deletes, writes] = [true, false].map((isDelete) =>
    planned.filter(({ action }) => (action === 'delete') === isDelete),
  );
  return {
    deleted: new Set(deletes?.map(({ number }) => number)),
    upserted: new Set(writes?.map(({ number }) => number)),
    failed: new Map(),
  };
}

function isDone({ deleted, upserted, failed }: WriteOutcome, number: number): boolean {
  return deleted.has(number) || upserted.has(number) || failed.has(number);
}

function fittingRows(rowBytes: number): number {
  return Math.max(1, Math.min(MAX_BATCH_ROWS, Math.floor(BATCH_BYTES / Math.max(1, rowBytes))));
}
