import type { Session } from '../postgres/session.js';

/** `subscription counter` -> its count, as one node has them. */
export type Counters = ReadonlyMap<string, number>;

interface Growth {
  readonly atMs: number;
  readonly text: string;
}

const MAX_KEPT = 200;
const MAX_HINTS = 5;

/**
 * What the subscriptions of a node had trouble with, ever: failed and skipped work, from 18 on conflicts
 * by their kind. In shared memory, sent by the workers about once a second.
 * https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-SUBSCRIPTION-STATS
 */
export async function readCounters(session: Session, signal?: AbortSignal): Promise<Counters> {
  const rows = await session.query(COUNTERS_QUERY, [], signal);
  return new Map(rows.map(([name, count]) => [name ?? '', Number(count)]));
}

/** Remembers when counters have grown: hints of why rows differ that were found about then. */
export class CounterGrowth {
  readonly #last = new Map<string, Counters>();
  #growths: readonly Growth[] = [];

  observe(node: string, counters: Counters, nowMs: number): void {
    const before = this.#last.get(node);
    this.#last.set(node, counters);
    if (before === undefined) return;
    const grown = [...counters].flatMap(([name, count]) => {
      const more = count - (before.get(name) ?? 0);
      return more > 0 ? [{ atMs: nowMs, text: `${name} +${more} on ${node}` }] : [];
    });
    this.#growths = [...this.#growths, ...grown].slice(-MAX_KEPT);
  }

  /** Those that were seen in that time, the last ones. */
  between(fromMs: number, toMs: number): string[] {
    const texts = this.#growths
      .filter(({ atMs }) => atMs >= fromMs && atMs <= toMs)
      .map(({ text }) => text);
    return [...new Set(texts)].slice(-MAX_HINTS);
  }
}

/** All columns that count: they differ between releases. A transaction to be skipped counts while it is set. */
const COUNTERS_QUERY = `
SELECT s.subname || ' ' || c.key, c.value
  FROM pg_catalog.pg_stat_subscription_stats t
  JOIN pg_catalog.pg_subscription s ON s.oid = t.subid
  JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database(),
       LATERAL pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(t)) AS c (key, value)
 WHERE c.key LIKE 'confl%' OR c.key LIKE '%error_count'
 UNION ALL
SELECT s.subname || ' skip', CASE WHEN s.subskiplsn <> '0/0' THEN '1' ELSE '0' END
  FROM pg_catalog.pg_subscription s
  JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database()`;
