import type { Session } from '../postgres/session.js';

const TOKEN = /"(?:[^"]|"")*"|[^\s,()"]+|[,()]/g;

/**
 * Whether `synchronous_standby_names` lets a client of this application name be the standby that
 * commits wait for. Forms: `a, b`, `2 (a, b)`, `FIRST 2 (a, b)`, `ANY 2 (a, b)`; `*` is any name; names
 * are compared without regard to case
 * (https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES).
 */
export function namesStandby(setting: string, applicationName: string): boolean {
  const tokens = Array.from(setting.matchAll(TOKEN), ([token]) => token);
  const names = tokens
    .slice(tokens.indexOf('(') + 1)
    .map((token) => (token.startsWith('"') ? token.slice(1, -1).replaceAll('""', '"') : token));
  const wanted = applicationName.toLowerCase();
  return names.some((name) => name === '*' || name.toLowerCase() === wanted);
}

/** The setting, where it names us; else null. Any role may read it. */
export async function synchronousNames(
  session: Session,
  applicationName: string,
): Promise<string | null> {
  const rows = await session.query(
    "SELECT pg_catalog.current_setting('synchronous_standby_names')",
  );
  const setting = rows[0]?.[0] ?? '';
  return namesStandby(setting, applicationName) ? setting : null;
}
