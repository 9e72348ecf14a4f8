import type { Oracle } from './oracle.js';
import type { Playground } from './playground.js';

/**
 * Why a table cannot be told equal or different now, as plain SQL sees it: the only excuses that an
 * answer other than match or drift has. Null: there is none.
 */
export async function explain(
  playground: Playground,
  oracle: Oracle,
  table: string,
): Promise<string | null> {
  if (playground.isPaused) return 'a subscription is paused';
  if ((await oracle.differences(table)) === null) return 'definitions differ';
  const identities = await Promise.all(
    [...playground.sessions.values()].map(({ main }) =>
      main.query(`SELECT FROM pg_class WHERE relreplident = 'n' AND oid = '${table}'::regclass`),
    ),
  );
  if (identities.some((rows) => rows.length > 0)) return 'replica identity nothing';
  return null;
}
