import { AcedError } from '../base/errors.js';
import type { NodeConfig } from '../config/config.js';
import type { ValueForm } from '../digest/digest-column.js';
import { PROOF_QUERY, unprovedForms } from '../digest/digest-proof.js';
import type { Session } from '../postgres/session.js';

/** Node -> release (server_version_num) -> what it proved: a release hashes the same wherever it runs. */
const checked = new WeakMap<NodeConfig, Map<number, ReadonlySet<ValueForm>>>();

/**
 * The forms that this server does not hash as the stream's digests are made: another byte order, or a
 * function that a release changed. Asked once per node and release. Errors: UNSUPPORTED when it is text.
 */
export async function readUnprovedForms(
  session: Session,
  signal?: AbortSignal,
): Promise<ReadonlySet<ValueForm>> {
  const ofNode = checked.get(session.node) ?? new Map<number, ReadonlySet<ValueForm>>();
  checked.set(session.node, ofNode);
  const known = ofNode.get(session.serverVersion);
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
  ofNode.set(session.serverVersion, forms);
  return forms;
}
