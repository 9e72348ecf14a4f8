import type { Session } from './session.js';

export const SUPERUSER_WARNING =
  'aced is a superuser there: index functions, checks and triggers of any table owner run with its ' +
  'rights when it reads or repairs; give it a role of its own';

/** Whether the session's role is one. Any role may ask. */
export async function isSuperuser(session: Session): Promise<boolean> {
  const rows = await session.query("SELECT pg_catalog.current_setting('is_superuser')");
  return rows[0]?.[0] === 'on';
}
