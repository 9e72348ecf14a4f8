import { createHash } from 'node:crypto';
import type { Session } from '../postgres/session.js';
import { FINGERPRINT_QUERY, TYPE_QUERY } from './fingerprint-query.js';
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

/** All tables at once; in the order of `tables`, null where there is no such table. */
export async function readCatalog(
  session: Session,
  tables: readonly TableName[],
  signal?: AbortSignal,
): Promise<(CatalogReading | null)[]> {
  const rows = await session.query(
    { name: 'aced_fingerprints', text: FINGERPRINT_QUERY },
    [tables.map(({ schema }) => schema), tables.map(({ name }) => name)],
    signal,
  );
  const found = rows.map(([number, oid, leaves, types, opclasses, hash]) => ({
    index: Number(number) - 1,
    oid: Number(oid),
    leaves: typeof leaves === 'string' ? (JSON.parse(leaves) as number[]) : null,
    types: readOids(types),
    opclasses: readOids(opclasses),
    hash: hash ?? '',
  }));
  const types = [...new Set(found.flatMap((table) => table.types))];
  const opclasses = [...new Set(found.flatMap((table) => table.opclasses))];
  const hashes = new Map<string, string>();
  // Few tables have any, and planning the statement is most of what it costs.
  if (types.length + opclasses.length > 0) {
    const parts = await session.query(TYPE_QUERY, [types, opclasses], signal);
    for (const [kind, oid, hash] of parts) hashes.set(`${kind ?? ''} ${oid ?? ''}`, hash ?? '');
  }
  const readings = new Array<CatalogReading | null>(tables.length).fill(null);
  for (const table of found) {
    const parts = [
      table.hash,
      ...table.types.map((oid) => hashes.get(`1 ${oid}`) ?? ''),
      ...table.opclasses.map((oid) => hashes.get(`2 ${oid}`) ?? ''),
    ];
    const { index, oid, leaves } = table;
    readings[index] = { oid, leaves, fingerprint: parts.length === 1 ? table.hash : digest(parts) };
  }
  return readings;
}

/** An array of OIDs as text, `{16384,16390}`. */
function readOids(array: string | null | undefined): string[] {
  return array == null ? [] : array.slice(1, -1).split(',');
}

function digest(parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 32);
}
