import type { Session } from '../postgres/session.js';
import { FINGERPRINT_QUERY } from './fingerprint-query.js';
import type { TableName } from './table-name.js';

/** What one node's catalog says of a table, as far as rows may change with it and without a message. */
export interface CatalogReading {
  /** The stream names the table by this, whatever it is called. */
  readonly oid: number;
  /** OIDs of the partitions that hold rows; null: not a partitioned table. */
  readonly leaves: readonly number[] | null;
  /** Differs from an earlier one when rows may have changed without a row message in between. */
  readonly fingerprint: string;
}

/** One statement for all tables; in the order of `tables`, null where there is no such table. */
export async function readCatalog(
  session: Session,
  tables: readonly TableName[],
  signal?: AbortSignal,
): Promise<(CatalogReading | null)[]> {
  const rows = await session.query(
    FINGERPRINT_QUERY,
    [tables.map(({ schema }) => schema), tables.map(({ name }) => name)],
    signal,
  );
  const readings = new Array<CatalogReading | null>(tables.length).fill(null);
  for (const [number, oid, leaves, fingerprint] of rows) {
    readings[Number(number) - 1] = {
      oid: Number(oid),
      leaves: typeof leaves === 'string' ? (JSON.parse(leaves) as number[]) : null,
      fingerprint: fingerprint ?? '',
    };
  }
  return readings;
}
