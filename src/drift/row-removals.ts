import type { DriftedRow } from '../diff/settle.js';
import type { Removal } from '../ingest/removals.js';
import { highHalf, lowHalf } from '../merkle/leaves.js';
import type { JudgeOptions } from './judge.js';

/** A DELETE, or a changed key, of one row; or a TRUNCATE. */
export interface RowRemoval extends Removal {
  readonly isTruncate: boolean;
}

/**
 * Who took the row away on nodes that lack it, by node, as far as their streams have shown it. Of the
 * row itself it must be known on some node, where its key's digest is read.
 */
export async function removalsOf(
  row: DriftedRow | undefined,
  { cluster, table, nodes, context: { signal } }: JudgeOptions,
): Promise<ReadonlyMap<string, RowRemoval>> {
  const removals = new Map<string, RowRemoval>();
  const { openRows } = table;
  const holder = nodes.find((_, i) => row?.rows[i] != null);
  if (row === undefined || openRows === null || holder === undefined) return removals;
  const lacking = nodes.filter((_, i) => row.rows[i] === null);
  if (lacking.length === 0) return removals;
  for (const node of lacking) {
    const truncation = openRows.removals.truncation(table.nodes.indexOf(node));
    if (truncation !== null) removals.set(node, { ...truncation, isTruncate: true });
  }
  const query = table.sql.keyDigest(row.key);
  const [found] = await cluster
    .pool(holder)
    .use((session) => session.query(query.text, query.params, signal), signal);
  if (found?.[0] == null) return removals;
  const digest = BigInt(found[0]);
  const removal = openRows.removalOf(Int32Array.of(lowHalf(digest), highHalf(digest)));
  const node = table.nodes[removal?.node ?? -1];
  if (removal !== null && node !== undefined && lacking.includes(node)) {
    removals.set(node, { ...removal, isTruncate: false });
  }
  return removals;
}
