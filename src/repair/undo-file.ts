import { steadyNowMs } from '../base/clock.js';
import { AcedError } from '../base/errors.js';
import { DiffFileWriter, type DiffFileOptions, type RowImage } from '../diff-file/diff-writer.js';
import type { Found } from './decided-rows.js';
import type { TakeChanges } from './row-changes.js';

/** Stands behind a node's name for its rows as they were; no node's name has it. */
const BEFORE = '~before';

export function beforeOf(node: string): string {
  return `${node}${BEFORE}`;
}

/** The node whose rows a pair of an undo file has; null: a pair of something else. */
export function undoneNode(pair: string): string | null {
  const [node = '', before] = pair.split('/');
  return before === beforeOf(node) ? node : null;
}

export type UndoFileOptions = Omit<
  DiffFileOptions,
  'suffix' | 'nodes' | 'maxDiffRows' | 'startedAt'
>;

/**
 * The rows of one node as a repair left them beside what they were: a diff file of the node with
 * itself, so that whatever reads one reads the other. It appears when the repair of the node ends,
 * by an error too.
 */
export class UndoFile {
  readonly #node: string;
  readonly #writer: DiffFileWriter;
  readonly #excludedColumns: readonly string[];
  readonly #startedAtMs = steadyNowMs();

  private constructor(node: string, writer: DiffFileWriter, excludedColumns: readonly string[]) {
    this.#node = node;
    this.#writer = writer;
    this.#excludedColumns = excludedColumns;
  }

  static async create(
    node: string,
    options: UndoFileOptions & { readonly excludedColumns: readonly string[] },
  ): Promise<UndoFile> {
    const { excludedColumns, ...file } = options;
    const writer = await DiffFileWriter.create({
      ...file,
      suffix: 'undo',
      startedAt: new Date(),
      nodes: [node, beforeOf(node)],
      maxDiffRows: Number.MAX_SAFE_INTEGER,
    });
    return new UndoFile(node, writer, excludedColumns);
  }

  readonly take: TakeChanges = async (changes) => {
    await this.#writer.add(
      changes.map(({ before, after }) => ({
        images: new Map([
          [this.#node, imageOf(after)],
          [beforeOf(this.#node), imageOf(before)],
        ]),
      })),
    );
  };

  /** The file's name; null: nothing was written. */
  async finish(): Promise<string | null> {
    const excludedColumns = this.#excludedColumns.map((name) => ({
      name,
      reason: 'as in the diff',
    }));
    return this.#writer.finish({
      ...{ blockSize: 0, compareUnitSize: 0, concurrencyFactor: 0, totalRowsChecked: 0 },
      ...{ initialRangesCount: 0, mismatchedRangesCount: 0, positions: {}, warnings: [] },
      timeTakenMs: steadyNowMs() - this.#startedAtMs,
      verdict: 'drift',
      excludedColumns,
    });
  }
}

function imageOf(row: Found | undefined): RowImage | null {
  if (row === undefined) return null;
  const digest = BigInt.asUintN(64, BigInt(row.digest)).toString(16).padStart(16, '0');
  return { digest, values: row.values, commitTs: null, origin: null };
}

/** The nodes of an undo file. Errors: BAD_DIFF_FILE when it is something else. */
export function undoneNodes(pairs: readonly { readonly name: string }[], path: string): string[] {
  return pairs.map(({ name }) => {
    const node = undoneNode(name);
    if (node !== null) return node;
    throw new AcedError('BAD_DIFF_FILE', `${path} is not an undo file: it is about ${name}`, {
      hint: 'Give the file that a repair with --save-undo has written; for a diff file, leave --undo out.',
    });
  });
}
