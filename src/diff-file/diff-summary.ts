import type { Verdict } from '../protocol/commands.js';
import type { Servers } from '../protocol/servers.js';
import { jsonString } from './json-value.js';

/** What the comparison knows of its run. Absent counts are written as ACE writes unknown ones: 0. */
export interface SummaryFields {
  readonly blockSize: number;
  readonly compareUnitSize: number;
  readonly concurrencyFactor: number;
  readonly totalRowsChecked: number;
  readonly initialRangesCount: number;
  readonly mismatchedRangesCount: number;
  readonly timeTakenMs: number;
  /** Node -> the write-ahead log position that the verdict holds at. */
  readonly positions: Readonly<Record<string, string>>;
  readonly verdict: Verdict;
  readonly excludedColumns: readonly { readonly name: string; readonly reason: string }[];
  readonly warnings: readonly string[];
  readonly tableFilter?: string;
  /** As it was asked for. */
  readonly againstOrigin?: string;
  /** RFC 3339. */
  readonly until?: string;
  /** `n1/n2` -> keys that differ within the tolerance; they are not in the file. */
  readonly toleratedRows?: Readonly<Record<string, number>>;
}

/** What the writer itself knows. */
export interface SummaryFacts {
  readonly schema: string;
  readonly table: string;
  readonly nodes: readonly string[];
  readonly primaryKey: readonly string[];
  readonly maxDiffRows: number;
  readonly startedAt: Date;
  readonly endedAt: Date;
  readonly counts: Readonly<Record<string, number>>;
  readonly limitReached: boolean;
  readonly seedId: string;
  readonly servers: Servers;
}

/** Version of what we add to ACE's file: the key `aced` and the rows' digests. */
export const DIFF_FILE_VERSION = 1;

/** The summary as JSON text, indented for its place in the file, in ACE's order; ours comes last. */
export function formatSummary(fields: SummaryFields, facts: SummaryFacts): string {
  const filter = fields.tableFilter;
  return indentedJson(
    {
      schema: facts.schema,
      table: facts.table,
      ...(filter === undefined ? {} : { table_filter: filter }),
      ...(fields.againstOrigin === undefined
        ? {}
        : { against_origin: fields.againstOrigin, origin_only: true }),
      ...(fields.until === undefined ? {} : { until: fields.until }),
      nodes: facts.nodes,
      block_size: fields.blockSize,
      compare_unit_size: fields.compareUnitSize,
      concurrency_factor: fields.concurrencyFactor,
      max_diff_rows: facts.maxDiffRows,
      start_time: rfc3339Seconds(facts.startedAt),
      end_time: rfc3339Seconds(facts.endedAt),
      time_taken: goDuration(fields.timeTakenMs),
      diff_rows_count: facts.counts,
      diff_row_limit_reached: facts.limitReached,
      total_rows_checked: fields.totalRowsChecked,
      initial_ranges_count: fields.initialRangesCount,
      mismatched_ranges_count: fields.mismatchedRangesCount,
      primary_key: facts.primaryKey,
      ...(filter === undefined ? {} : { effective_filter: `(${filter})` }),
      aced: {
        version: DIFF_FILE_VERSION,
        seed_id: facts.seedId,
        servers: facts.servers,
        positions: fields.positions,
        verdict: fields.verdict,
        excluded_columns: fields.excludedColumns,
        warnings: fields.warnings,
        ...(fields.toleratedRows === undefined ? {} : { tolerated_rows: fields.toleratedRows }),
      },
    },
    1,
  );
}

/** Go's MarshalIndent with two blanks: empty arrays and objects stay on one line. */
export function indentedJson(value: unknown, depth: number): string {
  const inner = '  '.repeat(depth + 1);
  const outer = '  '.repeat(depth);
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    const items = value.map((item: unknown) => inner + indentedJson(item, depth + 1));
    return `[\n${items.join(',\n')}\n${outer}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).map(
      ([name, member]) => `${inner}${jsonString(name)}: ${indentedJson(member, depth + 1)}`,
    );
    return members.length === 0 ? '{}' : `{\n${members.join(',\n')}\n${outer}}`;
  }
  return typeof value === 'string' ? jsonString(value) : JSON.stringify(value);
}

function rfc3339Seconds(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

/** As Go prints a duration: `54.5ms`, `2.01s`, `1m2.5s`, `1h0m2s`. */
export function goDuration(milliseconds: number): string {
  const ms = Math.max(0, milliseconds);
  if (ms === 0) return '0s';
  if (ms < 1) return `${trimmed(ms * 1_000)}µs`;
  if (ms < 1_000) return `${trimmed(ms)}ms`;
  const seconds = ms / 1_000;
  const hours = Math.floor(seconds / 3_600);
  const minutes = Math.floor(seconds / 60) % 60;
  const rest = `${trimmed(seconds - hours * 3_600 - minutes * 60)}s`;
  if (hours > 0) return `${hours}h${minutes}m${rest}`;
  return minutes > 0 ? `${minutes}m${rest}` : rest;
}

function trimmed(value: number): string {
  return String(Number(value.toFixed(6)));
}
