import { throwIfAborted } from '../base/abort.js';
import type { Session, TextRow } from '../postgres/session.js';
import type { RepairReportWriter } from '../report/repair-report.js';
import { applyBatch, type BatchOptions, type RepairBatch } from './batch.js';
import { decide, isWanted, type Decision } from './decision.js';
import type { Expectation, Expectations, ValueHasher } from './expectation.js';
import { CopyRelay } from './relay.js';
import type { NumberedKey, RepairSql, StagedKey } from './repair-sql.js';
import type { RepairMode } from './request.js';
import type { RowFailure } from './row-failure.js';
import type { TargetSession } from './target-session.js';

export interface RepairCounts {
  upserted: number;
  deleted: number;
  skipped: number;
  failed: number;
  alreadyEqual: number;
}

export interface TargetRepairOptions {
  readonly node: string;
  readonly expectations: Expectations;
  /** About what a row takes, until some have been moved. */
  readonly rowBytes: number;
  readonly mode: RepairMode;
  readonly source: Session;
  readonly targetSession: Session;
  /** Null: only counts what would be done. */
  readonly target: TargetSession | null;
  readonly sql: RepairSql;
  readonly values: ValueHasher | null;
  readonly report: RepairReportWriter | null;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

export interface TargetRepairResult {
  readonly counts: RepairCounts;
  readonly failures: readonly RowFailure[];
}

const MAX_BATCH_ROWS = 10_000;
/** One batch is one transaction and is held in a temporary table: large rows make it smaller. */
const BATCH_BYTES = 32 * 1024 * 1024;

/** Rows wait so long for the target after they were read from the source. */
const MAX_AHEAD_MS = 2_000;

/** A row's state on one node. */
interface Found {
  readonly digest: string;
  readonly values: readonly (string | null)[];
}

/** Keys of a batch with what the source reads for them; `taken` counts those not wanted too. */
interface SourceBatch {
  readonly keys: readonly Expectation[];
  readonly taken: number;
  readonly rows: Promise<SourceRows>;
  readonly readAtMs: number;
}

interface SourceRows {
  /** By the key's index. Where the file is trusted only of keys that the source should lack. */
  readonly found: ReadonlyMap<number, Found>;
  /** The rows to write, where the file is trusted and there are any. */
  readonly relay: CopyRelay | null;
}

/** An expectation with both rows as they are now and what follows from it. */
interface Decided {
  readonly number: number;
  readonly expectation: Expectation;
  readonly decision: Decision;
  readonly source: Found | undefined;
  readonly target: Found | undefined;
}

/** Brings one node to the source's rows, batch by batch. */
export class TargetRepair {
  readonly #options: TargetRepairOptions;
  readonly #counts: RepairCounts = {
    upserted: 0,
    deleted: 0,
    skipped: 0,
    failed: 0,
    alreadyEqual: 0,
  };
  #batchRows: number;

  constructor(options: TargetRepairOptions) {
    this.#options = options;
    this.#batchRows = rowsOfBatch(options.rowBytes);
  }

