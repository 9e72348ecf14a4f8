import type { Session } from './session.js';

/** Ends another session of this session's role. False: there is none with this process id. */
export async function endOwnSession(session: Session, pid: number | null): Promise<boolean> {
  if (pid === null) return false;
  const rows = await session.query(
    `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
      WHERE pid = $1::int AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()`,
    [String(pid)],
  );
  return rows.length > 0;
}
