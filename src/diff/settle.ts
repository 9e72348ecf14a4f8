import { steadyNowMs } from '../base/clock.js';
import type { BlockSql } from '../merkle/block-sql.js';
import type { KeyText } from '../table/table-spec.js';
import { letReplicationPass, type Passage, type PassageOptions } from '../replication/passage.js';
import { chunksOf, KEYS_PER_STATEMENT } from './chunks.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import { oneAhead } from './one-ahead.js';
import type { RowDifference } from './row-difference.js';
import { settleRow, type RowState } from './settle-rule.js';

/** A row image as the diff file takes it: raw PostgreSQL texts. */
export interface FetchedRow {
  readonly digest: string;
  /** See RowState. */
  readonly version: string;
  readonly values: readonly (string | null)[];
  readonly commitTs: string | null;
  /** Replication origin of the last writer, its number if it has no name; '' local, null unknown. */
  readonly origin: string | null;
}

/** A proved difference: per node the row, or null. */
export interface DriftedRow {
  readonly key: KeyText;
  /** Number of the range that it was found in. */
  readonly range: number;
  readonly rows: readonly (FetchedRow | null)[];
}

export interface SettleOptions extends PassageOptions {
  readonly pools: NodePools;
  readonly sql: BlockSql;
  readonly columns: readonly string[];
  /** Nodes that record commit times. */
  readonly commitTimeNodes: ReadonlySet<string>;
  readonly timeoutMs: number;
  /** Called with proved differences, in the order of the input within one round. */
  readonly onDrift: (rows: readonly DriftedRow[]) => Promise<void>;
}

/**
 * Tells drift from replication in flight: when replication has passed, reads the rows again, and
 * goes on with those that have moved until none is left or the time is up.
 * `firstPassage` is what `letReplicationPass` said, called after the rows were found to differ.
 * Returns those that were still moving, and whether some replication path was not moving at all.
 */
export async function settle(
  differences: readonly RowDifference[],
  firstPassage: Passage,
  options: SettleOptions,
): Promise<{ inFlight: readonly RowDifference[]; isStarved: boolean }> {
  const deadline = steadyNowMs() + options.timeoutMs;
  let open = differences;
  let passage = firstPassage;
  let isStarved = false;
  while (open.length > 0) {
    isStarved ||= !passage.isWhole;
    // Only what replication has passed can be told from what is in flight.
    if (!passage.hasPassed) break;
    open = await readAgain(open, options);
    const remainingMs = deadline - steadyNowMs();
    if (open.length === 0 || remainingMs <= 0) break;
    passage = await letReplicationPass(options, remainingMs);
  }
  return { inFlight: open, isStarved };
}

/** Returns the rows that have moved since they were seen last; hands the drifted ones out. */
async function readAgain(
  open: readonly RowDifference[],
  options: SettleOptions,
): Promise<RowDifference[]> {
  const chunks = chunksOf(open, KEYS_PER_STATEMENT);
  const moving: RowDifference[] = [];
  const readings = oneAhead(chunks, options.signal, async (chunk, signal) => ({
    chunk,
    nodes: await fetchRows(chunk, options, signal),
  }));
  for await (const { chunk, nodes } of readings) {
    const drifted: DriftedRow[] = [];
    chunk.forEach((row, index) => {
      const rows = nodes.map((node) => node[index] ?? null);
      const verdict = settleRow(row.states, rows);
      if (verdict === 'drift') drifted.push({ key: row.key, range: row.range, rows });
      else if (verdict === 'moving') moving.push({ ...row, states: rows.map(stateOf) });
    });
    if (drifted.length > 0) await options.onDrift(drifted);
  }
  return moving;
}

function stateOf(row: FetchedRow | null): RowState {
  return row === null ? null : { digest: row.digest, version: row.version };
}

/** Per node, in the order of the pools, the rows as they are now, by index. */
async function fetchRows(
  differences: readonly RowDifference[],
  options: SettleOptions,
  signal: AbortSignal,
): Promise<(FetchedRow | null)[][]> {
  const { pools, sql, columns } = options;
  const keys = differences.map(({ key }) => key);
  const byNode = await onEveryNode(pools, signal, async (node, pool, either) => {
    const query = sql.rowsByKey(keys, columns, options.commitTimeNodes.has(node));
    const rows = await pool.use(
      (session) => session.query(query.text, query.params, either),
      either,
    );
    const images = new Array<FetchedRow | null>(keys.length).fill(null);
    for (const row of rows) {
      images[Number(row[0])] = {
        digest: row[1] ?? '',
        values: row.slice(2, 2 + columns.length),
        commitTs: row[2 + columns.length] ?? null,
        origin: row[3 + columns.length] ?? null,
        version: row[4 + columns.length] ?? '',
      };
    }
    return images;
  });
  return [...byNode.values()];
}
