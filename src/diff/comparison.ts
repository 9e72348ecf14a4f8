import { errorMessage } from '../base/errors.js';
import type { Config } from '../config/config.js';
import type { BlockSql } from '../merkle/block-sql.js';
import type { BlockRange } from '../merkle/layout.js';
import type { TableInfo } from '../table/table-info.js';
import { openQuestion, type KeyText, type TableSpec } from '../table/table-spec.js';
import { letReplicationPass, type Passage, type Replication } from '../replication/passage.js';
import { serversOf } from '../protocol/servers.js';
import { originNodes, writerOf } from '../replication/topology.js';
import { DiffFileWriter, type RowImage, type SummaryFields } from '../diff-file/diff-writer.js';
import { writeHtmlReport } from '../report/html.js';
import type { CommandContext, DiffResult, Verdict } from '../protocol/commands.js';
import { checkBlocks, type Contradiction } from './block-check.js';
import { chunksOf } from './chunks.js';
import type { NodePools } from '../postgres/every-node.js';
import { oneAhead } from './one-ahead.js';
import { isKeyTextUnique, keyId, type RowDifference } from './row-difference.js';
import { searchRows } from './row-search.js';
import { settle, type DriftedRow, type FetchedRow } from './settle.js';

export interface ComparisonOptions {
  readonly config: Config;
  readonly spec: TableSpec;
  readonly sql: BlockSql;
  /** Catalog of every compared node. */
  readonly infos: ReadonlyMap<string, TableInfo>;
  readonly pools: NodePools;
  /** Asked for when something differs, once. */
  readonly replication: () => Promise<Replication>;
  readonly commitTimeNodes: ReadonlySet<string>;
  readonly seedId: string;
  readonly blockRows: number;
  readonly output: 'json' | 'html';
  readonly context: CommandContext;
  /** Asked about blocks that differed though no row was found to: which of them are wrong elsewhere. */
  readonly findFaults?: (ranges: readonly BlockRange[]) => Promise<readonly UnverifiedBlock[]>;
  /** A block's sums and its rows contradict each other: for the record. */
  readonly onContradiction: (found: Contradiction) => void;
  /** Keys of rows that are proved to differ, as they are found. */
  readonly onDrift?: (keys: readonly KeyText[]) => void;
}

/** A block of which nothing is proved, and why: a sentence's end. */
export interface UnverifiedBlock {
  readonly range: BlockRange;
  readonly reason: string;
}

/** What only the caller knows of the run, for the file's summary. */
export interface RunFacts {
  readonly positions: Readonly<Record<string, string>>;
  readonly totalRows: number;
  readonly ranges: number;
  readonly mismatchedRanges: number;
  readonly blockSize: number;
  readonly compareUnitSize: number;
  readonly concurrencyFactor: number;
  readonly tableFilter?: string;
}

/** Rows whose digests are fetched at once, per node. Two such batches are in memory. */
const ROWS_PER_BATCH = 10_000;

/** Rows of some blocks that differed, and what has happened since. */
interface Suspects {
  readonly blocks: readonly BlockRange[];
  readonly differences: readonly RowDifference[];
  /** Null when nothing differs. */
  readonly passed: { readonly passage: Passage; readonly replication: Replication } | null;
}

/** From blocks that differ to proved differences in a file, within bounded memory. */
export class Comparison {
  readonly #options: ComparisonOptions;
  readonly #startedAt = new Date();
  /** What a warning is about -> its text. */
  readonly #warnings = new Map<string, string>();
  readonly #nodes: readonly string[];
  readonly #columns: readonly string[];
  /**
   * Keys in the file, where two blocks may each hold one spelling of a key: byte order keeps apart
   * what the key's operator calls equal.
   */
  readonly #written: Set<string> | null;
  #writer: DiffFileWriter | null = null;
  #replication: Replication | null = null;
  readonly #faults: NonNullable<DiffResult['unverifiedBlocks']>[number][] = [];
  #inFlightRows = 0;
  #isStarved = false;

  constructor(options: ComparisonOptions) {
    this.#options = options;
    this.#nodes = [...options.pools.keys()];
    this.#written = isKeyTextUnique(options.spec) ? null : new Set();
    const compared = new Set(options.spec.columns.map((column) => column.name));
    const [info] = options.infos.values();
    this.#columns = (info?.columns ?? [])
      .filter((column) => compared.has(column.name))
      .map((column) => column.name);
  }

