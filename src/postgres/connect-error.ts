import { AcedError, errorMessage, type ErrorCode } from '../base/errors.js';
import type { NodeConfig } from '../config/config.js';

interface Meaning {
  readonly code: ErrorCode;
  readonly hint: string;
}

const SERVER_GONE: Meaning = {
  code: 'NODE_UNREACHABLE',
  hint: 'Check that the server is up and accepts connections.',
};
const TRY_AGAIN: Meaning = {
  code: 'QUERY_FAILED',
  hint: 'It lost against a concurrent transaction; try again.',
};

/** https://www.postgresql.org/docs/current/errcodes-appendix.html; five characters before two. */
const BY_SQLSTATE: Readonly<Record<string, Meaning>> = {
  '08': SERVER_GONE,
  '28': {
    code: 'AUTH_FAILED',
    hint: 'Check user and password of this node (service file, PGPASSWORD, password file), and its pg_hba.conf.',
  },
  '25006': {
    code: 'QUERY_FAILED',
    hint: 'The transaction is read only: the server is a standby, or default_transaction_read_only is on.',
  },
  '3D000': {
    code: 'BAD_CONFIG',
    hint: "Check the node's database name in the cluster definition.",
  },
  '40': TRY_AGAIN,
  '42501': {
    code: 'MISSING_PRIVILEGE',
    hint: 'Grant the role what the message names; docs/03-nodes.md has the statements.',
  },
  '42P01': { code: 'NO_SUCH_TABLE', hint: 'Check schema and name, they are case-sensitive.' },
  '53300': {
    code: 'NODE_UNREACHABLE',
    hint: 'The server is out of connections: raise max_connections or max_wal_senders, or free some.',
  },
  // Slots and origins, but temp_file_limit as well.
  '53400': {
    code: 'QUERY_FAILED',
    hint: 'A limit of the server or of this role is reached: raise the setting that the message is about.',
  },
  '55P03': {
    code: 'TIMEOUT',
    hint: 'Another transaction holds a lock; try again when it is done.',
  },
  '57014': {
    code: 'CANCELLED',
    hint: 'Somebody cancelled the query, or statement_timeout is set for this role.',
  },
  '57P01': SERVER_GONE,
  '57P02': SERVER_GONE,
  '57P03': SERVER_GONE,
  '57P05': SERVER_GONE,
};

const NETWORK_HINT = 'Check host, port and firewall, and that the server is up.';

/** Of node's TLS layer: its own, OpenSSL's for certificates, and those of a failed handshake. */
const TLS_CODE =
  /^(ERR_TLS_|ERR_SSL_|ERR_OSSL_|CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_CA|HOSTNAME_MISMATCH|EPROTO$)/;
/** Errors of the operating system, and node's for a socket that is closed already. */
const NETWORK_CODE = /^(E(?!RR_)[A-Z0-9_]+|ERR_(SOCKET|STREAM)_[A-Z_]+)$/;
const SQLSTATE_PATTERN = /^[0-9A-Z]{5}$/;

/** The five-character code of a server's error, looked for along the chain of causes. */
export function sqlStateOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  // node's own codes may have five characters too (EPIPE); only the server sends a severity.
  if ('severity' in error && 'code' in error && typeof error.code === 'string') {
    if (SQLSTATE_PATTERN.test(error.code)) return error.code;
  }
  return sqlStateOf(error.cause);
}

/**
 * The one place where errors of `pg`, of the socket and of the server become ours. `doing` says
 * what was tried, e.g. `connecting`. The original error stays reachable as the cause. An AcedError
 * is returned as it is: context is added once.
 */
export function toAcedError(error: unknown, node: NodeConfig, doing: string): AcedError {
  if (error instanceof AcedError) return error;
  const { code, note, ...meaning } = explain(error);
  const hint = serverHint(error) ?? meaning.hint;
  const where = `node ${node.name} (${address(node)}), ${doing}`;
  return new AcedError(code, `${where}: ${errorText(error)}${note}`, {
    ...(hint === undefined ? {} : { hint }),
    // "invalid input syntax", "division by zero in ...": such texts quote what was read.
    ...(code === 'QUERY_FAILED' ? { logMessage: `${where}: the server refused it${note}` } : {}),
    cause: error,
  });
}

/**
 * What the server itself advises, along the chain of causes: it knows what it refused. Its hints are
 * texts of the server's, without values of rows.
 */
export function serverHint(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('severity' in error && 'hint' in error && typeof error.hint === 'string') return error.hint;
  return serverHint(error.cause);
}

/** `host:port/database`, for messages. */
export function address(node: NodeConfig): string {
  const host = node.host.includes(':') ? `[${node.host}]` : node.host;
  return `${host}:${node.port}/${node.database}`;
}

interface Explanation {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  /** Added to the message. */
  readonly note: string;
}

function explain(error: unknown): Explanation {
  const sqlState = sqlStateOf(error);
  if (sqlState !== undefined) {
    const meaning = BY_SQLSTATE[sqlState] ?? BY_SQLSTATE[sqlState.slice(0, 2)];
    const note = ` (SQLSTATE ${sqlState})`;
    return { code: meaning?.code ?? 'QUERY_FAILED', hint: meaning?.hint, note };
  }
  const code = systemCode(error);
  if (isTlsError(error)) {
    const hint = 'Check sslmode, sslrootcert, and the name and validity of the server certificate.';
    return { code: 'AUTH_FAILED', hint, note: '' };
  }
  if (code !== undefined && NETWORK_CODE.test(code)) {
    return { code: 'NODE_UNREACHABLE', hint: NETWORK_HINT, note: '' };
  }
  // pg tells of a connection that was lost by a plain Error without a code. Anything more special
  // (TypeError, RangeError, ...) is a defect of ours and must not look like a network problem.
  if (error instanceof Error && error.constructor === Error && code === undefined) {
    return { code: 'NODE_UNREACHABLE', hint: NETWORK_HINT, note: '' };
  }
  return { code: 'INTERNAL', hint: undefined, note: '' };
}

/** The peer's certificate was not accepted, or there was no TLS handshake at all. */
export function isTlsError(error: unknown): boolean {
  return TLS_CODE.test(systemCode(error) ?? '');
}

function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

/** An AggregateError, one for several addresses of a host, has an empty message of its own. */
function errorText(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(errorMessage).join('; ');
  }
  return errorMessage(error);
}
