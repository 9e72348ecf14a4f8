import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiffResult } from '../../src/protocol/commands.js';

interface DiffFile {
  readonly diffs: Readonly<
    Record<string, { readonly rows: Readonly<Record<string, readonly Record<string, unknown>[]>> }>
  >;
}

/**
 * The keys that a diff's file holds: pair -> node -> the key column's values, in the file's order.
 * Empty when there is no file.
 */
export async function differingKeys(
  reportDir: string,
  result: DiffResult,
  key: string,
): Promise<Record<string, Record<string, unknown[]>>> {
  const [name] = result.files;
  if (name === undefined) return {};
  const file = JSON.parse(await readFile(join(reportDir, name), 'utf8')) as DiffFile;
  return Object.fromEntries(
    Object.entries(file.diffs).map(([pair, { rows }]) => [
      pair,
      Object.fromEntries(
        Object.entries(rows).map(([node, list]) => [node, list.map((row) => row[key])]),
      ),
    ]),
  );
}
