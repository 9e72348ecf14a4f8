import { AcedError } from '../base/errors.js';
import type { ValueForm } from '../digest/digest-column.js';
import { PROOF_QUERY, unprovedForms } from '../digest/digest-proof.js';
import type { Session } from '../postgres/session.js';

/** A connection is to one process of one server, which hashes the same for as long as it lives. */
const checked = new WeakMap<Session, ReadonlySet<ValueForm>>();

/**
 * The forms that this server does not hash as the stream's digests are made: another byte order, or a
 * function that a release changed. Asked once per connection. Errors: UNSUPPORTED when it is text.
 */
export async function readUnprovedForms(
  session: Session,
  signal?: AbortSignal,
): Promise<ReadonlySet<ValueForm>> {
  const known = checked.get(session);
  if (known !== undefined) return known;
  const unproved = unprovedForms(await session.query(PROOF_QUERY, [], signal));
  if (unproved.has('plain')) {
    throw new AcedError(
      'UNSUPPORTED',
      `node ${session.node.name} hashes text in another way than PostgreSQL on little-endian machines`,
      { hint: 'Its rows cannot be compared with digests.' },
    );
  }
  const forms = new Set([...unproved].filter((form) => form !== 'plain'));
  checked.set(session, forms);
  return forms;
}
