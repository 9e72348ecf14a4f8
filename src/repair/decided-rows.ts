import { decide, type Decision, type Merged, type Ruling } from './decision.js';
import type { Expectation, ValueHasher } from './expectation.js';
import type { OwnWrites } from './own-writes.js';
import type { ReadSession } from './read-session.js';
import type { NumberedKey, RepairSql } from './repair-sql.js';
import { rowFailureOf } from './row-failure.js';
import type { PlannedRow } from './staged-rows.js';

export type Values = readonly (string | null)[];

/** A row's state on one node. */
export interface Found {
  readonly digest: string;
  readonly values: Values;
}

/** A key with both rows as they are, or are taken to be, and what follows from it. */
export interface Decided {
  readonly number: number;
  readonly expectation: Expectation;
  readonly decision: Decision;
  readonly ruling: Ruling;
  readonly source: Found | undefined;
  readonly target: Found | undefined;
  /** What is to be written; undefined: nothing, or nobody knows yet. */
  readonly meant: Meant | undefined;
}

/** The row that the target is to have. */
export interface Meant {
  readonly digest: string;
  /** Null: it is the source's row, whose values are read when it is written. */
  readonly merged: Values | null;
  /** The nodes' rows differ even then. */
  readonly isPartial: boolean;
}

export interface DecidingOptions {
  readonly source: ReadSession;
  /** The target's session outside of the transactions that write. */
  readonly targetReader: ReadSession;
  readonly sql: RepairSql;
  readonly values: ValueHasher | null;
  /** The values of the rows are wanted too. */
  readonly withValues: boolean;
  readonly rulingOf: (expectation: Expectation) => Ruling;
  /** The nodes' names, as they stand in `ownWrites`. */
  readonly peer: string;
  readonly node: string;
  /** Null: the repair never comes back to a row. */
  readonly ownWrites: OwnWrites | null;
  readonly signal: AbortSignal;
}

/** How a repair comes to know what is to be done about keys. */
export interface Deciding {
  /** The source may be asked while the target writes. */
  readonly readsAhead: boolean;
  decide(keys: readonly Expectation[]): Promise<Decided[]>;
  /** Of both rows as they are now. */
  look(keys: readonly Expectation[]): Promise<Decided[]>;
  /** The same of rows that were not written after all, as they are now. */
  decideAgain(rows: readonly Decided[]): Promise<readonly Decided[]>;
}

/** Decide, then write: reads both rows of each key. */
export class LookFirst implements Deciding {
  readonly readsAhead = false;
  readonly #options: DecidingOptions;

  constructor(options: DecidingOptions) {
    this.#options = options;
  }

  async decide(keys: readonly Expectation[]): Promise<Decided[]> {
    return this.look(keys);
  }

  async look(keys: readonly Expectation[]): Promise<Decided[]> {
    const { source, targetReader, withValues, rulingOf } = this.#options;
    const reading = { ...this.#options, withValues: withValues || this.#options.values !== null };
    const [here, there] = await Promise.all([
      readRows(source, numbered(keys), reading),
      readRows(targetReader, numbered(keys), reading),
    ]);
    const decided = keys.map((expectation, number): Decided => {
      const found = { source: here.get(number), target: there.get(number) };
      const ruling = rulingOf(expectation);
      const current = {
        source: found.source?.digest ?? null,
        sourceProof: this.#proofOf(found.source, expectation, 'source'),
        target: found.target?.digest ?? null,
        targetProof: this.#proofOf(found.target, expectation, 'target'),
      };
      const decision = decide(expectation, current, ruling);
      return { number, expectation, decision, ruling, ...found, meant: meantOf(found.source) };
    });
    return mergeRows(decided, this.#options);
  }

  async decideAgain(rows: readonly Decided[]): Promise<readonly Decided[]> {
    return Promise.resolve(rows);
  }

  /** A row that this repair has written itself is as if the diff had seen it so. */
  #proofOf(
    found: Found | undefined,
    expectation: Expectation,
    side: 'source' | 'target',
  ): string | null {
    const { values, ownWrites, peer, node } = this.#options;
    const name = side === 'source' ? peer : node;
    if (ownWrites?.has(name, expectation.key, found?.digest ?? null) === true) {
      return expectation[side];
    }
    if (found === undefined) return null;
    return values === null ? found.digest : values.ofNode(found.values);
  }
}

/**
 * Write, then look: the file's digests are ours, so the statements themselves find out whether the
 * rows are still what the diff saw, and only rows that were not written need a look.
 */
export class TrustFile implements Deciding {
  readonly readsAhead = true;
  readonly #options: DecidingOptions;
  readonly #looking: LookFirst;

  constructor(options: DecidingOptions) {
    this.#options = options;
    this.#looking = new LookFirst(options);
  }

