import { AcedError } from '../base/errors.js';
import type { NodeConfig } from '../config/config.js';
import { sqlStateOf, toAcedError } from '../postgres/connect-error.js';

const UNDEFINED_FILE = '58P01';
const OBJECT_IN_USE = '55006';
const NOT_IN_PREREQUISITE_STATE = '55000';
const UNDEFINED_OBJECT = '42704';

export interface StreamContext {
  readonly node: NodeConfig;
  readonly slot: string;
  readonly publication: string;
  /** The server has answered START_REPLICATION. */
  readonly isStreaming: boolean;
}

/** What an error of the server or of the socket means for a stream. */
export function toStreamError(error: unknown, context: StreamContext): AcedError {
  if (error instanceof AcedError) return error;
  const { node, slot, publication, isStreaming } = context;
  const text = error instanceof Error ? error.message : String(error);
  const where = `node ${node.name}, slot ${slot}`;
  switch (sqlStateOf(error) ?? '') {
    case OBJECT_IN_USE:
      return new AcedError('SLOT_BUSY', `${where}: ${text}`, {
        hint: 'Another process streams from this slot; pg_replication_slots.active_pid names it.',
        cause: error,
      });
    case UNDEFINED_FILE:
    case NOT_IN_PREREQUISITE_STATE:
      return slotLost(`${where}: ${text}`, error);
    case UNDEFINED_OBJECT:
      if (!isStreaming) return slotLost(`${where}: ${text}`, error);
      return new AcedError('PUBLICATION_LOST', `${where}, publication ${publication}: ${text}`, {
        hint: 'The publication was dropped, and the log of that time cannot be read: slot and publication are recreated, the trees of this node are rebuilt.',
        cause: error,
      });
  }
  const mapped = toAcedError(error, node, isStreaming ? 'streaming' : 'starting to stream');
  if (!isStreaming || mapped.code !== 'NODE_UNREACHABLE') return mapped;
  return new AcedError('STREAM_LOST', mapped.message, {
    ...(mapped.hint === undefined ? {} : { hint: mapped.hint }),
    cause: error,
  });
}

function slotLost(message: string, cause: unknown): AcedError {
  return new AcedError('SLOT_LOST', message, {
    hint: 'The slot cannot stream any more: it is recreated and the trees of this node are rebuilt.',
    cause,
  });
}
