import { AcedError, errorMessage } from '../base/errors.js';
import { describeServers, type Servers } from '../protocol/servers.js';

/** Of a state file that cannot be used; an AcedError stays as it is. */
export function storeError(what: string, cause: unknown): AcedError {
  if (cause instanceof AcedError) return cause;
  return new AcedError('STORE', `${what}: ${errorMessage(cause)}`, {
    hint: 'Check disk space and permissions; damaged state (aced.sqlite and the files beside it) may be removed, the trees are then built again.',
    cause,
  });
}

export function notCreated(stateDir: string, cause: unknown): AcedError {
  return new AcedError('STORE', `cannot create ${stateDir}: ${errorMessage(cause)}`, {
    hint: 'Set ACED_STATE_DIR to a directory that this user may write.',
    cause,
  });
}

/** The state is of a cluster that has the same name. */
export function otherServers(before: Servers, servers: Servers): AcedError {
  return new AcedError(
    'OTHER_SERVERS',
    `the state directory belongs to ${describeServers(before)}, but the cluster's definition here is ${describeServers(servers)}`,
    {
      hint: 'Give this cluster another name or another ACED_STATE_DIR; if every server has moved, remove the state directory, then run mtree init and mtree build again.',
    },
  );
}
