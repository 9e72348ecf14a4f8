/** A name for SQL text; always quoted, so that no name is folded, reserved or an injection. */
export function quoteIdentifier(name: string): string {
  refuseNul(name);
  return `"${name.replaceAll('"', '""')}"`;
}

/** `"schema"."name"`. */
export function quoteQualified(schema: string, name: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}

/** A string constant for SQL text, right whatever standard_conforming_strings is. */
export function quoteLiteral(text: string): string {
  refuseNul(text);
  const quoted = `'${text.replaceAll("'", "''")}'`;
  // The leading blank keeps a preceding keyword or name from running into the E.
  return text.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted;
}

/** The protocol sends SQL as a C string: what follows a NUL would be cut off silently. */
function refuseNul(text: string): void {
  if (text.includes('\0')) throw new RangeError('SQL text cannot contain a NUL character');
}
