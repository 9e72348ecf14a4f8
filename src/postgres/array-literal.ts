const NEEDS_ESCAPE = /["\\]/;

/** The text form of a one-dimensional array: `{"a","b\"c",NULL}`. */
export function arrayLiteral(values: readonly (string | null)[]): string {
  const items = values.map((value) =>
    value === null ? 'NULL' : `"${NEEDS_ESCAPE.test(value) ? escaped(value) : value}"`,
  );
  return `{${items.join(',')}}`;
}

function escaped(value: string): string {
  return value.replaceAll(/["\\]/g, '\\$&');
}
