import { Backoff, backoffMs } from '../base/backoff.js';
import type { OpenRows } from '../ingest/open-rows.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { PositionMap } from '../merkle/layout.js';
import type { Verdict } from '../protocol/commands.js';
import type { TableIncident } from './incident.js';
import type { Reach } from './reach.js';

/** Rows that do not settle, and tables that cannot be read, are left alone for longer and longer. */
const UNSETTLED_BACKOFF = { firstMs: 500, maxMs: 15_000 };

/** What the watch keeps of one table. */
export class JudgedTable {
  readonly table: TrackedTable;
  readonly openRows: OpenRows;
  readonly incident: TableIncident;
  /** What holds its changes up on their way; null: nothing that is known. */
  heldUpBy: string | null = null;
  /** The last failure that was told; null: the last look went well. */
  failure: string | null = null;
  /** When the last look at its rows began; 0: there was none. */
  lookedAtMs = 0;
  told: { verdict: Verdict; sinceMs: number };
  /** When the verdict was last `match`; null: it was not. */
  matchedAtMs: number | null = null;
  /** Null: not known yet. */
  reach: Reach | null = null;
  /** Nodes whose rows are meant to be equal. */
  comparable: readonly string[];
  readonly #backoff = new Backoff(UNSETTLED_BACKOFF);
  /** Blocks with rows that did not settle -> how often in a row. */
  readonly #unsettled = new Map<number, number>();
  /** Blocks that were compared on some nodes only, since changes did not get to the others. */
  #waiting = new Set<number>();
  #isAllWaiting = false;
  /** Blocks that were never compared since the table is followed, or since all of them had to be; null: all. */
  #unknown: Set<number> | null = null;
  /** Nodes that what is waiting was compared on. */
  #comparedOn: ReadonlySet<string> = new Set();

  constructor(table: TrackedTable, openRows: OpenRows, incident: TableIncident) {
    this.table = table;
    this.openRows = openRows;
    this.incident = incident;
    this.told = { verdict: 'unverified', sinceMs: Date.now() };
    this.comparable = table.nodes;
  }

  /** Rows and blocks that are open. */
  get open(): number {
    const { size, openBlocks, isWholeTableOpen } = this.openRows;
    const waiting = this.#waiting.size + (this.#isAllWaiting ? 1 : 0);
    return size + openBlocks + waiting + (isWholeTableOpen ? 1 : 0);
  }

  /** Of those, the ones that changes get to. */
  settledNodes(lagging: ReadonlySet<string>): string[] {
    return this.comparable.filter((node) => !lagging.has(node) && this.reach?.has(node) !== true);
  }

  /** Takes what is known of how the table's changes travel. */
  learn(reach: Reach | null, nowMs: number): void {
    this.reach = reach;
    this.comparable = this.table.nodes.filter(
      (node) => (reach?.get(node)?.why ?? 'copying') === 'copying',
    );
    if (reach !== null) this.openRows.expect(this.indexesOf(this.comparable), nowMs);
  }

  indexesOf(nodes: readonly string[]): number[] {
    return nodes.map((node) => this.table.nodes.indexOf(node));
  }

  isOverdue(overdueAtMs: number): boolean {
    if (this.open === 0 || this.table.state !== 'live') return false;
    if (this.reach === null || this.#backoff.isResting) return false;
    return (
      this.#isAllWaiting ||
      this.#waiting.size > 0 ||
      this.openRows.blocksQuietSince(overdueAtMs)?.size !== 0
    );
  }

  /**
   * What was compared on some nodes only is open, as of `atMs`, when others are to be compared now: all
   * that changes get to again, or another part of them.
   */
  reopenWaiting(nodes: readonly string[], atMs: number): void {
    if (nodes.every((node) => this.#comparedOn.has(node))) return;
    if (this.#isAllWaiting) this.openRows.openWholeTable(atMs);
    for (const block of this.#waiting) this.openRows.openBlock(block, atMs);
    this.#isAllWaiting = false;
    this.#waiting.clear();
    this.#comparedOn = new Set();
  }

  /** These blocks were compared on these nodes only; null: all. */
  wait(blocks: ReadonlySet<number> | null, nodes: readonly string[]): void {
    this.#comparedOn = new Set(nodes);
    if (blocks === null) this.#isAllWaiting = true;
    for (const block of blocks ?? []) this.#waiting.add(block);
  }

  /** All its rows have been compared. */
  get isCompared(): boolean {
    return this.#unknown?.size === 0;
  }

  isUnknown(block: number): boolean {
    return this.#unknown?.has(block) !== false;
  }

  /** These blocks were compared on all nodes; null: all were to be. Of those that are left out nothing was learned. */
  compared(blocks: ReadonlySet<number> | null, leftOut: ReadonlySet<number>): void {
    if (blocks === null) this.#unknown = new Set(leftOut);
    for (const block of blocks ?? []) if (!leftOut.has(block)) this.#unknown?.delete(block);
  }

  /**
   * After a look at these blocks (null: all): those with rows that did not settle are open, and looked
   * at again later and later. The others are judged meanwhile as ever.
   */
  reopenUnsettled(
    unsettled: ReadonlySet<number>,
    compared: ReadonlySet<number> | null,
    nowMs: number,
  ): void {
    for (const block of [...this.#unsettled.keys()]) {
      if (compared?.has(block) !== false && !unsettled.has(block)) this.#unsettled.delete(block);
    }
    for (const block of unsettled) {
      const times = this.#unsettled.get(block) ?? 0;
      this.#unsettled.set(block, times + 1);
      this.openRows.openBlock(block, nowMs + backoffMs(times, UNSETTLED_BACKOFF));
    }
  }

  relayout(map: PositionMap): void {
    this.#unsettled.clear();
    this.#waiting = moved(this.#waiting, map);
    if (this.#unknown !== null) this.#unknown = moved(this.#unknown, map);
  }

  /** After a look: one that failed is followed by a rest. */
  rest(hasFailed: boolean): void {
    if (hasFailed) this.#backoff.failed();
    else this.#backoff.succeeded();
  }
}

/** What is known of blocks of which nothing was learned stays. Null: all blocks. */
export function without(
  compared: ReadonlySet<number> | null,
  leftOut: ReadonlySet<number>,
  table: TrackedTable,
): ReadonlySet<number> | null {
  if (leftOut.size === 0) return compared;
  const all = compared ?? new Set(Array.from({ length: table.layout.size }, (_, block) => block));
  return new Set([...all].filter((block) => !leftOut.has(block)));
}

function moved(blocks: ReadonlySet<number>, map: PositionMap): Set<number> {
  const parts = new Set<number>();
  for (const block of blocks) {
    const [first, last] = map(block);
    for (let part = first; part <= last; part++) parts.add(part);
  }
  return parts;
}
