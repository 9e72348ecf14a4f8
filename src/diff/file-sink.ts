import { join } from 'node:path';
import { DiffFileWriter, type RowImage, type SummaryFields } from '../diff-file/diff-writer.js';
import type { Servers } from '../protocol/servers.js';
import { writeHtmlReport } from '../report/html.js';
import type { Replication } from '../replication/passage.js';
import { originNodes, writerOf } from '../replication/topology.js';
import { digestId } from '../table/table-spec.js';
import { reportColumns, type ComparedTable } from './compared-table.js';
import type { DiffSink } from './diff-sink.js';
import { isKeyTextUnique, keyId } from './row-difference.js';
import type { DriftedRow, FetchedRow } from './settle.js';
import { isTolerated, type Tolerances } from './tolerance.js';

export interface FileSinkOptions {
  readonly table: ComparedTable;
  readonly directory: string;
  readonly startedAt: Date;
  readonly output: 'json' | 'html';
  /** Keys of a pair that the page shows at most; absent: DEFAULT_HTML_ROWS. */
  readonly maxHtmlRows?: number;
  readonly suffix: 'diffs' | 'rerun-diffs';
  /** Differences stored per pair of nodes. */
  readonly maxDiffRows: number;
  readonly tolerances?: Tolerances;
  readonly servers: Servers;
  /** Known once rows differ. */
  readonly replication: () => Replication | null;
}

/** Puts rows into a diff file, which comes into being with the first of them, and a page beside it. */
export class FileSink implements DiffSink {
  readonly #options: FileSinkOptions;
  readonly #nodes: readonly string[];
  /**
   * Keys in the file, where two blocks may each hold one spelling of a key: byte order keeps apart
   * what the key's operator calls equal.
   */
  readonly #written: Set<string> | null;
  #writer: DiffFileWriter | null = null;

  constructor(options: FileSinkOptions) {
    this.#options = options;
    this.#nodes = [...options.table.pools.keys()];
    this.#written = isKeyTextUnique(options.table.spec) ? null : new Set();
  }

  get isFull(): boolean {
    return this.#writer?.limitReached === true;
  }

  /** `n1/n2` -> rows that differ, for pairs that have any. */
  get counts(): Readonly<Record<string, number>> {
    return this.#writer === null ? {} : { ...this.#writer.counts };
  }

  /** `n1/n2` -> rows that differ within the tolerance, for pairs that have any. */
  get tolerated(): Readonly<Record<string, number>> {
    return this.#writer === null ? {} : { ...this.#writer.tolerated };
  }

  async take(rows: readonly DriftedRow[]): Promise<void> {
    this.#writer ??= await this.#createWriter();
    const origins = this.#originsByNode();
    await this.#writer.add(
      this.#unwritten(rows).map((row) => ({
        images: new Map(
          this.#nodes.map((node, i) => [node, image(row.rows[i] ?? null, origins[i])]),
        ),
      })),
    );
  }

  /** Returns the names of the files; none when nothing was taken. */
  async finish(summary: SummaryFields): Promise<string[]> {
    const file = (await this.#writer?.finish(summary)) ?? null;
    if (file === null) return [];
    const { output, directory, maxHtmlRows } = this.#options;
    if (output === 'json') return [file];
    return [file, await writeHtmlReport(join(directory, file), maxHtmlRows)];
  }

  /** Removes whatever was written so far. */
  async abort(): Promise<void> {
    await this.#writer?.abort();
  }

  #createWriter(): Promise<DiffFileWriter> {
    const { table, directory, startedAt, suffix, maxDiffRows, servers, tolerances } = this.#options;
    const columns = reportColumns(table);
    return DiffFileWriter.create({
      directory,
      schema: table.spec.schema,
      table: table.spec.name,
      suffix,
      startedAt,
      nodes: this.#nodes,
      columns,
      primaryKey: table.spec.key.map(({ name }) => name),
      maxDiffRows,
      seedId: digestId(table.seedId, table.spec),
      servers,
      ...(tolerances === undefined
        ? {}
        : { isTolerated: (a, b) => isTolerated(a, b, { columns, tolerances }) }),
    });
  }

  #unwritten(rows: readonly DriftedRow[]): readonly DriftedRow[] {
    const written = this.#written;
    if (written === null) return rows;
    return rows.filter(({ key }) => {
      const isNew = !written.has(keyId(key));
      written.add(keyId(key));
      return isNew;
    });
  }

  /** In the order of the nodes: which node a replication origin there stands for. */
  #originsByNode(): readonly ReadonlyMap<string, string>[] {
    const replication = this.#options.replication();
    // A node that cannot be asked may be a second candidate for any of them.
    const isComplete = replication?.unreachable.length === 0;
    const edges = isComplete ? replication.topology.edges : [];
    const spockNodes = replication?.topology.spockNodes ?? new Map<string, string>();
    return this.#nodes.map((node) => new Map([...spockNodes, ...originNodes(edges, node)]));
  }
}

function image(
  row: FetchedRow | null,
  origins: ReadonlyMap<string, string> | undefined,
): RowImage | null {
  if (row === null) return null;
  return {
    digest: BigInt.asUintN(64, BigInt(row.digest)).toString(16).padStart(16, '0'),
    values: row.values,
    commitTs: row.commitTs,
    origin: writerOf(row.origin, origins),
  };
}
