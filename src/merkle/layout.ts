import type { KeyText } from '../table/table-spec.js';

/** `[lower, upper)` in the order of the key; null is open. */
export interface BlockRange {
  readonly lower: KeyText | null;
  readonly upper: KeyText | null;
}

/** Old position -> first and last new position that cover the same keys. */
export type PositionMap = (oldPosition: number) => readonly [first: number, last: number];

export interface LayoutBlock {
  readonly id: number;
  readonly rank: number;
  readonly lower: KeyText | null;
}

/** A new layout and what is new in it, so that its cost can follow the change. */
export interface LayoutChange {
  readonly layout: BlockLayout;
  readonly map: PositionMap;
  /** Ids that are gone. */
  readonly removedIds: readonly number[];
  /** Positions of blocks that were not there before. */
  readonly addedPositions: readonly number[];
  /** Blocks that stayed have other ranks than before. */
  readonly isRenumbered: boolean;
}

/** Leaves room for 31 splits in the same place before ranks must be given anew. */
const RANK_STEP = 2 ** 31;
const MAX_RANK = Number.MAX_SAFE_INTEGER;

/**
 * The boundaries of a table's blocks, one list for the whole cluster. Block at position i holds
 * the keys in `[lowers[i], lowers[i + 1])`; the first is open below, the last open above, so every
 * possible key is in exactly one. Immutable: splits and merges make a new layout.
 */
export class BlockLayout {
  /** Stable names of the blocks, unique within the table, in position order. */
  readonly ids: readonly number[];
  /**
   * Ascending integers that order the blocks where they are kept outside: unlike a position, a rank
   * stays the same when other blocks are split.
   */
  readonly ranks: readonly number[];
  /** lowers[0] is null. */
  readonly lowers: readonly (KeyText | null)[];
  readonly version: number;

  private constructor(blocks: Blocks, version: number) {
    this.ids = blocks.ids;
    this.ranks = blocks.ranks;
    this.lowers = blocks.lowers;
    this.version = version;
  }

  static single(): BlockLayout {
    return new BlockLayout({ ids: [1], ranks: [0], lowers: [null] }, 1);
  }

  /** @param blocks in the order of their ranks */
  static restore(blocks: readonly LayoutBlock[], version: number): BlockLayout {
    return new BlockLayout(
      {
        ids: blocks.map((block) => block.id),
        ranks: blocks.map((block) => block.rank),
        lowers: blocks.map((block) => block.lower),
      },
      version,
    );
  }

  get size(): number {
    return this.ids.length;
  }

  /** What cuts the blocks, ascending: a key's position is the number of those at or below it. */
  get boundaries(): KeyText[] {
    return this.lowers.slice(1).map((lower) => lower ?? []);
  }

  range(position: number): BlockRange {
    return {
      lower: this.lowers[position] ?? null,
      upper: position + 1 < this.size ? (this.lowers[position + 1] ?? null) : null,
    };
  }

  /** Replaces one block by `boundaries.length + 1` blocks; boundaries ascend within the block. */
  split(position: number, boundaries: readonly KeyText[]): LayoutChange {
    const added = boundaries.length;
    const firstId = this.#highestId() + 1;
    const pieces = Array.from({ length: added + 1 }, (_, i) => i);
    const splice = <T>(list: readonly T[], replacement: readonly T[]): T[] => [
      ...list.slice(0, position),
      ...replacement,
      ...list.slice(position + 1),
    ];
    const rank = this.ranks[position] ?? 0;
    const nextRank = this.ranks[position + 1] ?? rank + RANK_STEP * pieces.length;
    const step = Math.floor((nextRank - rank) / pieces.length);
    const isRenumbered = step < 1 || nextRank > MAX_RANK;
    const ranks = isRenumbered
      ? freshRanks(this.size + added)
      : splice(
          this.ranks,
          pieces.map((i) => rank + i * step),
        );
    const ids = splice(
      this.ids,
      pieces.map((i) => firstId + i),
    );
    const lowers = splice(this.lowers, [this.lowers[position] ?? null, ...boundaries]);
    return {
      layout: new BlockLayout({ ids, ranks, lowers }, this.version + 1),
      map: (old) => {
        if (old < position) return [old, old];
        if (old === position) return [old, old + added];
        return [old + added, old + added];
      },
      removedIds: this.ids.slice(position, position + 1),
      addedPositions: pieces.map((i) => position + i),
      isRenumbered,
    };
  }

  /**
   * Joins each run of neighbours into one block; runs ascend and do not touch. A joined block gets
   * a new id: a leaf that was stored under an old id must never be taken for the larger block's
   * after a crash.
   */
  merge(runs: readonly (readonly [first: number, last: number])[]): LayoutChange {
    let nextId = this.#highestId() + 1;
    const blocks: Blocks = { ids: [], ranks: [], lowers: [] };
    const removedIds: number[] = [];
    const addedPositions: number[] = [];
    const moved = new Int32Array(this.size);
    let run = 0;
    for (let position = 0; position < this.size; position++) {
      while (position > (runs[run]?.[1] ?? Infinity)) run++;
      const [first, last] = runs[run] ?? [Infinity, Infinity];
      const isJoined = position >= first && position <= last;
      const id = this.ids[position] ?? 0;
      if (isJoined) removedIds.push(id);
      if (!isJoined || position === first) {
        if (isJoined) addedPositions.push(blocks.ids.length);
        blocks.ids.push(isJoined ? nextId++ : id);
        blocks.ranks.push(this.ranks[position] ?? 0);
        blocks.lowers.push(this.lowers[position] ?? null);
      }
      moved[position] = blocks.ids.length - 1;
    }
    return {
      layout: new BlockLayout(blocks, this.version + 1),
      map: (old) => [moved[old] ?? 0, moved[old] ?? 0],
      removedIds,
      addedPositions,
      isRenumbered: false,
    };
  }

  #highestId(): number {
    return this.ids.reduce((highest, id) => Math.max(highest, id), 0);
  }
}

interface Blocks {
  readonly ids: number[];
  readonly ranks: number[];
  readonly lowers: (KeyText | null)[];
}

function freshRanks(count: number): number[] {
  const step = Math.min(RANK_STEP, Math.floor(MAX_RANK / (2 * count)));
  return Array.from({ length: count }, (_, i) => i * step);
}
