import { AcedError } from '../base/errors.js';

/** A row as a diff file has it. */
export interface DiffFileRow {
  /** The same array for rows with the same columns. */
  readonly columns: readonly string[];
  /** JSON text of each column as it stands in the file, so that numbers keep their digits. */
  readonly values: readonly string[];
  /** 16 hex digits; null in an ACE file. */
  readonly digest: string | null;
}

/**
 * The texts that PostgreSQL reads as the row's key. Errors: BAD_DIFF_FILE when a column of it is not
 * there; `path` names the file.
 */
export function keyTextsOf(
  row: DiffFileRow,
  keyColumns: readonly string[],
  path: string,
): string[] {
  return keyColumns.map((name) => {
    const raw = row.values[row.columns.indexOf(name)];
    if (raw !== undefined && raw !== 'null') return textOfJson(raw);
    throw new AcedError('BAD_DIFF_FILE', `${path} has a row without key column ${name}`, {
      hint: 'Run the diff again; a file that was edited may have lost it.',
    });
  });
}

/** The text that PostgreSQL reads as the value that stands in the file; null is not a text. */
export function textOfJson(raw: string): string {
  return raw.startsWith('"') ? (JSON.parse(raw) as string) : raw;
}

/** Stands for each row of which nothing is wanted, so that rows can be counted. */
export const UNREAD_ROW: DiffFileRow = { columns: [], values: [], digest: null };

const QUOTE = 0x22;
const DIGEST = /^[0-9a-f]{16}$/;
const DIGEST_NAME = Buffer.from('"digest"');

/** Whether the member's name at this place is the digest's. */
export function isDigestName(bytes: Buffer, nameStart: number): boolean {
  return isAt(bytes, nameStart, DIGEST_NAME);
}

/** The digest that a JSON value is; null: it is none. */
export function digestText(bytes: Buffer, valueStart: number, valueEnd: number): string | null {
  if (bytes[valueStart] !== QUOTE) return null;
  const text = bytes.toString('latin1', valueStart + 1, valueEnd - 1);
  return DIGEST.test(text) ? text : null;
}

export function isAt(bytes: Buffer, start: number, expected: Buffer): boolean {
  for (let i = 0; i < expected.length; i += 1) {
    if (bytes[start + i] !== expected[i]) return false;
  }
  return true;
}
