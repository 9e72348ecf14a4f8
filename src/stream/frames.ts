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

export const COPY_DONE = Buffer.from([FRAME.copyDone, 0, 0, 0, 4]);
export const TERMINATE = Buffer.from([0x58, 0, 0, 0, 4]);

const STATUS_UPDATE = 0x72;
/** 2000-01-01 in milliseconds since 1970-01-01. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

/** A standby status update, with write, flush and apply at the same position. */
export function statusUpdate(confirmed: Lsn, nowMs: number, isReplyWanted: boolean): Buffer {
  const frame = Buffer.allocUnsafe(39);
  frame[0] = FRAME.copyData;
  frame.writeUInt32BE(38, 1);
  frame[5] = STATUS_UPDATE;
  frame.writeBigUInt64BE(confirmed, 6);
  frame.writeBigUInt64BE(confirmed, 14);
  frame.writeBigUInt64BE(confirmed, 22);
  frame.writeBigInt64BE(BigInt(nowMs - POSTGRES_EPOCH_MS) * 1000n, 30);
  frame[38] = isReplyWanted ? 1 : 0;
  return frame;
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

  constructor(fields: ReadonlyMap<string, string>) {
    super(fields.get('M') ?? 'no message');
    this.severity = fields.get('V') ?? fields.get('S') ?? 'ERROR';
    this.code = fields.get('C') ?? 'XX000';
    this.hint = fields.get('H');
  }
}

export function readServerMessage(buffer: Buffer, start: number, end: number): ServerMessage {
  const fields = new Map<string, string>();
  let at = start;
  while (at < end && buffer[at] !== 0) {
    const key = String.fromCharCode(buffer[at] ?? 0);
    const zero = buffer.subarray(at + 1, end).indexOf(0);
    const stop = zero < 0 ? end : at + 1 + zero;
    fields.set(key, buffer.toString('utf8', at + 1, stop));
    at = stop + 1;
  }
  return new ServerMessage(fields);
}
