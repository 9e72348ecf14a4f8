import { throwIfAborted } from '../base/abort.js';
import { copyInto } from './binary-copy.js';
import type { Session, TextRow } from '../postgres/session.js';
import type { RepairSql } from './repair-sql.js';
import { rowFailureOf, type RowFailure } from './row-failure.js';
import {
  numbersOf,
  rowsOf,
  stage,
  type CopiedRows,
  type PlannedRow,
  type StagedRows,
  type StagedTransaction,
  type StageOptions,
} from './staged-rows.js';
import { writtenSoFar } from './table-constraints.js';
import type { TargetSession } from './target-session.js';
import { firingTriggers } from './target-triggers.js';

export interface RowWriterOptions extends StageOptions {
  readonly target: TargetSession;
  readonly tableOid: number;
  /** What is written may come out differently even without a trigger: types differ. */
  readonly mayConvert: boolean;
}

/** By the rows' numbers. Rows in neither were not as the diff saw them. */
export interface WriteOutcome {
  readonly deleted: Set<number>;
  readonly upserted: Set<number>;
  readonly failed: Map<number, RowFailure>;
}

/** A batch waits so long for locks in all; then what is locked is left for later. */
const LOCK_BUDGET_MS = 1_000;

/** These rows must not stay as they have come out. */
class RowsRefused extends Error {
  readonly numbers: ReadonlySet<number>;
  readonly failure: RowFailure;

  constructor(numbers: readonly number[], failure: RowFailure) {
    super('rows came out differently');
    this.numbers = new Set(numbers);
    this.failure = failure;
  }
}

/** So often rows of a transaction are left out and the others tried again: each may take the next with it. */
const MAX_LEFT_OUT = 3;
/** After so many rows of a batch that fail alone the others are left for another way. */
const MAX_ALONE = 16;

/** A trigger has left out some of what was copied. */
class CopyIncomplete extends Error {}

/** Why a write had no effect, or another one. */
export function changedBy(triggers: readonly string[]): string {
  if (triggers.length === 0) return 'the table made something else of what was written';
  const names = triggers.map((name) => JSON.stringify(name)).join(', ');
  return `a trigger that fires for a repair too changes or drops what is written (${names})`;
}

/** Why rows of the target must not be deleted and inserted again: a sentence's end. Null: they may. */
export function whyNotReplaced({
  target,
  sql,
}: Pick<RowWriterOptions, 'target' | 'sql'>): string | null {
  if (target.facts.deletesCascade) return 'deletes fire triggers here';
  const [first] = sql.uncompared;
  if (first === undefined) return null;
  return `that would lose what is not compared (${sql.uncompared.join(', ')})`;
}

/**
 * Writes rows in short transactions. Each delete, update and insert names the digest that it may
 * replace. What a constraint refuses costs that row alone: a transaction that fails is divided and
 * tried again, until the row stands alone. Nobody is waited for: what others hold is left out.
 */
export class RowWriter {
  readonly #options: RowWriterOptions;
  #outcome: WriteOutcome = noOutcome();
  #waitedMs = 0;
  #leftOut = 0;
  /** Rows that failed alone. */
  #alone = 0;
  #isPatient = false;

  constructor(options: RowWriterOptions) {
    this.#options = options;
  }

  /** @param isPatient rows that need each other are divided too, down to single ones */
  async write(
    transactions: readonly StagedTransaction[],
    isPatient: boolean,
  ): Promise<WriteOutcome> {
    this.#isPatient = isPatient;
    this.#alone = 0;
    this.#outcome = noOutcome();
    this.#waitedMs = 0;
    this.#leftOut = 0;
    for (const transaction of transactions) await this.#try(transaction);
    return this.#outcome;
  }

