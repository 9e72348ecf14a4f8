import type { KeyText } from '../postgres/table-spec.js';

/** `[lower, upper)` in the order of the key; null is open. */
export interface BlockRange {
  readonly lower: KeyText | null;
  readonly upper: KeyText | null;
}

/** Old position -> first and last new position that cover the same keys. */
export type PositionMap = (oldPosition: number) => readonly [first: number, last: number];

/**
 * The boundaries of a table's blocks, one list for the whole cluster. Block at position i holds
 * the keys in `[lowers[i], lowers[i + 1])`; the first is open below, the last open above, so every
 * possible key is in exactly one. Immutable: splits and merges make a new layout.
 */
export class BlockLayout {
  /** Stable names of the blocks, unique within the table, in position order. */
  readonly ids: readonly number[];
  /** lowers[0] is null. */
  readonly lowers: readonly (KeyText | null)[];
  readonly version: number;

  private constructor(
    ids: readonly number[],
    lowers: readonly (KeyText | null)[],
    version: number,
  ) {
    this.ids = ids;
    this.lowers = lowers;
    this.version = version;
  }

  static single(): BlockLayout {
    return new BlockLayout([1], [null], 1);
  }

  static restore(
    blocks: readonly { readonly id: number; readonly lower: KeyText | null }[],
    version: number,
  ): BlockLayout {
    return new BlockLayout(
      blocks.map((block) => block.id),
      blocks.map((block) => block.lower),
      version,
    );
  }

  get size(): number {
    return this.ids.length;
  }

  range(position: number): BlockRange {
    return {
      lower: this.lowers[position] ?? null,
      upper: position + 1 < this.size ? (this.lowers[position + 1] ?? null) : null,
    };
  }

  /** Replaces one block by `boundaries.length + 1` blocks; boundaries ascend within the block. */
  split(
    position: number,
    boundaries: readonly KeyText[],
  ): { layout: BlockLayout; map: PositionMap } {
    let nextId = this.#highestId() + 1;
    const ids = [...this.ids.slice(0, position)];
    const lowers = [...this.lowers.slice(0, position)];
    ids.push(nextId++);
    lowers.push(this.lowers[position] ?? null);
    for (const boundary of boundaries) {
      ids.push(nextId++);
      lowers.push(boundary);
    }
    for (let i = position + 1; i < this.size; i++) {
      ids.push(this.ids[i] ?? 0);
      lowers.push(this.lowers[i] ?? null);
    }
    const added = boundaries.length;
    return {
      layout: new BlockLayout(ids, lowers, this.version + 1),
      map: (old) => {
        if (old < position) return [old, old];
        if (old === position) return [old, old + added];
        return [old + added, old + added];
      },
    };
  }

  /**
   * Joins each run of neighbours into one block; runs ascend and do not touch. A joined block gets
   * a new id: a leaf that was stored under an old id must never be taken for the larger block's
   * after a crash.
   */
  merge(runs: readonly (readonly [first: number, last: number])[]): {
    layout: BlockLayout;
    map: PositionMap;
  } {
    let nextId = this.#highestId() + 1;
    const ids: number[] = [];
    const lowers: (KeyText | null)[] = [];
    const moved = new Int32Array(this.size);
    let run = 0;
    for (let position = 0; position < this.size; position++) {
      while (position > (runs[run]?.[1] ?? Infinity)) run++;
      const [first, last] = runs[run] ?? [Infinity, Infinity];
      if (position <= first || position > last) {
        ids.push(position === first ? nextId++ : (this.ids[position] ?? 0));
        lowers.push(this.lowers[position] ?? null);
      }
      moved[position] = ids.length - 1;
    }
    return {
      layout: new BlockLayout(ids, lowers, this.version + 1),
      map: (old) => [moved[old] ?? 0, moved[old] ?? 0],
    };
  }

  #highestId(): number {
    return this.ids.reduce((highest, id) => Math.max(highest, id), 0);
  }
}
