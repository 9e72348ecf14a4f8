import type { Pgoutput } from 'pg-logical-replication';
import { errorMessage } from '../base/errors.js';
import type { PgoutputDecoder } from '../pgoutput/decoder.js';
import type { Message, Tuple } from '../pgoutput/message.js';
import { tupleText } from '../pgoutput/tuple.js';

/** Of a value: its text, null for SQL NULL, undefined where the server did not send it (unchanged TOAST). */
type Value = string | null | undefined;

export interface Decodings {
  /** Messages of pgoutput, protocol version 1, in their order. */
  readonly messages: readonly Buffer[];
  readonly columns: readonly string[];
  /** What the server itself says of the row that was inserted, by column. */
  readonly row: readonly (string | null)[];
  readonly ours: Pick<PgoutputDecoder, 'decode'>;
  readonly theirs: { parse(bytes: Buffer): Pgoutput.Message };
}

/** A tuple of the canary: by whom it was read, and what it has to be. */
interface Reading {
  readonly what: string;
  readonly ours: readonly Value[];
  readonly theirs: readonly Value[];
  readonly wanted: readonly (string | null)[];
}

/** A column that was not read alike; null: the messages themselves were not. */
export interface Disagreement {
  readonly column: number | null;
  /** Never quotes a value. */
  readonly text: string;
}

/**
 * What two decoders and the server disagree about, each column once, of a canary that was inserted, updated
 * to what it was and deleted under REPLICA IDENTITY FULL, and of a row of NULLs that was inserted then. Pure.
 */
export function compareDecodings(given: Decodings): Disagreement[] {
  const { columns, row } = given;
  let readings: Reading[];
  try {
    readings = readAll(given);
  } catch (error) {
    return [{ column: null, text: errorMessage(error) }];
  }
  const seen = readings.map(({ what }) => what).join(', ');
  if (seen !== SEQUENCE) {
    return [{ column: null, text: `the slot shows ${seen || 'no rows'} in place of ${SEQUENCE}` }];
  }
  const found = new Map<number, Disagreement>();
  for (const { what, ours, theirs, wanted } of readings) {
    if (ours.length !== columns.length || theirs.length !== columns.length) {
      return [{ column: null, text: `${what}: the row does not have ${columns.length} columns` }];
    }
    for (const column of row.keys()) {
      const text = disagreement(ours[column], theirs[column], wanted[column] ?? null);
      if (text !== null && !found.has(column)) {
        found.set(column, { column, text: `${what}: ${text}` });
      }
    }
  }
  return [...found.values()];
}

const SEQUENCE = 'insert, old of update, update, old of delete, insert';

function disagreement(ours: Value, theirs: Value, wanted: string | null): string | null {
  if (ours !== theirs) return 'aced and pg-logical-replication read it differently';
  // Not sent since it did not change: the old row has it.
  if (ours === undefined || ours === wanted) return null;
  return 'aced and pg-logical-replication read it alike, and the server says otherwise';
}

function readAll({ messages, columns, row, ours, theirs }: Decodings): Reading[] {
  const nulls = row.map(() => null);
  const readings: Reading[] = [];
  let inserted = 0;
  for (const bytes of messages) {
    const our = ours.decode(bytes, 0, bytes.length);
    const their = theirs.parse(bytes);
    if (our.kind !== their.tag) {
      throw new Error(
        `aced reads a message as ${our.kind}, pg-logical-replication as ${their.tag}`,
      );
    }
    if (their.tag === 'relation') keepText(their);
    const wanted = our.kind === 'insert' && inserted++ > 0 ? nulls : row;
    for (const { what, tuple, record } of tuplesOf(our, their)) {
      readings.push({
        what,
        ours: texts(tuple),
        theirs: columns.map((column) => record?.[column] as Value),
        wanted,
      });
    }
  }
  return readings;
}

/** It turns values into JavaScript's otherwise: numbers, dates, objects. */
function keepText({ columns }: Pgoutput.MessageRelation): void {
  for (const column of columns) column.parser = (text: string) => text;
}

interface BothTuples {
  readonly what: string;
  readonly tuple: Tuple;
  readonly record: Readonly<Record<string, unknown>> | null;
}

function tuplesOf(our: Message, their: Pgoutput.Message): BothTuples[] {
  if (our.kind === 'insert' && their.tag === 'insert') {
    return [{ what: 'insert', tuple: our.newTuple, record: their.new }];
  }
  if (our.kind === 'update' && their.tag === 'update') {
    return [
      { what: 'old of update', tuple: our.oldTuple, record: their.old },
      { what: 'update', tuple: our.newTuple, record: notSent(our.newTuple, their) },
    ];
  }
  if (our.kind === 'delete' && their.tag === 'delete') {
    return [{ what: 'old of delete', tuple: our.oldTuple, record: their.old }];
  }
  return [];
}

/** The other parser fills in from the old row what was not sent. */
function notSent(
  tuple: Tuple,
  { relation, new: record }: Pgoutput.MessageUpdate,
): BothTuples['record'] {
  const sent = texts(tuple);
  return Object.fromEntries(
    relation.columns.map(({ name }, i) => [name, sent[i] === undefined ? undefined : record[name]]),
  );
}

function texts(tuple: Tuple): Value[] {
  return Array.from({ length: tuple.columnCount }, (_, i) => tupleText(tuple, i));
}
