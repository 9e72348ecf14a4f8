import { AcedError } from '../base/errors.js';

export interface TableName {
  readonly schema: string;
  readonly name: string;
}

/** Of the table with just this name: a name has no NUL. */
export function tableKey(schema: string, name: string): string {
  return `${schema}\0${name}`;
}

/** One part of a name as typed: an unquoted one may also stand for its lower-case form. */
export interface NamePart {
  readonly text: string;
  readonly isQuoted: boolean;
}

const DEFAULT_SCHEMA = 'public';
const HINT = 'Name the table as schema.table, with double quotes around parts that contain a dot.';

/**
 * Reads `schema.table` or `table` (in schema public). Parts may be quoted, with "" for a quote
 * inside. Unquoted parts are kept as typed; resolveTable decides about folding. BAD_USAGE otherwise.
 */
export function parseTableName(text: string): TableName {
  const { schema, name } = parseNameParts(text);
  return { schema: schema.text, name: name.text };
}

/** As parseTableName, telling which parts were quoted. */
export function parseNameParts(text: string): { schema: NamePart; name: NamePart } {
  const parts: NamePart[] = [];
  let rest = text.trim();
  for (;;) {
    const match = /^(?:"((?:[^"\0]|"")+)"|([^".\s\0]+))(\.|$)/.exec(rest);
    if (match === null) throw badName(text);
    const [whole, quoted, unquoted = '', end] = match;
    parts.push(
      quoted === undefined
        ? { text: unquoted, isQuoted: false }
        : { text: quoted.replaceAll('""', '"'), isQuoted: true },
    );
    rest = rest.slice(whole.length);
    if (end === '') break;
  }
  const [first, second] = parts;
  if (first === undefined || parts.length > 2) throw badName(text);
  return second === undefined
    ? { schema: { text: DEFAULT_SCHEMA, isQuoted: true }, name: first }
    : { schema: first, name: second };
}

/**
 * The tables that a text may stand for, likeliest first: parts as typed, then unquoted parts in lower
 * case, then the whole text as a name that happens to have dots or quotes in it, cut at each dot.
 */
export function possibleTables(text: string): TableName[] {
  return [...typedTables(text), ...tablesAsTheyStand(text.trim())];
}

function typedTables(text: string): TableName[] {
  let parts: ReturnType<typeof parseNameParts>;
  try {
    parts = parseNameParts(text);
  } catch {
    return [];
  }
  const forms = (part: NamePart): string[] =>
    part.isQuoted ? [part.text] : [part.text, part.text.toLowerCase()];
  return forms(parts.schema).flatMap((schema) =>
    forms(parts.name).map((name) => ({ schema, name })),
  );
}

function tablesAsTheyStand(text: string): TableName[] {
  const found = [{ schema: DEFAULT_SCHEMA, name: text }];
  for (let dot = text.indexOf('.'); dot >= 0; dot = text.indexOf('.', dot + 1)) {
    found.push({ schema: text.slice(0, dot), name: text.slice(dot + 1) });
  }
  return found.filter(({ schema, name }) => schema !== '' && name !== '' && !text.includes('\0'));
}

function badName(text: string): AcedError {
  return new AcedError('BAD_USAGE', `not a table name: ${JSON.stringify(text)}`, { hint: HINT });
}
