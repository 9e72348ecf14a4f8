import type { Param, Session } from '../postgres/session.js';
import { copyRows, copyTuples, integersOf } from './binary-copy.js';
import type { ReadSession } from './read-session.js';
import type { NumberedKey, RepairSql } from './repair-sql.js';

/** A row of a batch with what is to become of it. Digests are signed decimals. */
export type PlannedRow = NumberedKey &
  (
    | { readonly action: 'delete'; readonly expected: string }
    | ({ readonly action: 'update'; readonly expected: string } & MeantRow)
    | ({ readonly action: 'insert'; readonly expected: null } & MeantRow)
  );

interface MeantRow {
  /** Of the row as it is to be. */
  readonly digest: string;
  /** Its values; null: they are read from the source. */
  readonly merged: readonly (string | null)[] | null;
}

/**
 * Rows of the source, as arrays in its server's binary form: nothing here reads the values. Or rows
 * that were put together here, as arrays of texts.
 */
export interface StagedRows {
  readonly rows: readonly PlannedRow[];
  readonly areTexts: boolean;
  readonly numbers: Param;
  /** One array per written column. */
  readonly columns: readonly Param[];
}

/** Rows of the source that COPY puts into the table. */
export interface CopiedRows {
  readonly rows: readonly PlannedRow[];
  readonly bytes: Buffer;
}

/** What one transaction writes. */
export interface StagedTransaction {
  /** As the source's server writes it; null: the time at which the repair writes. */
  readonly commitTime: string | null;
  readonly deletes: readonly PlannedRow[];
  readonly updates: StagedRows | null;
  readonly inserts: StagedRows | null;
  /** Further inserts. */
  readonly copies: CopiedRows | null;
}

const NOTHING: StagedTransaction = {
  ...{ commitTime: null, deletes: [] },
  ...{ updates: null, inserts: null, copies: null },
};

export interface StageOptions {
  readonly source: ReadSession;
  readonly sql: RepairSql;
  /** Rows with a commit time of their own are written by a transaction with that commit time. */
  readonly keepsCommitTime: boolean;
  readonly signal: AbortSignal;
}

/**
 * Reads what is to be written. A row that is no longer what `planned` says of the source is left
 * out: nobody has looked at what is there now.
 *
 * @param copies what is inserted goes from COPY to COPY, which costs the target's server a third of an
 *   INSERT from arrays; a single row that is there already fails all of it
 */
export async function stage(
  planned: readonly PlannedRow[],
  { copies = false, ...options }: StageOptions & { readonly copies?: boolean },
): Promise<StagedTransaction[]> {
  const deletes = planned.filter(({ action }) => action === 'delete');
  const byTime = new Map<string | null, Partial<StagedTransaction>>();
  const writes = planned.filter((row) => row.action !== 'delete' && row.merged === null);
  if (writes.length > 0) {
    await options.source.read(async (session) => {
      for (const action of ['update', 'insert'] as const) {
        const rows = writes.filter((row) => row.action === action);
        if (action === 'insert' && copies) {
          const copied = await readCopies(session, rows, options);
          if (copied !== null) byTime.set(null, { ...byTime.get(null), copies: copied });
          continue;
        }
        for (const { commitTime, staged } of await read(session, rows, options)) {
          const name = action === 'update' ? 'updates' : 'inserts';
          byTime.set(commitTime, { ...byTime.get(commitTime), [name]: staged });
        }
      }
    });
  }
  const now = byTime.get(null);
  byTime.delete(null);
  const transactions = [...byTime].map(([commitTime, staged]): StagedTransaction => ({
    ...NOTHING,
    ...staged,
    commitTime,
  }));
  transactions.push(...mergedTransactions(planned, options.sql));
  if (deletes.length === 0 && now === undefined) return transactions;
  return [{ ...NOTHING, deletes, ...now }, ...transactions];
}

/** Of rows that no node has: their time is that of the repair. */
function mergedTransactions(planned: readonly PlannedRow[], sql: RepairSql): StagedTransaction[] {
  const stagedOf = (action: PlannedRow['action']): StagedRows | null => {
    const rows = planned.filter((row) => row.action === action);
    const values = rows.flatMap((row) =>
      row.action === 'delete' || row.merged === null
        ? []
        : [{ number: row.number, values: row.merged, row }],
    );
    if (values.length === 0) return null;
    const [numbers = [], ...columns] = sql.texts.valueParams(values);
    return { rows: values.map(({ row }) => row), areTexts: true, numbers, columns };
  };
  const [updates, inserts] = [stagedOf('update'), stagedOf('insert')];
  if (updates === null && inserts === null) return [];
  return [{ ...NOTHING, updates, inserts }];
}

async function readCopies(
  session: Session,
  rows: readonly PlannedRow[],
  { sql, signal }: StageOptions,
): Promise<CopiedRows | null> {
  if (rows.length === 0) return null;
  const { numbers, bytes } = await copyTuples(session, sql.readRows(rows, digestsOf(rows)), signal);
  return numbers.length === 0 ? null : { rows: rowsWith(numbers, rows), bytes };
}

function digestsOf(rows: readonly PlannedRow[]): string[] {
  return rows.map((row) => (row.action === 'delete' ? '' : row.digest));
}

function rowsWith(numbers: readonly number[], rows: readonly PlannedRow[]): PlannedRow[] {
  const byNumber = new Map(rows.map((row) => [row.number, row]));
  return numbers.flatMap((number) => byNumber.get(number) ?? []);
}

async function read(
  session: Session,
  rows: readonly PlannedRow[],
  { sql, keepsCommitTime, signal }: StageOptions,
): Promise<{ commitTime: string | null; staged: StagedRows }[]> {
  if (rows.length === 0) return [];
  const found = await copyRows(session, sql.read(rows, digestsOf(rows), keepsCommitTime), signal);
  return found.map(([commitTime, numbers, ...columns]) => ({
    commitTime: commitTime?.toString() ?? null,
    staged: {
      rows: rowsWith(integersOf(given(numbers)), rows),
      areTexts: false,
      numbers: given(numbers),
      columns: columns.map(given),
    },
  }));
}

function given(field: Buffer | null | undefined): Buffer {
  if (field === null || field === undefined) throw new RangeError('an array is missing');
  return field;
}

/** Of an array of integers as PostgreSQL writes it: `{1,2}`; null: of none. */
export function numbersOf(text: string | null | undefined): number[] {
  return (text ?? '{}').slice(1, -1).split(',').filter(Boolean).map(Number);
}

export function rowsOf({ deletes, updates, inserts, copies }: StagedTransaction): PlannedRow[] {
  return [deletes, updates?.rows ?? [], inserts?.rows ?? [], copies?.rows ?? []].flat();
}

/** Bytes of the values, about. */
export function bytesOf({ updates, inserts, copies }: StagedTransaction): number {
  const columns = [...(updates?.columns ?? []), ...(inserts?.columns ?? [])];
  return columns.reduce((sum, column) => sum + lengthOf(column), copies?.bytes.length ?? 0);
}

function lengthOf(column: Param): number {
  if (column === null || typeof column === 'string' || Buffer.isBuffer(column)) {
    return column?.length ?? 0;
  }
  return column.reduce((sum, text) => sum + (text?.length ?? 0), 0);
}
