import { AcedError } from '../base/errors.js';
import type { TableName } from './table-name.js';

/**
 * Tables by their names: `public.*`, `sales.order_?`, `"My Schema".*`, `*.audit`. In parts without quotes
 * `*` stands for any characters and `?` for one; quoted parts are names as they stand.
 */
export interface TablePattern {
  /** As it was written. */
  readonly text: string;
  /** Stands for one name only: nothing in it is a wildcard. */
  readonly isName: boolean;
  readonly matches: (table: TableName) => boolean;
}

interface PatternPart {
  readonly isName: boolean;
  readonly matches: (name: string) => boolean;
}

export interface PatternOptions {
  /** Of a pattern without a dot. Null: any schema. */
  readonly defaultSchema: string | null;
}

const HINT =
  'Write schema.table with * and ? as wildcards, as in public.*; names with a dot or a wildcard in them need double quotes.';

/**
 * A part without quotes also stands for its lower-case form, as PostgreSQL folds names. Errors:
 * BAD_USAGE naming the text.
 */
export function parseTablePattern(
  text: string,
  { defaultSchema }: PatternOptions = { defaultSchema: 'public' },
): TablePattern {
  const parts = splitOutsideQuotes(text.trim(), '.').map((part) => readPart(part, text));
  const [first, second] = parts;
  if (first === undefined || parts.length > 2) throw badPattern(text);
  const table = second ?? first;
  const schema = second === undefined ? schemaPart(defaultSchema) : first;
  return {
    text: text.trim(),
    isName: schema.isName && table.isName,
    matches: (name) => schema.matches(name.schema) && table.matches(name.name),
  };
}

/** Patterns joined by commas, as a person writes them. Errors: BAD_USAGE. */
export function parseTablePatterns(text: string, options?: PatternOptions): TablePattern[] {
  return splitOutsideQuotes(text, ',').map((part) => parseTablePattern(part, options));
}

/** Pieces between the separators that stand outside double quotes; `""` inside stays as it is. */
function splitOutsideQuotes(text: string, separator: string): string[] {
  const pieces: string[] = [];
  let piece = '';
  let isQuoted = false;
  for (const character of text) {
    if (character === '"') isQuoted = !isQuoted;
    if (character === separator && !isQuoted) {
      pieces.push(piece);
      piece = '';
    } else piece += character;
  }
  return [...pieces, piece];
}

function readPart(part: string, whole: string): PatternPart {
  const quoted = /^"((?:[^"\0]|"")+)"$/.exec(part)?.[1];
  if (quoted !== undefined) {
    const name = quoted.replaceAll('""', '"');
    return { isName: true, matches: (other) => other === name };
  }
  if (!/^[^"\0]+$/.test(part) || part.trim() !== part) throw badPattern(whole);
  const asWritten = globOf(part);
  const folded = globOf(part.toLowerCase());
  return {
    isName: !/[*?]/.test(part),
    matches: (name) => asWritten.test(name) || folded.test(name),
  };
}

function schemaPart(name: string | null): PatternPart {
  if (name === null) return { isName: false, matches: () => true };
  return { isName: true, matches: (other) => other === name };
}

function globOf(part: string): RegExp {
  const escaped = part.replace(/[\\^$.|+()[\]{}*?]/g, '\\$&');
  const source = escaped.replaceAll('\\*', '.*').replaceAll('\\?', '.');
  return new RegExp(`^${source}$`, 'su');
}

function badPattern(text: string): AcedError {
  return new AcedError('BAD_USAGE', `not a pattern of table names: ${JSON.stringify(text)}`, {
    hint: HINT,
  });
}
