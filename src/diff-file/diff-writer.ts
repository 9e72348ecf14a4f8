import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Servers } from '../protocol/servers.js';
import { formatSummary, type SummaryFields } from './diff-summary.js';
import { jsonString } from './json-value.js';
import { OutputFile, writing } from './output-file.js';
import { publishFile } from './publish-file.js';
import { rowFormatter, type ReportColumn, type RowImage } from './row-text.js';

export type { ReportColumn, RowImage, SummaryFields };

/** A key that is not the same on all compared nodes; null: the node has no such row. */
export interface DiffRow {
  readonly images: ReadonlyMap<string, RowImage | null>;
}

export interface DiffFileOptions {
  readonly directory: string;
  readonly schema: string;
  readonly table: string;
  readonly suffix: 'diffs' | 'rerun-diffs' | 'undo';
  readonly startedAt: Date;
  readonly nodes: readonly string[];
  readonly columns: readonly ReportColumn[];
  readonly primaryKey: readonly string[];
  /** Differences stored per pair of nodes; those beyond it are only counted. */
  readonly maxDiffRows: number;
  readonly seedId: string;
  /** Rows that are not equal and close enough not to be stored; they are counted apart. */
  readonly isTolerated?: (a: RowImage, b: RowImage) => boolean;
  /** Where the nodes are. */
  readonly servers: Servers;
}

/** The rows of one node of a pair, in a file of their own until all are known. */
interface Side {
  readonly node: string;
  readonly path: string;
  file: OutputFile | undefined;
}

interface Pair {
  readonly name: string;
  readonly a: Side;
  readonly b: Side;
  count: number;
  tolerated: number;
}

/**
 * Writes a diff file as ACE does, as a stream: the file groups rows by pair and node, they come by
 * key, so each (pair, node) has a spool file in a hidden directory beside the target. Memory does
 * not depend on the number of rows. Any failure is REPORT_WRITE and leaves nothing behind.
 */
export class DiffFileWriter {
  readonly #options: DiffFileOptions;
  readonly #spoolDirectory: string;
  readonly #pairs: readonly Pair[];
  readonly #format: (image: RowImage) => string;
  #limitReached = false;
  #isDone = false;

  private constructor(options: DiffFileOptions, spoolDirectory: string) {
    this.#options = options;
    this.#spoolDirectory = spoolDirectory;
    this.#pairs = pairsOf(options.nodes, spoolDirectory);
    this.#format = rowFormatter(options.columns);
  }

  static async create(options: DiffFileOptions): Promise<DiffFileWriter> {
    const prefix = join(options.directory, '.aced-diff-');
    const spoolDirectory = await writing(options.directory, () => mkdtemp(prefix));
    return new DiffFileWriter(options, spoolDirectory);
  }

