import { compareSortables, sortableKey } from '../merkle/sortable-key.js';
import type { BlockSql, NumberedRange } from '../merkle/block-sql.js';
import type { BlockRange } from '../merkle/layout.js';
import type { KeyText, TableSpec } from '../table/table-spec.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import { findDifferences, keyId, type KeyedRow, type RowDifference } from './row-difference.js';

export interface RowSearchOptions {
  readonly pools: NodePools;
  readonly sql: BlockSql;
  readonly spec: TableSpec;
  readonly signal: AbortSignal;
}

/** Reads the row digests of differing blocks on every node; returns the keys that differ, in key order. */
export async function searchRows(
  ranges: readonly BlockRange[],
  options: RowSearchOptions,
): Promise<RowDifference[]> {
  const { pools, sql, spec, signal } = options;
  const numbered: NumberedRange[] = ranges.map((range, number) => ({ ...range, number }));
  const query = sql.rowDigests(numbered);
  const byNode = await onEveryNode(pools, signal, async (_, pool, either) => {
    const rows = await pool.use(
      (session) => session.query(query.text, query.params, either),
      either,
    );
    const byKey = new Map<string, KeyedRow>();
    for (const row of rows) {
      const end = 2 + spec.key.length;
      const key: KeyText = row.slice(2, end).map((text) => text ?? '');
      byKey.set(keyId(key), { key, digest: row[1] ?? '', version: row[end] ?? '' });
    }
    return byKey;
  });
  return sortByKey(findDifferences([...byNode.values()]), options);
}

async function sortByKey(
  differences: RowDifference[],
  options: RowSearchOptions,
): Promise<RowDifference[]> {
  if (differences.length < 2) return differences;
  const kinds = options.spec.key.map((column) => column.orderKind);
  if (!kinds.includes('server')) {
    return differences
      .map((row) => ({
        row,
        order: kinds.map((kind, i) =>
          sortableKey(kind === 'server' ? 'bytes' : kind, row.key[i] ?? ''),
        ),
      }))
      .sort((a, b) => compareSortables(a.order, b.order))
      .map(({ row }) => row);
  }
  const [pool] = options.pools.values();
  if (pool === undefined) return differences;
  const query = options.sql.sortKeys(differences.map(({ key }) => key));
  const sorted = await pool.use(
    (session) => session.query(query.text, query.params, options.signal),
    options.signal,
  );
  return sorted.flatMap(([index]) => {
    const row = differences[Number(index)];
    return row === undefined ? [] : [row];
  });
}
