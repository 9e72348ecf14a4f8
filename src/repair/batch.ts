import { rowFailureOf, type RowFailure } from './row-failure.js';
import type { CopyRelay } from './relay.js';
import type { NumberedKey, RepairSql, StagedKey } from './repair-sql.js';
import type { Session, TextRow } from '../postgres/session.js';
import type { TargetSession } from './target-session.js';

/** Rows of one transaction, each with its number; the numbers ascend through both lists together. */
export interface RepairBatch {
  readonly deletes: readonly (NumberedKey & { readonly expected: string })[];
  readonly writes: readonly StagedKey[];
}

export interface BatchOutcome {
  readonly deleted: ReadonlySet<number>;
  readonly upserted: ReadonlySet<number>;
  readonly failed: ReadonlyMap<number, RowFailure>;
  /** Texts of the rows as they were written, when asked for. */
  readonly written: readonly TextRow[];
  /** The source's digests of rows that were neither written nor refused. */
  readonly unwritten: ReadonlyMap<number, string>;
  readonly copiedBytes: number;
}

export interface BatchOptions {
  /** Brings the rows of `writes`; null: there are none. */
  readonly relay: CopyRelay | null;
  readonly target: TargetSession;
  readonly sql: RepairSql;
  readonly returnsRows: boolean;
  /** The source's session is not needed any more. */
  readonly onSourceFree: () => void;
}

/**
 * Applies a batch in one transaction: rows of the source go to a temporary table beside the target,
 * then each delete, update and insert names the digest that it may replace. A constraint that some
 * row violates costs that row alone: the batch is halved until it stands alone.
 */
export async function applyBatch(batch: RepairBatch, options: BatchOptions): Promise<BatchOutcome> {
  const { relay, target, sql } = options;
  await target.begin();
  try {
    const copiedBytes = relay === null ? 0 : await relay.into(target.session, sql.copyIn());
    options.onSourceFree();
    const application = new BatchApplication(batch, target.session, sql);
    const numbers = [...batch.deletes, ...batch.writes].map(({ number }) => number);
    await application.apply(Math.min(...numbers), Math.max(...numbers));
    const { deleted, upserted, failed } = application;
    const written = options.returnsRows
      ? await target.session.query(sql.stagedRows(), [[...upserted].map(String)])
      : [];
    const unwritten = await application.unwritten();
    await target.commit();
    return { deleted, upserted, failed, written, unwritten, copiedBytes };
  } catch (error) {
    relay?.cancel();
    await target.rollback();
    throw error;
  }
}

class BatchApplication {
  readonly deleted = new Set<number>();
  readonly upserted = new Set<number>();
  readonly failed = new Map<number, RowFailure>();
  readonly #batch: RepairBatch;
  readonly #session: Session;
  readonly #sql: RepairSql;

  constructor(batch: RepairBatch, session: Session, sql: RepairSql) {
    this.#batch = batch;
    this.#session = session;
    this.#sql = sql;
  }

  /** Applies the rows numbered `first` to `last`. */
  async apply(first: number, last: number): Promise<void> {
    await this.#session.query('SAVEPOINT part');
    try {
      const { deleted, upserted } = await this.#write(first, last);
      await this.#session.query('RELEASE SAVEPOINT part');
      for (const number of deleted) this.deleted.add(number);
      for (const number of upserted) this.upserted.add(number);
    } catch (error) {
      const failure = rowFailureOf(error);
      if (failure === null) throw error;
      await this.#session.query('ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part');
      if (first === last) {
        this.failed.set(first, failure);
        return;
      }
      const middle = Math.floor((first + last) / 2);
      await this.apply(first, middle);
      await this.apply(middle + 1, last);
    }
  }

  async unwritten(): Promise<Map<number, string>> {
    const numbers = this.#batch.writes
      .map(({ number }) => number)
      .filter((number) => !this.upserted.has(number) && !this.failed.has(number));
    if (numbers.length === 0) return new Map();
    const rows = await this.#session.query(this.#sql.stagedDigests(), [numbers.map(String)]);
    return new Map(rows.map(([number, digest]) => [Number(number), digest ?? '']));
  }

  /** Deletes come first: a row that goes may hold the unique value of one that comes. */
  async #write(
    first: number,
    last: number,
  ): Promise<{ deleted: readonly number[]; upserted: readonly number[] }> {
    const range = [String(first), String(last)];
    const { deletes, writes } = this.#batch;
    const deleted =
      deletes.length === 0
        ? []
        : await this.#numbers(this.#sql.delete(), [
            ...this.#sql.keyParams(deletes),
            deletes.map(({ expected }) => expected),
            ...range,
          ]);
    if (writes.length === 0) return { deleted, upserted: [] };
    const hasUpdates = writes.some(({ expected }) => expected !== null);
    const hasRoom = hasUpdates && this.#sql.hasFixedColumns;
    const roomFor = hasRoom ? await this.#numbers(this.#sql.makeRoom(), range) : [];
    const updated = hasUpdates ? await this.#numbers(this.#sql.update(), range) : [];
    const hasInserts = roomFor.length > 0 || writes.some(({ expected }) => expected === null);
    const inserted = hasInserts ? await this.#insert([...range, roomFor.map(String)]) : [];
    return { deleted, upserted: [...updated, ...inserted] };
  }

  /**
   * The one join of rows with rows of the same batch, none of them with an index: as a nested loop
   * 20,000 missing rows took 40 s instead of 1 s.
   */
  async #insert(params: readonly (string | readonly string[])[]): Promise<number[]> {
    await this.#session.query('SET LOCAL enable_hashjoin = on');
    const inserted = await this.#numbers(this.#sql.insert(), params);
    await this.#session.query('SET LOCAL enable_hashjoin = off');
    return inserted;
  }

  async #numbers(sql: string, params: readonly (string | readonly string[])[]): Promise<number[]> {
    const rows = await this.#session.query(sql, params);
    // As PostgreSQL writes an array of integers: {1,2}.
    return (rows[0]?.[0] ?? '{}').slice(1, -1).split(',').filter(Boolean).map(Number);
  }
}
