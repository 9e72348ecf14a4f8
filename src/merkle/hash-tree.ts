import xxhash from 'xxhash-addon';
import type { LeafSet } from './leaves.js';

/** Children of an interior node. */
const FANOUT = 64;
const HASH_BYTES = 16;
const LEAF_BYTES = 16;

/**
 * Interior nodes over a LeafSet: XXH3-128 of the children in order, so that nothing cancels.
 * Built when asked for, from a leaf set that must not change while the tree is used; a tree of
 * 20,000 leaves takes well under a millisecond.
 */
export class HashTree {
  readonly #leaves: LeafSet;
  /** Hashes of each level above the leaves; the last is one hash. */
  readonly #levels: readonly Buffer[];

  private constructor(leaves: LeafSet, levels: readonly Buffer[]) {
    this.#leaves = leaves;
    this.#levels = levels;
  }

  static build(leaves: LeafSet): HashTree {
    const levels: Buffer[] = [];
    let below = hashLeaves(leaves);
    for (;;) {
      levels.push(below);
      if (below.length === HASH_BYTES) return new HashTree(leaves, levels);
      below = hashChildren(below);
    }
  }

  /** 32 hex digits. Says nothing of leaves that are dirty. */
  get root(): string {
    return this.#levels.at(-1)?.toString('hex') ?? '';
  }

  /** Positions of leaves that differ; both trees must have the same layout. */
  differences(other: HashTree): number[] {
    if (this.#leaves.size !== other.#leaves.size) {
      throw new RangeError('trees of different layouts');
    }
    const found: number[] = [];
    this.#walk(other, this.#levels.length - 1, 0, found);
    return found;
  }

  #walk(other: HashTree, level: number, index: number, found: number[]): void {
    if (level < 0) {
      if (!this.#leaves.isEqual(other.#leaves, index)) found.push(index);
      return;
    }
    const start = index * HASH_BYTES;
    const end = start + HASH_BYTES;
    const mine = this.#levels[level]?.subarray(start, end);
    const theirs = other.#levels[level]?.subarray(start, end);
    if (mine === undefined || theirs === undefined || mine.equals(theirs)) return;
    const children = level === 0 ? this.#leaves.size : this.#countAt(level - 1);
    for (let child = index * FANOUT; child < Math.min((index + 1) * FANOUT, children); child++) {
      this.#walk(other, level - 1, child, found);
    }
  }

  #countAt(level: number): number {
    return (this.#levels[level]?.length ?? 0) / HASH_BYTES;
  }
}

/** The leaves' own bytes, of which only one node's worth is in memory. */
function hashLeaves(leaves: LeafSet): Buffer {
  const bytes = Buffer.allocUnsafe(FANOUT * LEAF_BYTES);
  return hashEach(Math.ceil(leaves.size / FANOUT), (parent) => {
    const first = parent * FANOUT;
    const count = Math.min(FANOUT, leaves.size - first);
    for (let i = 0; i < count; i++) {
      bytes.writeDoubleLE(leaves.rows[first + i] ?? 0, i * LEAF_BYTES);
      bytes.writeInt32LE(leaves.sumLow[first + i] ?? 0, i * LEAF_BYTES + 8);
      bytes.writeInt32LE(leaves.sumHigh[first + i] ?? 0, i * LEAF_BYTES + 12);
    }
    return bytes.subarray(0, count * LEAF_BYTES);
  });
}

function hashChildren(below: Buffer): Buffer {
  const chunk = FANOUT * HASH_BYTES;
  return hashEach(Math.ceil(below.length / chunk), (parent) =>
    below.subarray(parent * chunk, (parent + 1) * chunk),
  );
}

function hashEach(parents: number, childrenOf: (parent: number) => Buffer): Buffer {
  const level = Buffer.allocUnsafe(parents * HASH_BYTES);
  for (let parent = 0; parent < parents; parent++) {
    xxhash.XXHash128.hash(childrenOf(parent)).copy(level, parent * HASH_BYTES);
  }
  return level;
}
