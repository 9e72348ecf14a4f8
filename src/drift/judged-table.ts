import { backoffMs } from '../base/abort.js';
import type { OpenRows } from '../ingest/open-rows.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { PositionMap } from '../merkle/layout.js';
import type { Verdict } from '../protocol/commands.js';
import type { Findings, TableIncident } from './incident.js';
import type { Reach } from './reach.js';

/** A table whose rows do not settle is left alone for longer and longer. */
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
  told: { verdict: Verdict; sinceMs: number };
  /** Null: not known yet. */
  reach: Reach | null = null;
  #unsettledRounds = 0;
  #restsUntilMs = 0;
  /** Blocks that were compared on some nodes only, since changes did not get to the others. */
  #waiting = new Set<number>();
  #isAllWaiting = false;
  /** Blocks that were never compared since the table is followed, or since all of them had to be; null: all. */
  #unknown: Set<number> | null = null;

  constructor(table: TrackedTable, openRows: OpenRows, incident: TableIncident) {
    this.table = table;
    this.openRows = openRows;
    this.incident = incident;
    this.told = { verdict: 'unverified', sinceMs: Date.now() };
  }

  /** Rows and blocks that are open. */
  get open(): number {
    const { size, openBlocks, isWholeTableOpen } = this.openRows;
    const waiting = this.#waiting.size + (this.#isAllWaiting ? 1 : 0);
    return size + openBlocks + waiting + (isWholeTableOpen ? 1 : 0);
  }

  /** Nodes whose rows are meant to be equal. */
  get comparable(): string[] {
    return this.table.nodes.filter((node) => {
      const why = this.reach?.get(node)?.why ?? 'copying';
      return why === 'copying';
    });
  }

  /** Of those, the ones that changes get to. */
  settledNodes(lagging: ReadonlySet<string>): string[] {
    return this.comparable.filter((node) => !lagging.has(node) && this.reach?.has(node) !== true);
  }

  /** Takes what is known of how the table's changes travel. */
  learn(reach: Reach | null, nowMs: number): void {
    this.reach = reach;
    if (reach !== null) this.openRows.expect(this.indexesOf(this.comparable), nowMs);
  }

  indexesOf(nodes: readonly string[]): number[] {
    return nodes.map((node) => this.table.nodes.indexOf(node));
  }

  isOverdue(overdueAtMs: number, nowMs: number): boolean {
    if (this.table.state !== 'live' || this.reach === null || this.#restsUntilMs > nowMs)
      return false;
    return (
      this.#isAllWaiting ||
      this.#waiting.size > 0 ||
      this.openRows.blocksQuietSince(overdueAtMs)?.size !== 0
    );
  }

  /** Changes get to all nodes again: what was compared on some only is open, as of `atMs`. */
  reopenWaiting(atMs: number): void {
    if (this.#isAllWaiting) this.openRows.openWholeTable(atMs);
    for (const block of this.#waiting) this.openRows.openBlock(block, atMs);
    this.#isAllWaiting = false;
    this.#waiting.clear();
  }

  /** These blocks were compared on some nodes only; null: all. */
  wait(blocks: ReadonlySet<number> | null): void {
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

  relayout(map: PositionMap): void {
    this.#waiting = moved(this.#waiting, map);
    if (this.#unknown !== null) this.#unknown = moved(this.#unknown, map);
  }

  /** After a look: one that left rows unsettled, or failed, is followed by a rest. */
  rest(isNeeded: boolean): void {
    this.#unsettledRounds = isNeeded ? this.#unsettledRounds + 1 : 0;
    this.#restsUntilMs = isNeeded
      ? Date.now() + backoffMs(this.#unsettledRounds, UNSETTLED_BACKOFF)
      : 0;
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

/**
 * What a comparison of some nodes adds to an incident: blocks in which nothing was known to differ.
 * Of the others the nodes that were left out may be the ones that differ.
 */
export function additions(findings: Findings, known: ReadonlySet<number>): Findings | null {
  const drifted = new Map([...findings.drifted].filter(([block]) => !known.has(block)));
  return drifted.size === 0 ? null : { ...findings, blocks: new Set(drifted.keys()), drifted };
}
