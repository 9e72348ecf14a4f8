import type { CommandContext } from '../protocol/commands.js';
import type { BlockRange } from '../merkle/layout.js';
import type { KeyText } from '../table/table-spec.js';
import { letReplicationPass, type Passage, type Replication } from '../replication/passage.js';
import { checkBlocks, type BlockCheck, type Contradiction } from './block-check.js';
import { chunksOf } from './chunks.js';
import { reportColumns, type ComparedTable } from './compared-table.js';
import type { DiffSink } from './diff-sink.js';
import { oneAhead } from './one-ahead.js';
import type { RowDifference } from './row-difference.js';
import { searchKeys, searchRows } from './row-search.js';
import { settle, type DriftedRow } from './settle.js';
import { isNewer } from './until.js';

export interface SearchOptions {
  readonly table: ComparedTable;
  /** How long rows may move before they are given up as in flight. */
  readonly settleTimeoutMs: number;
  /** Rows that a block has, about. */
  readonly blockRows: number;
  readonly context: Pick<CommandContext, 'signal' | 'emit'>;
  /** `about` names what a warning is about: its figures change with every look. */
  readonly onWarning: (message: string, about?: string) => void;
  /** Take the rows that are proved to differ. One that is full ends the search, between two batches. */
  readonly sinks: readonly DiffSink[];
  /** Rows that some node has written after this moment are left out and counted. */
  readonly untilMicros?: bigint;
  /** Asked about blocks that differed though no row was found to: which of them are wrong elsewhere. */
  readonly findFaults?: (ranges: readonly BlockRange[]) => Promise<readonly UnverifiedBlock[]>;
  /** A block's sums and its rows contradict each other: for the record. */
  readonly onContradiction: (found: Contradiction) => void;
}

/** A block of which nothing is proved, and why: a sentence's end. */
export interface UnverifiedBlock {
  readonly range: BlockRange;
  readonly reason: string;
}

/** Rows whose digests are fetched at once, per node. Two such batches are in memory. */
const ROWS_PER_BATCH = 10_000;

/** Rows that differed, and what has happened since. */
interface Suspects {
  readonly differences: readonly RowDifference[];
  /** Null when nothing differs. */
  readonly passed: { readonly passage: Passage; readonly replication: Replication } | null;
}

/** From blocks that differ to rows that are proved to, within bounded memory. */
export class DifferenceSearch {
  readonly #options: SearchOptions;
  readonly #columns: readonly string[];
  readonly #faults: UnverifiedBlock[] = [];
  #replication: Replication | null = null;
  #inFlightRows = 0;
  #isStarved = false;
  #newerRows = 0;

  constructor(options: SearchOptions) {
    this.#options = options;
    this.#columns = reportColumns(options.table).map(({ name }) => name);
  }

  /** Rows that still moved when settling gave up. */
  get inFlightRows(): number {
    return this.#inFlightRows;
  }

  /** Some replication path did not move while rows were settled. */
  get isStarved(): boolean {
    return this.#isStarved;
  }

  /** Rows that differ and were left out, because some node has written them since `untilMicros`. */
  get newerRows(): number {
    return this.#newerRows;
  }

  get faults(): readonly UnverifiedBlock[] {
    return this.#faults;
  }

  /** How changes travel, once rows were found to differ. */
  get replication(): Replication | null {
    return this.#replication;
  }

  /**
   * Looks into blocks that differ between some nodes; they are given in key order. A block in which
   * no row differs is looked at once more: that it was in flight has to show.
   */
  async inBlocks(ranges: readonly BlockRange[]): Promise<void> {
    const open = await this.#look(ranges);
    if (open.length === 0) return;
    for (const fault of (await this.#options.findFaults?.(open)) ?? []) this.#unverified(fault);
    // Where sums and rows agree, rows that turn out to be equal were in flight.
    const differing = await this.#check(open);
    const equal = await this.#look([...differing.keys()]);
    if (equal.length > 0) await this.#requireMoved(equal, differing);
  }

  /** A row that has been neither written nor found to differ, and still differs, is not in flight. */
  async #requireMoved(
    ranges: readonly BlockRange[],
    before: BlockCheck['differing'],
  ): Promise<void> {
    for (const [range, rows] of await this.#check(ranges)) {
      const known = before.get(range);
      if (![...rows].some((row) => known?.has(row) === true)) continue;
      const reason =
        'rows in it differ that are equal by key: the nodes do not call the same keys equal';
      this.#unverified({ range, reason });
    }
  }

  /** Looks at the rows that have these keys, and at no others. */
  async ofKeys(keys: readonly KeyText[]): Promise<void> {
    const { table, context, sinks } = this.#options;
    const batches = chunksOf(keys, ROWS_PER_BATCH);
    const suspects = oneAhead(batches, context.signal, async (batch, signal) => ({
      size: batch.length,
      ...(await this.#passed(
        await searchKeys(
          batch.map((key) => ({ key, range: 0 })),
          { ...table, signal },
        ),
        signal,
      )),
    }));
    let done = 0;
    for await (const { size, differences, passed } of suspects) {
      if (passed !== null) await this.#settle(differences, passed, new Set());
      done += size;
      context.emit({ type: 'progress', phase: 'Comparing rows', done, total: keys.length });
      if (sinks.some(({ isFull }) => isFull)) return;
    }
  }

