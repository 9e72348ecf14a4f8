import type { DiffResult } from '../protocol/commands.js';
import { Comparison, type ComparisonOptions } from './comparison.js';
import { findOrigins, keysOfOrigin } from './origin-keys.js';
import { readPositions } from './positions.js';

export interface OriginDiffOptions extends Omit<ComparisonOptions, 'onContradiction'> {
  /** As a person names it: see findOrigins. */
  readonly origin: string;
}

/**
 * Compares the rows that some node has from one origin: whole rows by their keys, so that what reached
 * one node by another way is not taken for missing. Errors: BAD_USAGE, those of the connections.
 */
export async function originDiff(options: OriginDiffOptions): Promise<DiffResult> {
  const { table, context, origin } = options;
  const { signal } = context;
  const comparison = new Comparison({ ...options, onContradiction: () => undefined });
  try {
    const positions = await readPositions(table.pools, signal);
    const origins = await findOrigins(origin, table.pools, await table.replication(), signal);
    const unknown = new Map<string, number>();
    let totalRows = 0;
    for await (const batch of keysOfOrigin(table, origins, signal)) {
      for (const [node, rows] of Object.entries(batch.unknown)) {
        unknown.set(node, (unknown.get(node) ?? 0) + rows);
      }
      totalRows += batch.keys.length;
      await comparison.examineKeys(batch.keys);
      if (comparison.hasEnough) break;
    }
    const hidden = [...unknown].filter(([, rows]) => rows > 0);
    return await comparison.finish({
      positions,
      totalRows,
      againstOrigin: origin,
      ...{ ranges: 0, mismatchedRanges: 0 },
      ...{ blockSize: 0, compareUnitSize: 0, concurrencyFactor: 0 },
      ...(hidden.length === 0
        ? {}
        : {
            unlookedAt: `Where these rows came from is not recorded, so they were not compared: ${hidden
              .map(([node, rows]) => `${rows} on ${node}`)
              .join(', ')}`,
          }),
    });
  } catch (error) {
    await comparison.abort();
    throw error;
  }
}
