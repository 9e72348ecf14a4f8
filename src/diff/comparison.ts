import { steadyNowMs } from '../base/clock.js';
import { errorMessage } from '../base/errors.js';
import type { Config } from '../config/config.js';
import type { SummaryFields } from '../diff-file/diff-writer.js';
import type { BlockRange } from '../merkle/layout.js';
import type { CommandContext, DiffPart, DiffResult, Verdict } from '../protocol/commands.js';
import { serversOf } from '../protocol/servers.js';
import { PassageWarnings } from '../replication/passage.js';
import { openQuestion, type KeyText } from '../table/table-spec.js';
import type { DiffSink } from './diff-sink.js';
import { DifferenceSearch, type SearchOptions } from './difference-search.js';
import { agreeingNodes } from './agreement.js';
import { reportColumns } from './compared-table.js';
import { FileSink } from './file-sink.js';
import { parseTolerances } from './tolerance.js';
import { parseUntil } from './until.js';

export interface ComparisonOptions extends Pick<
  SearchOptions,
  'table' | 'blockRows' | 'findFaults' | 'onContradiction'
> {
  readonly config: Config;
  readonly output: 'json' | 'html';
  /** Of the file's name; `diffs` when absent. */
  readonly suffix?: 'diffs' | 'rerun-diffs';
  readonly context: CommandContext;
  /** Differences stored per pair of nodes; absent: as configured. */
  readonly maxDiffRows?: number;
  /** See FileSinkOptions. */
  readonly maxHtmlRows?: number;
  /** `column=number`: rows that differ by no more are counted apart and not stored. */
  readonly tolerances?: readonly string[];
  /** RFC 3339: rows that were written later are left out. */
  readonly until?: string;
  /** Take the rows too, beside the file. */
  readonly sinks?: readonly DiffSink[];
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
  /** Only so many rows were looked at. */
  readonly comparedRows?: number;
  /** As it was asked for: only rows of this origin were looked at. */
  readonly againstOrigin?: string;
  /** Of a diff that was resumed. */
  readonly parts?: readonly DiffPart[];
  /** What ought to have been looked at and was not, a sentence: there is no match then. */
  readonly unlookedAt?: string;
}

/** One comparison: a search whose rows go to a file, and what is to be said of it in the end. */
export class Comparison {
  readonly #options: ComparisonOptions;
  readonly #startedAt = new Date();
  readonly #startedAtMs = steadyNowMs();
  readonly #warnings = new PassageWarnings();
  readonly #search: DifferenceSearch;
  readonly #file: FileSink;