  /** Returns the blocks in which no row has turned out to differ. */
  async #look(ranges: readonly BlockRange[]): Promise<readonly BlockRange[]> {
    const { context } = this.#options;
    const batches = this.#batches(ranges);
    // Replication passes the next batch while one is read again and written.
    const suspects = oneAhead(batches, context.signal, async (blocks, signal) => ({
      blocks,
      ...(await this.#passed(await searchRows(blocks, { ...this.#options.table, signal }), signal)),
    }));
    let done = 0;
    const open: BlockRange[] = [];
    for await (const { blocks, differences, passed } of suspects) {
      const drifted = new Set<number>();
      const isSettled = passed === null || (await this.#settle(differences, passed, drifted));
      // What is in flight may be in any of them, and nobody will say match.
      if (isSettled) open.push(...blocks.filter((_, index) => !drifted.has(index)));
      done += blocks.length;
      context.emit({ type: 'progress', phase: 'Analysing mismatches', done, total: ranges.length });
      if (this.#options.sinks.some(({ isFull }) => isFull)) return [];
    }
    return open;
  }

  /** Adds the blocks of drifted rows to `drifted`; returns whether nothing was left in flight. */
  async #settle(
    differences: readonly RowDifference[],
    { passage, replication }: NonNullable<Suspects['passed']>,
    drifted: Set<number>,
  ): Promise<boolean> {
    const { table, settleTimeoutMs, context, onWarning, sinks } = this.#options;
    const { inFlight, isStarved } = await settle(differences, passage, {
      ...{ pools: table.pools, sql: table.sql, commitTimeNodes: table.commitTimeNodes },
      columns: this.#columns,
      replication,
      timeoutMs: settleTimeoutMs,
      signal: context.signal,
      table: table.spec,
      onWarning,
      onDrift: async (rows) => {
        for (const { range } of rows) drifted.add(range);
        const wanted = this.#upToUntil(rows);
        for (const sink of sinks) await sink.take(wanted);
      },
    });
    this.#inFlightRows += inFlight.length;
    this.#isStarved ||= isStarved;
    return inFlight.length === 0 && !isStarved;
  }

  #upToUntil(rows: readonly DriftedRow[]): readonly DriftedRow[] {
    const { untilMicros } = this.#options;
    if (untilMicros === undefined) return rows;
    const wanted = rows.filter((row) => !isNewer(row, untilMicros));
    this.#newerRows += rows.length - wanted.length;
    return wanted;
  }

  /** Returns the blocks in which rows differ after all. */
  async #check(ranges: readonly BlockRange[]): Promise<BlockCheck['differing']> {
    const { table, context, onContradiction } = this.#options;
    const { pools, sql, spec } = table;
    const differing = new Map<BlockRange, ReadonlySet<string>>();
    for (const batch of this.#batches(ranges)) {
      const options = { pools, sql, keyColumns: spec.key.length, signal: context.signal };
      const found = await checkBlocks(batch, options);
      for (const [range, rows] of found.differing) differing.set(range, rows);
      for (const contradiction of found.contradictions) {
        onContradiction(contradiction);
        this.#unverified(contradiction);
      }
    }
    return differing;
  }

  #unverified({ range, reason }: UnverifiedBlock): void {
    this.#faults.push({ range, reason });
    this.#options.onWarning(`the block ${rangeText(range)} is not proved: ${reason}`);
  }

  #batches(ranges: readonly BlockRange[]): BlockRange[][] {
    return chunksOf(ranges, Math.max(1, Math.floor(ROWS_PER_BATCH / this.#options.blockRows)));
  }

  /** Lets replication pass when something differs. */
  async #passed(differences: readonly RowDifference[], signal: AbortSignal): Promise<Suspects> {
    const { table, settleTimeoutMs, onWarning } = this.#options;
    if (differences.length === 0) return { differences, passed: null };
    const replication = (this.#replication ??= await table.replication());
    const passage = await letReplicationPass(
      { replication, table: table.spec, signal, onWarning },
      settleTimeoutMs,
    );
    return { differences, passed: { passage, replication } };
  }
}

function rangeText({ lower, upper }: BlockRange): string {
  const end = (key: KeyText | null): string => (key === null ? '…' : `(${key.join(', ')})`);
  return `[${end(lower)}, ${end(upper)})`;
}