  /** `n1/n2` -> keys that differ, for pairs that have any; also those beyond the limit. */
  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(
      this.#pairs.filter(({ count }) => count > 0).map(({ name, count }) => [name, count]),
    );
  }

  /** `n1/n2` -> keys that differ within the tolerance, for pairs that have any. */
  get tolerated(): Readonly<Record<string, number>> {
    return Object.fromEntries(
      this.#pairs
        .filter(({ tolerated }) => tolerated > 0)
        .map(({ name, tolerated }) => [name, tolerated]),
    );
  }

  /** Some rows were counted but not stored. */
  get limitReached(): boolean {
    return this.#limitReached;
  }

  /**
   * To be called one call at a time; rows are in the file in the order in which they are given: that of
   * the key, but for those that were still moving. Waits for the disk.
   */
  async add(rows: readonly DiffRow[]): Promise<void> {
    await this.#orRemove(async () => {
      for (const { images } of rows) {
        const texts = new Map<string, string>();
        for (const pair of this.#pairs) {
          const a = images.get(pair.a.node) ?? null;
          const b = images.get(pair.b.node) ?? null;
          if (a?.digest === b?.digest) continue;
          if (a !== null && b !== null && this.#options.isTolerated?.(a, b) === true) {
            pair.tolerated += 1;
            continue;
          }
          pair.count += 1;
          if (pair.count > this.#options.maxDiffRows) {
            this.#limitReached = true;
            continue;
          }
          if (a !== null) await this.#store(pair.a, a, texts);
          if (b !== null) await this.#store(pair.b, b, texts);
        }
      }
    });
  }

  /** Puts the file together. Returns its name, null when there are no differences. */
  async finish(summary: SummaryFields): Promise<string | null> {
    return this.#orRemove(async () => {
      const pairs = this.#pairs.filter(({ count }) => count > 0);
      if (pairs.length === 0) {
        await this.#remove();
        return null;
      }
      const output = await OutputFile.create(join(this.#spoolDirectory, 'diffs.json'));
      try {
        await this.#assemble(output, pairs, summary);
        await output.finish();
      } catch (error) {
        await output.close();
        throw error;
      }
      const name = await publishFile(output.path, this.#options.directory, (attempt) =>
        fileName(this.#options, attempt),
      );
      await this.#remove();
      return name;
    });
  }

  /** Removes what was written so far. May be called at any time. */
  async abort(): Promise<void> {
    await this.#remove();
  }

  async #store(side: Side, image: RowImage, texts: Map<string, string>): Promise<void> {
    let text = texts.get(side.node);
    if (text === undefined) {
      text = this.#format(image);
      texts.set(side.node, text);
    }
    if (side.file === undefined) side.file = await OutputFile.create(side.path);
    else side.file.append(',\n');
    side.file.append(text);
    if (side.file.isFull) await side.file.flush();
  }

  async #assemble(
    output: OutputFile,
    pairs: readonly Pair[],
    summary: SummaryFields,
  ): Promise<void> {
    output.append('{\n  "diffs": {\n');
    for (const [index, pair] of pairs.entries()) {
      output.append(
        `${index === 0 ? '' : ',\n'}    ${jsonString(pair.name)}: {\n      "rows": {\n`,
      );
      await appendSide(output, pair.a);
      output.append(',\n');
      await appendSide(output, pair.b);
      output.append('\n      }\n    }');
    }
    const facts = {
      ...this.#options,
      endedAt: new Date(),
      counts: this.counts,
      limitReached: this.#limitReached,
    };
    output.append(`\n  },\n  "summary": ${formatSummary(summary, facts)}\n}\n`);
    await output.flush();
  }

  async #orRemove<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      await this.#remove();
      throw error;
    }
  }

  async #remove(): Promise<void> {
    if (this.#isDone) return;
    this.#isDone = true;
    for (const { a, b } of this.#pairs) {
      await a.file?.close();
      await b.file?.close();
    }
    await writing(this.#spoolDirectory, () =>
      rm(this.#spoolDirectory, { recursive: true, force: true }),
    );
  }
}

function pairsOf(nodes: readonly string[], directory: string): Pair[] {
  const sorted = [...nodes].sort((a, b) => (a < b ? -1 : 1));
  const pairs: Pair[] = [];
  sorted.forEach((first, i) => {
    sorted.slice(i + 1).forEach((second, j) => {
      const side = (node: string, which: string): Side => ({
        node,
        path: join(directory, `${i}-${i + 1 + j}-${which}`),
        file: undefined,
      });
      pairs.push({
        name: `${first}/${second}`,
        a: side(first, 'a'),
        b: side(second, 'b'),
        count: 0,
        tolerated: 0,
      });
    });
  });
  return pairs.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Copies a spool file into its place and removes it, so that the disk holds rows hardly twice. */
async function appendSide(output: OutputFile, side: Side): Promise<void> {
  output.append(`        ${jsonString(side.node)}: [`);
  if (side.file === undefined) {
    output.append(']');
    return;
  }
  output.append('\n');
  await output.appendFile(side.file);
  output.append('\n        ]');
}

/** `public_orders_diffs-20261124025325.json`, a second later for each attempt. */
function fileName(options: DiffFileOptions, attempt: number): string {
  const time = new Date(options.startedAt.getTime() + attempt * 1_000);
  const stamp = time.toISOString().slice(0, 19).replace(/[-T:]/g, '');
  // A name may contain what a file name may not.
  const table = `${options.schema}_${options.table}`.replace(/[/\\\0]/g, '_');
  return `${table}_${options.suffix}-${stamp}.json`;
}