  constructor(options: ComparisonOptions) {
    this.#options = options;
    const { table, config, context, output } = options;
    const nodes = [...table.pools.keys()];
    for (const warning of table.spec.warnings ?? []) this.warn(warning);
    this.#file = new FileSink({
      table,
      directory: context.reportDir,
      startedAt: this.#startedAt,
      output,
      ...(options.maxHtmlRows === undefined ? {} : { maxHtmlRows: options.maxHtmlRows }),
      suffix: options.suffix ?? 'diffs',
      maxDiffRows: options.maxDiffRows ?? config.diff.maxDiffRows,
      ...(options.tolerances === undefined
        ? {}
        : {
            tolerances: parseTolerances(
              options.tolerances,
              reportColumns(table),
              table.spec.key.map(({ name }) => name),
            ),
          }),
      servers: serversOf(config.nodes.filter(({ name }) => nodes.includes(name))),
      replication: () => this.#search.replication,
    });
    this.#search = new DifferenceSearch({
      ...options,
      settleTimeoutMs: config.diff.settleTimeoutMs,
      onWarning: (message, about) => this.warn(message, about),
      ...(options.until === undefined ? {} : { untilMicros: parseUntil(options.until) }),
      sinks: [this.#file, ...(options.sinks ?? [])],
    });
  }

  /** Tells of each matter once. */
  warn(message: string, about = message): void {
    if (!this.#warnings.add(message, about)) return;
    this.#options.context.emit({ type: 'log', level: 'warn', message });
  }

  /** Looks into blocks that differ between some nodes; they are given in key order. */
  async examine(ranges: readonly BlockRange[]): Promise<void> {
    await this.#search.inBlocks(ranges);
  }

  /** Looks at the rows that have these keys alone. */
  async examineKeys(keys: readonly KeyText[]): Promise<void> {
    await this.#search.ofKeys(keys);
  }

  /** The limit of differing rows is reached. */
  get hasEnough(): boolean {
    return this.#file.isFull;
  }

  /** The verdict, and the file when there are differences. */
  async finish(facts: RunFacts): Promise<DiffResult> {
    const { spec, pools } = this.#options.table;
    const verdict = this.#verdict(facts);
    const { newerRows } = this.#search;
    const toleratedRows = this.#file.tolerated;
    const isTolerant = Object.keys(toleratedRows).length > 0;
    this.#warnOfUnprovedColumns();
    if (facts.unlookedAt !== undefined) this.warn(facts.unlookedAt);
    const timeTakenMs = steadyNowMs() - this.#startedAtMs;
    const files = await this.#file.finish(this.#summary(facts, verdict, timeTakenMs));
    return {
      table: `${spec.schema}.${spec.name}`,
      verdict,
      nodes: [...pools.keys()],
      positions: facts.positions,
      differences: this.#file.counts,
      ...this.#agreement(verdict, facts),
      ...(isTolerant ? { toleratedRows } : {}),
      ...(newerRows > 0 ? { newerRows } : {}),
      ...(facts.comparedRows === undefined ? {} : { comparedRows: facts.comparedRows }),
      ...(facts.parts === undefined ? {} : { parts: facts.parts }),
      inFlightRows: this.#search.inFlightRows,
      rowLimitReached: this.#file.isFull,
      excludedColumns: this.#excludedColumns(),
      warnings: [...this.#warnings.texts],
      unverifiedBlocks: this.#search.faults.map(({ range, reason }) => ({ ...range, reason })),
      files,
      timeTakenMs,
    };
  }

  /** Removes whatever was written so far. */
  async abort(): Promise<void> {
    await this.#file.abort().catch((error: unknown) => {
      this.warn(`cannot remove a temporary file: ${errorMessage(error)}`);
    });
  }

  #verdict({ unlookedAt = '' }: RunFacts): Verdict {
    const { isStarved, faults, inFlightRows } = this.#search;
    if (isStarved) return 'starved';
    // Rows within a tolerance are not equal either.
    const counts = [...Object.values(this.#file.counts), ...Object.values(this.#file.tolerated)];
    if (counts.some((count) => count > 0)) return 'drift';
    if (faults.length > 0) return 'unverified';
    if (inFlightRows > 0) return 'in_flight';
    if (unlookedAt !== '') return 'unverified';
    return openQuestion(this.#options.table.spec) ?? 'match';
  }

  /** Which nodes agree is known once every row that differs is. */
  #agreement(verdict: Verdict, facts: RunFacts): Pick<DiffResult, 'agreement'> {
    const isWhole = verdict === 'match' || verdict === 'drift';
    const { faults, inFlightRows } = this.#search;
    const { tolerated } = this.#file;
    if (facts.unlookedAt !== undefined || Object.keys(tolerated).length > 0) return {};
    if (!isWhole || faults.length > 0 || inFlightRows > 0 || this.#file.isFull) return {};
    return { agreement: agreeingNodes([...this.#options.table.pools.keys()], this.#file.counts) };
  }

  /** Not compared is not equal, unless the user says that it does not matter. */
  #warnOfUnprovedColumns(): void {
    const open = this.#options.table.spec.excluded.filter(
      ({ cause }) => cause === 'missing' || cause === 'unstable',
    );
    if (open.length === 0) return;
    this.warn(
      `Not proved equal: ${open.map(({ name }) => name).join(', ')}. Make the tables alike, or leave ` +
        'such columns out with --exclude-columns (for a tree: of mtree build)',
    );
  }

  #excludedColumns(): { name: string; reason: string }[] {
    return this.#options.table.spec.excluded.map(({ name, reason }) => ({ name, reason }));
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
      warnings: [...this.#warnings.texts],
      ...(facts.tableFilter === undefined ? {} : { tableFilter: facts.tableFilter }),
      ...(facts.againstOrigin === undefined ? {} : { againstOrigin: facts.againstOrigin }),
      ...(this.#options.until === undefined ? {} : { until: this.#options.until }),
      ...(this.#options.tolerances === undefined ? {} : { toleratedRows: this.#file.tolerated }),
    };
  }
}
