/**
 * Positions in the UTF-8 bytes of JSON, without making values of it: numbers keep their digits, and
 * what nobody asks for costs one look per byte. JSON's own characters are ASCII, which no part of a
 * longer character looks like. Functions take the position of a value's first byte and return the
 * one after its last, or INCOMPLETE when the bytes end before.
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
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;

/** The bytes are not JSON at this position. */
export class JsonSyntaxError extends Error {
  override readonly name = 'JsonSyntaxError';
  readonly position: number;

  constructor(what: string, position: number) {
    super(what);
    this.position = position;
  }
}

export function skipBlanks(bytes: Buffer, start: number): number {
  let position = start;
  while (position < bytes.length) {
    const code = bytes[position];
    if (code !== BLANK && code !== 0x0a && code !== 0x0d && code !== 0x09) break;
    position += 1;
  }
  return position;
}

export function skipString(bytes: Buffer, start: number): number {
  const { length } = bytes;
  for (let position = start + 1; position < length; position += 1) {
    const code = bytes[position];
    if (code === QUOTE) return position + 1;
    if (code === BACKSLASH) position += 1;
  }
  return INCOMPLETE;
}

/** Any value. An object or array is only counted through: its inside is not checked. */
export function skipValue(bytes: Buffer, start: number): number {
  const code = bytes[start];
  if (code === QUOTE) return skipString(bytes, start);
  if (code === OPEN_BRACE || code === OPEN_BRACKET) return skipComposite(bytes, start);
  return skipScalar(bytes, start);
}

/** What a byte outside of strings means for where an object or array ends. */
const PLAIN = 0;
const STRING = 1;
const OPENS = 2;
const CLOSES = 3;
const MEANING = new Uint8Array(256).fill(PLAIN);
MEANING[QUOTE] = STRING;
MEANING[OPEN_BRACE] = MEANING[OPEN_BRACKET] = OPENS;
MEANING[CLOSE_BRACE] = MEANING[CLOSE_BRACKET] = CLOSES;

function skipComposite(bytes: Buffer, start: number): number {
  const { length } = bytes;
  let depth = 0;
  let position = start;
  while (position < length) {
    const meaning = MEANING[bytes[position] ?? 0];
    position += 1;
    if (meaning === PLAIN) continue;
    if (meaning === STRING) {
      position = skipString(bytes, position - 1);
      if (position === INCOMPLETE) return INCOMPLETE;
    } else if (meaning === OPENS) {
      depth += 1;
    } else {
      depth -= 1;
      if (depth === 0) return position;
    }
  }
  return INCOMPLETE;
}

const SCALAR = /^(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/;

/** A number, true, false or null. What comes after it must be there to know that it has ended. */
function skipScalar(bytes: Buffer, start: number): number {
  let areDigits = true;
  for (let position = start; position < bytes.length; position += 1) {
    const code = bytes[position] ?? 0;
    if (code > BLANK && code !== COMMA && code !== CLOSE_BRACE && code !== CLOSE_BRACKET) {
      areDigits &&= code >= DIGIT_0 && code <= DIGIT_9;
      continue;
    }
    const isPlain = areDigits && position > start && bytes[start] !== DIGIT_0;
    if (!isPlain && !SCALAR.test(bytes.toString('utf8', start, position))) {
      throw new JsonSyntaxError('a value is expected', start);
    }
    return position;
  }
  return INCOMPLETE;
}

/**
 * Walks an object's members. `visit` gets positions rather than texts, so that members nobody wants
 * cost no string.
 */
export function scanObject(
  bytes: Buffer,
  start: number,
  visit: (nameStart: number, nameEnd: number, valueStart: number, valueEnd: number) => void,
): number {
  expect(bytes, start, OPEN_BRACE, 'an object');
  let position = skipBlanks(bytes, start + 1);
  if (bytes[position] === CLOSE_BRACE) return position + 1;
  for (;;) {
    if (position >= bytes.length) return INCOMPLETE;
    expect(bytes, position, QUOTE, 'a name');
    const nameEnd = skipString(bytes, position);
    if (nameEnd === INCOMPLETE) return INCOMPLETE;
    const colon = skipBlanks(bytes, nameEnd);
    if (colon >= bytes.length) return INCOMPLETE;
    expect(bytes, colon, COLON, 'a colon');
    const valueStart = skipBlanks(bytes, colon + 1);
    if (valueStart >= bytes.length) return INCOMPLETE;
    const valueEnd = skipValue(bytes, valueStart);
    if (valueEnd === INCOMPLETE) return INCOMPLETE;
    visit(position, nameEnd, valueStart, valueEnd);
    position = skipBlanks(bytes, valueEnd);
    if (position >= bytes.length) return INCOMPLETE;
    const code = bytes[position];
    if (code === CLOSE_BRACE) return position + 1;
    if (code !== COMMA) throw new JsonSyntaxError('a comma is expected', position);
    position = skipBlanks(bytes, position + 1);
  }
}

function expect(bytes: Buffer, position: number, code: number, what: string): void {
  if (bytes[position] !== code) {
    throw new JsonSyntaxError(`${what} is expected`, position);
  }
}
