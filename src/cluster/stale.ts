import { AcedError, type ErrorCode } from '../base/errors.js';
import type { TrackedTable } from '../ingest/tracked-table.js';

/** What says that a table cannot be compared as it is now, rather than that a node is away. */
const OF_THE_TABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NO_SUCH_TABLE',
  'NO_PRIMARY_KEY',
  'SCHEMA_MISMATCH',
  'MISSING_PRIVILEGE',
  'QUERY_FAILED',
  'UNSUPPORTED',
]);

/** Runs work on a table's tree; when it shows that the table cannot be read, the tree is stale. */
export async function noticingStale<T>(table: TrackedTable, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    // A tree that is being built, or was not finished, is told as that.
    const isWhole = table.state === 'live' || table.state === 'stale';
    if (error instanceof AcedError && OF_THE_TABLE.has(error.code) && isWhole) {
      table.setState('stale', error.logMessage, error.code);
    }
    throw error;
  }
}
