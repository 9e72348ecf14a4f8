import { AcedError } from '../base/errors.js';
import { address } from './connect-error.js';
import type { Session } from './session.js';

/**
 * Which databases the sessions of a cluster are open to. Two nodes that lead to one database are
 * always equal, and prove nothing: two names of a host, an address that moves with a failover, or a
 * balancer before both of them.
 */
export class OpenDatabases {
  /** Database -> the sessions there, all of one node. */
  readonly #sessions = new Map<string, Set<Session>>();

  /** Errors: BAD_CONFIG when another node has sessions to the same database. */
  enter(session: Session): void {
    const open = this.#sessions.get(session.databaseId) ?? new Set();
    const [first] = open;
    if (first !== undefined && first.node.name !== session.node.name) {
      throw sameDatabase(first, session);
    }
    open.add(session);
    this.#sessions.set(session.databaseId, open);
  }

  leave(session: Session): void {
    const open = this.#sessions.get(session.databaseId);
    if (open?.delete(session) === true && open.size === 0) {
      this.#sessions.delete(session.databaseId);
    }
  }
}

function sameDatabase({ node: one }: Session, { node: other }: Session): AcedError {
  return new AcedError(
    'BAD_CONFIG',
    `nodes ${one.name} (${address(one)}) and ${other.name} (${address(other)}) are one and the same ` +
      `database, ${JSON.stringify(other.database)}: comparing it with itself proves nothing`,
    { hint: "Give each node its own server's host and port in the cluster definition." },
  );
}
