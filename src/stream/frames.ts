import { serialize, type DatabaseError } from 'pg-protocol';
import { Parser } from 'pg-protocol/dist/parser.js';
import type { Lsn } from '../base/lsn.js';

/** Types of frames, and of what CopyData carries (docs: protocol-replication). */
export const FRAME = {
  notification: 0x41,
  commandComplete: 0x43,
  error: 0x45,
  notice: 0x4e,
  parameterStatus: 0x53,
  copyBoth: 0x57,
  readyForQuery: 0x5a,
  copyDone: 0x63,
  copyData: 0x64,
} as const;

export const XLOG_DATA = 0x77;
export const KEEPALIVE = 0x6b;
/** XLogData: type, start and end position, time; then the payload. */
export const XLOG_DATA_HEADER_BYTES = 25;
/** Keepalive: type, end position, time, whether a reply is wanted. */
export const KEEPALIVE_BYTES = 18;

export const COPY_DONE = serialize.copyDone();
export const TERMINATE = serialize.end();

const STATUS_UPDATE = 0x72;
/** 2000-01-01 in milliseconds since 1970-01-01. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

/** A standby status update, with write, flush and apply at the same position. */
export function statusUpdate(confirmed: Lsn, nowMs: number, isReplyWanted: boolean): Buffer {
  const update = Buffer.allocUnsafe(34);
  update[0] = STATUS_UPDATE;
  update.writeBigUInt64BE(confirmed, 1);
  update.writeBigUInt64BE(confirmed, 9);
  update.writeBigUInt64BE(confirmed, 17);
  update.writeBigInt64BE(BigInt(nowMs - POSTGRES_EPOCH_MS) * 1000n, 25);
  update[33] = isReplyWanted ? 1 : 0;
  return serialize.copyData(update);
}

/**
 * An ErrorResponse or NoticeResponse. Its detail and context are left out, because they may quote
 * rows.
 */
export class ServerMessage extends Error {
  readonly severity: string;
  /** SQLSTATE. */
  readonly code: string;
  readonly hint: string | undefined;

  constructor({ message, severity, code, hint }: Partial<DatabaseError>) {
    super(message ?? 'no message');
    this.severity = severity ?? 'ERROR';
    this.code = code ?? 'XX000';
    this.hint = hint;
  }
}

/** The payload of an error or a notice. Rare, unlike data: a copy and the field's own parser will do. */
export function readServerMessage(
  type: number,
  buffer: Buffer,
  start: number,
  end: number,
): ServerMessage {
  const frame = Buffer.allocUnsafe(end - start + 5);
  frame[0] = type;
  frame.writeUInt32BE(end - start + 4, 1);
  buffer.copy(frame, 5, start, end);
  let read: Partial<DatabaseError> = {};
  new Parser().parse(frame, (message) => {
    read = message;
  });
  return new ServerMessage(read);
}
