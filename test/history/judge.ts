import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { DiffResult, Verdict } from '../../src/protocol/commands.js';
import { byNumber, type Differences } from './oracle.js';
import { HistoryFailure } from './outcome.js';

/** `n1/n2` -> node -> row numbers. */
type Named = ReadonlyMap<string, Readonly<Record<string, readonly string[]>>>;

interface DiffFile {
  readonly diffs: Readonly<
    Record<string, { readonly rows: Readonly<Record<string, readonly { readonly i: unknown }[]>> }>
  >;
}

/** The rows that a diff's file names; empty when it made none. The file stays for a repair. */
export async function namedRows(reportDir: string, result: DiffResult): Promise<Named> {
  const name = result.files.find((file) => file.endsWith('.json'));
  if (name === undefined) return new Map();
  const file = JSON.parse(await readFile(join(reportDir, name), 'utf8')) as DiffFile;
  return new Map(
    Object.entries(file.diffs).map(([pair, { rows }]) => [
      pair,
      Object.fromEntries(
        Object.entries(rows).map(([node, list]) => [
          node,
          list.map(({ i }) => String(i)).sort(byNumber),
        ]),
      ),
    ]),
  );
}

export async function forgetFiles(reportDir: string): Promise<void> {
  await rm(reportDir, { recursive: true, force: true });
}

export interface Judged {
  readonly table: string;
  readonly method: string;
  /** What plain SQL sees. Null: the table is not the same thing on all nodes. */
  readonly expected: Differences | null;
  readonly verdict: Verdict;
  readonly named: Named;
}

/**
 * Throws when an answer about a table at rest is wrong. What is neither match nor drift is judged
 * by its reason, elsewhere.
 */
export function judge({ table, method, expected, verdict, named }: Judged): void {
  const fail = (kind: HistoryFailure['kind'], why: string): never => {
    throw new HistoryFailure(kind, `${method} ${table}: ${why}`);
  };
  if (verdict === 'match') {
    if (expected === null) fail('false match', 'its columns are not the same on all nodes');
    else if (expected.size > 0) fail('false match', `plain SQL finds ${show(expected)}`);
    return;
  }
  if (verdict !== 'drift' || expected === null) return;
  if (expected.size === 0) fail('false drift', `it names ${show(named)}, plain SQL finds nothing`);
  if (show(named) !== show(expected)) {
    fail('wrong keys', `it names ${show(named)}, plain SQL finds ${show(expected)}`);
  }
}

/** The same without the rows that were written meanwhile. */
export function without(named: Named, range: { from: number; to: number }): Named {
  const isOutside = (i: string): boolean => Number(i) < range.from || Number(i) > range.to;
  const kept = Array.from(named, ([pair, nodes]) => {
    const rest = Object.entries(nodes).map(
      ([node, rows]) => [node, rows.filter(isOutside)] as const,
    );
    return [pair, Object.fromEntries(rest)] as const;
  });
  return new Map(kept.filter(([, nodes]) => Object.values(nodes).some((rows) => rows.length > 0)));
}

export function show(named: Named): string {
  if (named.size === 0) return 'nothing';
  return Array.from(named, ([pair, nodes]) => {
    const sides = Object.entries(nodes)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([node, rows]) => `${node}: ${rows.join(' ')}`);
    return `${pair} (${sides.join('; ')})`;
  })
    .sort()
    .join(', ');
}
