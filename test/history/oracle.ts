import type { NodeSessions } from './connections.js';
import { kit } from './tables.js';

/** Row number -> the row as text, on one node. Null: the table cannot be read there. */
export type TableRows = ReadonlyMap<string, string> | null;

/**
 * What plain SQL says of a table. The rows of each node, joined by row number, which stands for the
 * key. It shares no code with what it judges.
 */
export class Oracle {
  readonly #sessions: ReadonlyMap<string, NodeSessions>;

  constructor(sessions: ReadonlyMap<string, NodeSessions>) {
    this.#sessions = sessions;
  }

  /** Null: some node lacks the table, or its columns differ. */
  async differences(table: string): Promise<Differences | null> {
    const rows = await this.#each((node) => this.#rows(node, table));
    const columns = new Set([...rows.values()].map((one) => one?.columns ?? ''));
    if (columns.size !== 1 || columns.has('')) return null;
    return compare(new Map(Array.from(rows, ([node, one]) => [node, one?.rows ?? new Map()])));
  }

  async #rows(
    node: string,
    table: string,
  ): Promise<{ columns: string; rows: Map<string, string> } | null> {
    const session = this.#sessions.get(node)?.main;
    if (session === undefined) throw new Error(`no sessions of ${node}`);
    const columns = await session.query(
      `SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = to_regclass('public.${table}') AND attnum > 0 AND NOT attisdropped
        ORDER BY attname`,
    );
    if (columns.length === 0) return null;
    const { canonicalKey } = kit(table);
    const parts = columns.map(([name, type]) => {
      if (name === 'id' && canonicalKey !== undefined) return canonicalKey;
      const quoted = `"${name ?? ''}"`;
      return type === 'numeric' ? `trim_scale(${quoted})` : quoted;
    });
    const rows = await session.query(`SELECT i, ROW(${parts.join(', ')})::text FROM ${table}`);
    return {
      columns: JSON.stringify(columns),
      rows: new Map(rows.map(([i, row]) => [i ?? '', row ?? ''])),
    };
  }

  async #each<T>(work: (node: string) => Promise<T>): Promise<Map<string, T>> {
    const nodes = [...this.#sessions.keys()];
    const results = await Promise.all(nodes.map(work));
    return new Map(
      nodes.flatMap((node, at) => {
        const result = results[at];
        return result === undefined ? [] : [[node, result] as const];
      }),
    );
  }
}

/** `n1/n2` -> node -> the row numbers that it has differently, or that the other lacks. Sorted. */
export type Differences = ReadonlyMap<string, Readonly<Record<string, readonly string[]>>>;

function compare(rows: ReadonlyMap<string, ReadonlyMap<string, string>>): Differences {
  const found = new Map<string, Record<string, string[]>>();
  const nodes = [...rows];
  for (const [at, [first, left]] of nodes.entries()) {
    for (const [second, right] of nodes.slice(at + 1)) {
      const ofFirst = [...left].filter(([i, row]) => right.get(i) !== row).map(([i]) => i);
      const ofSecond = [...right].filter(([i, row]) => left.get(i) !== row).map(([i]) => i);
      if (ofFirst.length + ofSecond.length === 0) continue;
      found.set(`${first}/${second}`, {
        [first]: ofFirst.sort(byNumber),
        [second]: ofSecond.sort(byNumber),
      });
    }
  }
  return found;
}

export function byNumber(a: string, b: string): number {
  return Number(a) - Number(b);
}
