import type { DiffResult } from '../protocol/commands.js';
import { Comparison, type ComparisonOptions } from './comparison.js';
import { findOrigins, requireOrigins } from '../replication/node-origins.js';
import { keysOfOrigin } from './origin-keys.js';
import { readPositions } from './node-positions.js';

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
    const origins = await findOrigins({
      wanted: origin,
      pools: table.pools,
      replication: await table.replication(),
      nodes: options.config.nodes,
      signal,
    });
    requireOrigins(origin, origins);
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
    const unlookedAt = [
      ...unrecorded(unknown),
      // A name that is misspelt has a number too, by Spock's rule.
      ...(totalRows === 0 && ![...origins.values()].some(({ isKnown }) => isKnown)
        ? [`No row came from ${origin}, and no compared node knows such an origin`]
        : []),
    ].join('; ');
    return await comparison.finish({
      positions,
      totalRows,
      againstOrigin: origin,
      ...{ ranges: 0, mismatchedRanges: 0 },
      ...{ blockSize: 0, compareUnitSize: 0, concurrencyFactor: 0 },
      ...(unlookedAt === '' ? {} : { unlookedAt }),
    });
  } catch (error) {
    await comparison.abort();
    throw error;
  }
}

/** Rows that are too old for the server to know where they came from. */
function unrecorded(unknown: ReadonlyMap<string, number>): string[] {
  const counts = [...unknown].flatMap(([node, rows]) => (rows > 0 ? [`${rows} on ${node}`] : []));
  if (counts.length === 0) return [];
  return [
    `Where these rows came from is not recorded, so they were not compared: ${counts.join(', ')}`,
  ];
}
