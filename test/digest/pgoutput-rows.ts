import { COLUMN_NULL, COLUMN_TEXT, type Tuple } from '../../src/pgoutput/message.js';

export interface InsertedRow {
  readonly table: string;
  readonly columns: readonly string[];
  readonly tuple: Tuple;
}

/**
 * The rows of Relation and Insert messages of protocol 1. Written for these tests alone, so that an
 * error of the decoder cannot hide one of the digest.
 */
export function readInsertedRows(messages: readonly Buffer[]): InsertedRow[] {
  const relations = new Map<number, { table: string; columns: string[] }>();
  const rows: InsertedRow[] = [];
  for (const message of messages) {
    const kind = String.fromCharCode(message[0] ?? 0);
    const reader = new Reader(message, 1);
    if (kind === 'R') {
      const oid = reader.uint(4);
      reader.text();
      const table = reader.text();
      reader.uint(1);
      const columns = Array.from({ length: reader.uint(2) }, () => {
        reader.uint(1);
        const name = reader.text();
        reader.uint(4);
        reader.uint(4);
        return name;
      });
      relations.set(oid, { table, columns });
    } else if (kind === 'I') {
      const relation = relations.get(reader.uint(4));
      if (relation === undefined) throw new Error('a row before its relation');
      reader.uint(1);
      rows.push({ ...relation, tuple: reader.tuple() });
    }
  }
  return rows;
}

/** The text of a tuple's column; null is SQL NULL. */
export function columnText(tuple: Tuple, index: number): string | null {
  if (tuple.kinds[index] === COLUMN_NULL) return null;
  return tuple.buffer.toString('utf8', tuple.starts[index], tuple.ends[index]);
}

class Reader {
  constructor(
    readonly buffer: Buffer,
    public at: number,
  ) {}

  uint(bytes: number): number {
    this.at += bytes;
    return this.buffer.readUIntBE(this.at - bytes, bytes);
  }

  text(): string {
    const end = this.buffer.indexOf(0, this.at);
    const text = this.buffer.toString('utf8', this.at, end);
    this.at = end + 1;
    return text;
  }

  tuple(): Tuple {
    const columnCount = this.uint(2);
    const tuple: Tuple = {
      buffer: this.buffer,
      columnCount,
      kinds: new Uint8Array(columnCount),
      starts: new Int32Array(columnCount),
      ends: new Int32Array(columnCount),
    };
    for (let i = 0; i < columnCount; i++) {
      const kind = this.uint(1);
      const length = kind === COLUMN_TEXT ? this.uint(4) : 0;
      tuple.kinds[i] = kind;
      tuple.starts[i] = this.at;
      this.at += length;
      tuple.ends[i] = this.at;
    }
    return tuple;
  }
}
