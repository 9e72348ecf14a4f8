import { digestText, isAt, isDigestName, type DiffFileRow } from './file-row.js';
import { scanObject } from './json-scan.js';
import { RowMatcher } from './row-matcher.js';
import { METADATA_KEY } from './row-text.js';

/**
 * Takes the position of a row in the bytes and pushes what it reads there: the row, and perhaps some
 * of those that follow. Returns the end of the last one, or INCOMPLETE.
 */
export type RowScan = (bytes: Buffer, start: number, found: DiffFileRow[]) => number;

/** What to read of rows that nobody wants. */
export const COUNT_ONLY: ReadonlySet<string> = new Set();

/** These columns, and the digest. */
export function withDigest(columns: readonly string[]): ReadonlySet<string> {
  return new Set([...columns, METADATA_KEY]);
}

/**
 * Reads the rows of one table, which repeat their layout: the addon reads those that do, where there
 * is one, and the others are read member by member.
 *
 * @param wanted names of columns, and METADATA_KEY for the digest; null: all
 * @param implementation forces the one without the addon
 */
export function rowScan(
  wanted: ReadonlySet<string> | null,
  implementation?: 'javascript',
): RowScan {
  const isWanted = (name: string): boolean => wanted === null || wanted.has(name);
  const scan = memberScan(isWanted);
  if (implementation === 'javascript') return scan;
  let matcher: RowMatcher | null = null;
  /** A layout that no other row has is not worth learning the next one. */
  let hasMatched = true;
  return (bytes, start, found) => {
    const matchedEnd = matcher?.match(bytes, start, found) ?? start;
    if (matchedEnd > start) {
      hasMatched = true;
      return matchedEnd;
    }
    const end = scan(bytes, start, found);
    if (end >= 0 && hasMatched) {
      matcher = RowMatcher.learn(bytes, start, isWanted);
      hasMatched = false;
    }
    return end;
  };
}

/** What the previous row had at this place. */
interface Member {
  /** The name as it stands in the file, with its quotes. */
  readonly raw: Buffer;
  readonly name: string;
  readonly isWanted: boolean;
}

/** Names are decoded once and then recognised. */
function memberScan(isWanted: (name: string) => boolean): RowScan {
  const members: Member[] = [];
  let columns: string[] = [];
  return (bytes, start, found) => {
    const values: string[] = [];
    const row = { columns, digest: null as string | null };
    let index = 0;
    const end = scanObject(bytes, start, (nameStart, nameEnd, valueStart, valueEnd) => {
      let member = members[index];
      if (member === undefined || !isAt(bytes, nameStart, member.raw)) {
        const name = JSON.parse(bytes.toString('utf8', nameStart, nameEnd)) as string;
        const raw = Buffer.from(bytes.subarray(nameStart, nameEnd));
        member = { raw, name, isWanted: isWanted(name) };
        members[index] = member;
      }
      index += 1;
      if (!member.isWanted) return;
      if (member.name === METADATA_KEY) {
        row.digest = digestOf(bytes, valueStart);
        return;
      }
      const place = values.length;
      if (row.columns[place] !== member.name) {
        row.columns = [...row.columns.slice(0, place), member.name];
      }
      values.push(bytes.toString('utf8', valueStart, valueEnd));
    });
    if (end < 0) return end;
    if (row.columns.length > values.length) row.columns = row.columns.slice(0, values.length);
    columns = row.columns;
    found.push({ columns, values, digest: row.digest });
    return end;
  };
}

const OPEN_BRACE = 0x7b;

/** The digest among what the file knows of a row beside its values. */
function digestOf(bytes: Buffer, start: number): string | null {
  let digest: string | null = null;
  if (bytes[start] !== OPEN_BRACE) return digest;
  scanObject(bytes, start, (nameStart, _nameEnd, valueStart, valueEnd) => {
    if (isDigestName(bytes, nameStart)) digest = digestText(bytes, valueStart, valueEnd);
  });
  return digest;
}
