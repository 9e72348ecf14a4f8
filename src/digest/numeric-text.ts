const DOT = 0x2e;
const ZERO = 0x30;

/**
 * Where the text of a numeric ends once trailing zeros of the fraction (and a dot left bare) are
 * dropped, as the server's trim_scale() does: `1.500` -> `1.5`, `1.00` -> `1`, `100` -> `100`.
 * `NaN` and `Infinity` stay. `end` is exclusive, as is the result.
 */
export function numericTextEnd(bytes: Uint8Array, start: number, end: number): number {
  let trimmed = end;
  while (trimmed > start && bytes[trimmed - 1] === ZERO) trimmed--;
  if (trimmed > start && bytes[trimmed - 1] === DOT) return trimmed - 1;
  if (trimmed === end) return end;
  // Without a dot the zeros are digits of the whole part.
  for (let i = start; i < trimmed; i++) {
    if (bytes[i] === DOT) return trimmed;
  }
  return end;
}

/** The same for a string. */
export function trimNumericText(text: string): string {
  if (!text.includes('.')) return text;
  let end = text.length;
  while (text[end - 1] === '0') end--;
  return text.slice(0, text[end - 1] === '.' ? end - 1 : end);
}