  /** The decisions if both nodes still have what the diff saw; of rows to delete it is read. */
  async decide(keys: readonly Expectation[]): Promise<Decided[]> {
    const lacking = numbered(keys).filter(({ number }) => keys[number]?.source === null);
    const appeared = await readRows(this.#options.source, lacking, this.#options);
    return keys.map((expectation, number) => {
      const source = appeared.get(number) ?? foundOf(expectation.source);
      const target = foundOf(expectation.target);
      const ruling = this.#options.rulingOf(expectation);
      const decision = appeared.has(number)
        ? 'source changed'
        : decide(
            expectation,
            {
              source: expectation.source,
              sourceProof: expectation.source,
              target: expectation.target,
              targetProof: expectation.target,
            },
            ruling,
          );
      const meant = meantOf(source);
      return { number, expectation, decision, ruling, source, target, meant };
    });
  }

  async decideAgain(rows: readonly Decided[]): Promise<readonly Decided[]> {
    return this.look(rows.map(({ expectation }) => expectation));
  }

  async look(keys: readonly Expectation[]): Promise<Decided[]> {
    return this.#looking.look(keys);
  }
}

/** The rows that exist, by the number of their key. */
export async function readRows(
  reader: ReadSession,
  keys: readonly NumberedKey[],
  { sql, signal, withValues }: Pick<DecidingOptions, 'sql' | 'signal' | 'withValues'>,
): Promise<Map<number, Found>> {
  if (keys.length === 0) return new Map();
  const rows = await reader.read((session) =>
    session.query(sql.rows(withValues), sql.keyParams(keys), signal),
  );
  return new Map(
    rows.map((row) => [Number(row[0]), { digest: row[1] ?? '', values: row.slice(2) }]),
  );
}

function foundOf(digest: string | null): Found | undefined {
  return digest === null ? undefined : { digest, values: [] };
}

function numbered(expectations: readonly Expectation[]): NumberedKey[] {
  return expectations.map(({ key }, number) => ({ number, key }));
}

/** The rows that are to be written. */
export function plannedRows(decided: readonly Decided[]): PlannedRow[] {
  return decided.flatMap(planOf);
}

function planOf({ number, expectation: { key }, decision, target, meant }: Decided): PlannedRow[] {
  switch (decision) {
    case 'delete':
      return target === undefined
        ? []
        : [{ number, key, action: 'delete', expected: target.digest }];
    case 'update':
      return meant === undefined || target === undefined
        ? []
        : [{ number, key, action: 'update', expected: target.digest, ...meant }];
    case 'insert':
      return meant === undefined
        ? []
        : [{ number, key, action: 'insert', expected: null, ...meant }];
    case 'equal':
    case 'left':
    case 'other way':
    case 'target changed':
    case 'source changed':
    case 'unfit':
      return [];
  }
}

function meantOf(source: Found | undefined): Meant | undefined {
  return source === undefined
    ? undefined
    : { digest: source.digest, merged: null, isPartial: false };
}

/** Finds out what rows are to be that take something of both sides. */
async function mergeRows(
  decided: readonly Decided[],
  { targetReader, sql, signal }: DecidingOptions,
): Promise<Decided[]> {
  const merged = new Map<number, Merged | null>();
  for (const { number, ruling, decision, source, target } of decided) {
    if (ruling.wish.kind !== 'merge' || !['insert', 'update'].includes(decision)) continue;
    const rows = { source: source?.values ?? null, target: target?.values ?? null };
    merged.set(number, ruling.wish.merge(rows));
  }
  const rows = [...merged].flatMap(([number, row]) =>
    row === null ? [] : [{ number, values: row.values }],
  );
  const digests = await digestsOf(rows, { targetReader, sql, signal });
  return decided.map((row) => {
    const meant = merged.get(row.number);
    if (meant === undefined) return row;
    const digest = digests.get(row.number);
    if (meant === null || (meant.isPartial && digest === row.target?.digest)) {
      return { ...row, decision: 'left' };
    }
    if (digest === undefined) return { ...row, decision: 'unfit' };
    if (digest === row.target?.digest) return { ...row, decision: 'equal' };
    return { ...row, meant: { digest, merged: meant.values, isPartial: meant.isPartial } };
  });
}

interface ValueRow {
  readonly number: number;
  readonly values: Values;
}

/** The digests that rows would have on the target; none for values that the columns do not take. */
export async function digestsOf(
  rows: readonly ValueRow[],
  options: Pick<DecidingOptions, 'targetReader' | 'sql' | 'signal'>,
): Promise<Map<number, string>> {
  if (rows.length === 0) return new Map();
  const { targetReader, sql, signal } = options;
  try {
    const found = await targetReader.read((session) =>
      session.query(sql.texts.digests(), sql.texts.valueParams(rows), signal),
    );
    return new Map(found.map(([number, digest]) => [Number(number), digest ?? '']));
  } catch (error) {
    if (rowFailureOf(error) === null) throw error;
    if (rows.length === 1) return new Map();
    const middle = Math.ceil(rows.length / 2);
    const first = await digestsOf(rows.slice(0, middle), options);
    const second = await digestsOf(rows.slice(middle), options);
    return new Map([...first, ...second]);
  }
}
