import { readDiffFile, type DiffFileHead, type DiffFileRows } from '../diff-file/diff-reader.js';
import { Expectations, type ValueHasher } from './expectation.js';
import type { RepairPair } from './request.js';

export interface RepairFileOptions {
  readonly path: string;
  /** Only pairs with this node are read, as their source's side; null: all, the first node's. */
  readonly source: string | null;
  /** The key's columns, in the order of the table's key. */
  readonly keyColumns: readonly string[];
}

/** A diff file that has been read to its end, with what a repair by its digests needs of its rows. */
export class RepairFile {
  readonly head: DiffFileHead;
  readonly #options: RepairFileOptions;
  readonly #collected: ReadonlyMap<string, PairRows>;

  private constructor(
    head: DiffFileHead,
    options: RepairFileOptions,
    collected: ReadonlyMap<string, PairRows>,
  ) {
    this.head = head;
    this.#options = options;
    this.#collected = collected;
  }

  /** Errors: BAD_DIFF_FILE when the file, wherever in it, is not a diff file. */
  static async read(options: RepairFileOptions): Promise<RepairFile> {
    const { path, source, keyColumns } = options;
    const collected = new Map<string, PairRows>();
    const head = await readDiffFile(path, {
      columns: keyColumns,
      // Node names have no slash in them.
      wants: (pair) => source === null || pair.split('/').includes(source),
      take: (batch) => {
        let rows = collected.get(batch.pair);
        if (rows === undefined) {
          // The file's pairs come one after the other.
          for (const before of collected.values()) before.expectations?.seal();
          rows = new PairRows(options, source ?? batch.pair.split('/')[0] ?? '');
          collected.set(batch.pair, rows);
        }
        rows.add(batch);
      },
    });
    for (const rows of collected.values()) rows.expectations?.seal();
    return new RepairFile(head, options, collected);
  }

  /**
   * What the diff saw in the rows of a target. Rows of a file whose digests are not ours are read
   * again, with all their values. Errors: BAD_DIFF_FILE.
   */
  async expectations(
    { name, source, target }: RepairPair,
    values: ValueHasher | null,
  ): Promise<Expectations> {
    const collected = this.#collected.get(name);
    const isUsable =
      values === null && collected?.source === source && collected.isOfTarget(target);
    if (isUsable && collected.expectations !== null) return collected.expectations;
    return Expectations.read({ ...this.#options, pair: name, source, target, values });
  }
}

/** Rows of the source and one other node. */
class PairRows {
  readonly source: string;
  #target: string | null = null;
  /** Null: something in the rows is not as expected; reading them again will say what. */
  expectations: Expectations | null;

  constructor({ path, keyColumns }: RepairFileOptions, source: string) {
    this.source = source;
    this.expectations = new Expectations({ path, keyColumns, values: null });
  }

  /** Where the pair has rows of no other node but the source, they are any target's. */
  isOfTarget(node: string): boolean {
    return this.#target === null || this.#target === node;
  }

  add({ node, rows }: DiffFileRows): void {
    const isSource = node === this.source;
    if (!isSource) this.#target ??= node;
    if (!isSource && node !== this.#target) {
      this.expectations = null;
      return;
    }
    try {
      this.expectations?.add(rows, isSource);
    } catch {
      this.expectations = null;
    }
  }
}
