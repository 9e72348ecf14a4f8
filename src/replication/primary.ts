import { AcedError } from '../base/errors.js';
import type { Session } from '../postgres/session.js';

/**
 * A hot standby takes no publication and no slot's reader of ours, and cannot mark a position in its
 * log. Errors: UNSUPPORTED, before anything is tried that it refuses in its own words.
 */
export async function requirePrimary(session: Session): Promise<void> {
  const rows = await session.query('SELECT pg_catalog.pg_is_in_recovery()');
  if (rows[0]?.[0] !== 't') return;
  const { name, host, port } = session.node;
  throw new AcedError('UNSUPPORTED', `node ${name} (${host}:${port}) is a hot standby`, {
    hint: 'Name its primary in the cluster definition: a standby has the same rows, and cannot be followed or repaired by itself.',
  });
}
