/**
 * Positions in JSON text, without making values of it: numbers keep their digits, and what nobody
 * asks for costs one look per character. Functions take the position of a value's first character
 * and return the one after its last, or INCOMPLETE when the text ends before.
 */
export const INCOMPLETE = -1;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;
const BLANK = 0x20;

/** The text is not JSON at this position. */
export class JsonSyntaxError extends Error {
  override readonly name = 'JsonSyntaxError';
  readonly position: number;

  constructor(what: string, position: number) {
    super(what);
    this.position = position;
  }
}

export function skipBlanks(text: string, start: number): number {
  let position = start;
  while (position < text.length) {
    const code = text.charCodeAt(position);
    if (code > BLANK || (code !== BLANK && code !== 0x0a && code !== 0x0d && code !== 0x09)) break;
    position += 1;
  }
  return position;
}

export function skipString(text: string, start: number): number {
  for (let position = start + 1; position < text.length; position += 1) {
    const code = text.charCodeAt(position);
    if (code === QUOTE) return position + 1;
    if (code === BACKSLASH) position += 1;
  }
  return INCOMPLETE;
}

/** Any value. An object or array is only counted through: its inside is not checked. */
export function skipValue(text: string, start: number): number {
  const code = text.charCodeAt(start);
  if (code === QUOTE) return skipString(text, start);
  if (code === OPEN_BRACE || code === OPEN_BRACKET) return skipComposite(text, start);
  return skipScalar(text, start);
}

function skipComposite(text: string, start: number): number {
  let depth = 0;
  for (let position = start; position < text.length; position += 1) {
    const code = text.charCodeAt(position);
    if (code === QUOTE) {
      const end = skipString(text, position);
      if (end === INCOMPLETE) return INCOMPLETE;
      position = end - 1;
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth += 1;
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      depth -= 1;
      if (depth === 0) return position + 1;
    }
  }
  return INCOMPLETE;
}

const SCALAR = /^(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/;

/** A number, true, false or null. What comes after it must be there to know that it has ended. */
function skipScalar(text: string, start: number): number {
  for (let position = start; position < text.length; position += 1) {
    const code = text.charCodeAt(position);
    if (code > BLANK && code !== COMMA && code !== CLOSE_BRACE && code !== CLOSE_BRACKET) continue;
    const value = text.slice(start, position);
    if (!SCALAR.test(value)) throw new JsonSyntaxError('a value is expected', start);
    return position;
  }
  return INCOMPLETE;
}

/**
 * Walks an object's members. `visit` gets positions rather than texts, so that members nobody wants
 * cost no string.
 */
export function scanObject(
  text: string,
  start: number,
  visit: (nameStart: number, nameEnd: number, valueStart: number, valueEnd: number) => void,
): number {
  expect(text, start, OPEN_BRACE, 'an object');
  let position = skipBlanks(text, start + 1);
  if (text.charCodeAt(position) === CLOSE_BRACE) return position + 1;
  for (;;) {
    if (position >= text.length) return INCOMPLETE;
    expect(text, position, QUOTE, 'a name');
    const nameEnd = skipString(text, position);
    if (nameEnd === INCOMPLETE) return INCOMPLETE;
    const colon = skipBlanks(text, nameEnd);
    if (colon >= text.length) return INCOMPLETE;
    expect(text, colon, COLON, 'a colon');
    const valueStart = skipBlanks(text, colon + 1);
    if (valueStart >= text.length) return INCOMPLETE;
    const valueEnd = skipValue(text, valueStart);
    if (valueEnd === INCOMPLETE) return INCOMPLETE;
    visit(position, nameEnd, valueStart, valueEnd);
    position = skipBlanks(text, valueEnd);
    if (position >= text.length) return INCOMPLETE;
    const code = text.charCodeAt(position);
    if (code === CLOSE_BRACE) return position + 1;
    if (code !== COMMA) throw new JsonSyntaxError('a comma is expected', position);
    position = skipBlanks(text, position + 1);
  }
}

function expect(text: string, position: number, code: number, what: string): void {
  if (text.charCodeAt(position) !== code) {
    throw new JsonSyntaxError(`${what} is expected`, position);
  }
}