  /**
   * Deletes rows and inserts them with the source's values, in one transaction: for rows whose
   * unique values were swapped, of which none can be written before another. Rows that stand in the
   * way of something else are left out. Takes no deletes.
   */
  async exchange(planned: readonly PlannedRow[]): Promise<WriteOutcome> {
    const { target } = this.#options;
    let rows = planned;
    for (let round = 0; round < MAX_LEFT_OUT && rows.length > 0; round += 1) {
      const [transaction] = await stage(rows, { ...this.#options, keepsCommitTime: false });
      if (transaction === undefined) break;
      await target.begin(null);
      try {
        const writes = new TransactionWrites(transaction, this.#options);
        const { written, stuck } = await writes.exchange();
        if (stuck.size === 0) {
          await target.commit();
          return { ...noOutcome(), upserted: new Set(written) };
        }
        await target.rollback();
        rows = rows.filter(({ number }) => !stuck.has(number));
      } catch (error) {
        await target.rollback();
        if (error instanceof RowsRefused || rowFailureOf(error) !== null) break;
        throw error;
      }
    }
    return noOutcome();
  }

  /** All of them in one transaction, or none: rows that refer to each other. */
  async together(planned: readonly PlannedRow[]): Promise<WriteOutcome> {
    this.#outcome = noOutcome();
    const transactions = await stage(planned, { ...this.#options, keepsCommitTime: false });
    const [transaction] = transactions;
    if (transaction === undefined || transactions.length > 1) return noOutcome();
    try {
      await this.#transact(transaction, false);
    } catch (error) {
      if (!(error instanceof RowsRefused) && rowFailureOf(error) === null) throw error;
    }
    return this.#outcome;
  }

  async #try(transaction: StagedTransaction): Promise<void> {
    throwIfAborted(this.#options.signal);
    const startedAt = performance.now();
    try {
      await this.#transact(transaction, false);
    } catch (error) {
      if (error instanceof RowsRefused) return this.#leaveOut(transaction, error);
      const { isBroken } = this.#options.target.session;
      // Whatever COPY was refused for, statements find the rows that it is about.
      if (transaction.copies !== null && !isBroken) return this.#again(rowsOf(transaction));
      const failure = rowFailureOf(error);
      if (failure === null) throw error;
      if (failure.kind !== 'locked') return this.#divide(transaction, failure);
      this.#waitedMs += performance.now() - startedAt;
      await this.#writeUnlocked(transaction);
    }
  }

  /** Once more, without the rows that others hold. */
  async #writeUnlocked(transaction: StagedTransaction): Promise<void> {
    const startedAt = performance.now();
    try {
      await this.#transact(transaction, true);
    } catch (error) {
      if (error instanceof RowsRefused) return this.#leaveOut(transaction, error);
      const failure = rowFailureOf(error);
      if (failure === null) throw error;
      if (failure.kind === 'locked') {
        this.#waitedMs += performance.now() - startedAt;
        if (this.#waitedMs > LOCK_BUDGET_MS) {
          this.#fail(rowsOf(transaction), failure);
          return;
        }
      }
      await this.#divide(transaction, failure);
    }
  }

  async #leaveOut(transaction: StagedTransaction, refused: RowsRefused): Promise<void> {
    const rows = rowsOf(transaction);
    const { numbers, failure } = refused;
    const left = rows.filter(({ number }) => numbers.has(number));
    this.#leftOut += 1;
    if (failure.kind === 'not unique' && this.#leftOut > MAX_LEFT_OUT) {
      // They stand in each other's way, in a row; another order will do.
      this.#fail(rows, failure);
      return;
    }
    if (left.length === 0) return this.#divide(transaction, failure);
    this.#fail(left, failure);
    await this.#again(rows.filter(({ number }) => !numbers.has(number)));
  }

  async #divide(transaction: StagedTransaction, failure: RowFailure): Promise<void> {
    const rows = rowsOf(transaction).toSorted((a, b) => a.number - b.number);
    if (rows.length <= 1) {
      this.#alone += 1;
      this.#fail(rows, failure);
      return;
    }
    // Rows that need each other fail apart from each other, each on its own: a transaction a row.
    const needOthers = failure.kind === 'not unique' || failure.kind === 'reference';
    if (needOthers && !this.#isPatient && this.#alone >= MAX_ALONE) {
      this.#fail(rows, failure);
      return;
    }
    const middle = Math.ceil(rows.length / 2);
    await this.#again(rows.slice(0, middle));
    await this.#again(rows.slice(middle));
  }

  async #again(rows: readonly PlannedRow[]): Promise<void> {
    for (const part of await stage(rows, this.#options)) await this.#try(part);
  }

  #fail(rows: readonly PlannedRow[], failure: RowFailure): void {
    for (const { number } of rows) this.#outcome.failed.set(number, failure);
  }

  async #transact(transaction: StagedTransaction, skipsLocked: boolean): Promise<void> {
    const { target } = this.#options;
    await target.begin(transaction.commitTime);
    let written: WrittenNumbers;
    try {
      written = await new TransactionWrites(transaction, this.#options).write(skipsLocked);
      await target.commit();
    } catch (error) {
      await target.rollback();
      throw error;
    }
    for (const number of written.deleted) this.#outcome.deleted.add(number);
    for (const number of written.upserted) this.#outcome.upserted.add(number);
    const locked = { reason: '', kind: 'locked' } as const;
    for (const number of written.locked) this.#outcome.failed.set(number, locked);
  }
}

interface WrittenNumbers {
  readonly deleted: readonly number[];
  readonly upserted: readonly number[];
  /** Or gone. */
  readonly locked: readonly number[];
}

/** The statements of one transaction. */
class TransactionWrites {
  readonly #transaction: StagedTransaction;
  readonly #options: RowWriterOptions;
  readonly #session: Session;
  readonly #sql: RepairSql;

  constructor(transaction: StagedTransaction, options: RowWriterOptions) {
    this.#transaction = transaction;
    this.#options = options;
    this.#session = options.target.session;
    this.#sql = options.sql;
  }

  async write(skipsLocked: boolean): Promise<WrittenNumbers> {
    const { deletes, updates, inserts, copies } = this.#transaction;
    const writtenBefore = await this.#writtenAlong();
    const held = [...deletes, ...(updates?.rows ?? [])];
    const free = skipsLocked ? await this.#lock(held) : null;
    // Deletes come first: a row that goes may hold the unique value of one that comes.
    const deleted = await this.#delete(free);
    const updated = await this.#update(free);
    const inserted = inserts === null ? [] : await this.#insert(inserts, null);
    const copied = copies === null ? [] : await this.#copy(copies);
    const upserted = [updated, inserted, copied].flat();
    // What waits for the commit may still change rows, or refuse them.
    await this.#session.query('SET CONSTRAINTS ALL IMMEDIATE');
    await this.#check(new Set(deleted), new Set(upserted));
    await this.#checkCascades(writtenBefore, deleted.length + updated.length);
    const locked =
      free === null ? [] : held.map(({ number }) => number).filter((number) => !free.has(number));
    return { deleted, upserted, locked };
  }

  /** Deletes all and inserts them again; `stuck` are those that still find a value taken. */
  async exchange(): Promise<{ written: readonly number[]; stuck: ReadonlySet<number> }> {
    const { updates, inserts } = this.#transaction;
    const gone =
      updates === null ? [] : await this.#run(this.#sqlOf(updates).makeRoom('all'), updates, null);
    const written: number[] = [];
    if (updates !== null) written.push(...(await this.#insert(updates, gone, 'any')));
    if (inserts !== null) written.push(...(await this.#insert(inserts, null, 'any')));
    const stuck = new Set([...gone, ...(inserts?.rows ?? []).map(({ number }) => number)]);
    for (const number of written) stuck.delete(number);
    if (stuck.size === 0) await this.#check(new Set(), new Set(written));
    return { written, stuck };
  }

  async #lock(rows: readonly PlannedRow[]): Promise<ReadonlySet<number>> {
    if (rows.length === 0) return new Set();
    const found = await this.#session.query(this.#sql.lock(), this.#sql.keyParams(rows));
    return new Set(numbersOf(found[0]?.[0]));
  }

  async #delete(free: ReadonlySet<number> | null): Promise<number[]> {
    const { deletes } = this.#transaction;
    const rows = free === null ? deletes : deletes.filter(({ number }) => free.has(number));
    if (rows.length === 0) return [];
    const digests = rows.map(({ expected }) => expected);
    const params = [...this.#sql.keyParams(rows), digests];
    return numbersOf((await this.#session.query(this.#sql.delete(), params))[0]?.[0]);
  }

  /** A column that cannot be updated makes some rows be deleted and inserted. */
  async #update(free: ReadonlySet<number> | null): Promise<number[]> {
    const { updates } = this.#transaction;
    if (updates === null) return [];
    const chosen = free === null ? null : [...free];
    const sql = this.#sqlOf(updates);
    const makesRoom = sql.hasFixedColumns && whyNotReplaced(this.#options) === null;
    const moved = makesRoom ? await this.#run(sql.makeRoom('fixed'), updates, chosen) : [];
    const updated = await this.#run(sql.update(), updates, chosen);
    if (moved.length === 0) return updated;
    const inserted = await this.#insert(updates, moved);
    // They are deleted already.
    if (inserted.length < moved.length) throw await this.#changed(without(moved, inserted));
    return [...updated, ...inserted];
  }

  async #insert(
    rows: StagedRows,
    chosen: readonly number[] | null,
    arbiters: 'key' | 'any' = 'key',
  ): Promise<number[]> {
    const sql = this.#sqlOf(rows);
    const wanted = chosen ?? rows.rows.map(({ number }) => number);
    const usable = this.#options.target.facts.arbiters;
    const statement = sql.insert(usable === 'any' ? arbiters : usable);
    const [count] = await this.#staged(statement, rows, chosen);
    if (Number(count) === wanted.length) return [...wanted];
    const found = count === '0' ? [] : await this.#run(sql.written(), rows, chosen);
    // Some were stored under another key than was meant.
    if (found.length !== Number(count)) throw await this.#changed(without(wanted, found));
    return found;
  }

  async #copy({ rows, bytes }: CopiedRows): Promise<number[]> {
    const count = await copyInto(this.#session, this.#sql.copyIn(), bytes);
    if (count !== rows.length) throw new CopyIncomplete();
    return rows.map(({ number }) => number);
  }

  #sqlOf({ areTexts }: StagedRows): RepairSql {
    return areTexts ? this.#sql.texts : this.#sql;
  }

  async #run(
    statement: string,
    rows: StagedRows,
    chosen: readonly number[] | null,
  ): Promise<number[]> {
    return numbersOf((await this.#staged(statement, rows, chosen))[0]);
  }

  /** Runs a statement over staged rows, all or some; returns its only row. */
  async #staged(
    statement: string,
    rows: StagedRows,
    chosen: readonly number[] | null,
  ): Promise<TextRow> {
    const expected = rows.rows.map((row) => row.expected);
    const numbers = chosen === null ? null : `{${chosen.join(',')}}`;
    const params = [expected, numbers, rows.numbers, ...rows.columns];
    return (await this.#session.query(statement, params))[0] ?? [];
  }

  /** Where something may have changed what was written, looks at it. Errors: RowsRefused. */
  async #check(deleted: ReadonlySet<number>, upserted: ReadonlySet<number>): Promise<void> {
    const rows = rowsOf(this.#transaction).filter(
      ({ number }) => deleted.has(number) || upserted.has(number),
    );
    if (rows.length === 0) return;
    await this.#checkUnique(rows.filter(({ number }) => upserted.has(number)));
    const triggers = await firingTriggers(this.#session, this.#options.tableOid);
    if (triggers.length === 0 && !this.#options.mayConvert) return;
    const found = await this.#session.query(this.#sql.rows(false), this.#sql.keyParams(rows));
    const digests = new Map(found.map(([number, digest]) => [Number(number), digest]));
    const changed = rows.filter((row) => digests.get(row.number) !== meant(row));
    if (changed.length === 0) return;
    throw new RowsRefused(
      changed.map(({ number }) => number),
      { reason: changedBy(triggers), kind: 'other' },
    );
  }

  /** Of deferrable constraints, which the server does not check for a replica. Errors: RowsRefused. */
  async #checkUnique(rows: readonly PlannedRow[]): Promise<void> {
    if (rows.length === 0) return;
    for (const constraint of this.#options.target.facts.looseConstraints) {
      const statement = this.#sql.conflicts(constraint);
      const found = await this.#session.query(statement, this.#sql.keyParams(rows));
      if (found.length === 0) continue;
      const reason = `another row stands against them (${constraint.name})`;
      const numbers = found.map(([number]) => Number(number));
      throw new RowsRefused(numbers, { reason, kind: 'not unique' });
    }
  }

  /** By cascade. */
  async #writtenAlong(): Promise<number[]> {
    const written: number[] = [];
    for (const { oids } of this.#options.target.facts.cascades) {
      written.push(await writtenSoFar(this.#session, oids));
    }
    return written;
  }

  /**
   * @param before what had been written when the transaction began
   * @param own rows that were meant to be deleted or updated
   */
  async #checkCascades(before: readonly number[], own: number): Promise<void> {
    const after = await this.#writtenAlong();
    for (const [i, { name, table, isOwn }] of this.#options.target.facts.cascades.entries()) {
      const along = (after[i] ?? 0) - (before[i] ?? 0) - (isOwn ? own : 0);
      if (along <= 0) continue;
      const reason = `that would also delete or change rows of ${table}, by foreign key ${name} or a trigger: repair ${table} first`;
      throw new RowsRefused([], { reason, kind: 'reference' });
    }
  }

  async #changed(numbers: readonly number[]): Promise<RowsRefused> {
    const triggers = await firingTriggers(this.#session, this.#options.tableOid);
    return new RowsRefused(numbers, { reason: changedBy(triggers), kind: 'other' });
  }
}

function without(numbers: readonly number[], others: readonly number[]): number[] {
  const left = new Set(others);
  return numbers.filter((number) => !left.has(number));
}

/** The digest that the row is to have; undefined: there is to be none. */
function meant(row: PlannedRow): string | undefined {
  return row.action === 'delete' ? undefined : row.digest;
}

function noOutcome(): WriteOutcome {
  return { deleted: new Set(), upserted: new Set(), failed: new Map() };
}
