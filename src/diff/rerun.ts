import type { DiffResult } from '../protocol/commands.js';
import { AcedError } from '../base/errors.js';
import { keyTextsOf } from '../diff-file/file-row.js';
import { readDiffRows, type DiffFileHead } from '../diff-file/diff-reader.js';
import type { KeyText, TableSpec } from '../table/table-spec.js';
import { Comparison, type ComparisonOptions } from './comparison.js';
import { readPositions } from './node-positions.js';
import { keyId } from './row-difference.js';

export interface RerunOptions extends Omit<
  ComparisonOptions,
  'suffix' | 'blockRows' | 'onContradiction'
> {
  /** The diff file, ours or ACE's. */
  readonly path: string;
  readonly head: DiffFileHead;
}

/**
 * Compares the rows of a diff file again, as they are now: whole rows by their keys, whatever filter
 * the diff had. Errors: BAD_DIFF_FILE, REPORT_WRITE, those of the connections.
 */
export async function rerun(options: RerunOptions): Promise<DiffResult> {
  const { path, head, table, context } = options;
  requireKey(options);
  const comparison = new Comparison({
    ...options,
    blockRows: 1,
    suffix: 'rerun-diffs',
    onContradiction: () => undefined,
  });
  try {
    const positions = await readPositions(table.pools, context.signal);
    const keys = await keysOf(path, table.spec);
    if (head.isLimitReached) {
      comparison.warn('The diff file does not hold all differences: its row limit was reached');
    }
    await comparison.examineKeys(keys);
    return await comparison.finish({
      positions,
      totalRows: keys.length,
      comparedRows: keys.length,
      ...{ ranges: 0, mismatchedRanges: 0 },
      ...{ blockSize: 0, compareUnitSize: 0, concurrencyFactor: 0 },
    });
  } catch (error) {
    await comparison.abort();
    throw error;
  }
}

function requireKey({ path, head, table: { spec } }: RerunOptions): void {
  const key = spec.key.map(({ name }) => name);
  const isSame =
    head.primaryKey.length === key.length && key.every((name) => head.primaryKey.includes(name));
  if (isSame || head.primaryKey.length === 0) return;
  throw new AcedError(
    'BAD_DIFF_FILE',
    `${path} has rows by the key (${head.primaryKey.join(', ')}), but the table's key is (${key.join(', ')})`,
    { hint: 'The key has changed since: run the diff again.' },
  );
}

/** Each key of the file once, in the order of the file. */
async function keysOf(path: string, { key }: TableSpec): Promise<KeyText[]> {
  const columns = key.map(({ name }) => name);
  const found = new Map<string, KeyText>();
  for await (const { rows } of readDiffRows(path, { columns })) {
    for (const row of rows) {
      const texts = keyTextsOf(row, columns, path);
      found.set(keyId(texts), texts);
    }
  }
  return [...found.values()];
}
