import { compareSortables, sortableKey } from '../merkle/sortable-key.js';
import type { BlockSql, NumberedRange } from '../merkle/block-sql.js';
import type { BlockRange } from '../merkle/layout.js';
import type { KeyText, TableSpec } from '../table/table-spec.js';
import type { TextRow } from '../postgres/session.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import { chunksOf, KEYS_PER_STATEMENT } from './chunks.js';
import {
  findDifferences,
  isKeyTextUnique,
  isSameOnAll,
  keyId,
  type KeyedRow,
  type RowDifference,
} from './row-difference.js';

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
    return new Map(
      rows.map((row) => {
        const found = keyedRow(row, spec);
        return [keyId(found.key), found];
      }),
    );
  });
  const differences = findDifferences([...byNode.values()]);
  return isKeyTextUnique(spec) ? sortByKey(differences, options) : searchKeys(differences, options);
}

/** From number (of the range, or of a key that was asked for), digest, key texts, version. */
function keyedRow(row: TextRow, spec: TableSpec): KeyedRow {
  const end = 2 + spec.key.length;
  const key: KeyText = row.slice(2, end).map((text) => text ?? '');
  return { key, range: Number(row[0]), digest: row[1] ?? '', version: row[end] ?? '' };
}

/** A key that is looked at, and the number of the range that it is in. */
export type AskedKey = Pick<RowDifference, 'key' | 'range'>;

/**
 * Reads the rows of these keys on every node by the key's own operator, in whatever spelling; returns
 * those that differ, in key order: one difference a key, under the spelling of the first node that has the row.
 */
export async function searchKeys(
  keys: readonly AskedKey[],
  options: RowSearchOptions,
): Promise<RowDifference[]> {
  const { pools, sql, spec, signal } = options;
  const matched = new Map<string, RowDifference>();
  for (const chunk of chunksOf(keys, KEYS_PER_STATEMENT)) {
    const query = sql.statesByKey(chunk.map(({ key }) => key));
    const byNode = await onEveryNode(pools, signal, async (_, pool, either) => {
      const states = new Array<KeyedRow | null>(chunk.length).fill(null);
      const rows = await pool.use(
        (session) => session.query(query.text, query.params, either),
        either,
      );
      for (const row of rows) states[Number(row[0])] = keyedRow(row, spec);
      return states;
    });
    chunk.forEach((asked, i) => {
      const states = Array.from(byNode.values(), (node) => node[i] ?? null);
      if (isSameOnAll(states)) return;
      const key = states.find((state) => state !== null)?.key ?? asked.key;
      matched.set(keyId(key), { key, range: asked.range, states });
    });
  }
  return sortByKey([...matched.values()], options);
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
