import type { KeyText } from '../table/table-spec.js';
import type { BlockLayout } from './layout.js';
import { joinHalves, type LeafSet, type LeafValue } from './leaves.js';

/** Values of some leaves, an array per field: objects for each would outweigh the tree itself. */
interface LeafFields {
  readonly rows: Float64Array;
  readonly sumLow: Int32Array;
  readonly sumHigh: Int32Array;
  readonly dirty: Uint8Array;
}

/** A leaf with all that is to be known of its block. */
export interface LeafRecord extends LeafValue {
  readonly id: number;
  readonly rank: number;
  readonly lower: KeyText | null;
  readonly isDirty: boolean;
}

/**
 * What a copy of the leaves elsewhere has to learn: the values as they were when it was made.
 * Records are made while they are asked for.
 */
export class LeafChanges {
  readonly layout: BlockLayout;
  /** Ascending. */
  readonly positions: Int32Array;
  readonly fields: LeafFields;
  /** How the blocks moved since the copy's own layout. */
  readonly match: Match;

  constructor(layout: BlockLayout, leaves: LeafSet, positions: Int32Array, match: Match) {
    this.layout = layout;
    this.positions = positions;
    this.match = match;
    this.fields = emptyFields(positions.length);
    positions.forEach((position, i) => {
      copyField(leaves, position, this.fields, i);
    });
  }

  get isEmpty(): boolean {
    return this.positions.length === 0 && this.removedIds.length === 0;
  }

  /** Ids to be removed before records are written; a block whose rank changed is among both. */
  get removedIds(): readonly number[] {
    return this.match.removedIds;
  }

  *records(): Generator<LeafRecord> {
    const { layout, positions, fields } = this;
    for (let i = 0; i < positions.length; i += 1) {
      const position = positions[i] ?? 0;
      yield {
        id: layout.ids[position] ?? 0,
        rank: layout.ranks[position] ?? 0,
        lower: layout.lowers[position] ?? null,
        rows: fields.rows[i] ?? 0,
        sum: joinHalves(fields.sumLow[i] ?? 0, fields.sumHigh[i] ?? 0),
        isDirty: fields.dirty[i] === 1,
      };
    }
  }
}

/** One table's leaves as a copy elsewhere has them. */
export class LeafCopy {
  #layout: BlockLayout | null = null;
  #fields = emptyFields(0);

  /** The copy itself stays as it is until they have arrived there: see `follow`. */
  changes(layout: BlockLayout, leaves: LeafSet): LeafChanges {
    const match = matchBlocks(this.#layout, layout);
    const { origins } = match;
    const positions = new Int32Array(layout.size);
    let count = 0;
    for (let position = 0; position < layout.size; position += 1) {
      const origin = origins === null ? position : (origins[position] ?? -1);
      if (origin >= 0 && isSame(this.#fields, origin, leaves, position)) continue;
      positions[count] = position;
      count += 1;
    }
    return new LeafChanges(layout, leaves, positions.slice(0, count), match);
  }

  /** The other place has these changes, the last that were made, now. */
  follow({ layout, positions, fields, match: { origins } }: LeafChanges): void {
    if (origins !== null) {
      const old = this.#fields;
      this.#fields = emptyFields(layout.size);
      origins.forEach((origin, position) => {
        if (origin >= 0) copyField(old, origin, this.#fields, position);
      });
      this.#layout = layout;
    }
    positions.forEach((position, i) => {
      copyField(fields, i, this.#fields, position);
    });
  }
}

interface Match {
  /** For each new position the old one of the same block, -1: it is new. Null: nothing has moved. */
  readonly origins: Int32Array | null;
  readonly removedIds: readonly number[];
}

/** Both layouts ascend by rank: one walk over both finds the blocks that they share. */
function matchBlocks(old: BlockLayout | null, now: BlockLayout): Match {
  if (old === now) return { origins: null, removedIds: [] };
  const origins = new Int32Array(now.size).fill(-1);
  const removedIds: number[] = [];
  const oldSize = old?.size ?? 0;
  let next = 0;
  for (let position = 0; position < now.size; position += 1) {
    const rank = now.ranks[position] ?? 0;
    for (; next < oldSize && (old?.ranks[next] ?? 0) < rank; next += 1) {
      removedIds.push(old?.ids[next] ?? 0);
    }
    const isSameBlock =
      next < oldSize && old?.ranks[next] === rank && old.ids[next] === now.ids[position];
    if (!isSameBlock) continue;
    origins[position] = next;
    next += 1;
  }
  for (; next < oldSize; next += 1) removedIds.push(old?.ids[next] ?? 0);
  return { origins, removedIds };
}

function emptyFields(size: number): LeafFields {
  return {
    rows: new Float64Array(size),
    sumLow: new Int32Array(size),
    sumHigh: new Int32Array(size),
    dirty: new Uint8Array(size),
  };
}

function isSame(a: LeafFields, i: number, b: LeafFields, j: number): boolean {
  return (
    a.rows[i] === b.rows[j] &&
    a.sumLow[i] === b.sumLow[j] &&
    a.sumHigh[i] === b.sumHigh[j] &&
    a.dirty[i] === b.dirty[j]
  );
}

function copyField(from: LeafFields, i: number, to: LeafFields, j: number): void {
  to.rows[j] = from.rows[i] ?? 0;
  to.sumLow[j] = from.sumLow[i] ?? 0;
  to.sumHigh[j] = from.sumHigh[i] ?? 0;
  to.dirty[j] = from.dirty[i] ?? 0;
}