  async run(): Promise<TargetRepairResult> {
    const { expectations, onProgress } = this.#options;
    const total = expectations.size;
    let done = 0;
    let failed = await this.#pass(expectations.entries(), (count) => {
      done += count;
      onProgress(done, total);
    });
    // A row may have had to wait for another one's unique value, or for somebody's lock.
    while (failed.size > 0) {
      const again = await this.#pass([...failed.keys()], () => undefined);
      const isProgress = again.size < failed.size;
      failed = again;
      if (!isProgress) break;
    }
    this.#counts.failed = failed.size;
    return { counts: this.#counts, failures: [...failed.values()] };
  }

  /** Goes through the keys once; returns those that could not be written. */
  async #pass(
    entries: Iterable<Expectation>,
    onDone: (count: number) => void,
  ): Promise<Map<Expectation, RowFailure>> {
    const { mode, signal } = this.#options;
    const failed = new Map<Expectation, RowFailure>();
    const iterator = entries[Symbol.iterator]();
    let next = this.#read(iterator, mode);
    try {
      while (next.keys.length > 0) {
        throwIfAborted(signal);
        next = await this.#fresh(next);
        const { keys, taken } = next;
        const { found, relay } = await next.rows;
        const decided = this.#trustsFile ? presume(keys, found) : await this.#decide(keys, found);
        // The source reads the next rows while the target writes these.
        let following: SourceBatch | undefined;
        const results = await this.#act(decided, relay, () => {
          following = next = this.#read(iterator, mode);
        });
        for (const [expectation, failure] of results) failed.set(expectation, failure);
        onDone(taken);
        next = following ?? this.#read(iterator, mode);
      }
    } catch (error) {
      const unused = await next.rows.catch(() => null);
      unused?.relay?.cancel();
      throw error;
    }
    return failed;
  }

  #read(iterator: Iterator<Expectation>, mode: RepairMode): SourceBatch {
    const keys: Expectation[] = [];
    let taken = 0;
    while (keys.length < this.#batchRows) {
      const entry = iterator.next();
      if (entry.done === true) break;
      taken += 1;
      if (isWanted(entry.value, mode)) keys.push(entry.value);
    }
    const rows = this.#trustsFile ? this.#readToWrite(keys) : this.#readToDecide(keys);
    // Another failure may come first; who awaits this one still gets it.
    rows.catch(() => undefined);
    return { keys, taken, rows, readAtMs: performance.now() };
  }

  /** The batch as it was read ahead, unless the one before took so long that it is read again. */
  async #fresh(batch: SourceBatch): Promise<SourceBatch> {
    const { relay } = await batch.rows;
    if (relay === null || performance.now() - batch.readAtMs < MAX_AHEAD_MS) return batch;
    await relay.discard();
    return { ...batch, rows: this.#readToWrite(batch.keys), readAtMs: performance.now() };
  }

  async #readToDecide(keys: readonly Expectation[]): Promise<SourceRows> {
    const { source, report, target } = this.#options;
    // A dry run shows the source's rows; otherwise they are shown as they were written.
    const withValues = report !== null && target === null;
    return { found: await this.#rows(source, numbered(keys), withValues), relay: null };
  }

  async #readToWrite(keys: readonly Expectation[]): Promise<SourceRows> {
    const { source, sql } = this.#options;
    const lacking = numbered(keys).filter(({ number }) => keys[number]?.hasSource === false);
    const found = await this.#rows(source, lacking, false);
    const staged = keys.flatMap(({ key, target, hasSource }, number) =>
      hasSource ? [{ number, key, expected: target }] : [],
    );
    const relay = staged.length === 0 ? null : new CopyRelay(source, sql.copyOut(staged));
    return { found, relay };
  }

  async #decide(
    expectations: readonly Expectation[],
    source: ReadonlyMap<number, Found>,
  ): Promise<Decided[]> {
    const { targetSession, values, report } = this.#options;
    const withValues = values !== null || report !== null;
    const target = await this.#rows(targetSession, numbered(expectations), withValues);
    return expectations.map((expectation, number) => {
      const there = target.get(number);
      const here = source.get(number);
      const current = {
        source: here?.digest ?? null,
        target: there?.digest ?? null,
        targetProof:
          there === undefined ? null : values === null ? there.digest : values.ofNode(there.values),
      };
      const decision = decide(expectation, current);
      return { number, expectation, decision, source: here, target: there };
    });
  }

  /** The rows that exist, by the number of their key. */
  async #rows(
    session: Session,
    keys: readonly NumberedKey[],
    withValues: boolean,
  ): Promise<Map<number, Found>> {
    if (keys.length === 0) return new Map();
    const { sql, signal } = this.#options;
    const rows = await session.query(sql.rows(withValues), sql.keyParams(keys), signal);
    return new Map(
      rows.map((row) => [Number(row[0]), { digest: row[1] ?? '', values: row.slice(2) }]),
    );
  }

  async #act(
    decided: readonly Decided[],
    relay: CopyRelay | null,
    onSourceFree: () => void,
  ): Promise<Map<Expectation, RowFailure>> {
    const writes: StagedKey[] = [];
    const deletes: (NumberedKey & { expected: string })[] = [];
    const others: Decided[] = [];
    for (const row of decided) {
      const { number, expectation, decision, target } = row;
      const { key } = expectation;
      if (decision === 'equal' || decision === 'changed') others.push(row);
      else if (decision === 'delete') {
        deletes.push({ number, key, expected: target?.digest ?? '' });
      } else writes.push({ number, key, expected: target?.digest ?? null });
    }
    await this.#countUnwritten(others);
    if (deletes.length + writes.length === 0) return new Map();
    if (this.#options.target === null) {
      this.#counts.deleted += deletes.length;
      this.#counts.upserted += writes.length;
      await this.#reportDecided(decided);
      return new Map();
    }
    const { source, sql } = this.#options;
    const moving =
      relay ?? (writes.length === 0 ? null : new CopyRelay(source, sql.copyOut(writes)));
    return this.#write(decided, { deletes, writes }, { relay: moving, onSourceFree });
  }

  async #write(
    decided: readonly Decided[],
    batch: RepairBatch,
    reading: Pick<BatchOptions, 'relay' | 'onSourceFree'>,
  ): Promise<Map<Expectation, RowFailure>> {
    const { target, sql, report, node } = this.#options;
    if (target === null) return new Map();
    const returnsRows = report !== null;
    const outcome = await applyBatch(batch, { ...reading, target, sql, returnsRows });
    const counts = this.#counts;
    counts.deleted += outcome.deleted.size;
    counts.upserted += outcome.upserted.size;
    // What was neither written nor refused is not what the diff, or our own look, saw.
    const unwritten = decided.flatMap((row) => {
      const { number, decision } = row;
      const isPlanned = decision !== 'equal' && decision !== 'changed';
      const isDone =
        outcome.deleted.has(number) || outcome.upserted.has(number) || outcome.failed.has(number);
      if (!isPlanned || isDone) return [];
      const digest = outcome.unwritten.get(number);
      return [{ ...row, source: digest === undefined ? undefined : { digest, values: [] } }];
    });
    await this.#countUnwritten(unwritten);
    if (batch.writes.length > 0) {
      this.#batchRows = rowsOfBatch(outcome.copiedBytes / batch.writes.length);
    }
    if (report !== null) {
      const gone = decided.filter(({ number }) => outcome.deleted.has(number));
      await report.add(
        node,
        'deleted',
        gone.map((row) => row.target?.values ?? []),
      );
      const written: TextRow[] = outcome.written.map((row) => row.slice(1));
      await report.add(node, 'upserted', written);
    }
    const failed = new Map<Expectation, RowFailure>();
    for (const { number, expectation } of decided) {
      const failure = outcome.failed.get(number);
      if (failure !== undefined) failed.set(expectation, failure);
    }
    return failed;
  }

  /** Rows that were left alone are already equal, or not what the diff saw. */
  async #countUnwritten(rows: readonly Decided[]): Promise<void> {
    if (rows.length === 0) return;
    const source = new Map(
      rows.flatMap((row, number) =>
        row.source === undefined ? [] : [[number, row.source] as const],
      ),
    );
    const expectations = rows.map(({ expectation }) => expectation);
    const looked = this.#trustsFile ? await this.#decide(expectations, source) : rows;
    for (const { decision } of looked) {
      if (decision === 'equal') this.#counts.alreadyEqual += 1;
      else this.#counts.skipped += 1;
    }
  }

  /**
   * The file's digests are ours: the writes themselves find out whether the target still has what
   * the diff saw, and only rows that were not written need a look.
   */
  get #trustsFile(): boolean {
    const { target, values, report } = this.#options;
    return target !== null && values === null && report === null;
  }

  async #reportDecided(decided: readonly Decided[]): Promise<void> {
    const { report, node } = this.#options;
    if (report === null) return;
    const deleted = decided.filter(({ decision }) => decision === 'delete');
    const upserted = decided.filter(
      ({ decision }) => decision === 'insert' || decision === 'update',
    );
    await report.add(
      node,
      'deleted',
      deleted.map((row) => row.target?.values ?? []),
    );
    await report.add(
      node,
      'upserted',
      upserted.map((row) => row.source?.values ?? []),
    );
  }
}

function rowsOfBatch(rowBytes: number): number {
  const fitting = Math.floor(BATCH_BYTES / Math.max(1, rowBytes));
  return Math.max(1, Math.min(MAX_BATCH_ROWS, fitting));
}

function numbered(expectations: readonly Expectation[]): NumberedKey[] {
  return expectations.map(({ key }, number) => ({ number, key }));
}

/** The decisions if both nodes still have what the diff saw: the writes find out whether they do. */
function presume(
  expectations: readonly Expectation[],
  found: ReadonlyMap<number, Found>,
): Decided[] {
  return expectations.map((expectation, number) => {
    const source = found.get(number);
    const digest = expectation.target;
    return {
      number,
      expectation,
      decision: presumed(expectation, source !== undefined),
      source,
      target: digest === null ? undefined : { digest, values: [] },
    };
  });
}

function presumed({ hasSource, target }: Expectation, hasAppeared: boolean): Decision {
  if (hasSource) return target === null ? 'insert' : 'update';
  return hasAppeared ? 'changed' : 'delete';
}