  /** Tells of each matter once: its figures change with every look. */
  warn(message: string, about = message): void {
    if (this.#warnings.has(about)) return;
    this.#warnings.set(about, message);
    this.#options.context.emit({ type: 'log', level: 'warn', message });
  }

  /**
   * Looks into blocks that differ between some nodes; they are given in key order. A block in which
   * no row differs is looked at once more: that it was in flight has to show.
   */
  async examine(ranges: readonly BlockRange[]): Promise<void> {
    const open = await this.#look(ranges);
    if (open.length === 0) return;
    for (const fault of (await this.#options.findFaults?.(open)) ?? []) this.#unverified(fault);
    // Where sums and rows agree, rows that turn out to be equal were in flight.
    await this.#look(await this.#check(open));
  }

  /** Returns the blocks in which no row has turned out to differ. */
  async #look(ranges: readonly BlockRange[]): Promise<readonly BlockRange[]> {
    const { context, pools, sql, config } = this.#options;
    const batches = this.#batches(ranges);
    // Replication passes the next batch while one is read again and written.
    const suspects = oneAhead(batches, context.signal, (batch, signal) =>
      this.#findSuspects(batch, signal),
    );
    let done = 0;
    const open: BlockRange[] = [];
    for await (const { blocks, differences, passed } of suspects) {
      const drifted = new Set<number>();
      let isOpen = true;
      if (passed !== null) {
        const { inFlightRows, isStarved } = await settle(differences, passed.passage, {
          pools,
          sql,
          columns: this.#columns,
          commitTimeNodes: this.#options.commitTimeNodes,
          replication: passed.replication,
          timeoutMs: config.diff.settleTimeoutMs,
          signal: context.signal,
          onDrift: async (rows) => {
            for (const { range } of rows) drifted.add(range);
            this.#options.onDrift?.(rows.map(({ key }) => key));
            await this.#write(rows);
          },
          table: this.#options.spec,
          onWarning: (message, about) => this.warn(message, about),
        });
        this.#inFlightRows += inFlightRows;
        this.#isStarved ||= isStarved;
        // Which block they are in does not matter any more: nobody will say match.
        isOpen = inFlightRows === 0 && !isStarved;
      }
      if (isOpen) open.push(...blocks.filter((_, index) => !drifted.has(index)));
      done += blocks.length;
      context.emit({ type: 'progress', phase: 'Analysing mismatches', done, total: ranges.length });
      if (this.#writer?.limitReached === true) return [];
    }
    return open;
  }

  /** Returns the blocks in which rows differ after all. */
  async #check(ranges: readonly BlockRange[]): Promise<readonly BlockRange[]> {
    const { pools, sql, spec, context } = this.#options;
    const differing: BlockRange[] = [];
    for (const batch of this.#batches(ranges)) {
      const options = { pools, sql, keyColumns: spec.key.length, signal: context.signal };
      const found = await checkBlocks(batch, options);
      differing.push(...found.differing);
      for (const contradiction of found.contradictions) {
        this.#options.onContradiction(contradiction);
        this.#unverified(contradiction);
      }
    }
    return differing;
  }

  #unverified({ range, reason }: UnverifiedBlock): void {
    this.#faults.push({ lower: range.lower, upper: range.upper, reason });
    this.warn(`the block ${rangeText(range)} is not proved: ${reason}`);
  }

  #batches(ranges: readonly BlockRange[]): BlockRange[][] {
    return chunksOf(ranges, Math.max(1, Math.floor(ROWS_PER_BATCH / this.#options.blockRows)));
  }

  async #findSuspects(batch: readonly BlockRange[], signal: AbortSignal): Promise<Suspects> {
    const { pools, sql, spec, config } = this.#options;
    const blocks = batch;
    const differences = await searchRows(batch, { pools, sql, spec, signal });
    if (differences.length === 0) return { blocks, differences, passed: null };
    const replication = (this.#replication ??= await this.#options.replication());
    const passage = await letReplicationPass(
      {
        replication,
        table: spec,
        signal,
        onWarning: (message, about) => this.warn(message, about),
      },
      config.diff.settleTimeoutMs,
    );
    return { blocks, differences, passed: { passage, replication } };
  }

  /** The verdict, and the file when there are differences. */
  async finish(facts: RunFacts): Promise<DiffResult> {
    const { spec, context, output } = this.#options;
    const writer = this.#writer;
    const differences: Record<string, number> = writer === null ? {} : { ...writer.counts };
    const hasDrift = Object.values(differences).some((count) => count > 0);
    const verdict = this.#verdict(hasDrift);
    this.#warnOfUnprovedColumns();
    const timeTakenMs = Date.now() - this.#startedAt.getTime();
    const files: string[] = [];
    if (writer !== null) {
      const file = await writer.finish(this.#summary(facts, verdict, timeTakenMs));
      if (file !== null) files.push(file);
      if (file !== null && output === 'html') {
        files.push(await writeHtmlReport(`${context.reportDir}/${file}`));
      }
    }
    return {
      table: `${spec.schema}.${spec.name}`,
      verdict,
      nodes: this.#nodes,
      positions: facts.positions,
      differences,
      inFlightRows: this.#inFlightRows,
      rowLimitReached: writer?.limitReached ?? false,
      excludedColumns: this.#excludedColumns(),
      warnings: [...this.#warnings.values()],
      unverifiedBlocks: this.#faults,
      files,
      timeTakenMs,
    };
  }

  /** Removes whatever was written so far. */
  async abort(): Promise<void> {
    await this.#writer?.abort().catch((error: unknown) => {
      this.warn(`cannot remove a temporary file: ${errorMessage(error)}`);
    });
  }

  #verdict(hasDrift: boolean): Verdict {
    if (this.#isStarved) return 'starved';
    if (hasDrift) return 'drift';
    if (this.#faults.length > 0) return 'unverified';
    if (this.#inFlightRows > 0) return 'in_flight';
    return openQuestion(this.#options.spec) ?? 'match';
  }

  /** Not compared is not equal, unless the user says that it does not matter. */
  #warnOfUnprovedColumns(): void {
    const open = this.#options.spec.excluded.filter(
      ({ cause }) => cause === 'missing' || cause === 'unstable',
    );
    if (open.length === 0) return;
    this.warn(
      `Not proved equal: ${open.map(({ name }) => name).join(', ')}. Make the tables alike, or leave ` +
        'such columns out with --exclude-columns (for a tree: of mtree build)',
    );
  }

  #excludedColumns(): { name: string; reason: string }[] {
    return this.#options.spec.excluded.map(({ name, reason }) => ({ name, reason }));
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

  async #write(rows: readonly DriftedRow[]): Promise<void> {
    const { spec, config, context, infos, seedId } = this.#options;
    const [info] = infos.values();
    const types = new Map(
      (info?.columns ?? []).map(({ name, baseTypeOid }) => [name, baseTypeOid]),
    );
    this.#writer ??= await DiffFileWriter.create({
      directory: context.reportDir,
      schema: spec.schema,
      table: spec.name,
      suffix: 'diffs',
      startedAt: this.#startedAt,
      nodes: this.#nodes,
      columns: this.#columns.map((name) => ({ name, baseTypeOid: types.get(name) ?? 25 })),
      primaryKey: spec.key.map((column) => column.name),
      maxDiffRows: config.diff.maxDiffRows,
      seedId,
      servers: serversOf(config.nodes.filter(({ name }) => this.#nodes.includes(name))),
    });
    const origins = this.#originsByNode();
    await this.#writer.add(
      this.#unwritten(rows).map((row) => ({
        images: new Map(
          this.#nodes.map((node, i) => [node, image(row.rows[i] ?? null, origins[i])]),
        ),
      })),
    );
  }

  /** In the order of the nodes: which node a replication origin there stands for. */
  #originsByNode(): readonly ReadonlyMap<string, string>[] {
    // A node that cannot be asked may be a second candidate for any of them.
    const isComplete = this.#replication?.unreachable.length === 0;
    const edges = isComplete ? (this.#replication?.topology.edges ?? []) : [];
    const spockNodes = this.#replication?.topology.spockNodes ?? new Map<string, string>();
    return this.#nodes.map((node) => new Map([...spockNodes, ...originNodes(edges, node)]));
  }

  #summary(facts: RunFacts, verdict: Verdict, timeTakenMs: number): SummaryFields {
    return {
      blockSize: facts.blockSize,
      compareUnitSize: facts.compareUnitSize,
      concurrencyFactor: facts.concurrencyFactor,
      totalRowsChecked: facts.totalRows,
      initialRangesCount: facts.ranges,
      mismatchedRangesCount: facts.mismatchedRanges,
      timeTakenMs,
      positions: facts.positions,
      verdict,
      excludedColumns: this.#excludedColumns(),
      warnings: [...this.#warnings.values()],
      ...(facts.tableFilter === undefined ? {} : { tableFilter: facts.tableFilter }),
    };
  }
}

function rangeText({ lower, upper }: BlockRange): string {
  const end = (key: KeyText | null): string => (key === null ? '…' : `(${key.join(', ')})`);
  return `[${end(lower)}, ${end(upper)})`;
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
