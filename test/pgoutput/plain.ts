import type { Message, Tuple } from '../../src/pgoutput/message.js';
import { tupleText } from '../../src/pgoutput/tuple.js';
import type { Column, PlainMessage } from './encoder.js';

/** Copies what the decoder will reuse. */
export function toPlain(message: Message): PlainMessage {
  switch (message.kind) {
    case 'insert': {
      const { kind, relationOid, newTuple } = message;
      return { kind, relationOid, newRow: toRow(newTuple) };
    }
    case 'update': {
      const { kind, relationOid, oldKind, oldTuple, newTuple } = message;
      const oldRow = oldKind === 'none' ? [] : toRow(oldTuple);
      return { kind, relationOid, oldKind, oldRow, newRow: toRow(newTuple) };
    }
    case 'delete': {
      const { kind, relationOid, oldKind, oldTuple } = message;
      return { kind, relationOid, oldKind, oldRow: toRow(oldTuple) };
    }
    case 'abort':
    case 'begin':
    case 'commit':
    case 'origin':
    case 'relation':
    case 'type':
    case 'truncate':
    case 'message':
      return message;
  }
}

export function toRow(tuple: Tuple): Column[] {
  return Array.from({ length: tuple.columnCount }, (_, i) => tupleText(tuple, i));
}
