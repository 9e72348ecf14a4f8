/**
 * PostgreSQL text -> the JSON text that ACE writes for it (Go's encoding/json over pgx values).
 * The input is what a session with the pinned settings prints: datestyle ISO, timezone UTC.
 */
export type JsonFormatter = (text: string) => string;

/** Built-in type oids whose JSON form is not simply their text. Source: pg_type.dat. */
const OID = {
  bool: 16,
  int8: 20,
  int2: 21,
  int4: 23,
  float4: 700,
  float8: 701,
  inet: 869,
  date: 1082,
  timestamp: 1114,
  timestamptz: 1184,
} as const;

/** What Go escapes inside strings. Surrogates are here because a lone one must not reach a file. */
// eslint-disable-next-line no-control-regex
const NEEDS_ESCAPE = /[\u0000-\u001f"\\<>&\u2028\u2029\ud800-\udfff]/;
const HTML_CHARACTERS = /[<>&\u2028\u2029]/g;

/** A JSON string with Go's escapes: also `<`, `>`, `&`, U+2028 and U+2029. */
export function jsonString(text: string): string {
  if (!NEEDS_ESCAPE.test(text)) return `"${text}"`;
  return JSON.stringify(text).replace(
    HTML_CHARACTERS,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The formatter of a column, to be looked up once: values that are not NULL go through it. */
export function jsonFormatter(baseTypeOid: number): JsonFormatter {
  switch (baseTypeOid) {
    case OID.int2:
    case OID.int4:
    case OID.int8:
      // The text itself: a JavaScript number would lose digits beyond 2^53.
      return (text) => text;
    case OID.float4:
    case OID.float8:
      return jsonFloat;
    case OID.bool:
      return (text) => (text === 't' || text === 'true' ? 'true' : 'false');
    case OID.date:
      return jsonDate;
    case OID.timestamp:
      return jsonTimestamp;
    case OID.timestamptz:
      return jsonTimestamptz;
    case OID.inet:
      return jsonInet;
    default:
      return jsonString;
  }
}

/** The JSON text of any value; `formatter` is the column's. */
export function jsonValue(text: string | null, formatter: JsonFormatter): string {
  return text === null ? 'null' : formatter(text);
}

function jsonFloat(text: string): string {
  // Go writes digits where PostgreSQL has an exponent, with the same limits as JavaScript.
  if (text.includes('e')) return String(Number(text));
  const last = text.charCodeAt(text.length - 1);
  return last >= 0x30 && last <= 0x39 ? text : `"${text}"`;
}

function jsonDate(text: string): string {
  // infinity, BC and years of five digits have no RFC 3339 form.
  return text.length === 10 && text.charAt(4) === '-' ? `"${text}T00:00:00Z"` : jsonString(text);
}

function jsonTimestamp(text: string): string {
  return isCommonEra(text) ? `"${text.slice(0, 10)}T${text.slice(11)}Z"` : jsonString(text);
}

/** RFC 3339 form of a timestamptz; also for commit times. */
export function jsonTimestamptz(text: string): string {
  return isCommonEra(text) && text.endsWith('+00')
    ? `"${text.slice(0, 10)}T${text.slice(11, -3)}Z"`
    : jsonString(text);
}

function isCommonEra(text: string): boolean {
  return text.charAt(4) === '-' && text.charAt(10) === ' ' && !text.endsWith('BC');
}

/** inet's own cast to text, which ACE uses, shows the mask that the output function leaves out. */
function jsonInet(text: string): string {
  if (text.includes('/')) return `"${text}"`;
  return text.includes(':') ? `"${text}/128"` : `"${text}/32"`;
}
