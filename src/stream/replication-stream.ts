import type pg from 'pg';
import { throwIfAborted } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { formatLsn, type Lsn } from '../base/lsn.js';
import { quoteIdentifier } from '../base/quote.js';
import type { NodeConfig } from '../config/config.js';
import { connectClient } from '../postgres/client-config.js';
import { PacedSocket } from './paced-socket.js';
import { toStreamError, type StreamContext } from './stream-error.js';
import { WalStream } from './wal-stream.js';

/**
 * Both are called synchronously, perhaps before openReplicationStream's promise has resolved. An
 * error that they throw ends the stream at once: nothing after it is delivered or confirmed.
 */
export interface StreamHandler {
  /** The payload of one XLogData. The bytes are valid during the call only. */
  onData(buffer: Buffer, start: number, end: number): void;
  /**
   * The server has sent everything up to `walEnd`. With `isReplyWanted` it waits for an answer that
   * is sent after this call (a server that shuts down wants everything confirmed first).
   */
  onKeepalive(walEnd: Lsn, isReplyWanted: boolean): void;
}

export interface StreamOptions {
  readonly node: NodeConfig;
  readonly slot: string;
  readonly publication: string;
  /** A durable position of ours; the server goes on from there, or from the slot's if that is later. */
  readonly startLsn: Lsn;
  /** What the slot is made before it streams (from PostgreSQL 17 on); null or absent: as it is. */
  readonly failover?: boolean | null;
  readonly handler: StreamHandler;
  readonly applicationName: string;
  /** Default: as the server says. 0: the server does not watch us. */
  readonly walSenderTimeoutMs?: number;
  /**
   * How long a question may stay unanswered before the connection counts as lost, at least;
   * a longer wal_sender_timeout wins. Default 10 s.
   */
  readonly minInboundTimeoutMs?: number;
  /** Bound to the node. */
  readonly log: Logger;
  /** Ends the opening. An open stream is its owner's to close: it may have a position to confirm. */
  readonly signal: AbortSignal;
}

export interface StreamEnd {
  /** Null: we closed it. */
  readonly error: AcedError | null;
}

export interface StreamStats {
  /** Read from the socket. */
  readonly bytes: number;
  readonly frames: number;
}

export interface ReplicationStream {
  /**
   * Tells the server that everything before `durable` will never be needed again. Only for what is
   * durable here; never lowers. Beyond what was received it throws INTERNAL: the server would
   * believe it and skip changes. After the end it does nothing.
   */
  confirm(durable: Lsn): void;
  /** Makes the server answer at once with its walEnd, also when it is idle. */
  requestKeepalive(): void;
  /**
   * Stops reading from the socket; what has been read already (64 KB at most) is still delivered.
   * Status updates go on.
   */
  pause(reason: string): void;
  resume(): void;
  /** Resolves once, and never rejects. */
  readonly closed: Promise<StreamEnd>;
  /** Ends the stream in order; no handler is called from now on. Takes a few seconds at most. */
  close(): Promise<void>;
  readonly stats: StreamStats;
}

/**
 * Streams a logical slot. Errors: those of connecting; SLOT_BUSY, SLOT_LOST, MISSING_PRIVILEGE,
 * WAL_LEVEL, CANCELLED. An error after that is the one of `closed`.
 */
export async function openReplicationStream(options: StreamOptions): Promise<ReplicationStream> {
  const { node, slot, publication, signal } = options;
  const context = { node, slot, publication, isStreaming: false };
  const { client } = await connectClient(node, {
    applicationName: options.applicationName,
    replication: 'database',
    createSocket: () => new PacedSocket(),
    signal,
  });
  const { connection } = client;
  let giveUp: (error: AcedError) => void = () => undefined;
  const givenUp = new Promise<never>((_resolve, reject) => {
    giveUp = reject;
  });
  const onAbort = (): void => giveUp(new AcedError('CANCELLED', 'cancelled'));
  signal.addEventListener('abort', onAbort, { once: true });
  const timer =
    node.connectTimeoutMs === 0
      ? undefined
      : setTimeout(() => giveUp(noAnswer(context)), node.connectTimeoutMs);
  try {
    throwIfAborted(signal);
    return await Promise.race([start(client, options, context), givenUp]);
  } catch (error) {
    connection.stream.destroy();
    throw toStreamError(error, context);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}

async function start(
  client: pg.Client,
  options: StreamOptions,
  context: StreamContext,
): Promise<ReplicationStream> {
  const server = await readServerSettings(client);
  if (server.walLevel !== 'logical') {
    throw new AcedError('WAL_LEVEL', `node ${context.node.name}: wal_level is ${server.walLevel}`, {
      hint: "Set wal_level = 'logical' in postgresql.conf and restart the server.",
    });
  }
  const { slot, failover = null } = options;
  if (failover !== null) {
    // Only a replication connection can; nobody else streams from the slot now.
    await client.query(
      `ALTER_REPLICATION_SLOT ${quoteIdentifier(slot)} (FAILOVER ${String(failover)})`,
    );
    options.log.info({ event: 'slot_failover', failover }, slot);
  }
  const stream = new WalStream(client.connection, {
    ...options,
    walSenderTimeoutMs: options.walSenderTimeoutMs ?? server.walSenderTimeoutMs,
  });
  await stream.start(startReplicationSql(options));
  options.log.info(
    { event: 'stream_started', lsn: formatLsn(options.startLsn) },
    `streaming from slot ${context.slot}`,
  );
  return stream;
}

interface ServerSettings {
  readonly walLevel: string;
  readonly walSenderTimeoutMs: number;
}

async function readServerSettings(client: pg.Client): Promise<ServerSettings> {
  // pg_settings has the plain number in the setting's own unit, which is milliseconds.
  const { rows } = await client.query<[string, string]>({
    // From 19 on the level follows from the slots there are, and has a setting of its own.
    text: `SELECT coalesce(pg_catalog.current_setting('effective_wal_level', true),
                           pg_catalog.current_setting('wal_level')), s.setting
             FROM pg_catalog.pg_settings s WHERE s.name = 'wal_sender_timeout'`,
    rowMode: 'array',
  });
  const [walLevel, timeout] = rows[0] ?? ['unknown', '0'];
  return { walLevel, walSenderTimeoutMs: Number(timeout) };
}

/** Exported for tests. */
export function startReplicationSql(
  options: Pick<StreamOptions, 'slot' | 'publication' | 'startLsn'>,
): string {
  // A list of names inside a string. The replication grammar knows no E'' and no backslashes.
  const names = quoteIdentifier(options.publication).replaceAll("'", "''");
  return (
    `START_REPLICATION SLOT ${quoteIdentifier(options.slot)} LOGICAL ${formatLsn(options.startLsn)} ` +
    `(proto_version '1', publication_names '${names}', messages 'true')`
  );
}

function noAnswer({ node, slot }: StreamContext): AcedError {
  return new AcedError(
    'NODE_UNREACHABLE',
    `node ${node.name} did not start to stream from slot ${slot} in ${node.connectTimeoutMs} ms`,
    { hint: 'Look at pg_stat_activity of the node, or raise the connect timeout.' },
  );
}
